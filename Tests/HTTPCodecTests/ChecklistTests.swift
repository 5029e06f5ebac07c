import HTTPCodec
import Primitives
import Testing

/// What Swift's own text and number types would let through, and no parser here may (RFC 9110 5.5, 5.6; Unicode is no part of
/// HTTP's syntax).
@Suite("Checklist M: text and numbers") struct ChecklistTests {
  private func parse(_ text: String, _ options: RequestParser.Options = .init()) throws(MessageError) -> RequestHead? {
    var parser = RequestParser(options: options)
    var head = RequestHead()
    return try parser.parse(Array(text.utf8).span, from: 0, into: &head) == nil ? nil : head
  }

  @Test func `M2: CR and LF are found as bytes, also where text would join them`() throws {
    for text in ["X: a\r\n\u{301}b", "X: a\u{301}\nb", "X: \r\r\n"] {
      #expect(throws: MessageError.self) { try parse("GET / HTTP/1.1\r\nHost: a\r\n\(text)\r\n\r\n") }
    }
    var block = HeaderBlock()
    let name = try #require(HeaderName("x"))
    for value in ["a\r\nb", "a\n", "\r", "a\0", "\u{7F}", "\u{1B}"] {
      let (isAdded, isSet) = (block.add(name, value), block.set(name, Array(value.utf8)))
      #expect(!isAdded && !isSet)
    }
    #expect(block.fields.isEmpty)
    for name in ["", "a b", "a:", "a\r\n", "\u{212A}", "\u{E9}"] { #expect(HeaderName(name) == nil) }
  }

  @Test func `M3, M7: letters that fold into ASCII ones elsewhere are not theirs here`() throws {
    // U+212A lowercases to k, U+0131 uppercases to I, U+017F to S.
    for text in ["Transfer-Encoding: chun\u{212A}ed", "Connection: \u{212A}eep-alive", "Expect: 100-cont\u{131}nue"] {
      #expect(throws: MessageError.self) { try parse("POST / HTTP/1.1\r\nHost: a\r\n\(text)\r\n\r\n") }
    }
    let head = try #require(try parse("GET / HTTP/1.1\r\nHost: a\r\nX: \u{17F}\r\nConnection: close\r\n\r\n"))
    #expect(!head.keepsAlive)
    for host in ["\u{212A}", "a\u{301}", "\u{E9}", "xn\u{2010}a", "a\u{3002}b", "\u{FF41}"] {
      #expect(throws: MessageError.self) { try parse("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n") }
    }
  }

  @Test func `M3: paths that are equal as text stay two`() throws {
    let composed = try #require(try parse("GET /\u{E9} HTTP/1.1\r\nHost: a\r\n\r\n"))
    let decomposed = try #require(try parse("GET /e\u{301} HTTP/1.1\r\nHost: a\r\n\r\n"))
    #expect(composed.headers.copy(composed.path) == Array("/%C3%A9".utf8))
    #expect(decomposed.headers.copy(decomposed.path) == Array("/e%CC%81".utf8))
  }

  @Test(arguments: [
    "+5", "-0", " 5", "5 ", "0x5", "5_0", "5.0", "5e1", "\u{665}", "\u{FF15}", "\u{BD}", "\u{B2}", "nan", "infinity", "",
  ]) func `M5, M6: numbers are ASCII digits`(text: String) throws {
    #expect(throws: MessageError.self) { try parse("GET / HTTP/1.1\r\nHost: a:\(text);\r\n\r\n") }
    // Blanks around a field's value are no part of it.
    if text.trimmingPrefix(" ").hasPrefix("5"), text.utf8.count == 2 { return }
    #expect(throws: MessageError.self) { try parse("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \(text)\r\n\r\n") }
    var decoder = BodyDecoder(.chunked)
    var position = 0
    let bytes = Array("\(text)\r\n".utf8)
    if text != "5e1" { #expect(throws: MessageError.self) { try decoder.next(bytes.span, from: &position) } }
    var responses = ResponseParser()
    var head = ResponseHead()
    let answer = Array("HTTP/1.1 \(text)00 OK\r\n\r\n".utf8)
    #expect(throws: MessageError.self) { try responses.parse(answer.span, from: 0, answering: .get, into: &head) }
  }

  @Test func `E5: there is one way to write an authority`() throws {
    for (raw, canonical) in [
      ("A:080", "a:80"), ("a.:00080", "a:80"), ("[2001:DB8::1]:0443", "[2001:db8::1]:443"), ("a:80", "a:80"), ("A.", "a"),
    ] {
      let head = try #require(try parse("GET / HTTP/1.1\r\nHost: \(raw)\r\n\r\n"))
      #expect(head.headers.text(head.authority) == canonical)
      var output: [UInt8] = []
      head.write(into: &output, chunked: false)
      let written = String(decoding: output, as: UTF8.self).lowercased()
      #expect(written == "get / http/1.1\r\nhost: \(canonical)\r\n\r\n")
    }
  }

  @Test func `A14: an upgrade to HTTP or TLS is no upgrade, in a list neither`() throws {
    for (name, isUpgrade) in [
      ("websocket", true), ("h2c", false), ("H2C", false), ("h2", false), ("HTTP/2.0", false), ("TLS/1.2", false),
      ("foo, h2c", false), ("foo/1, bar", true), ("h2cx", true),
    ] {
      let head = try #require(try parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: \(name)\r\n\r\n"))
      #expect(head.wantsUpgrade == isUpgrade, "\(name)")
    }
  }

  @Test func `A15: CONNECT has no body`() {
    for framing in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
      #expect(throws: MessageError(.upgradeWithBody)) { try parse("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\(framing)\r\n\r\n") }
    }
    var fields = RequestFields()
    var head = RequestHead()
    fields.begin(&head)
    #expect(throws: MessageError(.upgradeWithBody)) {
      for (name, value) in [(":method", "CONNECT"), (":authority", "a:1"), ("content-length", "5")] {
        try fields.add(name: Array(name.utf8).span, value: Array(value.utf8).span, to: &head)
      }
      try fields.finish(&head, ends: false)
    }
  }

  @Test func `A19: a length that an answer cannot have is not passed on`() throws {
    for (status, method, keeps) in [
      (204, HTTPMethod.get, false), (103, .get, false), (204, .head, false), (304, .get, true), (200, .head, true),
    ] {
      var parser = ResponseParser()
      var head = ResponseHead()
      let bytes = Array("HTTP/1.1 \(status) X\r\nContent-Length: 5\r\n\r\n".utf8)
      _ = try parser.parse(bytes.span, from: 0, answering: method, into: &head)
      #expect(head.headers.contains(.contentLength) == keeps && head.framing == .none, "\(status)")
    }
  }

  @Test func `H2: all values of a field make one list`() throws {
    let head = try #require(
      try parse("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1, 2\r\nX: y\r\nX-Forwarded-For:\r\nx-forwarded-for: 3\r\n\r\n"))
    #expect(head.headers.joined(.forwardedFor) == Array("1, 2, 3".utf8))
    #expect(head.headers.joined(.forwardedHost) == [])
  }
}
