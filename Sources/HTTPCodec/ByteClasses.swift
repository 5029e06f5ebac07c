import Primitives

/// Byte classes of RFC 9110 and RFC 3986 as one table of bit sets, so that a scan is a load and a mask.
enum ByteClass {
  /// RFC 9110 5.6.2.
  static let token: UInt8 = 1
  /// RFC 9110 5.5: VCHAR, obs-text, SP and HTAB; every other control byte is refused.
  static let fieldValue: UInt8 = 2
  /// RFC 3986 3.2.2; square brackets and colon are handled where an authority is parsed.
  static let regName: UInt8 = 4
  /// What may stand in a request target at all: no control, blank, DEL or fragment mark.
  static let target: UInt8 = 8
  /// Path bytes that canonicalisation leaves alone wherever they stand ('.' is looked at after a slash only).
  static let pathAsIs: UInt8 = 16
  static let hex: UInt8 = 32

  @inline(__always) static func has(_ byte: UInt8, _ set: UInt8) -> Bool { table[Int(byte)] & set != 0 }

  /// The sets each byte belongs to. A literal, so that looking up needs no start-up check and counts no reference.
  static let table: InlineArray<256, UInt8> = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    2, 31, 10, 3, 31, 15, 31, 31, 30, 30, 31, 31, 30, 31, 31, 26,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 26, 30, 10, 30, 10, 10,
    26, 63, 63, 63, 63, 63, 63, 31, 31, 31, 31, 31, 31, 31, 31, 31,
    31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 26, 10, 26, 11, 31,
    11, 63, 63, 63, 63, 63, 63, 31, 31, 31, 31, 31, 31, 31, 31, 31,
    31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 10, 11, 10, 31, 0,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
  ]

  /// Bytes of a token in lower case; 0 for every other byte.
  static let lowercasedToken: InlineArray<256, UInt8> = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 33, 0, 35, 36, 37, 38, 39, 0, 0, 42, 43, 0, 45, 46, 0,
    48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 0, 0, 0, 0, 0, 0,
    0, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 0, 0, 0, 94, 95,
    96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 0, 124, 0, 126, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  ]
}

/// Comparisons of raw bytes. Text on the wire is never compared as `String`: Unicode equivalence is a policy bypass.
public enum Bytes {
  public static func equal(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    for i in a.indices where a[i] != b[i] { return false }
    return true
  }

  public static func equal(_ a: Span<UInt8>, _ b: [UInt8]) -> Bool { equal(a, b.span) }

  public static func hasPrefix(_ a: Span<UInt8>, _ prefix: Span<UInt8>) -> Bool {
    guard a.count >= prefix.count else { return false }
    for i in prefix.indices where a[i] != prefix[i] { return false }
    return true
  }

  public static func hasSuffix(_ a: Span<UInt8>, _ suffix: Span<UInt8>) -> Bool {
    guard a.count >= suffix.count else { return false }
    let offset = a.count - suffix.count
    for i in suffix.indices where a[offset + i] != suffix[i] { return false }
    return true
  }

  /// ASCII case-insensitive equality with bytes that are already lower-case.
  public static func equalIgnoringCase(_ a: Span<UInt8>, lowercased b: Span<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    for i in a.indices where ASCII.lowercased(a[i]) != b[i] { return false }
    return true
  }
}

extension [UInt8] {
  /// Appends the bytes of `span` in one copy.
  public mutating func append(_ span: Span<UInt8>) {
    unsafe span.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
  }

  /// Appends a field line with its CRLF, growing once.
  mutating func appendLine(name: Span<UInt8>, value: Span<UInt8>) {
    append(addingCapacity: name.count + value.count + 4) { line in
      line.append(copying: name)
      line.append(0x3A)
      line.append(0x20)
      line.append(copying: value)
      line.append(0x0D)
      line.append(0x0A)
    }
  }

  mutating func append(_ text: StaticString) {
    text.withUTF8Buffer { unsafe append(contentsOf: $0) }
  }
}

extension OutputSpan<UInt8> {
  mutating func append(copying span: Span<UInt8>) {
    unsafe withUnsafeMutableBufferPointer { buffer, initialized in
      unsafe span.withUnsafeBufferPointer { source in
        guard let from = source.baseAddress, let to = buffer.baseAddress, buffer.count - initialized >= source.count else {
          return
        }
        unsafe (to + initialized).update(from: from, count: source.count)
        initialized += source.count
      }
    }
  }
}

extension Range<Int> {
  /// This range without blanks and tabs at both ends (RFC 9110 OWS).
  func trimmingBlanks(in bytes: Span<UInt8>) -> Range<Int> {
    var low = lowerBound
    var high = upperBound
    while low < high, bytes[low] == 0x20 || bytes[low] == 0x09 { low += 1 }
    while high > low, bytes[high - 1] == 0x20 || bytes[high - 1] == 0x09 { high -= 1 }
    return low..<high
  }
}

extension Span<UInt8> {
  private static var ones: UInt64 { 0x0101_0101_0101_0101 }
  private static var highs: UInt64 { 0x8080_8080_8080_8080 }

  /// Marks the lowest byte of `word` that is below `limit` (at most 128); marks above it may be wrong.
  @inline(__always) private static func marks(_ word: UInt64, below limit: UInt8) -> UInt64 {
    (word &- ones &* UInt64(limit)) & ~word & highs
  }

  /// The first index from `start` on, but before `end`, of a byte below `limit`; else `end`. Eight bytes a step.
  @inline(__always) func first(below limit: UInt8, from start: Int, to end: Int) -> Int {
    var at = start
    let end = Swift.min(end, count)
    let raw = unsafe bytes
    while at >= 0, at + 8 <= end {
      // In bounds by the line above.
      let word = unsafe raw.unsafeLoadUnaligned(fromUncheckedByteOffset: at, as: UInt64.self).littleEndian
      let marks = Self.marks(word, below: limit)
      if marks != 0 { return at + marks.trailingZeroBitCount / 8 }
      at += 8
    }
    while at < end, self[at] >= limit { at += 1 }
    return at
  }

  /// The first index from `start` on, but before `end`, of a byte that cannot stand in a field value; else `end`.
  func firstNonValue(from start: Int, to end: Int) -> Int {
    var at = start
    let end = Swift.min(end, count)
    let raw = unsafe bytes
    while at >= 0, at + 8 <= end {
      // In bounds by the line above.
      let word = unsafe raw.unsafeLoadUnaligned(fromUncheckedByteOffset: at, as: UInt64.self).littleEndian
      // DEL becomes 0, and no other byte falls below 1.
      let marks = Self.marks(word, below: 0x20) | Self.marks(word ^ (Self.ones &* 0x7F), below: 1)
      if marks == 0 {
        at += 8
        continue
      }
      at += marks.trailingZeroBitCount / 8
      guard self[at] == 0x09 else { return at }
      at += 1
    }
    while at < end, ByteClass.has(self[at], ByteClass.fieldValue) { at += 1 }
    return at
  }
}
