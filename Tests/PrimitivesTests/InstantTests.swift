import Primitives
import Testing

@Suite struct InstantTests {
  private static let hour = Instant(nanoseconds: 3_600_000_000_000)

  @Test(
    arguments: [
      (hour, .seconds(1), 3_601_000_000_000), (hour, .seconds(-1), 3_599_000_000_000),
      (hour, .nanoseconds(1), 3_600_000_000_001),
      (hour, .zero, 3_600_000_000_000),
      // Earlier than the origin, and later than the end.
      (hour, .seconds(-7200), 0), (.zero, .nanoseconds(-1), 0), (.distantFuture, .nanoseconds(1), .max),
      (.distantFuture, .seconds(Int64.max), .max), (hour, .seconds(Int64.min), 0),
      (.distantFuture, .nanoseconds(-1), UInt64.max - 1),
    ] as [(Instant, Duration, UInt64)])
  func additionEndsAtTheBoundsOfTime(start: Instant, step: Duration, nanoseconds: UInt64) {
    #expect((start + step).nanoseconds == nanoseconds)
  }

  @Test(
    arguments: [
      (hour, .zero, .seconds(3600)), (.zero, hour, .seconds(-3600)), (hour, hour, .zero),
      (.distantFuture, .zero, .nanoseconds(Int64.max)), (.zero, .distantFuture, .nanoseconds(-Int64.max)),
    ] as [(Instant, Instant, Duration)])
  func subtractionIsSignedAndClamped(late: Instant, early: Instant, difference: Duration) {
    #expect(late - early == difference)
  }

  @Test(
    arguments: [
      (.zero, 0), (.nanoseconds(1), 1), (.nanoseconds(-1), -1), (.milliseconds(1500), 1_500_000_000),
      (.milliseconds(-1500), -1_500_000_000), (.seconds(Int64.max), .max), (.seconds(Int64.min), .min),
      (Duration(secondsComponent: 0, attosecondsComponent: 999_999_999), 0),
    ] as [(Duration, Int64)])
  func durationsInWholeNanoseconds(duration: Duration, nanoseconds: Int64) {
    #expect(duration.nanosecondsClamped == nanoseconds)
  }

  @Test func durationsForDisplay() {
    #expect(Duration.milliseconds(1500).inSeconds == 1.5)
    #expect(Duration.microseconds(1500).inMilliseconds == 1.5)
  }
}
