import MeshConfig
import Primitives
import Synchronization

/// How many requests began within a time that slides, to a tenth of it (Envoy, `budget_interval`).
final class RequestWindow: Sendable {
  private static let count = 10
  /// Below the mark how many, above it when: a slot of another time counts from zero.
  private static let countBits: UInt64 = 24
  private static let countMax: UInt64 = 1 << countBits - 1

  private final class Slot: Sendable {
    let value = Atomic<UInt64>(0)
  }
  private let slots = (0..<RequestWindow.count).map { _ in Slot() }

  func began(at now: Instant, interval: Duration) {
    let time = Self.slot(now, interval)
    let slot = slots[Int(time % UInt64(Self.count))]
    var old = slot.value.load(ordering: .relaxed)
    while true {
      let isSame = old >> Self.countBits == time
      if isSame, old & Self.countMax == Self.countMax { return }
      let new = isSame ? old + 1 : time << Self.countBits | 1
      let (exchanged, original) = slot.value.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
      if exchanged { return }
      old = original
    }
  }

  func requests(at now: Instant, interval: Duration) -> Int {
    let time = Self.slot(now, interval)
    return slots.reduce(0) { sum, slot in
      let value = slot.value.load(ordering: .relaxed)
      let age = time &- value >> Self.countBits
      return age < UInt64(Self.count) ? sum + Int(value & Self.countMax) : sum
    }
  }

  /// Which tenth of an interval a time lies in; begins at 1, so that an empty slot is of no time.
  private static func slot(_ now: Instant, _ interval: Duration) -> UInt64 {
    let length = max(1, UInt64(clamping: interval.nanosecondsClamped) / UInt64(count))
    return (now.nanoseconds / length + UInt64(count)) & (UInt64.max >> countBits)
  }
}
