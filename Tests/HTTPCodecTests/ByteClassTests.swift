import Testing

@testable import HTTPCodec

@Suite("Byte classes") struct ByteClassTests {
  private static func isAlphanumeric(_ b: UInt8) -> Bool {
    (0x30...0x39).contains(b) || (0x41...0x5A).contains(b) || (0x61...0x7A).contains(b)
  }

  /// The classes as their RFCs define them, in the slow and obvious way.
  private static func classes(of b: UInt8) -> UInt8 {
    var set: UInt8 = 0
    if isAlphanumeric(b) || "!#$%&'*+-.^_`|~".utf8.contains(b) { set |= ByteClass.token }
    if b == 0x09 || (b >= 0x20 && b != 0x7F) { set |= ByteClass.fieldValue }
    if isAlphanumeric(b) || "-._~!$&'()*+,;=%".utf8.contains(b) { set |= ByteClass.regName }
    if b > 0x20 && b != 0x7F && b != 0x23 { set |= ByteClass.target }
    if b > 0x20 && b < 0x7F && !"%\\\"<>^`{|}#?".utf8.contains(b) { set |= ByteClass.pathAsIs }
    if "0123456789abcdefABCDEF".utf8.contains(b) { set |= ByteClass.hex }
    return set
  }

  @Test func `the table says of every byte what the RFCs say`() {
    for b in UInt8.min...UInt8.max {
      #expect(ByteClass.table[Int(b)] == Self.classes(of: b), "byte \(b)")
      let isToken = Self.classes(of: b) & ByteClass.token != 0
      let lowercased = (0x41...0x5A).contains(b) ? b + 0x20 : b
      #expect(ByteClass.lowercasedToken[Int(b)] == (isToken ? lowercased : 0), "byte \(b)")
    }
  }

  @Test func `scans by words find what a scan by bytes finds`() {
    for length in 0...26 {
      for place in 0..<max(1, length) {
        for byte in [UInt8(0), 0x09, 0x0A, 0x0D, 0x1F, 0x20, 0x7E, 0x7F, 0x80, 0xFF] {
          var text = [UInt8](repeating: 0x61, count: length)
          if length > 0 { text[place] = byte }
          for start in [0, min(1, length), length / 2] {
            let bytes = text.span
            let below = (start..<length).first { text[$0] < 0x0E } ?? length
            #expect(bytes.first(below: 0x0E, from: start, to: length) == below)
            let control = (start..<length).first { Self.classes(of: text[$0]) & ByteClass.fieldValue == 0 } ?? length
            #expect(bytes.firstNonValue(from: start, to: length) == control, "\(text) from \(start)")
          }
        }
      }
    }
  }

  @Test func `every known name fits into a set, and is found by its name in any case`() {
    for known in KnownHeader.allCases where known != .other {
      #expect(known.rawValue < 64)
      #expect(HeaderName(known)?.known == known)
      #expect(HeaderName(known.name.uppercased())?.known == known)
      var names = KnownHeaders()
      names.insert(known)
      #expect(KnownHeader.allCases.filter(names.contains) == [known])
    }
  }
}
