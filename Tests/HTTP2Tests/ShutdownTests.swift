import HTTP2
import HTTPCodec
import Testing

/// How connections end (RFC 9113 6.8 and 8.7).
@Suite struct ShutdownTests {
  @Test func `A graceful shutdown loses no request: announced first, final after a round trip`() throws {
    let pair = Pair()
    let early = try #require(pair.client.session.request(request("GET /early"), ends: true))
    pair.run()
    pair.server.session.shutDown()
    // A request that crosses the announcement on its way still arrives.
    let crossing = try #require(pair.client.session.request(request("GET /crossing"), ends: true))
    pair.run()
    #expect(pair.server.seen.count == 2)
    #expect(pair.client.seen == [.goAway(.max, .noError), .goAway(3, .noError)])
    #expect(pair.client.session.isDraining)
    #expect(pair.client.session.availableStreams == 0)
    #expect(pair.client.session.request(request("GET /late"), ends: true) == nil)
    #expect(!pair.server.session.isFinished)
    for stream in pair.server.recorder.streams.values { pair.server.session.respond(stream, response(204), ends: true) }
    pair.run()
    #expect(early.id == 1 && crossing.id == 3)
    #expect(pair.client.seen.suffix(4).filter { if case .closed(_, .noError, false) = $0 { true } else { false } }.count == 2)
    #expect(pair.server.session.isFinished)
    #expect(pair.client.session.isFinished)
  }

  @Test func `Streams above the last one of a GOAWAY were not processed, others finish`() throws {
    let side = Side.client()
    _ = side.session.request(request("POST /1"), ends: true)
    _ = side.session.request(request("POST /3"), ends: true)
    _ = side.flush()
    side.take(Frame.goAway(last: 1))
    #expect(side.seen == [.closed(3, .refusedStream, isNotProcessed: true), .goAway(1, .noError)])
    side.take(Frame.headers(1, [(":status", "200")]))
    #expect(side.seen.suffix(2) == [.response(1, 200, ends: true), .closed(1, .noError, isNotProcessed: false)])
    #expect(side.session.isFinished)
  }

  @Test func `A request that was never written is not processed when the connection is lost`() throws {
    let side = Side.client()
    _ = side.session.request(request("POST /1"), ends: true)
    _ = side.flush()
    _ = side.session.request(request("POST /3"), ends: true)
    side.session.connectionLost()
    #expect(Set(side.seen.map { "\($0)" }).count == 2)
    for seen in side.seen {
      guard case .closed(let id, _, let isNotProcessed) = seen else {
        Issue.record("\(seen)")
        continue
      }
      #expect(isNotProcessed == (id == 3))
    }
    #expect(side.session.openStreams == 0)
    #expect(side.session.isFinished)
  }

  @Test func `A request waiting when GOAWAY comes was never sent, and says so`() throws {
    let side = Side.client()
    _ = side.session.request(request("POST /1"), ends: true)
    side.take(Frame.goAway(last: 0))
    _ = side.flush()
    #expect(side.seen.contains(.closed(1, .refusedStream, isNotProcessed: true)))
    #expect(side.session.openStreams == 0)
  }

  @Test func `After an error GOAWAY of the peer nothing leaks`() throws {
    let pair = Pair()
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    pair.run()
    pair.server.session.abort(.internalError)
    #expect(pair.server.session.wantsWrite)
    pair.run()
    #expect(pair.client.seen.contains(.goAway(1, .internalError)))
    #expect(pair.server.session.isFinished)
    pair.server.session.connectionLost()
    pair.client.session.connectionLost()
    #expect(pair.client.seen.last == .closed(stream.id, .internalError, isNotProcessed: false))
    #expect(pair.server.seen.last == .closed(1, .internalError, isNotProcessed: false))
  }

  @Test func `A stream reset before its request was written leaves nothing behind`() throws {
    let pair = Pair()
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    pair.client.session.reset(stream, .cancel)
    pair.run()
    #expect(pair.client.session.openStreams == 0)
    #expect(pair.client.seen == [])
    #expect(pair.client.session.request(request("GET /"), ends: true) != nil)
    pair.run()
    #expect(pair.server.session.openStreams == 1)
  }

  @Test func `A stream's owner is released when the stream closes, and a session when its user lets it go`() throws {
    final class Owner {}
    weak var owner: Owner?
    weak var session: HTTP2Session?
    do {
      let pair = Pair()
      pair.server.recorder.onRequest = { stream, session in session.respond(stream, response(204), ends: true) }
      do {
        let object = Owner()
        owner = object
        _ = pair.client.session.request(request("GET /"), ends: true, owner: object)
      }
      session = pair.client.session
      #expect(owner != nil)
      pair.run()
      #expect(owner == nil)
    }
    #expect(session == nil)
  }

  @Test func `Actions on a stream that is gone do nothing`() throws {
    let pair = Pair()
    pair.server.recorder.onRequest = { stream, session in session.respond(stream, response(204), ends: true) }
    let stream = try #require(pair.client.session.request(request("GET /"), ends: true))
    pair.run()
    #expect(pair.client.write(stream, [1]))
    pair.client.session.end(stream)
    pair.client.session.consumed(stream, 5)
    pair.client.session.reset(stream, .cancel)
    #expect(pair.client.flush().isEmpty)
  }
}
