import HTTP2
import HTTPCodec
import Testing

/// Resource exhaustion: each attack meets a budget, and the session says which.
@Suite struct FloodTests {
  /// Feeds `frames(i)` until the session fails, or `count` rounds; what was sent last, and after how many rounds.
  private func feed(
    _ side: Side, _ count: Int, at seconds: (Int) -> Double = { _ in 1 }, _ frames: (Int) -> [UInt8]
  ) -> (rounds: Int, last: SentFrame?) {
    for i in 0..<count {
      let failure = side.take(frames(i), at: seconds(i))
      let sent = side.frames()
      if failure != nil || side.session.failure != nil { return (i, sent.last ?? side.frames().last) }
    }
    return (count, nil)
  }

  private func expectCalm(_ side: Side, _ result: (rounds: Int, last: SentFrame?), _ reason: HTTP2Error.Reason) {
    #expect(result.last?.type == 7)
    #expect(result.last?.code == HTTP2Code.enhanceYourCalm.rawValue)
    #expect(side.session.failure == HTTP2Error(reason, code: .enhanceYourCalm))
    #expect(side.session.isFinished)
    #expect(!side.session.wantsWrite)
  }

  // MARK: Resets

  @Test func `Streams opened and reset fast end the connection (CVE-2023-44487)`() {
    let side = Side.server()
    let result = feed(side, 5000) { i in
      Frame.headers(UInt32(2 * i + 1), Frame.get) + Frame.reset(UInt32(2 * i + 1))
    }
    expectCalm(side, result, .tooManyResets)
    #expect(result.rounds == HTTP2Limits().resetBurst)
  }

  @Test func `Resets that the peer provokes from us count like its own (CVE-2025-8671)`() {
    for provoke in [
      { Frame.windowUpdate($0, 0) }, { Frame.windowUpdate($0, 0x7FFF_FFFF) },
      { Frame.data($0, [1], flags: Frame.endStream) + Frame.data($0, [1]) },
      { Frame.headers($0, [("x", "y")], flags: Frame.endHeaders) },
    ] as [(UInt32) -> [UInt8]] {
      let side = Side.server()
      let result = feed(side, 5000) { i in
        Frame.headers(UInt32(2 * i + 1), Frame.post, flags: Frame.endHeaders) + provoke(UInt32(2 * i + 1))
      }
      #expect(result.rounds <= HTTP2Limits().resetBurst)
      #expect(side.session.failure != nil)
      #expect(result.last?.type == 7)
    }
  }

  @Test func `Streams beyond the allowed number, from a peer that does not acknowledge the limit, are resets it provokes`() {
    let side = Side(.server)
    side.take(Frame.preface + Frame.settings())
    let result = feed(side, 5000) { i in Frame.headers(UInt32(2 * i + 1), Frame.get) }
    expectCalm(side, result, .tooManyResets)
    #expect(side.session.openStreams <= 100)
  }

  @Test func `Malformed requests are resets that the peer provokes`() {
    let side = Side.server()
    let result = feed(side, 5000) { i in Frame.headers(UInt32(2 * i + 1), Frame.get + [("X", "y")]) }
    expectCalm(side, result, .tooManyResets)
  }

  @Test func `A client that resets fewer streams than it finishes never meets the limit`() {
    let side = Side.server()
    side.recorder.onRequest = { stream, session in session.respond(stream, response(204), ends: true) }
    let result = feed(side, 3000) { i in
      let id = UInt32(4 * i + 1)
      // The post is cancelled before it is complete; the get is served.
      return Frame.headers(id, Frame.post, flags: Frame.endHeaders) + Frame.reset(id) + Frame.headers(id + 2, Frame.get)
    }
    #expect(result.rounds == 3000)
    #expect(side.session.failure == nil)
  }

  @Test func `The budget of resets refills with time`() {
    let side = Side.server()
    let result = feed(side, 2000, at: { Double($0) / 20 }) { i in
      Frame.headers(UInt32(2 * i + 1), Frame.get) + Frame.reset(UInt32(2 * i + 1))
    }
    #expect(result.rounds == 2000)
  }

  // MARK: Frames without work

  static let idleFrames: [(String, [UInt8])] = [
    ("PING", Frame.ping()), ("SETTINGS", Frame.settings()), ("PRIORITY", Frame.priority(1)),
    ("WINDOW_UPDATE", Frame.windowUpdate(0, 1)), ("empty DATA", Frame.data(1, [])),
    ("padding", Frame.data(1, [3, 0, 0, 0], flags: Frame.padded)), ("an unknown type", Frame.frame(0xEE, [1])),
    ("acknowledged PING", Frame.ping(Frame.acknowledge)),
  ]

  @Test(arguments: idleFrames) func `A flood of frames without work ends the connection (CVE-2019-9511 to 9518)`(
    _ flood: (String, [UInt8])
  ) {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders))
    let result = feed(side, 50) { _ in Array(repeatElement(flood.1, count: 100).joined()) }
    #expect(side.session.failure?.reason == .tooManyControlFrames || side.session.failure?.code == .protocolError)
    #expect(result.rounds <= 11)
    #expect(result.last?.type == 7)
  }

  @Test func `A peer that does not read the acknowledgements it provokes is let go`() {
    var limits = HTTP2Limits.mesh
    limits.acknowledgements = 100
    let side = Side.server(limits: limits)
    var failure: HTTP2Error?
    for _ in 0..<150 where failure == nil { failure = side.take(Frame.ping()) }
    #expect(failure?.reason == .tooManyAcknowledgements)
    #expect(side.frames().last?.code == HTTP2Code.enhanceYourCalm.rawValue)
  }

  @Test func `Window updates that answer data are no flood`() throws {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.get))
    let stream = try #require(side.recorder.streams[1])
    side.session.respond(stream, response(200), ends: false)
    let result = feed(side, 5000) { i in
      _ = side.write(stream, [UInt8](repeating: 1, count: 4))
      return Frame.windowUpdate(0, 4) + Frame.windowUpdate(1, 4)
    }
    #expect(result.rounds == 5000)
  }

  @Test func `More SETTINGS entries than RFC 9113 knows many times over end the connection`() {
    let side = Side.server()
    let entries = (0..<200).map { _ in (UInt16(4), UInt32(65535)) }
    side.take(Frame.settings(entries))
    #expect(side.frames().last?.type == 7)
    #expect(side.session.isFinished)
  }

  // MARK: Header sections

  @Test func `Endless CONTINUATION ends the connection (CVE-2024-28182)`() {
    for payload in [[], [0x82], Frame.block([("x", String(repeating: "y", count: 500))])] {
      let side = Side.server()
      side.take(Frame.headers(1, Frame.get, flags: 0))
      let result = feed(side, 1000) { _ in Frame.continuation(1, payload) }
      #expect(result.rounds <= HTTP2Limits().continuations)
      #expect(result.last?.type == 7)
      #expect(side.session.isFinished)
    }
  }

  @Test func `A head over the decoded limit is answered 431, counted before cookies are merged or fields dropped`() {
    for field in [("x-a", String(repeating: "y", count: 1000)), ("cookie", String(repeating: "y", count: 1000))] {
      let side = Side.server()
      let block = Frame.block(Frame.get + Array(repeating: field, count: 65))
      var frames = Frame.frame(1, flags: Frame.endStream, stream: 1, Array(block.prefix(16_000)))
      var rest = block.dropFirst(16_000)
      while !rest.isEmpty {
        let part = Array(rest.prefix(16_000))
        rest = rest.dropFirst(16_000)
        frames += Frame.continuation(1, part, flags: rest.isEmpty ? Frame.endHeaders : 0)
      }
      side.take(frames)
      #expect(side.seen.first == .refused(1, .headTooLarge))
      #expect(side.frames().contains { $0.type == 1 && $0.stream == 1 })
      side.take(Frame.headers(3, Frame.get))
      #expect(side.seen.last == .request(3, "GET /", ends: true))
    }
  }

  @Test func `A head of too many fields is answered 431`() {
    let side = Side.server()
    side.take(Frame.headers(1, Frame.get + (0...100).map { ("a\($0)", "b") }))
    #expect(side.seen.first == .refused(1, .tooManyFields))
  }

  @Test func `A bomb of references to one large entry costs neither memory nor the connection (CVE-2026-47774)`() {
    let side = Side.server()
    let entry = Frame.indexedLiteral("cookie", String(repeating: "c", count: 3900))
    side.take(Frame.frame(1, flags: Frame.endHeaders | Frame.endStream, stream: 1, Frame.block(Frame.get) + entry))
    // Index 62 is the newest entry of the table (RFC 7541 2.3.3).
    let bomb = [UInt8](repeating: 0x80 | 62, count: 15_000)
    side.take(Frame.frame(1, flags: Frame.endHeaders | Frame.endStream, stream: 3, Frame.block(Frame.get) + bomb))
    #expect(!side.seen.contains(.request(3, "GET /", ends: true)))
    #expect(side.frames().contains { $0.type == 3 && $0.stream == 3 && $0.code == HTTP2Code.enhanceYourCalm.rawValue })
    side.take(Frame.headers(5, Frame.get))
    #expect(side.seen.last == .request(5, "GET /", ends: true))
  }

  static let brokenHPACK: [(String, [UInt8])] = [
    ("an index outside the table", [0x80 | 100]), ("index zero", [0x80]),
    ("an integer that overflows", [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
    ("a table above the setting", [0x3F, 0xE1, 0x7F]), ("a string longer than the block", [0x00, 0x7F, 0xFF, 0x7F]),
    ("wrong Huffman padding", [0x00, 0x82, 0x00, 0x00, 0x01, 0x61]),
    ("Huffman EOS", [0x00, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x00]),
  ]

  @Test(arguments: brokenHPACK) func `Broken HPACK is a connection error COMPRESSION_ERROR`(_ given: (String, [UInt8])) {
    let side = Side.server()
    side.take(Frame.frame(1, flags: Frame.endHeaders | Frame.endStream, stream: 1, Frame.block(Frame.get) + given.1))
    let last = side.frames().last
    #expect(last?.type == 7)
    #expect(last?.code == HTTP2Code.compressionError.rawValue)
    #expect(side.session.isFinished)
    #expect(side.seen == [])
  }

  // MARK: Odd peers

  @Test func `A server that allows no stream, says GOAWAY and resets in odd order causes no leak and no loop`() {
    let side = Side.client(settings: [(3, 0)])
    #expect(side.session.availableStreams == 0)
    #expect(side.session.request(request("GET /"), ends: true) == nil)
    side.take(Frame.settings([(3, 10)]))
    #expect(side.session.request(request("GET /"), ends: true) != nil)
    _ = side.flush()
    side.take(Frame.settings([(3, 0)]) + Frame.goAway(last: 1) + Frame.reset(1, 7) + Frame.goAway(last: 0))
    #expect(side.session.openStreams == 0)
    #expect(side.seen.contains(.closed(1, .refusedStream, isNotProcessed: true)))
    _ = side.flush()
    #expect(side.session.isFinished)
  }

  @Test func `A server that pushes is a protocol error`() {
    let side = Side.client()
    _ = side.session.request(request("GET /"), ends: true)
    _ = side.flush()
    side.take(Frame.frame(5, flags: Frame.endHeaders, stream: 1, Frame.bytes(2) + Frame.block(Frame.get)))
    #expect(side.frames().last?.type == 7)
    #expect(side.session.isFinished)
  }

  @Test func `A flood of interim responses ends the connection`() {
    let side = Side.client()
    _ = side.session.request(request("GET /"), ends: true)
    _ = side.flush()
    let result = feed(side, 5000) { _ in Frame.headers(1, [(":status", "103")], flags: Frame.endHeaders) }
    expectCalm(side, result, .tooManyControlFrames)
  }

  @Test func `Bytes that are no HTTP/2 end the connection at once`() {
    let side = Side(.server)
    #expect(side.take(Array("GET / HTTP/1.1\r\nhost: a\r\n\r\n".utf8))?.reason == .protocolViolation)
    #expect(side.frames().last?.type == 7)
    #expect(side.session.isFinished)
    #expect(side.take(Frame.preface) != nil)
  }
}
