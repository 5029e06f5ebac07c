import HTTP2
import HTTPCodec
import Testing

/// Tunnels: CONNECT (RFC 9113 8.5) and extended CONNECT (RFC 8441).
@Suite struct ConnectTests {
  @Test func `CONNECT opens a tunnel that ends on each side by itself`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in session.respond(stream, response(200), ends: false) }
    let stream = try #require(pair.client.session.request(request("CONNECT 10.0.0.1:3306"), ends: false))
    pair.run()
    let head = try #require(pair.server.recorder.requests[1])
    #expect(head.method == .connect)
    #expect(head.form == .authority)
    #expect(head.headers.text(head.authority) == "10.0.0.1:3306")
    #expect(head.port == 3306)
    #expect(head.path.isEmpty)
    _ = pair.client.write(stream, [1, 2])
    let other = try #require(pair.server.recorder.streams[1])
    _ = pair.server.write(other, [3])
    pair.server.session.end(other)
    pair.run()
    #expect(pair.client.seen == [.response(1, 200, ends: false), .data(1, 1), .ended(1, trailers: [])])
    _ = pair.client.write(stream, [4])
    pair.client.session.end(stream)
    pair.run()
    #expect(pair.server.recorder.bodies[1] == [1, 2, 4])
    #expect(pair.client.seen.last == .closed(1, .noError, isNotProcessed: false))
    #expect(pair.server.seen.last == .closed(1, .noError, isNotProcessed: false))
  }

  @Test func `An upgrade travels as extended CONNECT and arrives as an upgrade`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in
      session.respond(stream, response(101, [("upgrade", "websocket"), ("connection", "upgrade")]), ends: false)
    }
    #expect(pair.client.session.peerAllowsExtendedConnect)
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    let stream = try #require(pair.client.session.request(request("GET /chat", fields), ends: false))
    pair.run()
    let head = try #require(pair.server.recorder.requests[1])
    #expect(head.method == .get)
    #expect(head.wantsUpgrade)
    #expect(head.framing == .none)
    #expect(pair.server.seen.first == .request(1, "GET /chat", ends: false))
    #expect(pair.server.recorder.lines[1] == ["sec-websocket-version: 13", "upgrade: websocket"])
    #expect(pair.client.seen == [.response(1, 101, ends: false)])
    #expect(pair.client.recorder.lines[1] == ["upgrade: websocket"])
    _ = pair.client.write(stream, [1, 2, 3])
    pair.run()
    #expect(pair.server.recorder.bodies[1] == [1, 2, 3])
  }

  @Test func `A client does not send extended CONNECT to a peer that did not allow it`() {
    let side = Side.client()
    #expect(!side.session.peerAllowsExtendedConnect)
    let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    #expect(side.session.request(request("GET /chat", fields), ends: false) == nil)
  }

  @Test func `CONNECT with a scheme or a path, or without a port, is refused`() {
    for extra in [[(":scheme", "http")], [(":path", "/")], [(":scheme", "http"), (":path", "/")]] {
      let side = Side.server()
      side.take(Frame.headers(1, [(":method", "CONNECT"), (":authority", "a:1")] + extra, flags: Frame.endHeaders))
      #expect(side.frames().first { $0.type == 3 }?.code == HTTP2Code.protocolError.rawValue)
      #expect(side.seen == [])
    }
    let side = Side.server()
    side.take(Frame.headers(1, [(":method", "CONNECT"), (":authority", "a")], flags: Frame.endHeaders))
    #expect(side.seen.first == .refused(1, .malformedTarget))
  }
}
