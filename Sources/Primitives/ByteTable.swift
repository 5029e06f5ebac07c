/// A read-only hash table from ASCII-case-folded bytes to values, looked up without copying or allocating.
///
/// Keys come from configuration, lookups from the wire; nothing a client sends is ever inserted.
public struct ByteTable<Value: Sendable>: Sendable {
  /// Open addressing with linear probing; 0 is empty, otherwise 1 + index into `keys` and `values`.
  private var slots: [Int32]
  /// Apart from the values, so that comparing a key copies no value.
  private var keys: [[UInt8]]
  private var values: [Value]
  private let mask: Int

  /// Later duplicates of a key are ignored: the first writer owns a name.
  public init(_ pairs: [(key: [UInt8], value: Value)]) {
    var capacity = 8
    while capacity < pairs.count * 2 { capacity *= 2 }
    mask = capacity - 1
    slots = Array(repeating: 0, count: capacity)
    keys = []
    keys.reserveCapacity(pairs.count)
    values = []
    values.reserveCapacity(pairs.count)
    for pair in pairs { insert(pair.key.map(ASCII.lowercased), pair.value) }
  }

  private mutating func insert(_ key: [UInt8], _ value: Value) {
    var slot = Int(truncatingIfNeeded: Self.hash(key.span)) & mask
    while slots[slot] != 0 {
      if keys[Int(slots[slot]) - 1] == key { return }
      slot = (slot + 1) & mask
    }
    keys.append(key)
    values.append(value)
    slots[slot] = Int32(truncatingIfNeeded: keys.count)
  }

  public var count: Int { keys.count }
  /// Keys (lower case) and values in insertion order.
  public var pairs: [(key: [UInt8], value: Value)] { Array(zip(keys, values)) }

  public subscript(_ key: Span<UInt8>) -> Value? {
    var slot = Int(truncatingIfNeeded: Self.hash(key)) & mask
    while slots[slot] != 0 {
      let entry = Int(slots[slot]) - 1
      if Self.equal(keys[entry], key) { return values[entry] }
      slot = (slot + 1) & mask
    }
    return nil
  }

  public subscript(_ key: [UInt8]) -> Value? { self[key.span] }

  private static func equal(_ stored: [UInt8], _ key: Span<UInt8>) -> Bool {
    guard stored.count == key.count else { return false }
    for i in 0..<stored.count where stored[i] != ASCII.lowercased(key[i]) { return false }
    return true
  }

  /// FNV-1a over the lower-cased bytes.
  private static func hash(_ key: Span<UInt8>) -> UInt64 {
    var h: UInt64 = 0xCBF2_9CE4_8422_2325
    for i in key.indices { h = (h ^ UInt64(ASCII.lowercased(key[i]))) &* 0x0000_0100_0000_01B3 }
    return h ^ (h >> 29)
  }
}
