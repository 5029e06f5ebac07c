import HTTP2
import HTTPCodec
import Primitives
import Transport

/// One HTTP/2 connection from a client, or from another node: every stream is a request with an exchange of its own.
final class HTTP2DownstreamConnection: ClientConnection, TimerHandler {
  let worker: Worker
  let caller: Caller
  let session: HTTP2Session
  private var carrier: HTTP2Carrier?
  /// Requests whose streams are open.
  private var requests: [HTTP2Downstream] = []
  /// Requests to be used again.
  private var spare: [HTTP2Downstream] = []
  private var timer = TimerToken.none
  private var idleSince: Instant

  init(from caller: Caller, worker: Worker) {
    self.worker = worker
    self.caller = caller
    caller.isHTTP2 = true
    var options = RequestParser.Options()
    options.normalization = worker.state.pathNormalization
    if case .gateway = caller.port.listener.kind { options.allowUnderscores = false }
    let isMesh = caller.port.listener.kind == .meshInbound
    session = HTTP2Session(.server, limits: isMesh ? .mesh : HTTP2Limits(), options: options, pool: worker.http2Memory)
    idleSince = worker.loop.now
  }

  /// Takes over a connection on which the client speaks HTTP/2; `received` are its first bytes, the preface included.
  func open(_ stream: consuming ByteStream, received: UnsafeBufferPointer<UInt8>) {
    session.events = self
    let carrier = HTTP2Carrier(stream, session, for: self, worker: worker)
    self.carrier = carrier
    do throws(SystemError) {
      try carrier.open()
    } catch {
      return close()
    }
    worker.counters.http2Connections += 1
    schedule(worker.state.options.idleTimeout)
    carrier.receive(received)
    carrier.ready(.readable)
    if caller.port.isDraining || worker.isDraining { drain() }
  }

  /// Other nodes keep theirs: a request may be on its way on any of them.
  var evictableSince: Instant? { requests.isEmpty && caller.port.listener.kind != .meshInbound ? idleSince : nil }

  func process() { flush() }
  func flush() { carrier?.flush() }

  func adopt(_ state: ServingState) {
    for request in requests { request.exchange.adoptIfIdle(state) }
    for request in spare { request.exchange.adoptIfIdle(state) }
    // Its workload has left this node: the caller learns so at once, and not by its next request.
    if let peer = caller.peer, !peer.serverName.isEmpty, state.inboundTarget(serverName: peer.serverName) == nil { drain() }
  }

  func drain() {
    session.shutDown()
    flush()
  }

  func close() {
    guard carrier?.isClosed == false else { return }
    carrier?.close()
    ended()
  }

  private func ended() {
    session.connectionLost()
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
    for request in spare { request.exchange.client = nil }
    spare = []
    carrier = nil
    worker.remove(self)
  }

  // MARK: Requests

  private func request(for stream: HTTP2Stream) -> HTTP2Downstream {
    let request = spare.popLast() ?? HTTP2Downstream(on: self)
    request.slot = requests.count
    requests.append(request)
    stream.owner = request
    return request
  }

  /// The request's stream is over: it may serve another.
  func streamEnded(_ request: HTTP2Downstream) {
    guard requests.indices.contains(request.slot), requests[request.slot] === request else { return }
    let last = requests.removeLast()
    if last !== request {
      last.slot = request.slot
      requests[request.slot] = last
    }
    if requests.isEmpty { idleSince = worker.loop.now }
    if spare.count < ProxyLimits.spareStreams, carrier?.isClosed == false {
      spare.append(request)
    } else {
      request.exchange.client = nil
    }
  }

  // MARK: Time

  func watchForIdleStreams() {
    guard timer == .none || isWatchingIdleConnection else { return }
    isWatchingIdleConnection = false
    schedule(worker.state.options.streamIdleTimeout ?? worker.state.options.stalledTimeout)
  }

  private var isWatchingIdleConnection = true

  private func schedule(_ delay: Duration) {
    if timer != .none { worker.loop.cancel(timer) }
    timer = worker.loop.schedule(after: delay, self)
  }

  func timerFired(_ token: TimerToken) {
    guard token == timer else { return }
    timer = .none
    if requests.isEmpty { return endIfIdle() }
    let limit = worker.state.options.streamIdleTimeout ?? worker.state.options.stalledTimeout
    let now = worker.loop.now
    var next = limit
    for request in requests {
      let rest = request.movedAt + limit - now
      if rest <= .zero { giveUp(request) } else { next = min(next, rest) }
    }
    isWatchingIdleConnection = false
    schedule(max(next, ProxyLimits.idleCheckMin))
    flush()
  }

  private func giveUp(_ request: HTTP2Downstream) {
    if request.exchange.phase == .idle {
      // All is answered, and the client does not take it.
      request.abort()
    } else if worker.state.options.streamIdleTimeout != nil || request.isFull {
      request.exchange.streamIdle()
    }
  }

  private func endIfIdle() {
    let idle = caller.port.isDraining ? ProxyLimits.drainIdle : worker.state.options.idleTimeout
    let rest = idleSince + idle - worker.loop.now
    if rest <= .zero { session.finishShutdown() }
    isWatchingIdleConnection = true
    schedule(max(rest, ProxyLimits.idleCheckMin))
    flush()
  }
}

// MARK: What the session tells

extension HTTP2DownstreamConnection: HTTP2Events {
  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    request(for: stream).begin(stream, ends: ends)
  }

  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session) {
    request(for: stream).refuse(stream, error)
  }

  private func request(of stream: HTTP2Stream) -> HTTP2Downstream? {
    stream.owner.map { unsafeDowncast($0, to: HTTP2Downstream.self) }
  }

  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session) {
    request(of: stream)?.receive(bytes)
  }

  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session) {
    request(of: stream)?.requestEnded(trailers: hasTrailers ? stream.trailers : nil)
  }

  func streamClosed(_ stream: HTTP2Stream, _ end: HTTP2StreamEnd, on session: HTTP2Session) {
    guard let request = request(of: stream) else { return }
    request.closed()
    streamEnded(request)
  }

  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session) { request(of: stream)?.canWrite() }

  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {}
  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session) {}
  func settingsReceived(on session: HTTP2Session) {}
  func pongReceived(_ payload: UInt64, on session: HTTP2Session) {}
}

extension HTTP2DownstreamConnection: HTTP2CarrierOwner {
  func carrierReceived(_ carrier: HTTP2Carrier) {}

  func carrier(_ carrier: HTTP2Carrier, lost reason: HTTP2CarrierEnd) { ended() }

  func carrier(_ carrier: HTTP2Carrier, failed error: HTTP2Error) { worker.counters.http2Errors += 1 }
}
