import Primitives

/// Byte classes of RFC 9110 and RFC 3986 as one table of bit sets, so that a scan is a load and a mask.
enum ByteClass {
  static let token: UInt8 = 1
  static let fieldValue: UInt8 = 2
  static let regName: UInt8 = 4
  static let target: UInt8 = 8
  static let pathAsIs: UInt8 = 16
  static let hex: UInt8 = 32

  static let table: [UInt8] = {
    var table = [UInt8](repeating: 0, count: 256)
    func isAlphanumeric(_ b: UInt8) -> Bool { ASCII.isDigit(b) || (b | 0x20 >= 0x61 && b | 0x20 <= 0x7A) }
    for value in 0...255 {
      let b = UInt8(value)
      var set: UInt8 = 0
      // RFC 9110 5.6.2
      if isAlphanumeric(b) || "!#$%&'*+-.^_`|~".utf8.contains(b) { set |= token }
      // RFC 9110 5.5: VCHAR, obs-text, SP and HTAB; every other control byte is refused.
      if b == 0x09 || (b >= 0x20 && b != 0x7F) { set |= fieldValue }
      // RFC 3986 3.2.2 reg-name; square brackets and colon are handled where an authority is parsed.
      if isAlphanumeric(b) || "-._~!$&'()*+,;=%".utf8.contains(b) { set |= regName }
      // What may stand in a request target at all: no control, blank, DEL or fragment mark.
      if b > 0x20 && b != 0x7F && b != 0x23 { set |= target }
      // Path bytes that canonicalisation leaves alone wherever they stand ('.' is looked at after a slash only).
      if b > 0x20 && b < 0x7F && !"%\\\"<>^`{|}#?".utf8.contains(b) { set |= pathAsIs }
      if hexValue(b) != nil { set |= hex }
      table[value] = set
    }
    return table
  }()

  static func hexValue(_ b: UInt8) -> UInt8? {
    switch b {
    case 0x30...0x39: b - 0x30
    case 0x41...0x46: b - 0x37
    case 0x61...0x66: b - 0x57
    default: nil
    }
  }
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
