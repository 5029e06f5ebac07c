/// Builds messages that `ByteReader` reads: big-endian integers, LEB128 varints, length-prefixed bytes.
public struct ByteWriter: Sendable {
  public private(set) var bytes: [UInt8]

  public init(reserving capacity: Int = 0) {
    bytes = []
    bytes.reserveCapacity(capacity)
  }
  /// Appends to what `prefix` holds, so a header and its body share one buffer.
  public init(appendingTo prefix: consuming [UInt8]) { bytes = prefix }

  public mutating func uint8(_ value: UInt8) { bytes.append(value) }
  public mutating func uint16(_ value: UInt16) { fixed(value) }
  public mutating func uint32(_ value: UInt32) { fixed(value) }
  public mutating func uint64(_ value: UInt64) { fixed(value) }
  public mutating func bool(_ value: Bool) { bytes.append(value ? 1 : 0) }

  private mutating func fixed<T: FixedWidthInteger>(_ value: T) {
    var shift = T.bitWidth - 8
    while shift >= 0 {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
      shift -= 8
    }
  }

  public mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  /// A non-negative count as a varint.
  public mutating func count(_ value: Int) { varint(UInt64(max(0, value))) }

  public mutating func raw(_ value: some Sequence<UInt8>) { bytes.append(contentsOf: value) }

  public mutating func lengthPrefixed(_ value: some Collection<UInt8>) {
    count(value.count)
    bytes.append(contentsOf: value)
  }

  public mutating func string(_ value: String) { lengthPrefixed(value.utf8) }
}
