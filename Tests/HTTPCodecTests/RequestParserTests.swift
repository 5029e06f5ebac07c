import HTTPCodec
import Testing

@Suite("Request heads") struct RequestParserTests {
  @Test func `a plain request is taken apart`() throws {
    var parser = RequestParser()
    var head = RequestHead()
    let bytes = Array("GET /a?b=1 HTTP/1.1\r\nHost: Reviews:9080\r\nX-A: 1\r\n\r\nrest".utf8)
    let used = try parser.parse(bytes.span, from: 0, into: &head)
    #expect(used == bytes.count - 4)
    #expect(head.headers.text(head.path) == "/a")
    #expect(head.headers.text(head.authority) == "reviews:9080")
  }
}
