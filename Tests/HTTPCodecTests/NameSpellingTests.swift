import HTTPCodec
import Primitives
import Testing

/// Names of fields over a hop that carries them in lower case.
@Suite("Spelling of names") struct NameSpellingTests {
  private static func head(_ fields: String) throws -> RequestHead {
    try #require(try parseRequest(Array("GET / HTTP/1.1\r\n\(fields)\r\n".utf8))).head
  }

  private static func told(_ fields: String, limit: Int = 2048) throws -> String {
    String(decoding: try head(fields).headers.spellings(limit: limit), as: UTF8.self)
  }

  /// The same fields as HTTP/2 delivers them.
  private static func decoded(_ names: [String]) throws -> RequestHead {
    var fields = RequestFields()
    var head = RequestHead()
    fields.begin(&head)
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
    for (name, value) in pseudo + names.map({ ($0, "1") }) {
      try fields.add(name: Array(name.utf8).span, value: Array(value.utf8).span, to: &head)
    }
    try fields.finish(&head, ends: true)
    return head
  }

  private static func written(_ head: RequestHead) -> String {
    var bytes: [UInt8] = []
    head.write(into: &bytes, chunked: false)
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test(arguments: [
    ("Host: a\r\n", "Host"), ("host: a\r\nx-a: B\r\n", ""),
    ("host: a\r\nSOAPAction: 1\r\nx-b: 2\r\nX-C-d: 3\r\n", "SOAPAction,X-C-d"),
    ("host: a\r\nX-A: 1\r\nx-a: 2\r\nX-a: 3\r\n", "X-A"), ("host: a\r\nx-a: 1\r\nX-A: 2\r\n", ""),
  ])
  func `a name with capitals is told once, as it was written first`(fields: String, expected: String) throws {
    #expect(try Self.told(fields) == expected)
  }

  @Test func `a list keeps within its limit`() throws {
    let fields = "Host: a\r\n" + (0..<80).map { "X-Field-\($0): 1\r\n" }.joined()
    for limit in [0, 4, 5, 14, 100, 2048] {
      let list = try Self.told(fields, limit: limit)
      #expect(list.utf8.count <= limit)
      #expect(list.split(separator: ",").allSatisfy { $0 == "Host" || $0.hasPrefix("X-Field-") })
    }
  }

  @Test func `a removed field's name is told, since what takes its place is that field`() throws {
    var head = try Self.head("Host: a\r\nX-Request-Id: 1\r\n")
    head.headers.set(try #require(HeaderName(.requestID)), Array("2".utf8))
    let list = head.headers.spellings(limit: 2048)
    head.respell(list.span)
    #expect(Self.written(head) == "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 2\r\n\r\n")
  }

  @Test func `names are written as they were told, the host first`() throws {
    var head = try Self.decoded(["x-a", "soapaction", "x-b"])
    head.respell(Array("SOAPAction,X-B,Host,X-Absent".utf8).span)
    #expect(Self.written(head) == "GET / HTTP/1.1\r\nHost: a\r\nx-a: 1\r\nSOAPAction: 1\r\nX-B: 1\r\n\r\n")
  }

  @Test(arguments: [
    "", ",", ",,,,", "x", "X-A\u{0}", "X-A:", "X-\r\nEvil: 1", "X-AA", "Y-A", " , x-a ,", "\u{7F}\u{FF}",
    String(repeating: "X-A,", count: 10_000),
  ])
  func `what is no spelling of a field's name changes no more than the case of letters`(list: String) throws {
    var head = try Self.decoded(["x-a", "x-b"])
    head.respell(Array(list.utf8).span)
    #expect(Self.written(head).lowercased() == "get / http/1.1\r\nhost: a\r\nx-a: 1\r\nx-b: 1\r\n\r\n")
  }

  /// A head of HTTP/1, carried in lower case with what is told of it, is written as it was.
  @Test(arguments: 0..<50)
  func `names come through any hop as they were`(seed: UInt64) throws {
    var draws = SeededGenerator(seed: seed)
    let names = (0..<Int.random(in: 0...40, using: &draws)).map { index in
      "x-\(index)-" + String((0..<8).map { _ in "abABzZ-".randomElement(using: &draws) ?? "a" })
    }
    let sent = try Self.head("Host: a\r\n" + names.map { "\($0): 1\r\n" }.joined())
    var received = try Self.decoded(names.map { $0.lowercased() })
    received.respell(sent.headers.spellings(limit: 2048).span)
    #expect(Self.written(received) == Self.written(sent))
  }
}
