import HTTP2
import HTTPCodec
import Primitives

/// Acts on everything a session tells, so that its answers are exercised too.
private final class Responder: HTTP2Events {
  var response = ResponseHead()
  var body = [UInt8](repeating: 0x61, count: 3000)
  var open = 0
  var consumesLate = false

  init() {
    var parser = ResponseParser()
    let text = Array("HTTP/1.1 200 OK\r\ncontent-type: a\r\n\r\n".utf8)
    _ = try? parser.parse(text.span, from: 0, answering: .get, into: &response)
  }

  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    open += 1
    checkRequest(stream.request)
    switch stream.id % 5 {
    case 0:
      session.reset(stream, .refusedStream)
      open -= 1
    case 1: session.respond(stream, response, ends: true)
    default:
      session.respond(stream, response, ends: false)
      _ = body.withUnsafeBufferPointer { session.write(stream, $0) }
    }
  }

  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session) {
    open += 1
    promise((400...599).contains(error.status), "a refusal has a status")
    session.respond(stream, response, ends: true)
  }

  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    var output: [UInt8] = []
    stream.response.write(into: &output, chunked: stream.response.framing == .chunked, close: false)
    var parser = ResponseParser()
    var again = ResponseHead()
    guard (try? parser.parse(output.span, from: 0, answering: .get, into: &again)) != nil else {
      return promise(false, "a response can be written as HTTP/1: \(String(decoding: output, as: UTF8.self))")
    }
    promise(again.status == stream.response.status, "a status is kept")
  }

  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session) {
    if !consumesLate { session.consumed(stream, bytes.count) }
  }

  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session) {
    session.end(stream, trailers: hasTrailers ? stream.trailers : nil)
  }

  func streamClosed(_ stream: HTTP2Stream, _ end: HTTP2StreamEnd, on session: HTTP2Session) { open -= 1 }
  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session) { session.end(stream) }
  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session) {}
  func settingsReceived(on session: HTTP2Session) {}
  func pongReceived(_ payload: UInt64, on session: HTTP2Session) {}
}

/// A request that came over HTTP/2 can be written as HTTP/1 and is the same request then. CONNECT is not: what follows it is no body.
private func checkRequest(_ head: RequestHead) {
  guard !head.wantsUpgrade, head.method != .connect else { return }
  var output: [UInt8] = []
  head.write(into: &output, chunked: head.framing == .chunked)
  var parser = RequestParser()
  var again = RequestHead()
  guard (try? parser.parse(output.span, from: 0, into: &again)) == output.count else {
    return promise(false, "a request can be written as HTTP/1: \(String(decoding: output, as: UTF8.self))")
  }
  promise(again.headers.copy(again.target) == head.headers.copy(head.target), "the target is kept")
  promise(again.headers.copy(again.authority) == head.headers.copy(head.authority), "the authority is kept")
  promise(again.framing == head.framing, "the framing is kept: \(String(decoding: output, as: UTF8.self))")
}

private let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
private let emptySettings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]
private let pool = UncheckedPool()

/// One pool for all runs; a fuzzer has one thread.
private struct UncheckedPool: @unchecked Sendable { let pool = HTTP2MemoryPool() }

/// Feeds `bytes` in parts of the size their first byte names, and sends in between.
private func feed(_ session: HTTP2Session, _ bytes: [UInt8]) {
  let step = max(1, Int(bytes.first ?? 0))
  var at = 1
  var now: UInt64 = 1
  while at < bytes.count, session.failure == nil {
    let end = min(bytes.count, at + step)
    now += 1_000_000
    bytes[at..<end].withUnsafeBufferPointer { try? session.receive($0, now: Instant(nanoseconds: now)) }
    checkOutput(session)
    at = end
  }
  checkOutput(session)
  session.shutDown()
  checkOutput(session)
  session.connectionLost()
  promise(session.openStreams == 0, "no stream outlives its connection")
  promise(session.bufferedBytes == 0, "no byte outlives its stream: \(session.bufferedBytes)")
  promise(session.isFinished, "a lost connection is finished")
}

/// What is sent is whole frames.
private func checkOutput(_ session: HTTP2Session) {
  var output: [UInt8] = []
  session.send(into: &output)
  var at = output.starts(with: preface) ? preface.count : 0
  while at < output.count {
    guard at + 9 <= output.count else { return promise(false, "a frame has a head") }
    at += 9 + Int(output[at]) << 16 + Int(output[at + 1]) << 8 + Int(output[at + 2])
  }
  promise(at == output.count, "frames are whole")
  promise(session.bufferedBytes >= 0, "bytes are not sent twice")
}

/// Any bytes after a client's preface.
func fuzzServer(_ bytes: [UInt8]) {
  let events = Responder()
  events.consumesLate = (bytes.first ?? 0) & 1 == 0
  let session = HTTP2Session(.server, pool: pool.pool)
  session.events = events
  preface.withUnsafeBufferPointer { try? session.receive($0, now: .zero) }
  feed(session, bytes)
  promise(events.open == 0, "every stream that was told of is told to be closed")
}

/// Any bytes as a server's answer to three requests.
func fuzzClient(_ bytes: [UInt8]) {
  let events = Responder()
  let session = HTTP2Session(.client, pool: pool.pool)
  session.events = events
  for text in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", "POST / HTTP/1.1\r\nhost: a\r\n\r\n"]
  {
    var parser = RequestParser()
    var head = RequestHead()
    _ = try? parser.parse(Array(text.utf8).span, from: 0, into: &head)
    guard let stream = session.request(head, ends: head.method != .post) else { continue }
    _ = events.body.withUnsafeBufferPointer { session.write(stream, $0) }
  }
  checkOutput(session)
  feed(session, bytes)
}

/// Any names and values as the fields of a request: length-prefixed pairs, after four pseudo-headers of a valid one.
func fuzzFields(_ bytes: [UInt8]) {
  var builder = RequestFields()
  var head = RequestHead()
  builder.begin(&head)
  var at = 1
  func next() -> [UInt8] {
    guard at < bytes.count else { return [] }
    let end = min(bytes.count, at + 1 + Int(bytes[at]))
    defer { at = end }
    return Array(bytes[(at + 1)..<end])
  }
  do throws(MessageError) {
    if (bytes.first ?? 0) & 2 == 0 {
      for (name, value) in [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")] {
        try builder.add(name: Array(name.utf8).span, value: Array(value.utf8).span, to: &head)
      }
    }
    while at < bytes.count {
      let name = next()
      let value = next()
      try builder.add(name: name.span, value: value.span, to: &head)
    }
    try builder.finish(&head, ends: (bytes.first ?? 0) & 1 == 1)
    checkRequest(head)
  } catch {
    promise((400...599).contains(error.status), "an error has a status")
  }
}
