import Primitives

/// Events per second over a sliding window of one-second slots.
public struct RateWindow: Hashable, Sendable {
  private var slots: [UInt64]
  /// The second each slot counts, so a slot of an earlier turn reads as empty.
  private var seconds: [UInt64]
  private var first: UInt64?

  /// - Parameter seconds: the window's length, 1 to `TelemetryLimits.rateWindowSlotsMax`.
  public init(seconds: Int) {
    let count = min(max(1, seconds), TelemetryLimits.rateWindowSlotsMax)
    slots = Array(repeating: 0, count: count)
    self.seconds = Array(repeating: .max, count: count)
  }

  public mutating func add(_ events: UInt64 = 1, at now: Instant) {
    let second = now.nanoseconds / 1_000_000_000
    let slot = Int(second % UInt64(slots.count))
    if seconds[slot] != second {
      seconds[slot] = second
      slots[slot] = 0
    }
    slots[slot] &+= events
    if first == nil { first = second }
  }

  /// The mean rate over the window that ends at `now`, or over the time since the first event where that is shorter.
  public func perSecond(at now: Instant) -> Double {
    guard let first else { return 0 }
    let second = now.nanoseconds / 1_000_000_000
    let length = UInt64(slots.count)
    var total: UInt64 = 0
    for (slot, when) in seconds.enumerated() where when <= second && second - when < length { total &+= slots[slot] }
    let age = second >= first ? second - first + 1 : 1
    return Double(total) / Double(min(age, length))
  }
}
