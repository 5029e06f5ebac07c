/// An insert-only hash table from a packed series key to a small number: open addressing, linear probing, no allocation
/// on a hit, and no string touched.
struct SeriesTable: Sendable {
  struct Key: Hashable, Sendable {
    let flow: UInt64
    let outcome: UInt64

    /// Two multiply-xor rounds; keys are chosen by the mesh, and the table is capped, so a keyed hash is not needed.
    var hash: UInt64 {
      var h = (flow ^ (outcome &* 0x9E37_79B9_7F4A_7C15)) &* 0xD6E8_FEB8_6659_FD93
      h ^= h >> 32
      h &*= 0xD6E8_FEB8_6659_FD93
      return h ^ (h >> 32)
    }
  }

  private struct Slot: Sendable {
    var key: Key
    /// −1 marks an empty slot.
    var value: Int32
  }

  private var slots: [Slot]
  private(set) var count = 0

  init() { slots = Self.empty(capacity: 64) }

  private static func empty(capacity: Int) -> [Slot] {
    Array(repeating: Slot(key: Key(flow: 0, outcome: 0), value: -1), count: capacity)
  }

  func value(for key: Key) -> Int32? {
    let slot = slots[place(of: key)]
    return slot.value < 0 ? nil : slot.value
  }

  mutating func insert(_ value: Int32, for key: Key) {
    if (count + 1) * 2 > slots.count { grow() }
    let at = place(of: key)
    if slots[at].value < 0 { count += 1 }
    slots[at] = Slot(key: key, value: value)
  }

  /// The slot that holds `key`, or the empty one where it belongs. At most half of the slots are taken, so one is found.
  private func place(of key: Key) -> Int {
    let mask = slots.count - 1
    var at = Int(truncatingIfNeeded: key.hash) & mask
    while slots[at].value >= 0 && slots[at].key != key { at = (at + 1) & mask }
    return at
  }

  private mutating func grow() {
    let old = slots
    slots = Self.empty(capacity: old.count * 2)
    for slot in old where slot.value >= 0 { slots[place(of: slot.key)] = slot }
  }
}
