import HTTP2
import HTTPCodec
import Testing

/// Messages that are malformed (RFC 9113 8.1.1): nothing of them reaches the other side as a request.
@Suite struct MalformedTests {
  typealias Fields = [(String, String)]

  struct Case: CustomTestStringConvertible {
    let name: String
    let fields: Fields
    var testDescription: String { name }
    init(_ name: String, _ fields: Fields) {
      self.name = name
      self.fields = fields
    }
  }

  private static func with(_ fields: (String, String)...) -> Fields { Frame.get + fields }

  static let streamErrors = [
    Case("upper case in a name", with(("X-A", "1"))),
    Case("a colon in a name", with(("x:a", "1"))),
    Case("a blank in a name", with(("x a", "1"))),
    Case("a control byte in a name", with(("x\u{1}", "1"))),
    Case("an empty name", with(("", "1"))),
    Case("CR in a value", with(("x", "1\r2"))),
    Case("LF in a value", with(("x", "1\n2"))),
    Case("NUL in a value", with(("x", "1\u{0}2"))),
    Case("a control byte in a value", with(("x", "1\u{2}2"))),
    Case("a leading blank in a value", with(("x", " 1"))),
    Case("a trailing tab in a value", with(("x", "1\t"))),
    Case("no method", [(":scheme", "http"), (":path", "/"), (":authority", "a")]),
    Case("no scheme", [(":method", "GET"), (":path", "/"), (":authority", "a")]),
    Case("no path", [(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
    Case("an empty path", [(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a")]),
    Case("a method that is no token", [(":method", "G T"), (":scheme", "http"), (":path", "/"), (":authority", "a")]),
    Case("a repeated pseudo-header", Frame.get + [(":path", "/b")]),
    Case("an unknown pseudo-header", [(":test", "x")] + Frame.get),
    Case("a response's pseudo-header", [(":status", "200")] + Frame.get),
    Case(
      "a pseudo-header after a field",
      [(":method", "GET"), (":scheme", "http"), ("x", "1"), (":path", "/"), (":authority", "a")]),
    Case("connection", with(("connection", "close"))),
    Case("keep-alive", with(("keep-alive", "5"))),
    Case("proxy-connection", with(("proxy-connection", "close"))),
    Case("transfer-encoding", with(("transfer-encoding", "chunked"))),
    Case("upgrade", with(("upgrade", "h2c"))),
    Case("te other than trailers", with(("te", "gzip"))),
    Case("a length without a body", with(("content-length", "5"))),
    Case("a length that is no number", with(("content-length", "+5"))),
    Case("two lengths", with(("content-length", "0"), ("content-length", "0"))),
    Case("two hosts", with(("host", "reviews"), ("host", "reviews"))),
    Case(":protocol without CONNECT", Frame.get + [(":protocol", "websocket")]),
  ]

  @Test(arguments: streamErrors) func `A malformed request is a stream error, and the connection goes on`(_ given: Case) {
    let side = Side.server()
    side.take(Frame.headers(1, given.fields))
    let frames = side.frames()
    #expect(side.seen == [])
    #expect(frames.map(\.type) == [3])
    #expect(frames.first?.code == HTTP2Code.protocolError.rawValue)
    side.take(Frame.headers(3, Frame.get))
    #expect(side.seen == [.request(3, "GET /", ends: true)])
  }

  static let answered: [(Case, MessageError.Reason, Int)] = [
    (Case("authority and host differ", with(("host", "ratings"))), .authorityMismatch, 400),
    (
      Case("user information", [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")]),
      .malformedHost, 400
    ),
    (
      Case("a fragment", [(":method", "GET"), (":scheme", "http"), (":path", "/a#b"), (":authority", "a")]), .fragmentInTarget,
      400
    ),
    (Case("%00", [(":method", "GET"), (":scheme", "http"), (":path", "/a%00"), (":authority", "a")]), .nulInPath, 400),
    (Case("an unknown expectation", with(("expect", "cake"))), .unknownExpectation, 417),
    (
      Case("another scheme", [(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "a")]), .malformedTarget,
      400
    ),
  ]

  @Test(arguments: answered) func `A request that is wrong as HTTP is answered`(_ given: (Case, MessageError.Reason, Int)) {
    let side = Side.server()
    side.take(Frame.headers(1, given.0.fields))
    #expect(side.seen == [.refused(1, given.1)])
    #expect(side.frames().map(\.type) == [1])
    #expect(side.seen.last == .closed(1, .noError, isNotProcessed: false))
  }

  @Test(arguments: ["a", "a b", "/a b", "/a\u{7F}", "*"]) func `A path that is none never arrives`(_ path: String) {
    let side = Side.server()
    side.take(Frame.headers(1, [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")]))
    #expect(side.recorder.requests.isEmpty)
    #expect(!side.frames().isEmpty)
  }

  @Test func `Host stands in for a missing authority, and one that says the same is dropped`() {
    let side = Side.server()
    side.take(Frame.headers(1, [(":method", "GET"), (":scheme", "HTTP"), (":path", "/"), ("host", "Reviews.:80")]))
    side.take(Frame.headers(3, Frame.get + [("host", "REVIEWS")]))
    for id in [1, 3] as [Int32] {
      guard let head = side.recorder.requests[id] else {
        Issue.record("no request \(id)")
        continue
      }
      #expect(head.headers.text(head.host) == "reviews")
      #expect(head.headers.text(head.scheme) == "http")
      #expect(!head.headers.contains(.host))
    }
  }

  @Test func `Gateways refuse underscores in names`() {
    var options = RequestParser.Options()
    options.allowUnderscores = false
    let side = Side.server(options: options)
    side.take(Frame.headers(1, Frame.get + [("x_a", "1")]))
    #expect(side.seen.first == .refused(1, .underscoreInName))
  }

  @Test func `OPTIONS star is the only other path`() {
    let side = Side.server()
    side.take(Frame.headers(1, [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "a")]))
    #expect(side.recorder.requests[1]?.form == .asterisk)
  }

  @Test(arguments: [3, 7]) func `A body that disagrees with its content-length is cut, never a shorter message`(_ count: Int) {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.post + [("content-length", "5")], flags: Frame.endHeaders))
    side.take(Frame.data(1, [UInt8](repeating: 1, count: count), flags: Frame.endStream))
    let reset = side.frames().first { $0.type == 3 }
    #expect(reset?.code == HTTP2Code.protocolError.rawValue)
    #expect(!side.seen.contains { if case .ended = $0 { true } else { false } })
    #expect(side.seen.last == .closed(1, .protocolError, isNotProcessed: false))
  }

  @Test func `Trailers without END_STREAM, or with a pseudo-header, are a stream error`() {
    for trailers in [
      Frame.headers(1, [("a", "b")], flags: Frame.endHeaders),
      Frame.headers(1, [(":path", "/b")]),
      Frame.headers(1, [("X", "b")]),
      Frame.headers(1, [("connection", "b")]),
    ] {
      let side = Side.server()
      side.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders) + Frame.data(1, [1]) + trailers)
      #expect(side.frames().first { $0.type == 3 }?.code == HTTP2Code.protocolError.rawValue)
      #expect(side.seen.last == .closed(1, .protocolError, isNotProcessed: false))
    }
  }

  @Test func `Trailers with names that have no place there come without them`() {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders))
    side.take(Frame.headers(1, [("authorization", "x"), ("a", "b"), ("host", "evil")]))
    #expect(side.seen.last == .ended(1, trailers: ["a: b"]))
  }

  static let badResponses: [Case] = [
    Case("no status", [("a", "b")]),
    Case("a status of two digits", [(":status", "20")]),
    Case("a status with a sign", [(":status", "+20")]),
    Case("a request's pseudo-header", [(":status", "200"), (":path", "/")]),
    Case("101", [(":status", "101")]),
    Case("connection", [(":status", "200"), ("connection", "close")]),
    Case("upper case", [(":status", "200"), ("A", "b")]),
    Case("LF in a value", [(":status", "200"), ("a", "b\nc")]),
    Case("an interim response that ends", [(":status", "100")]),
  ]

  @Test(arguments: badResponses) func `A malformed response is a stream error that its user hears of`(_ given: Case) {
    let side = Side.client()
    _ = side.session.request(request("GET /"), ends: true)
    _ = side.flush()
    side.take(Frame.headers(1, given.fields))
    _ = side.flush()
    #expect(side.seen == [.closed(1, .protocolError, isNotProcessed: false)])
  }

  @Test func `A response body that is cut by RST_STREAM never looks complete`() {
    let side = Side.client()
    _ = side.session.request(request("GET /"), ends: true)
    _ = side.flush()
    side.take(Frame.headers(1, [(":status", "200")], flags: Frame.endHeaders) + Frame.data(1, [1, 2]) + Frame.reset(1, 2))
    #expect(
      side.seen == [.response(1, 200, ends: false), .data(1, 2), .closed(1, .internalError, isNotProcessed: false)])
  }
}
