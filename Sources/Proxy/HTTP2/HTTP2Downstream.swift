import HTTP2
import HTTPCodec
import Primitives
import Transport

/// One request of an HTTP/2 client: a stream, with the exchange that serves it. Used for stream after stream.
final class HTTP2Downstream: Downstream {
  private let connection: HTTP2DownstreamConnection
  let exchange: Exchange
  /// Nil once the stream is over.
  private(set) var stream: HTTP2Stream?
  /// Place in the connection's list of requests.
  var slot = 0

  // The request's body: what has arrived and was not taken.
  private var waiting: [UInt8] = []
  private var waitingStart = 0
  /// What arrives right now, before it is known whether it has to wait.
  private var arriving = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  private var hasEnded = false
  private(set) var requestTrailers: HeaderBlock?

  /// The session asked to stop writing until it says `canWrite`.
  private(set) var isFull = false
  /// Something moved at this moment for the last time.
  private(set) var movedAt = Instant.zero

  init(on connection: HTTP2DownstreamConnection) {
    self.connection = connection
    exchange = Exchange(for: connection.caller, worker: connection.worker)
    exchange.client = self
  }

  private var session: HTTP2Session { connection.session }

  // MARK: What arrives

  func begin(_ stream: HTTP2Stream, ends: Bool) {
    take(stream, ends: ends)
    swap(&exchange.head, &stream.request)
    exchange.begin(at: connection.worker.loop.now)
    if !ends { exchange.pumpRequestBody() }
  }

  func refuse(_ stream: HTTP2Stream, _ error: MessageError) {
    take(stream, ends: true)
    exchange.refuse(error, since: connection.worker.loop.now)
  }

  private func take(_ stream: HTTP2Stream, ends: Bool) {
    self.stream = stream
    hasEnded = ends
    requestTrailers = nil
    isFull = false
    movedAt = connection.worker.loop.now
  }

  func receive(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard let stream else { return }
    // Nobody wants what follows a final answer.
    guard exchange.phase != .idle else { return session.consumed(stream, bytes.count) }
    if waitingCount == 0 {
      arriving = bytes
      exchange.pumpRequestBody()
      let rest = arriving
      arriving = UnsafeBufferPointer(start: nil, count: 0)
      waiting.append(contentsOf: rest)
    } else {
      waiting.append(contentsOf: bytes)
    }
  }

  func requestEnded(trailers: HeaderBlock?) {
    hasEnded = true
    requestTrailers = trailers
    if exchange.phase != .idle { exchange.pumpRequestBody() }
  }

  func canWrite() {
    isFull = false
    exchange.clientCanTakeMore()
  }

  /// The stream is gone; told before the exchange is over, it means that the client gave up.
  func closed() {
    release()
    exchange.clientGone()
  }

  private func release() {
    stream = nil
    waiting.removeAll(keepingCapacity: waiting.capacity <= ProxyLimits.outputKeptBytes)
    waitingStart = 0
  }

  private var waitingCount: Int { waiting.count - waitingStart }

  // MARK: What the exchange uses

  func nextBodyEvent() throws(MessageError) -> BodyEvent {
    guard let stream else { return .needMore }
    if !arriving.isEmpty {
      let bytes = arriving
      arriving = UnsafeBufferPointer(start: nil, count: 0)
      exchange.requestBody(bytes)
      consumed(stream, bytes.count)
      return .data
    }
    if waitingCount > 0 {
      let bytes = waiting
      let start = waitingStart
      waiting = []
      waitingStart = 0
      bytes.withUnsafeBufferPointer { exchange.requestBody(UnsafeBufferPointer(rebasing: $0[start...])) }
      consumed(stream, bytes.count - start)
      return .data
    }
    return hasEnded ? .end : .needMore
  }

  /// The exchange took so many bytes: the client may send as many more.
  private func consumed(_ stream: HTTP2Stream, _ count: Int) {
    session.consumed(stream, count)
    connection.flush()
  }

  var requestIsComplete: Bool { hasEnded && waitingCount == 0 && arriving.isEmpty }

  func interim(_ head: borrowing ResponseHead) {
    if let stream { session.interim(stream, head) }
  }

  func respond(_ head: borrowing ResponseHead, closing: Bool) -> Int {
    guard let stream else { return 0 }
    session.respond(stream, head, ends: head.status != 101 && (head.framing == .none || head.framing == .length(0)))
    return head.headers.decodedBytes
  }

  func write(_ body: UnsafeBufferPointer<UInt8>) {
    if let stream, !session.write(stream, body) { isFull = true }
  }

  func end(trailers: HeaderBlock?) {
    if let stream { session.end(stream, trailers: trailers) }
  }

  var pendingOutput: Int { isFull ? ProxyLimits.outputHighWater : stream?.pending ?? 0 }

  func flush() { connection.flush() }

  func beginTunnel() {}

  func giveSocket() -> SocketEnd? { nil }

  func touch() {
    movedAt = connection.worker.loop.now
    connection.watchForIdleStreams()
  }

  /// The end of the stream follows what was written; if the request is not complete by then, the session says that the
  /// rest is not wanted.
  func exchangeEnded(keepAlive: Bool) { flush() }

  func abort() {
    guard let stream else { return }
    release()
    session.reset(stream, .internalError)
    connection.streamEnded(self)
    flush()
  }
}
