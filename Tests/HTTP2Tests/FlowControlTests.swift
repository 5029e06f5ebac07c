import HTTP2
import HTTPCodec
import Testing

/// Flow control (RFC 9113 5.2 and 6.9).
@Suite struct FlowControlTests {
  private func limits(stream: Int32 = 100_000, connection: Int32 = 1_000_000) -> HTTP2Limits {
    var limits = HTTP2Limits()
    limits.streamWindow = stream
    limits.connectionWindow = connection
    return limits
  }

  private func bytes(_ count: Int) -> [UInt8] { [UInt8](repeating: 1, count: count) }

  @Test func `A sender MUST NOT send more than the window of the stream, and goes on as the receiver consumes`() throws {
    let pair = Pair(server: limits())
    pair.server.recorder.consumesAtOnce = false
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    _ = pair.client.write(stream, bytes(350_000))
    pair.client.session.end(stream)
    pair.run()
    #expect(pair.server.recorder.bodies[1]?.count == 100_000)
    #expect(stream.pending == 250_000)
    let other = try #require(pair.server.recorder.streams[1])
    pair.server.session.consumed(other, 60_000)
    pair.run()
    #expect(pair.server.recorder.bodies[1]?.count == 160_000)
    for _ in 0..<4 {
      pair.server.session.consumed(other, 100_000)
      pair.run()
    }
    #expect(pair.server.recorder.bodies[1]?.count == 350_000)
    #expect(pair.server.seen.last == .ended(1, trailers: []))
  }

  @Test func `A sender MUST NOT send more than the window of the connection`() throws {
    let pair = Pair(server: limits(connection: 150_000))
    pair.server.recorder.consumesAtOnce = false
    let first = try #require(pair.client.session.request(request("POST /"), ends: false))
    let second = try #require(pair.client.session.request(request("POST /"), ends: false))
    _ = pair.client.write(first, bytes(100_000))
    _ = pair.client.write(second, bytes(100_000))
    pair.run()
    let count = { (pair.server.recorder.bodies[1]?.count ?? 0) + (pair.server.recorder.bodies[3]?.count ?? 0) }
    #expect(count() == 150_000)
    pair.server.session.consumed(try #require(pair.server.recorder.streams[1]), 100_000)
    pair.run()
    #expect(count() == 200_000)
  }

  @Test func `Bytes that nobody consumed go back to the connection when their stream is reset`() throws {
    let pair = Pair(server: limits(connection: 100_000))
    pair.server.recorder.consumesAtOnce = false
    for _ in 0..<5 {
      let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
      _ = pair.client.write(stream, bytes(100_000))
      pair.run()
      #expect(pair.server.recorder.bodies[stream.id]?.count == 100_000)
      if stream.id % 4 == 1 {
        pair.client.session.reset(stream, .cancel)
      } else {
        pair.server.session.reset(try #require(pair.server.recorder.streams[stream.id]), .cancel)
      }
      pair.run()
    }
  }

  @Test func `A body for a request that was refused or answered early does not use up the window`() throws {
    let pair = Pair(server: limits(connection: 100_000))
    pair.server.recorder.consumesAtOnce = false
    pair.server.recorder.onRequest = { stream, session in session.reset(stream, .refusedStream) }
    for _ in 0..<5 {
      let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
      _ = pair.client.write(stream, bytes(80_000))
      pair.run()
    }
    #expect(pair.client.seen.filter { if case .closed(_, .refusedStream, true) = $0 { true } else { false } }.count == 5)
    #expect(pair.server.recorder.bodies.isEmpty)
  }

  @Test func `A writer pauses above the buffer of a stream and is told when it may go on`() throws {
    let pair = Pair(server: limits())
    pair.server.recorder.consumesAtOnce = false
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    pair.run()
    #expect(pair.client.write(stream, bytes(60_000)))
    #expect(!pair.client.write(stream, bytes(100_000)))
    #expect(pair.client.session.bufferedBytes == 160_000)
    pair.run()
    #expect(stream.pending == 60_000)
    #expect(pair.client.session.bufferedBytes == 60_000)
    #expect(pair.client.seen == [])
    pair.server.session.consumed(try #require(pair.server.recorder.streams[1]), 100_000)
    pair.run()
    #expect(pair.client.seen == [.canWrite(1)])
    #expect(pair.client.session.bufferedBytes == 0)
  }

  @Test func `A writer also pauses above the buffer of the connection`() throws {
    var small = HTTP2Limits()
    small.connectionSendBuffer = 50_000
    let pair = Pair(client: small)
    var streams: [HTTP2Stream] = []
    for _ in 0..<3 { streams.append(try #require(pair.client.session.request(request("POST /"), ends: false))) }
    #expect(pair.client.write(streams[0], bytes(20_000)))
    #expect(pair.client.write(streams[1], bytes(20_000)))
    #expect(!pair.client.write(streams[2], bytes(20_000)))
    pair.run()
    #expect(pair.client.seen == [.canWrite(5)])
  }

  @Test func `A body of ten megabytes passes through buffers that stay small`() throws {
    let pair = Pair(server: limits(connection: 200_000))
    let stream = try #require(pair.client.session.request(request("POST /"), ends: false))
    var left = 10_000_000
    let pump = { (stream: HTTP2Stream, session: HTTP2Session) in
      while left > 0 {
        let count = min(left, 16_384)
        left -= count
        let mayGoOn = [UInt8](repeating: 2, count: count).withUnsafeBufferPointer { session.write(stream, $0) }
        if !mayGoOn { return }
      }
      session.end(stream)
    }
    pair.client.recorder.onWritable = pump
    pump(stream, pair.client.session)
    var largest = 0
    for _ in 0..<10_000 where pair.server.recorder.seen.last != .ended(1, trailers: []) {
      largest = max(largest, pair.client.session.bufferedBytes)
      pair.server.take(pair.client.flush(upTo: 64 * 1024))
      pair.client.take(pair.server.flush())
    }
    #expect(pair.server.recorder.bodies[1]?.count == 10_000_000)
    #expect(largest <= 64 * 1024 + 16_384)
  }

  @Test func `A receiver of more than the window it advertised answers FLOW_CONTROL_ERROR`() {
    let side = Side.server(limits: limits(stream: 20_000))
    side.recorder.consumesAtOnce = false
    side.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders))
    side.take(Frame.data(1, bytes(16_000)) + Frame.data(1, bytes(16_000)))
    let codes = side.frames().compactMap(\.code)
    #expect(codes.contains(HTTP2Code.flowControlError.rawValue))
    #expect((side.recorder.bodies[1]?.count ?? 0) <= 20_000)
  }

  @Test func `A window above 2^31 minus 1 is FLOW_CONTROL_ERROR, of the stream or of the connection`() {
    let stream = Side.server()
    stream.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders) + Frame.windowUpdate(1, 0x7FFF_FFFF))
    #expect(stream.frames().first { $0.type == 3 }?.code == HTTP2Code.flowControlError.rawValue)

    let connection = Side.server()
    connection.take(Frame.windowUpdate(0, 0x7FFF_FFFF))
    #expect(connection.frames().first { $0.type == 7 }?.code == HTTP2Code.flowControlError.rawValue)
    #expect(connection.session.isFinished)
    #expect(connection.session.failure == HTTP2Error(.protocolViolation, code: .flowControlError))
  }

  @Test func `SETTINGS can make a window negative, and the sender waits until it is positive again`() throws {
    let side = Side.server(settings: [(4, 1000)])
    side.take(Frame.headers(1, Frame.get))
    let stream = try #require(side.recorder.streams[1])
    side.session.respond(stream, response(200), ends: false)
    _ = side.write(stream, bytes(3000))
    #expect(side.frames().filter { $0.type == 0 }.map(\.payload.count) == [1000])
    side.take(Frame.settings([(4, 200)]))
    side.take(Frame.windowUpdate(1, 800))
    #expect(side.frames().filter { $0.type == 0 } == [])
    side.take(Frame.windowUpdate(1, 5))
    #expect(side.frames().filter { $0.type == 0 }.map(\.payload.count) == [5])
  }

  @Test func `Large responses take turns, whatever priority their clients ask for`() throws {
    let side = Side.server(settings: [(4, 1_000_000)])
    side.take(Frame.windowUpdate(0, 1_000_000))
    for id in [1, 3, 5] as [UInt32] { side.take(Frame.headers(id, Frame.get + [("priority", "u=\(id)")])) }
    for id in [1, 3, 5] as [Int32] {
      let stream = try #require(side.recorder.streams[id])
      side.session.respond(stream, response(200), ends: false)
      _ = side.write(stream, bytes(100_000))
    }
    let turns = side.frames().filter { $0.type == 0 }.prefix(9).map(\.stream)
    #expect(Set(turns.prefix(3)) == [1, 3, 5])
    #expect(Set(turns.suffix(3)) == [1, 3, 5])
  }

  @Test func `Padding counts against the window and is given back at once`() {
    let side = Side.server(limits: limits(stream: 1000, connection: 65_535))
    side.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders))
    for _ in 0..<100 { side.take(Frame.data(1, [200] + bytes(1) + bytes(200), flags: Frame.padded)); _ = side.flush() }
    #expect(side.recorder.bodies[1]?.count == 100)
    #expect(side.session.failure == nil)
  }
}
