import HTTPCodec
import Primitives
import Testing

/// haproxy.org, proxy-protocol.txt, sections 2.1 and 2.2.
@Suite struct ProxyProtocolTests {
  static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
  static let v4: [UInt8] = [10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0x01, 0xBB]

  static func binary(_ command: UInt8, _ family: UInt8, _ payload: [UInt8]) -> [UInt8] {
    signature + [command, family, UInt8(payload.count >> 8), UInt8(truncatingIfNeeded: payload.count)] + payload
  }

  private func read(_ bytes: [UInt8]) -> ProxyProtocol.Outcome { ProxyProtocol.read(bytes.span) }

  private func ends(_ bytes: [UInt8]) -> String {
    guard case .complete(let header, _) = read(bytes) else { return "\(read(bytes))" }
    guard let (source, destination) = header.ends else { return "unknown" }
    return "\(source.address) \(source.port) \(destination.address) \(destination.port)"
  }

  @Test(arguments: [
    ("PROXY TCP4 10.0.0.1 10.0.0.2 12345 443\r\n", "[10, 0, 0, 1] 12345 [10, 0, 0, 2] 443"),
    ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "[255, 255, 255, 255] 65535 [255, 255, 255, 255] 65535"),
    ("PROXY UNKNOWN\r\n", "unknown"), ("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", "unknown"),
    (
      "PROXY TCP6 ::1 2001:db8::ffff:1.2.3.4 1 2\r\n",
      "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] 1 [32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4] 2"
    ),
  ])
  func `a line names both ends`(line: String, expected: String) { #expect(ends(Array(line.utf8)) == expected) }

  @Test(arguments: [
    "GET / HTTP/1.1\r\n", "PROXY TCP4 10.0.0.1 10.0.0.2 12345\r\n", "PROXY TCP4 10.0.0.1 10.0.0.2 12345 65536\r\n",
    "PROXY TCP4 10.0.0.1 10.0.0.2 12345 443 \r\n", "PROXY TCP4 10.0.0.01 10.0.0.2 12345 443\r\n",
    "PROXY TCP4 10.0.0.1  10.0.0.2 12345 443\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
    "PROXY TCP4 10.0.0.1 10.0.0.2 012 443\r\n", "PROXY TCP4 10.0.0.1 10.0.0.2 12345 443\n",
    "PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
    "PROXY TCP6 ::1::2 ::1 1 2\r\n", "PROXY TCP6 ::: ::1 1 2\r\n", "PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n",
    "proxy TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "PROXY \r\n",
  ])
  func `a wrong line is refused`(line: String) { #expect(read(Array(line.utf8)) == .malformed) }

  @Test func `a line has at most 107 bytes`() {
    let line = Array("PROXY UNKNOWN ".utf8) + [UInt8](repeating: 0x61, count: 91)
    #expect(read(line + [0x0D, 0x0A]) == .complete(.unknown, count: 107))
    #expect(read(line + [0x61, 0x0D, 0x0A]) == .malformed)
    #expect(read(line + [0x61, 0x61]) == .malformed)
  }

  static let headers: [(String, [UInt8], String)] = [
    ("IPv4", binary(0x21, 0x11, v4), "[10, 0, 0, 1] 12345 [10, 0, 0, 2] 443"),
    ("a LOCAL header speaks for its sender", binary(0x20, 0x00, []), "unknown"),
    ("of a LOCAL header nothing is used", binary(0x20, 0x11, v4), "unknown"),
    ("an unspecified family", binary(0x21, 0x00, [1, 2, 3]), "unknown"),
    ("Unix sockets", binary(0x21, 0x31, [UInt8](repeating: 0x2F, count: 212)), "unknown"),
    ("additions", binary(0x21, 0x11, v4 + [0x02, 0, 1, 0x61, 0x04, 0, 0]), "[10, 0, 0, 1] 12345 [10, 0, 0, 2] 443"),
  ]

  @Test(arguments: headers) func `a binary header names both ends`(what: String, bytes: [UInt8], expected: String) {
    #expect(ends(bytes) == expected, "\(what)")
    #expect(ends(bytes + Array("GET /".utf8)) == expected)
    if case .complete(_, let count) = read(bytes + [1, 2, 3]) { #expect(count == bytes.count) }
  }

  static let refused: [(String, [UInt8])] = [
    ("another version", binary(0x11, 0x11, v4)), ("another command", binary(0x22, 0x11, v4)),
    ("datagrams", binary(0x21, 0x12, v4)), ("an unknown family", binary(0x21, 0x41, v4)),
    ("addresses cut short", binary(0x21, 0x11, Array(v4.dropLast()))),
    ("an addition longer than the header", binary(0x21, 0x11, v4 + [0x04, 0, 9, 1])),
    ("an addition without length", binary(0x21, 0x11, v4 + [0x04, 0])),
    ("an authority that is no text", binary(0x21, 0x11, v4 + [0x02, 0, 1, 0xFF])),
    ("a wrong checksum", binary(0x21, 0x11, v4 + [0x03, 0, 4, 1, 2, 3, 4])),
    ("a length above the limit", signature + [0x21, 0x11, 0x10, 0x01]),
    ("another signature", [0x0D, 0x0A, 0x0D, 0x0A, 0x01]),
  ]

  @Test(arguments: refused) func `a wrong binary header is refused`(what: String, bytes: [UInt8]) {
    #expect(read(bytes) == .malformed, "\(what)")
  }

  @Test func `a right checksum is accepted`() {
    // CRC-32C over the header with the checksum's bytes as zero, computed bit by bit here as a second implementation.
    var bytes = Self.binary(0x21, 0x11, Self.v4 + [0x03, 0, 4, 0, 0, 0, 0])
    var remainder: UInt64 = 0xFFFF_FFFF
    for byte in bytes {
      for bit in 0..<8 {
        let top = remainder & 1 ^ UInt64(byte >> bit & 1)
        remainder >>= 1
        if top == 1 { remainder ^= 0x82F6_3B78 }
      }
    }
    let crc = UInt32(truncatingIfNeeded: ~remainder)
    for index in 0..<4 { bytes[bytes.count - 4 + index] = UInt8(truncatingIfNeeded: crc >> (24 - 8 * UInt32(index))) }
    #expect(ends(bytes) == "[10, 0, 0, 1] 12345 [10, 0, 0, 2] 443")
  }

  @Test func `every proper beginning asks for more`() {
    for bytes in Self.headers.map(\.1) + [Array("PROXY TCP4 10.0.0.1 10.0.0.2 12345 443\r\n".utf8)] {
      for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == .needMore) }
    }
  }

  @Test(arguments: [ProxyProtocol.Version.v1, .v2], [4, 16])
  func `what is written is read`(version: ProxyProtocol.Version, size: Int) {
    let source = ProxyProtocol.End(address: (0..<size).map { UInt8($0) }, port: 1)
    let destination = ProxyProtocol.End(address: (0..<size).map { UInt8(255 - $0) }, port: 65_535)
    let header = ProxyProtocol(source: source, destination: destination)
    var bytes: [UInt8] = []
    header.write(version, into: &bytes)
    #expect(read(bytes) == .complete(header, count: bytes.count))
    bytes = []
    ProxyProtocol.unknown.write(version, into: &bytes)
    #expect(read(bytes) == .complete(.unknown, count: bytes.count))
  }

  @Test func `arbitrary bytes never trap`() {
    var draws = SeededGenerator(seed: 5)
    for base in Self.headers.map(\.1) {
      for _ in 0..<3_000 {
        var bytes = base
        bytes[Int(draws.below(UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: draws.next())
        _ = read(bytes)
      }
    }
  }
}
