import HTTPCodec
import Primitives
import Testing

/// Parses `text` in pieces of `step` bytes, as a connection would deliver it.
func parseRequest(
  _ bytes: [UInt8], step: Int = .max, options: RequestParser.Options = RequestParser.Options()
) throws(MessageError) -> (head: RequestHead, used: Int)? {
  var parser = RequestParser(options: options)
  var head = RequestHead()
  var end = 0
  while end < bytes.count {
    end = step == .max ? bytes.count : min(bytes.count, end + step)
    let part = Array(bytes[..<end])
    if let used = try parser.parse(part.span, from: 0, into: &head) { return (head, used) }
  }
  return nil
}

@Suite("Request heads") struct RequestParserTests {
  static let host = "Host: a\r\n"

  @Test func `a request is taken apart, and what follows is left`() throws {
    let bytes = Array("GET /a?b=1 HTTP/1.1\r\nHost: Reviews.:9080\r\nX-A:  1 \r\n\r\nrest".utf8)
    let (head, used) = try #require(try parseRequest(bytes))
    #expect(used == bytes.count - 4)
    #expect(head.method == .get)
    #expect(head.headers.text(head.path) == "/a")
    #expect(head.query.map(head.headers.text) == "b=1")
    #expect(head.headers.text(head.target) == "/a?b=1")
    #expect(head.headers.text(head.authority) == "reviews:9080")
    #expect(head.headers.text(head.host) == "reviews")
    #expect(head.port == 9080)
    let name = try #require(HeaderName("x-a"))
    #expect(head.headers.value(name).map(head.headers.text) == "1")
    #expect(head.framing == .none)
    #expect(head.keepsAlive)
  }

  static let refused: [(id: String, text: String, status: Int)] = [
    ("A1", "POST / HTTP/1.1\r\n\(host)Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("A2", "POST / HTTP/1.1\r\n\(host)Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ("A2", "POST / HTTP/1.1\r\n\(host)Content-Length: 1,1\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length:\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length: -1\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length: 1_0\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length: 0x1\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length: 1 0\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length: 9223372036854775808\r\n\r\n", 400),
    ("A3", "POST / HTTP/1.1\r\n\(host)Content-Length: ١\r\n\r\n", 400),
    ("A4", "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    ("A4", "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    ("A4", "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: ,chunked\r\n\r\n", 400),
    ("A4", "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("A4", "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: \u{B}chunked\r\n\r\n", 400),
    ("A4", "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: gzip\r\n\r\n", 501),
    ("A5", "GET / HTTP/1.0\r\n\(host)\r\n", 426),
    ("A5", "GET / HTTP/1.0\r\n\(host)Transfer-Encoding: chunked\r\n\r\n", 400),
    ("A6", "GET / HTTP/1.1\n\(host)\r\n", 400), ("A6", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("A6", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400), ("A6", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    ("A7", "GET /\r\n\(host)\r\n", 400), ("A7", "GET\r\n\(host)\r\n", 400), ("A7", "GET /  HTTP/1.1\r\n\(host)\r\n", 400),
    ("A7", " GET / HTTP/1.1\r\n\(host)\r\n", 400), ("A7", "\r\n\r\nGET / HTTP/1.1\r\n\(host)\r\n", 400),
    ("A7", "GET / HTTP/1.1 \r\n\(host)\r\n", 400), ("A7", "GET / http/1.1\r\n\(host)\r\n", 400),
    ("A10", "GET / HTTP/1.1\r\n\(host)X : 1\r\n\r\n", 400), ("A10", "GET / HTTP/1.1\r\n\(host) X: 1\r\n\r\n", 400),
    ("A10", "GET / HTTP/1.1\r\n\(host)X\r\n\r\n", 400), ("A10", "GET / HTTP/1.1\r\n\(host): 1\r\n\r\n", 400),
    ("A10", "GET / HTTP/1.1\r\n\(host)X(: 1\r\n\r\n", 400), ("A10", "GET / HTTP/1.1\r\n\(host)X: \0\r\n\r\n", 400),
    ("A13", "GET / HTTP/1.1\r\n\r\n", 400), ("A13", "GET / HTTP/1.1\r\n\(host)\(host)\r\n", 400),
    ("A13", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400), ("A13", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("A13", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400), ("A13", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    ("A15", "GET / HTTP/1.1\r\n\(host)Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n", 400),
    ("A18", "GET / HTTP/1.1\r\n\(host)Expect: something\r\n\r\n", 417),
    ("B7", "GET a HTTP/1.1\r\n\(host)\r\n", 400), ("B7", "GET * HTTP/1.1\r\n\(host)\r\n", 400),
    ("B8", "GET / HTTP/1.1\r\n\(host)Connection: host\r\n\r\n", 400),
    ("E2", "GET /#a HTTP/1.1\r\n\(host)\r\n", 400), ("E1", "GET /%00 HTTP/1.1\r\n\(host)\r\n", 400),
    ("505", "GET / HTTP/2.0\r\n\(host)\r\n", 505), ("505", "GET / HTTP/1.2\r\n\(host)\r\n", 505),
    ("414", "GET /" + String(repeating: "a", count: 17_000) + " HTTP/1.1\r\n\(host)\r\n", 414),
    ("A11", "GET / HTTP/1.1\r\n\(host)" + String(repeating: "A: 1\r\n", count: 100) + "\r\n", 431),
    ("A11", "GET / HTTP/1.1\r\n\(host)A: " + String(repeating: "a", count: 62_000) + "\r\n\r\n", 431),
  ]

  @Test(arguments: refused.indices) func `what the grammar does not allow is refused, at once or byte by byte`(index: Int) {
    let (id, text, status) = Self.refused[index]
    let bytes = Array(text.utf8)
    let steps: [Int] = bytes.count > 1000 ? [.max, 997] : [.max, 1, 2, 7]
    for step in steps {
      do throws(MessageError) {
        _ = try parseRequest(bytes, step: step)
        Issue.record("\(id) was accepted in steps of \(step): \(text.prefix(80))")
      } catch {
        #expect(error.status == status, "\(id) \(error) in steps of \(step): \(text.prefix(80))")
      }
    }
  }

  @Test(arguments: [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nPOST /x?y HTTP/1.1\r\nHost: A:80\r\nContent-Length: 3\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://B.example:81/p?q HTTP/1.1\r\nHost: a\r\nX: \u{FF}\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "PUT /%7euser/../b HTTP/1.1\r\nhost: [::1]:8080\r\nTransfer-Encoding: Chunked\r\n\r\n",
  ]) func `what is valid is read the same in any pieces`(text: String) throws {
    let bytes = Array(text.utf8)
    let whole = try #require(try parseRequest(bytes))
    for step in 1...9 {
      let parts = try #require(try parseRequest(bytes, step: step))
      #expect(parts.used == whole.used)
      #expect(parts.head.headers.bytes == whole.head.headers.bytes)
      #expect(parts.head.headers.fields == whole.head.headers.fields)
      #expect(parts.head.target == whole.head.target)
      #expect(parts.head.framing == whole.head.framing)
    }
  }

  @Test func `RFC 9112 3.2.2: the authority of an absolute target replaces the Host field`() throws {
    let (head, _) = try #require(try parseRequest(Array("GET http://B:81?q HTTP/1.1\r\nHost: a\r\n\r\n".utf8)))
    var output: [UInt8] = []
    head.write(into: &output, chunked: false)
    #expect(String(decoding: output, as: UTF8.self) == "GET /?q HTTP/1.1\r\nhost: b:81\r\n\r\n")
  }

  @Test(arguments: [
    ("/..", "/"), ("/a/../../b", "/b"), ("/%2e%2E/", "/"), ("/a/./b/.", "/a/b/"), ("/a/b/..", "/a/"), ("/;p/x", "/;p/x"),
    ("/%C0%AF", "/%C0%AF"), ("/%zz", "/%zz"), ("/a%2e", "/a%2e"), ("/\"<>^`{}|", "/%22%3C%3E%5E%60%7B%7D%7C"),
    ("/\u{E9}", "/%C3%A9"), ("/%5C%2f", "/%5C%2f"),
  ]) func `BASE normalisation`(raw: String, canonical: String) throws {
    let (head, _) = try #require(try parseRequest(Array("GET \(raw) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)))
    #expect(head.headers.text(head.path) == canonical)
    let (again, _) = try #require(try parseRequest(Array("GET \(canonical) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)))
    #expect(again.headers.text(again.path) == canonical)
  }

  @Test func `every escaped byte is decoded exactly when it is unreserved`() throws {
    for value in 1...255 {
      for text in [String(value, radix: 16), String(value, radix: 16, uppercase: true)] {
        let escape = "%" + (text.count == 1 ? "0" + text : text)
        let (head, _) = try #require(try parseRequest(Array("GET /x\(escape)y HTTP/1.1\r\nHost: a\r\n\r\n".utf8)))
        let byte = UInt8(value)
        let isDecoded = ASCII.isLowerAlphanumeric(ASCII.lowercased(byte)) || "-_~".utf8.contains(byte)
        let expected = isDecoded ? "/x\(Character(Unicode.Scalar(byte)))y" : "/x\(escape)y"
        #expect(head.headers.text(head.path) == expected)
      }
    }
  }

  @Test func `merging slashes, and decoding them first`() throws {
    for (mode, expected) in [
      (PathNormalization.mergeSlashes, "/a/b%2Fc"), (.decodeAndMergeSlashes, "/a/b/c"), (.none, "//a//b%2Fc"),
    ] {
      var options = RequestParser.Options()
      options.normalization = mode
      let (head, _) = try #require(try parseRequest(Array("GET //a//b%2Fc HTTP/1.1\r\nHost: a\r\n\r\n".utf8), options: options))
      #expect(head.headers.text(head.path) == expected)
    }
  }

  @Test func `random bytes, and damaged requests, never trap`() {
    var draws = SeededGenerator(seed: 3)
    let seed = Array("POST http://a/b?c HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\nConnection: x, te\r\n\r\n".utf8)
    for round in 0..<20_000 {
      var bytes = seed
      if round % 4 == 0 { bytes = (0..<draws.index(below: 80)).map { _ in UInt8(draws.below(256)) } }
      for _ in 0..<(1 + draws.index(below: 3)) where !bytes.isEmpty {
        let at = draws.index(below: bytes.count)
        if draws.chance(0.5) { bytes[at] = UInt8(draws.below(256)) } else { bytes.remove(at: at) }
      }
      if let (head, used) = try? parseRequest(bytes) {
        #expect(used <= bytes.count)
        var output: [UInt8] = []
        var copy = head
        copy.headers.removeHopByHop()
        copy.write(into: &output, chunked: head.framing == .chunked)
        // What we write, we read again as the same request.
        let second = try? parseRequest(output)
        if head.method != .connect {
          #expect(second?.head.headers.text(second?.head.target ?? 0..<0) == head.headers.text(head.target))
          #expect(second?.head.framing == head.framing)
        }
      }
    }
  }

  @Test func `nothing that could split a message is ever written`() throws {
    var block = HeaderBlock()
    let name = try #require(HeaderName("location"))
    for bad in ["a\r\nb: c", "a\nb", "a\rb", "a\0b"] {
      let isAdded = block.add(name, bad)
      #expect(!isAdded)
    }
    #expect(block.fields.isEmpty)
    #expect(HeaderName("a b") == nil)
    #expect(HTTPResponse(status: 200, headers: [HTTPField("x", "a\r\nb")]).serialized() == nil)
    var (head, _) = try #require(try parseRequest(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)))
    let changes = [head.setTarget(path: Array("/a b".utf8), query: nil), head.setAuthority(Array("a\r\nb".utf8))]
    #expect(changes == [false, false])
  }

  @Test func `hop-by-hop fields go, also those that Connection nominates`() throws {
    let text =
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, keep-alive\r\nX-One: 1\r\nX-Two: 2\r\nTE: gzip\r\nUpgrade: h2c\r\nProxy-Connection: x\r\n\r\n"
    var (head, _) = try #require(try parseRequest(Array(text.utf8)))
    head.headers.removeHopByHop()
    var output: [UInt8] = []
    head.write(into: &output, chunked: false)
    #expect(String(decoding: output, as: UTF8.self) == "GET / HTTP/1.1\r\nHost: a\r\nX-Two: 2\r\n\r\n")
  }
}
