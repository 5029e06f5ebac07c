/// Why bytes could not be decoded.
public enum ByteError: Error, Hashable, Sendable {
  /// More bytes are announced than are left.
  case truncated
  /// A length or count above the limit given.
  case tooLong
  /// A value outside its range or form.
  case malformed
  /// Bytes were left after the last field.
  case trailing
}

/// Reads fixed-width big-endian integers, LEB128 varints and length-prefixed bytes from untrusted input.
///
/// Every read is checked and throws; nothing traps and no length is trusted before it is compared with what is left.
public struct ByteReader: Sendable {
  private let bytes: ArraySlice<UInt8>
  private var index: Int

  public init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    self.index = bytes.startIndex
  }
  public init(_ bytes: [UInt8]) { self.init(bytes[...]) }

  public var remaining: Int { bytes.endIndex - index }
  public var isAtEnd: Bool { index == bytes.endIndex }

  public mutating func uint8() throws(ByteError) -> UInt8 {
    guard index < bytes.endIndex else { throw .truncated }
    defer { index += 1 }
    return bytes[index]
  }

  public mutating func uint16() throws(ByteError) -> UInt16 { try fixed() }
  public mutating func uint32() throws(ByteError) -> UInt32 { try fixed() }
  public mutating func uint64() throws(ByteError) -> UInt64 { try fixed() }

  private mutating func fixed<T: FixedWidthInteger>() throws(ByteError) -> T {
    let width = T.bitWidth / 8
    guard remaining >= width else { throw .truncated }
    var value: T = 0
    for offset in 0..<width { value = (value << 8) | T(truncatingIfNeeded: bytes[index + offset]) }
    index += width
    return value
  }

  /// An unsigned LEB128 varint of at most ten bytes; a value above 2^64−1 or a padded form is malformed.
  public mutating func varint() throws(ByteError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let byte = try uint8()
      if shift == 63 && byte > 1 { throw .malformed }
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 {
        if byte == 0 && shift > 0 { throw .malformed }
        return value
      }
      shift += 7
      if shift > 63 { throw .malformed }
    }
  }

  /// A varint that counts things: refused above `max`.
  public mutating func count(max: Int) throws(ByteError) -> Int {
    let value = try varint()
    guard value <= UInt64(Swift.max(0, max)) else { throw .tooLong }
    return Int(value)
  }

  public mutating func bool() throws(ByteError) -> Bool {
    switch try uint8() {
    case 0: return false
    case 1: return true
    default: throw .malformed
    }
  }

  /// Exactly `count` bytes, as a slice of the input.
  public mutating func bytes(count: Int) throws(ByteError) -> ArraySlice<UInt8> {
    guard count >= 0, count <= remaining else { throw .truncated }
    defer { index += count }
    return bytes[index..<(index + count)]
  }

  /// Bytes after a varint length of at most `max`.
  public mutating func lengthPrefixed(max: Int) throws(ByteError) -> ArraySlice<UInt8> {
    try bytes(count: count(max: max))
  }

  /// Valid UTF-8 after a varint length of at most `max` bytes.
  public mutating func string(max: Int) throws(ByteError) -> String {
    let slice = try lengthPrefixed(max: max)
    guard let text = String(validating: slice, as: UTF8.self) else { throw .malformed }
    return text
  }

  /// Throws when anything is left: every message must be consumed whole.
  public func finish() throws(ByteError) {
    guard isAtEnd else { throw .trailing }
  }
}
