import HTTP2
import HTTPCodec
import Testing

/// Stream states and identifiers (RFC 9113 5.1 and 5.1.1), and frames that belong to no stream.
@Suite struct StreamStateTests {
  private func expect(_ code: HTTP2Code, _ frames: [[UInt8]], isAnswered: Bool = false, _ comment: Comment? = nil) {
    for together in [true, false] {
      let side = Side.server()
      if isAnswered {
        side.recorder.onRequest = { stream, session in session.respond(stream, response(204), ends: true) }
      }
      var sent: [SentFrame] = []
      for bytes in together ? [Array(frames.joined())] : frames {
        side.take(bytes)
        sent += side.frames()
      }
      #expect(sent.last?.type == 7, comment)
      #expect(sent.last?.code == code.rawValue, comment)
      #expect(side.session.isFinished, comment)
    }
  }

  @Test func `A client that goes on with a stream it ended meets STREAM_CLOSED, answered or not`() {
    for more in [Frame.data(1, [1]), Frame.headers(1, [("a", "b")])] {
      for isAnswered in [false, true] { expect(.streamClosed, [Frame.headers(1, Frame.get), more], isAnswered: isAnswered) }
    }
  }

  @Test func `A client that goes on with a stream it reset meets STREAM_CLOSED`() {
    let opened = [Frame.headers(1, Frame.post, flags: Frame.endHeaders), Frame.reset(1)]
    expect(.streamClosed, opened + [Frame.data(1, [1])])
    expect(.streamClosed, opened + [Frame.headers(1, [("a", "b")])])
  }

  @Test func `An endpoint that receives an unexpected stream identifier MUST respond with PROTOCOL_ERROR`() {
    expect(.protocolError, [Frame.headers(5, Frame.get), Frame.headers(3, Frame.get)])
    expect(.protocolError, [Frame.headers(5001, Frame.get), Frame.headers(4999, Frame.get)])
    expect(.protocolError, [Frame.headers(2, Frame.get)])
    expect(.protocolError, [Frame.headers(0, Frame.get)])
  }

  @Test func `DATA, RST_STREAM and WINDOW_UPDATE on an idle stream are PROTOCOL_ERROR`() {
    expect(.protocolError, [Frame.data(1, [1])])
    expect(.protocolError, [Frame.reset(1)])
    expect(.protocolError, [Frame.windowUpdate(1, 1)])
  }

  @Test func `PRIORITY on stream 0 is PROTOCOL_ERROR`() { expect(.protocolError, [Frame.priority(0)]) }

  @Test func `A frame above the maximum size is FRAME_SIZE_ERROR`() {
    expect(.frameSizeError, [Frame.frame(0xEE, [UInt8](repeating: 0, count: 16_385))])
  }

  @Test func `Only CONTINUATION may follow inside a header section`() {
    expect(.protocolError, [Frame.headers(1, Frame.get, flags: Frame.endStream), Frame.data(1, [1])])
    expect(.protocolError, [Frame.headers(1, Frame.get, flags: Frame.endStream), Frame.headers(3, Frame.get)])
    expect(.protocolError, [Frame.headers(1, Frame.get), Frame.continuation(1, [], flags: Frame.endHeaders)])
  }

  @Test func `What a client sent before it heard of our reset is discarded`() {
    let side = Side.server()
    side.recorder.onRequest = { stream, session in session.reset(stream, .refusedStream) }
    side.take(Frame.headers(1, Frame.post, flags: Frame.endHeaders))
    #expect(side.frames().map(\.type) == [3])
    side.take(Frame.data(1, [1]) + Frame.headers(1, [("a", "b")]) + Frame.headers(3, Frame.post, flags: Frame.endHeaders))
    #expect(side.session.failure == nil)
    #expect(side.recorder.requests.count == 2)
  }

  @Test func `Streams may be skipped, and thousands of them come and go`() {
    let side = Side.server()
    side.recorder.onRequest = { stream, session in session.respond(stream, response(204), ends: true) }
    for i in 0..<3000 {
      side.take(Frame.headers(UInt32(6 * i + 1), Frame.get))
      _ = side.flush()
    }
    #expect(side.recorder.requests.count == 3000)
    #expect(side.session.failure == nil)
  }
}
