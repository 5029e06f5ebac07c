import HTTPCodec
import Primitives
import Testing

/// Builds ClientHello bytes as RFC 8446 4.1.2 lays them out.
struct HelloDraft {
  var extensions: [(type: UInt16, content: [UInt8])] = []
  var session: [UInt8] = []
  var hasExtensions = true

  static func vector(_ content: [UInt8], width: Int) -> [UInt8] {
    (0..<width).reversed().map { UInt8(truncatingIfNeeded: content.count >> (8 * $0)) } + content
  }

  static func serverName(_ name: String) -> [UInt8] { vector([0] + vector(Array(name.utf8), width: 2), width: 2) }

  static func protocols(_ names: String...) -> [UInt8] {
    vector(names.flatMap { vector(Array($0.utf8), width: 1) }, width: 2)
  }

  static func example(_ name: String) -> HelloDraft {
    HelloDraft(extensions: [(0, serverName(name)), (16, protocols("h2", "http/1.1")), (43, [4, 3, 4, 3, 3])])
  }

  var message: [UInt8] {
    var body: [UInt8] = [3, 3] + [UInt8](repeating: 7, count: 32) + Self.vector(session, width: 1)
    body += Self.vector([0x13, 0x01], width: 2) + [1, 0]
    if hasExtensions {
      let all = extensions.flatMap { item -> [UInt8] in
        [UInt8(item.type >> 8), UInt8(truncatingIfNeeded: item.type)] + Self.vector(item.content, width: 2)
      }
      body += Self.vector(all, width: 2)
    }
    return [1] + Self.vector(body, width: 3)
  }

  /// In records of at most `size` bytes.
  func records(of size: Int = 16_384) -> [UInt8] {
    stride(from: 0, to: message.count, by: size).flatMap { start -> [UInt8] in
      [22, 3, 1] + Self.vector(Array(message[start..<min(start + size, message.count)]), width: 2)
    }
  }
}

@Suite struct ClientHelloTests {
  private func read(_ bytes: [UInt8]) -> ClientHello.Outcome { ClientHello.read(bytes.span) }

  @Test func `a hello tells its server name in lower case, its protocols and its versions`() {
    guard case .complete(let hello) = read(HelloDraft.example("Reviews.Example.COM").records()) else {
      Issue.record("not read")
      return
    }
    #expect(hello.serverName == Array("reviews.example.com".utf8))
    #expect(hello.protocols == [Array("h2".utf8), Array("http/1.1".utf8)])
    #expect(hello.versions == [0x0304, 0x0303])
  }

  @Test(arguments: [1, 2, 3, 5, 7, 64, 4096])
  func `a hello in many records says the same`(size: Int) {
    let draft = HelloDraft.example("reviews.example.com")
    #expect(read(draft.records(of: size)) == read(draft.records()))
  }

  @Test(arguments: [1, 9, 16_384])
  func `every proper beginning of a hello asks for more`(size: Int) {
    let bytes = HelloDraft.example("a.b").records(of: size)
    for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == .needMore, "\(count) bytes") }
  }

  @Test func `bytes behind the hello change nothing`() {
    let bytes = HelloDraft.example("a.b").records()
    #expect(read(bytes + [1, 2, 3]) == read(bytes))
  }

  @Test func `no server name, no extensions and an empty list of protocols are accepted`() {
    for draft in [HelloDraft(hasExtensions: false), HelloDraft(extensions: [(16, [0, 0])]), HelloDraft(extensions: [])] {
      guard case .complete(let hello) = read(draft.records()) else {
        Issue.record("not read")
        continue
      }
      #expect(hello.serverName.isEmpty && hello.protocols.isEmpty && hello.versions == [0x0303])
    }
  }

  @Test(arguments: ["GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", "\u{15}\u{03}\u{01}"])
  func `other protocols are not TLS`(text: String) { #expect(read(Array(text.utf8)) == .notTLS) }

  static let refused: [(String, [UInt8])] = [
    ("two names", HelloDraft(extensions: [(0, [0, 8, 0, 0, 1, 97, 0, 0, 1, 98])]).records()),
    ("an empty name", HelloDraft(extensions: [(0, [0, 3, 0, 0, 0])]).records()),
    ("a name with NUL", HelloDraft(extensions: [(0, HelloDraft.serverName("a\0b"))]).records()),
    ("a name of another type", HelloDraft(extensions: [(0, [0, 4, 1, 0, 1, 97])]).records()),
    ("a name of 256 bytes", HelloDraft(extensions: [(0, HelloDraft.serverName(String(repeating: "a", count: 256)))]).records()),
    (
      "an extension twice",
      HelloDraft(extensions: [(0, HelloDraft.serverName("a")), (0, HelloDraft.serverName("b"))]).records()
    ),
    ("an empty protocol", HelloDraft(extensions: [(16, [0, 1, 0])]).records()),
    ("versions of odd length", HelloDraft(extensions: [(43, [1, 3])]).records()),
    ("a session of 33 bytes", HelloDraft(session: [UInt8](repeating: 1, count: 33)).records()),
    ("another handshake message", [22, 3, 1, 0, 4, 2, 0, 0, 0]),
    ("a message above the limit", [22, 3, 1, 0, 4, 1, 1, 0, 0]),
    ("an empty record in between", Array(HelloDraft.example("a").records(of: 8).prefix(13)) + [22, 3, 1, 0, 0]),
  ]

  @Test(arguments: refused) func `a malformed hello is refused`(what: String, bytes: [UInt8]) {
    #expect(read(bytes) == .malformed, "\(what)")
  }

  @Test func `a hello that is dripped for ever is refused at the limit`() {
    let record: [UInt8] = [22, 3, 1, 0, 1]
    var bytes = record + [1]
    for byte in [0, 0x3F, 0xFF] as [UInt8] { bytes += record + [byte] }
    while bytes.count <= ClientHello.recordBytesMax { bytes += record + [0] }
    #expect(read(bytes) == .malformed)
  }

  @Test func `arbitrary bytes never trap`() {
    var draws = SeededGenerator(seed: 11)
    let valid = HelloDraft.example("reviews.example.com").records(of: 40)
    for _ in 0..<20_000 {
      var bytes = valid
      for _ in 0..<(1 + draws.below(4)) {
        bytes[Int(draws.below(UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: draws.next())
      }
      _ = read(bytes)
    }
  }
}

@Suite struct ProtocolPeekTests {
  @Test(arguments: [
    ("", ProtocolPeek.undecided), ("G", .undecided), ("GET", .undecided), ("GET /pa", .undecided),
    ("GET / HTTP/1", .undecided), ("GET / HTTP/1.1\r\n", .http1), ("M-SEARCH * HTTP/1.1\r\n", .http1),
    ("GET http://a/ HTTP/1.0\r\n", .http1), ("PRI * HTTP/2.0\r\n\r\n", .http2), ("PRI", .undecided),
    ("PRI * HTTP/2", .undecided),
    ("PUT x\r\n", .opaque), ("get / HTTP/1.1\r\n", .opaque), ("GET / HTTP/3.1\r\n", .opaque), ("GET  HTTP/1.1\r\n", .opaque),
    (" GET / HTTP/1.1", .opaque), ("\u{16}", .undecided), ("\u{16}\u{03}\u{01}", .tls), ("\u{16}\u{02}", .opaque),
    ("*1\r\n$4\r\nPING\r\n", .opaque), ("SSH-2.0-OpenSSH\r\n", .opaque), ("AAAAAAAAAAAAAAAAAAAAAAAA", .opaque), ("\0", .opaque),
  ])
  func `the first bytes tell the protocol`(text: String, expected: ProtocolPeek) {
    #expect(ProtocolPeek(Array(text.utf8).span) == expected)
  }

  @Test func `an answer once given is not taken back by more bytes`() {
    for text in [
      "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "EHLO mesh\r\n", "\u{16}\u{03}\u{01}\u{02}",
    ] {
      var answer = ProtocolPeek.undecided
      let bytes = Array(text.utf8)
      for count in 0...bytes.count {
        let next = ProtocolPeek(Array(bytes[..<count]).span)
        if answer != .undecided { #expect(next == answer) }
        answer = next
      }
      #expect(answer != .undecided)
    }
  }

  @Test func `a request line without end is not waited for`() {
    let bytes = Array("GET /".utf8) + [UInt8](repeating: 0x61, count: ProtocolPeek.requestLineBytesMax)
    #expect(ProtocolPeek(bytes.span) == .opaque)
  }
}
