import HTTP2
import HTTPCodec
import Primitives

/// One end of an HTTP/2 connection for tests: a session over a blocking socket, which keeps what every stream brought.
final class HTTP2Peer: HTTP2Events {
  /// What arrived on one stream.
  struct Message {
    var request: RequestHead?
    var response: ResponseHead?
    var interims: [Int] = []
    var body: [UInt8] = []
    var trailers: [String: String]?
    var isComplete = false
    var end: HTTP2StreamEnd?

    var status: Int? { response?.status }
    var text: String { String(decoding: body, as: UTF8.self) }
    func header(_ name: String) -> String? {
      guard let headers = response?.headers ?? request?.headers, let name = HeaderName(name),
        let value = headers.value(name)
      else { return nil }
      return headers.text(value)
    }
  }

  let wire: Wire
  let session: HTTP2Session
  private(set) var messages: [Int32: Message] = [:]
  private(set) var streams: [Int32: HTTP2Stream] = [:]
  /// In the order they arrived.
  private(set) var arrived: [Int32] = []
  private(set) var goAway: (lastStream: Int32, code: HTTP2Code)?
  private(set) var isLost = false
  /// Bytes of bodies are given back as they come; otherwise the windows stay as they are.
  var consumes = true
  /// Streams that may be written to again.
  private(set) var writable: Set<Int32> = []

  init(_ role: HTTP2Role, over wire: Wire, limits: HTTP2Limits = HTTP2Limits()) {
    self.wire = wire
    session = HTTP2Session(role, limits: limits)
    session.events = self
  }

  static func client(port: UInt16, limits: HTTP2Limits = HTTP2Limits()) -> HTTP2Peer {
    HTTP2Peer(.client, over: Wire.connect(port: port), limits: limits)
  }

  // MARK: Client

  /// Opens a stream with the request that an HTTP/1 head describes; the lines end in CRLF.
  func open(_ text: String, ends: Bool = true) -> Int32 {
    guard let head = Self.head(text), let stream = session.request(head, ends: ends) else { return 0 }
    messages[stream.id] = Message()
    streams[stream.id] = stream
    return stream.id
  }

  static func head(_ text: String) -> RequestHead? {
    var parser = RequestParser()
    var head = RequestHead()
    let bytes = Array(text.utf8)
    guard (try? parser.parse(bytes.span, from: 0, into: &head)) != nil else { return nil }
    return head
  }

  /// A whole request, and all that comes back.
  func request(_ text: String, body: [UInt8]? = nil) -> Message {
    let id = open(text, ends: body == nil)
    if let body {
      write(id, body)
      end(id)
    }
    return message(id)
  }

  static func get(_ path: String = "/") -> String { "GET \(path) HTTP/1.1\r\nHost: reviews\r\n\r\n" }

  // MARK: Both

  func write(_ id: Int32, _ bytes: [UInt8]) {
    guard let stream = streams[id] else { return }
    writable.remove(id)
    if bytes.withUnsafeBufferPointer({ session.write(stream, $0) }) { writable.insert(id) }
  }

  func end(_ id: Int32, trailers: [String: String]? = nil) {
    guard let stream = streams[id] else { return }
    var block: HeaderBlock?
    if let trailers {
      var made = HeaderBlock()
      for (name, value) in trailers.sorted(by: { $0.key < $1.key }) {
        if let name = HeaderName(name) { made.add(name, value) }
      }
      block = made
    }
    session.end(stream, trailers: block)
  }

  func reset(_ id: Int32, _ code: HTTP2Code = .cancel) {
    if let stream = streams.removeValue(forKey: id) { session.reset(stream, code) }
  }

  func consume(_ id: Int32, _ count: Int) {
    if let stream = streams[id] { session.consumed(stream, count) }
  }

  func flush() {
    var output: [UInt8] = []
    while session.wantsWrite {
      output.removeAll(keepingCapacity: true)
      session.send(into: &output)
      if output.isEmpty || !wire.send(output) { return }
    }
  }

  /// Sends and receives until the condition holds, or the connection ends, or its time limit is over.
  @discardableResult
  func pump(until isDone: (HTTP2Peer) -> Bool) -> Bool {
    while !isDone(self) {
      flush()
      if isDone(self) { break }
      let bytes = wire.receive()
      if bytes.isEmpty {
        isLost = true
        session.connectionLost()
        return isDone(self)
      }
      receive(bytes)
    }
    return true
  }

  func receive(_ bytes: [UInt8]) {
    bytes.withUnsafeBufferPointer { try? session.receive($0, now: .zero) }
  }

  /// What a stream brought, once it is complete or broken.
  func message(_ id: Int32) -> Message {
    pump { $0.messages[id]?.isComplete != false || $0.messages[id]?.end != nil }
    return messages[id] ?? Message()
  }

  // MARK: Events

  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    messages[stream.id] = Message(request: stream.request, isComplete: ends)
    streams[stream.id] = stream
    arrived.append(stream.id)
  }
  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session) {}
  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    if stream.response.isInterim {
      messages[stream.id]?.interims.append(stream.response.status)
    } else {
      messages[stream.id]?.response = stream.response
      messages[stream.id]?.isComplete = ends
    }
  }
  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session) {
    messages[stream.id]?.body.append(contentsOf: bytes)
    if consumes { session.consumed(stream, bytes.count) }
  }
  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session) {
    if hasTrailers {
      var trailers: [String: String] = [:]
      for field in stream.trailers.fields where !field.isRemoved {
        trailers[stream.trailers.text(field.name)] = stream.trailers.text(field.value)
      }
      messages[stream.id]?.trailers = trailers
    }
    messages[stream.id]?.isComplete = true
  }
  func streamClosed(_ stream: HTTP2Stream, _ end: HTTP2StreamEnd, on session: HTTP2Session) {
    messages[stream.id]?.end = end
    streams[stream.id] = nil
  }
  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session) { writable.insert(stream.id) }
  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session) { goAway = (lastStream, code) }
  func settingsReceived(on session: HTTP2Session) {}
  func pongReceived(_ payload: UInt64, on session: HTTP2Session) {}
}

extension HTTP2Peer {
  /// Answers a stream.
  func respond(
    _ id: Int32, status: Int = 200, headers: [String: String] = [:], body: [UInt8]? = nil, trailers: [String: String]? = nil
  ) {
    guard let stream = streams[id] else { return }
    var head = ResponseHead()
    head.begin(status: status, framing: .none)
    for (name, value) in headers.sorted(by: { $0.key < $1.key }) {
      if let name = HeaderName(name) { head.headers.add(name, value) }
    }
    let isHeadOnly = body == nil && trailers == nil
    session.respond(stream, head, ends: isHeadOnly)
    if isHeadOnly { return }
    if let body, !body.isEmpty { write(id, body) }
    end(id, trailers: trailers)
  }

  func interim(_ id: Int32, status: Int) {
    guard let stream = streams[id] else { return }
    var head = ResponseHead()
    head.begin(status: status, framing: .none)
    session.interim(stream, head)
  }
}

extension Origin {
  /// An application that speaks HTTP/2 with prior knowledge: each request is answered once it is complete.
  static func http2(_ answer: @escaping @Sendable (HTTP2Peer, Int32) -> Void) -> Origin {
    Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      var answered: Set<Int32> = []
      peer.pump { peer in
        for id in peer.arrived where peer.messages[id]?.isComplete == true && answered.insert(id).inserted {
          origin.record(Array(HTTP2Peer.line(peer.messages[id]).utf8))
          answer(peer, id)
        }
        return false
      }
    }
  }
}

extension HTTP2Peer {
  /// `METHOD target authority`, as a recording origin keeps it.
  static func line(_ message: Message?) -> String {
    guard let head = message?.request else { return "" }
    return [head.methodName, head.target, head.authority].map { head.headers.text($0) }.joined(separator: " ")
  }
}
