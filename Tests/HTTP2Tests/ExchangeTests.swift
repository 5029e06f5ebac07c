import HTTP2
import HTTPCodec
import Primitives
import Testing

/// Whole exchanges between two sessions (RFC 9113 8.1).
@Suite struct ExchangeTests {
  @Test func `A request without a body arrives as one canonical head`() throws {
    let pair = Pair()
    let stream = pair.client.session.request(request("GET /reviews/../ratings/1?x=%2e", [("X-User", "jason")]), ends: true)
    #expect(stream?.id == 1)
    pair.run()
    #expect(pair.server.seen.first == .request(1, "GET /ratings/1?x=%2e", ends: true))
    let head = try #require(pair.server.recorder.requests[1])
    #expect(head.version == .http2)
    #expect(head.framing == .none)
    #expect(head.headers.text(head.authority) == "reviews:9080")
    #expect(head.headers.text(head.host) == "reviews")
    #expect(head.port == 9080)
    #expect(head.headers.text(head.scheme) == "http")
    #expect(pair.server.recorder.lines[1] == ["x-user: jason"])
  }

  @Test func `A response with a body and a length arrives whole`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.respond(stream, response(200, [("Content-Length", "5"), ("Server", "mesh")]), ends: false)
      Array("hello".utf8).withUnsafeBufferPointer { _ = session.write(stream, $0) }
      session.end(stream)
    }
    _ = pair.client.session.request(request("GET /"), ends: true)
    pair.run()
    #expect(
      pair.client.seen == [
        .response(1, 200, ends: false), .data(1, 5), .ended(1, trailers: []),
        .closed(1, .noError, isNotProcessed: false),
      ])
    #expect(pair.client.recorder.responses[1]?.framing == .length(5))
    #expect(pair.client.recorder.lines[1] == ["content-length: 5", "server: mesh"])
    #expect(pair.client.recorder.bodies[1] == Array("hello".utf8))
    #expect(pair.server.seen.last == .closed(1, .noError, isNotProcessed: false))
    #expect(pair.client.session.openStreams == 0)
    #expect(pair.server.session.openStreams == 0)
  }

  @Test func `A body of unknown length ends with END_STREAM, and an empty response says so to HTTP 1`() throws {
    let pair = Pair()
    pair.server.recorder.onEnd = { stream, session in session.respond(stream, response(200), ends: true) }
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    #expect(pair.client.write(stream, [1, 2, 3]))
    pair.run()
    #expect(pair.server.recorder.requests[1]?.framing == .chunked)
    #expect(pair.client.seen == [])
    pair.client.session.end(stream)
    pair.run()
    #expect(pair.server.recorder.bodies[1] == [1, 2, 3])
    #expect(pair.client.recorder.responses[1]?.framing == .length(0))
    var output: [UInt8] = []
    pair.client.recorder.responses[1]?.write(into: &output, chunked: false, close: false)
    #expect(String(decoding: output, as: UTF8.self) == "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
  }

  @Test func `Trailers follow the body in both directions`() throws {
    let pair = Pair()
    pair.server.recorder.onEnd = { stream, session in
      session.respond(stream, response(200, [("content-type", "application/grpc")]), ends: false)
      [7, 8, 9].withUnsafeBufferPointer { _ = session.write(stream, $0) }
      session.end(stream, trailers: block([("grpc-status", "0"), ("grpc-message", "ok")]))
    }
    let stream = try #require(pair.client.session.request(request("POST /g", [("te", "trailers")]), ends: false))
    _ = pair.client.write(stream, [1])
    pair.client.session.end(stream, trailers: block([("checksum", "abc")]))
    pair.run()
    #expect(pair.server.seen.contains(.ended(1, trailers: ["checksum: abc"])))
    #expect(pair.server.recorder.lines[1] == ["te: trailers"])
    #expect(
      pair.client.seen == [
        .response(1, 200, ends: false), .data(1, 3), .ended(1, trailers: ["grpc-status: 0", "grpc-message: ok"]),
        .closed(1, .noError, isNotProcessed: false),
      ])
  }

  @Test func `A gRPC response of trailers only is one header section that ends the stream`() {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.respond(stream, response(200, [("content-type", "application/grpc"), ("grpc-status", "5")]), ends: true)
    }
    _ = pair.client.session.request(request("POST /g"), ends: true)
    pair.run()
    #expect(pair.client.seen == [.response(1, 200, ends: true), .closed(1, .noError, isNotProcessed: false)])
    #expect(pair.client.recorder.lines[1] == ["content-type: application/grpc", "grpc-status: 5"])
  }

  @Test func `Trailers alone after the head need no DATA frame`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.respond(stream, response(200), ends: false)
      session.end(stream, trailers: block([("grpc-status", "0")]))
    }
    _ = pair.client.session.request(request("POST /g"), ends: true)
    pair.run()
    #expect(
      pair.client.seen == [
        .response(1, 200, ends: false), .ended(1, trailers: ["grpc-status: 0"]),
        .closed(1, .noError, isNotProcessed: false),
      ])
  }

  @Test func `Trailers that all were removed still end the stream`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.respond(stream, response(200), ends: false)
      session.end(stream, trailers: HeaderBlock())
    }
    _ = pair.client.session.request(request("POST /g"), ends: true)
    pair.run()
    #expect(pair.client.seen.last == .closed(1, .noError, isNotProcessed: false))
  }

  @Test func `Interim responses come before the final one`() {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.interim(stream, response(100))
      session.interim(stream, response(103, [("link", "</a.css>")]))
      session.respond(stream, response(204), ends: true)
    }
    _ = pair.client.session.request(request("GET /"), ends: true)
    pair.run()
    #expect(
      pair.client.seen == [
        .response(1, 100, ends: false), .response(1, 103, ends: false), .response(1, 204, ends: true),
        .closed(1, .noError, isNotProcessed: false),
      ])
  }

  @Test func `A response to HEAD may announce a length it does not send`() {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.respond(stream, response(200, [("content-length", "1000")]), ends: true)
    }
    _ = pair.client.session.request(request("HEAD /"), ends: true)
    pair.run()
    #expect(pair.client.recorder.responses[1]?.framing == BodyFraming.none)
    #expect(pair.client.recorder.lines[1] == ["content-length: 1000"])
  }

  @Test func `Fields of one connection do not travel to the next, and names become lower-case`() {
    let pair = Pair()
    let fields = [
      ("Connection", "close"), ("Keep-Alive", "5"), ("Proxy-Connection", "x"), ("TE", "gzip"), ("X-Kept", "Yes"),
    ]
    _ = pair.client.session.request(request("GET /", fields), ends: true)
    pair.run()
    #expect(pair.server.recorder.lines[1] == ["x-kept: Yes"])
  }

  @Test func `Cookie crumbs are joined with a semicolon and a blank`() throws {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.get + [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]))
    #expect(side.recorder.lines[1] == ["x: y", "cookie: a=1; b=2; c=3"])
  }

  @Test func `One cookie stays where it was`() {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.get + [("cookie", "a=1"), ("x", "y")]))
    #expect(side.recorder.lines[1] == ["cookie: a=1", "x: y"])
  }

  @Test func `A session fed byte by byte tells the same`() throws {
    for bytesAtOnce in [1, 2, 3, 7, 64] {
      let pair = Pair()
      pair.server.recorder.onEnd = { stream, session in
        session.respond(stream, response(200), ends: false)
        let body = [UInt8](repeating: 5, count: 40_000)
        body.withUnsafeBufferPointer { _ = session.write(stream, $0) }
        session.end(stream, trailers: block([("sum", "5")]))
      }
      let stream = try #require(pair.client.session.request(request("POST /a", [("x", "y")]), ends: false))
      _ = pair.client.write(stream, [UInt8](repeating: 1, count: 20_000))
      pair.client.session.end(stream)
      pair.run(bytesAtOnce: bytesAtOnce)
      #expect(pair.server.recorder.bodies[1]?.count == 20_000)
      #expect(
        pair.client.seen == [
          .response(1, 200, ends: false), .data(1, 40_000), .ended(1, trailers: ["sum: 5"]),
          .closed(1, .noError, isNotProcessed: false),
        ])
    }
  }

  @Test func `A hundred exchanges use the same stream objects again`() {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in session.respond(stream, response(204), ends: true) }
    var objects: Set<ObjectIdentifier> = []
    for i in 0..<100 {
      guard let stream = pair.client.session.request(request("GET /\(i)"), ends: true) else {
        Issue.record("no stream")
        return
      }
      objects.insert(ObjectIdentifier(stream))
      pair.run()
    }
    #expect(objects.count <= 2)
    #expect(pair.client.seen.count == 200)
  }

  @Test func `A response that is complete before its request asks for no more of it`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in session.respond(stream, response(413), ends: true) }
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    _ = pair.client.write(stream, [1])
    pair.run()
    #expect(pair.client.seen == [.response(1, 413, ends: true), .closed(1, .noError, isNotProcessed: false)])
  }

  @Test func `A reset stream is cut for the peer, and silent for whoever reset it`() throws {
    let pair = Pair()
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    _ = pair.client.write(stream, [1])
    pair.run()
    pair.client.session.reset(stream, .cancel)
    pair.run()
    #expect(pair.client.seen == [])
    #expect(pair.server.seen.suffix(1) == [.closed(1, .cancel, isNotProcessed: false)])
    #expect(pair.client.session.openStreams == 0)
  }

  @Test func `REFUSED_STREAM is reported as not processed`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in session.reset(stream, .refusedStream) }
    _ = pair.client.session.request(request("POST /"), ends: true)
    pair.run()
    #expect(pair.client.seen == [.closed(1, .refusedStream, isNotProcessed: true)])
  }

  @Test func `Pings are answered`() {
    let pair = Pair()
    pair.client.session.ping(42)
    pair.run()
    #expect(pair.client.seen == [.pong(42)])
  }

  @Test func `No more streams are opened than the peer allows`() {
    var limits = HTTP2Limits()
    limits.concurrentStreams = 2
    let pair = Pair(server: limits)
    #expect(pair.client.session.availableStreams == 2)
    #expect(pair.client.session.request(request("GET /"), ends: true) != nil)
    #expect(pair.client.session.request(request("GET /"), ends: true) != nil)
    #expect(pair.client.session.availableStreams == 0)
    #expect(pair.client.session.request(request("GET /"), ends: true) == nil)
    pair.run()
    #expect(pair.server.seen.count == 2)
  }
}
