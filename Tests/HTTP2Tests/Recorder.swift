import HTTP2
import HTTPCodec
import Primitives

/// What a session told, in order, and what to do about it.
final class Recorder: HTTP2Events {
  enum Seen: Equatable {
    case request(Int32, String, ends: Bool)
    case refused(Int32, MessageError.Reason)
    case response(Int32, Int, ends: Bool)
    case data(Int32, Int)
    case ended(Int32, trailers: [String])
    case closed(Int32, HTTP2Code, isNotProcessed: Bool)
    case canWrite(Int32)
    case goAway(Int32, HTTP2Code)
    case settings
    case pong(UInt64)
  }

  var seen: [Seen] = []
  var bodies: [Int32: [UInt8]] = [:]
  var lines: [Int32: [String]] = [:]
  var requests: [Int32: RequestHead] = [:]
  var responses: [Int32: ResponseHead] = [:]
  /// Streams not yet closed, for a test to act on.
  var streams: [Int32: HTTP2Stream] = [:]
  /// Gives every byte back as soon as it came.
  var consumesAtOnce = true
  var onRequest: (HTTP2Stream, HTTP2Session) -> Void = { _, _ in }
  var onEnd: (HTTP2Stream, HTTP2Session) -> Void = { _, _ in }
  var onWritable: (HTTP2Stream, HTTP2Session) -> Void = { _, _ in }

  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    let head = stream.request
    seen.append(.request(stream.id, "\(head.headers.text(head.methodName)) \(head.headers.text(head.target))", ends: ends))
    requests[stream.id] = head
    lines[stream.id] = head.headers.lines
    streams[stream.id] = stream
    onRequest(stream, session)
    if ends { onEnd(stream, session) }
  }

  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session) {
    seen.append(.refused(stream.id, error.reason))
    session.respond(stream, response(error.status), ends: true)
  }

  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    seen.append(.response(stream.id, stream.response.status, ends: ends))
    responses[stream.id] = stream.response
    lines[stream.id] = stream.response.headers.lines
  }

  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session) {
    if case .data(stream.id, let count) = seen.last {
      seen[seen.count - 1] = .data(stream.id, count + bytes.count)
    } else {
      seen.append(.data(stream.id, bytes.count))
    }
    bodies[stream.id, default: []].append(contentsOf: bytes)
    if consumesAtOnce { session.consumed(stream, bytes.count) }
  }

  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session) {
    seen.append(.ended(stream.id, trailers: hasTrailers ? stream.trailers.lines : []))
    onEnd(stream, session)
  }

  func streamClosed(_ stream: HTTP2Stream, _ end: HTTP2StreamEnd, on session: HTTP2Session) {
    seen.append(.closed(stream.id, end.code, isNotProcessed: end.isNotProcessed))
    streams[stream.id] = nil
  }

  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session) {
    seen.append(.canWrite(stream.id))
    onWritable(stream, session)
  }

  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session) {
    seen.append(.goAway(lastStream, code))
  }

  func settingsReceived(on session: HTTP2Session) { seen.append(.settings) }
  func pongReceived(_ payload: UInt64, on session: HTTP2Session) { seen.append(.pong(payload)) }
}

extension HeaderBlock {
  /// The lines that would go out over HTTP/1.
  var lines: [String] {
    var output: [UInt8] = []
    write(into: &output)
    return String(decoding: output, as: UTF8.self).split(separator: "\r\n").map(String.init)
  }
}

/// A session with its recorder.
final class Side {
  let session: HTTP2Session
  let recorder = Recorder()
  var sent: [UInt8] = []

  init(_ role: HTTP2Role, limits: HTTP2Limits = HTTP2Limits(), options: RequestParser.Options = .init()) {
    session = HTTP2Session(role, limits: limits, options: options)
    session.events = recorder
  }

  /// A server that has seen a client's preface and settings.
  static func server(
    limits: HTTP2Limits = HTTP2Limits(), options: RequestParser.Options = .init(), settings: [(UInt16, UInt32)] = []
  ) -> Side {
    let side = Side(.server, limits: limits, options: options)
    _ = side.flush()
    side.take(Frame.preface + Frame.settings(settings) + Frame.settings(flags: Frame.acknowledge))
    _ = side.flush()
    side.recorder.seen = []
    return side
  }

  /// A client that has seen a server's settings.
  static func client(limits: HTTP2Limits = HTTP2Limits(), settings: [(UInt16, UInt32)] = []) -> Side {
    let side = Side(.client, limits: limits)
    _ = side.flush()
    side.take(Frame.settings(settings) + Frame.settings(flags: Frame.acknowledge))
    _ = side.flush()
    side.recorder.seen = []
    return side
  }

  var seen: [Recorder.Seen] { recorder.seen }

  @discardableResult
  func take(_ bytes: [UInt8], at seconds: Double = 1) -> HTTP2Error? {
    do throws(HTTP2Error) {
      let now = Instant(nanoseconds: UInt64(seconds * 1e9))
      let session = session
      let result = bytes.withUnsafeBufferPointer { buffer -> HTTP2Error? in
        do throws(HTTP2Error) { try session.receive(buffer, now: now) } catch { return error }
        return nil
      }
      if let result { throw result }
      return nil
    } catch {
      return error
    }
  }

  func flush(upTo limit: Int = 1 << 20) -> [UInt8] {
    var output: [UInt8] = []
    session.send(into: &output, upTo: limit)
    return output
  }

  /// The frames sent now.
  func frames() -> [SentFrame] { SentFrame.all(flush()) }

  func write(_ stream: HTTP2Stream, _ bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBufferPointer { session.write(stream, $0) }
  }
}

/// Two sessions back to back.
struct Pair {
  let client: Side
  let server: Side

  init(client: HTTP2Limits = HTTP2Limits(), server: HTTP2Limits = HTTP2Limits(), options: RequestParser.Options = .init()) {
    self.client = Side(.client, limits: client)
    self.server = Side(.server, limits: server, options: options)
    run()
    self.client.recorder.seen = []
    self.server.recorder.seen = []
  }

  /// Carries bytes both ways until nobody has more to say.
  func run(bytesAtOnce: Int = .max) {
    for _ in 0..<10_000 {
      let there = client.flush()
      let back = server.flush()
      if there.isEmpty, back.isEmpty { return }
      deliver(there, to: server, bytesAtOnce)
      deliver(back, to: client, bytesAtOnce)
    }
  }

  private func deliver(_ bytes: [UInt8], to side: Side, _ bytesAtOnce: Int) {
    var at = 0
    while at < bytes.count {
      let end = min(bytes.count, at + min(bytesAtOnce, bytes.count))
      if side.take(Array(bytes[at..<end])) != nil { return }
      at = end
    }
  }
}

func request(_ line: String, _ fields: [(String, String)] = []) -> RequestHead {
  var parser = RequestParser()
  var head = RequestHead()
  let text = "\(line) HTTP/1.1\r\nhost: reviews:9080\r\n" + fields.map { "\($0.0): \($0.1)\r\n" }.joined() + "\r\n"
  _ = try? parser.parse(Array(text.utf8).span, from: 0, into: &head)
  return head
}

func response(_ status: Int, _ fields: [(String, String)] = []) -> ResponseHead {
  var parser = ResponseParser()
  var head = ResponseHead()
  let text = "HTTP/1.1 \(status) X\r\n" + fields.map { "\($0.0): \($0.1)\r\n" }.joined() + "\r\n"
  _ = try? parser.parse(Array(text.utf8).span, from: 0, answering: .get, into: &head)
  return head
}

func block(_ fields: [(String, String)]) -> HeaderBlock {
  var block = HeaderBlock()
  for (name, value) in fields { if let name = HeaderName(name) { block.add(name, value) } }
  return block
}
