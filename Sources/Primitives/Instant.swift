/// A point on a monotonic clock, in nanoseconds since an arbitrary origin of this process.
///
/// Pure cores take `Instant` arguments and never read a clock, so a simulator can own time.
public struct Instant: Hashable, Comparable, Sendable {
  public let nanoseconds: UInt64

  @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  public static let zero = Instant(nanoseconds: 0)
  /// Later than every instant a clock returns.
  public static let distantFuture = Instant(nanoseconds: .max)

  @inlinable public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }

  /// Saturates at `distantFuture` and at `zero`; never traps.
  @inlinable public static func + (a: Instant, b: Duration) -> Instant {
    let delta = b.nanosecondsClamped
    if delta >= 0 {
      let (sum, overflow) = a.nanoseconds.addingReportingOverflow(UInt64(delta))
      return Instant(nanoseconds: overflow ? .max : sum)
    }
    let back = delta.magnitude
    return Instant(nanoseconds: a.nanoseconds > back ? a.nanoseconds - back : 0)
  }

  /// The signed time from `b` to `a`.
  @inlinable public static func - (a: Instant, b: Instant) -> Duration {
    let (forward, back) = (a.nanoseconds.subtractingReportingOverflow(b.nanoseconds), b.nanoseconds &- a.nanoseconds)
    let nanoseconds = forward.overflow ? -Int64(clamping: back) : Int64(clamping: forward.partialValue)
    // Cheaper than `.nanoseconds`, which checks for an overflow that cannot be.
    return Duration(attoseconds: Int128(nanoseconds) &* 1_000_000_000)
  }
}

extension Duration {
  /// Whole nanoseconds, clamped to what an `Int64` holds (292 years).
  @inlinable public var nanosecondsClamped: Int64 {
    // 10^9 = 2^9 · 5^9: up to two hours need no division of 128 bits.
    if let shifted = UInt64(exactly: attoseconds >> 9) { return Int64(shifted / 1_953_125) }
    let (seconds, attoseconds) = components
    let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    let (sum, carry) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
    if carry { return seconds < 0 ? .min : .max }
    return sum
  }

  /// Seconds as a floating-point number, for display and statistics.
  public var inSeconds: Double { Double(nanosecondsClamped) / 1e9 }
  /// Milliseconds as a floating-point number, for display and statistics.
  public var inMilliseconds: Double { Double(nanosecondsClamped) / 1e6 }
}
