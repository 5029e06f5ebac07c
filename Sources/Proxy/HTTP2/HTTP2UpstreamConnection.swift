import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

/// One HTTP/2 connection to an endpoint, shared by the requests of all clients with one source identity.
///
/// Requests may be put on it while it is still being made; they begin when it is there.
final class HTTP2UpstreamConnection: EventHandler, TimerHandler {
  private enum Phase { case connecting, handshake, ready, closed }

  /// How it came to its end, for the requests it carried.
  struct End {
    var reason: UpstreamFailure.Reason
    /// When the peer was heard for the last time.
    var lastReceived: Instant
  }

  let worker: Worker
  let key: UpstreamKey
  let session: HTTP2Session
  private let terms: UpstreamTerms
  private var phase = Phase.connecting
  private var stream: ByteStream
  private var registration: Registration?
  private var carrier: HTTP2Carrier?
  private var end: End?

  /// Requests that wait for the connection to be there.
  private var waiting: [HTTP2Upstream] = []
  /// Requests that wait for the peer's settings.
  private var waitingForSettings: [HTTP2Upstream] = []
  private var hasSettings = false
  private var spare: [HTTP2Upstream] = []
  private var active = 0
  private var carried = 0
  private var isRetired = false
  /// Clients that what was just received concerns: each writes once when all of it has been taken.
  private var touched: [any UpstreamObserver] = []

  private var timer = TimerToken.none
  private var idleSince: Instant
  private let openedAt: Instant
  private var lastReceived: Instant
  /// Until when an answer to a ping has to come.
  private var pingDeadline = Instant.distantFuture

  /// What the server gets before all else.
  var preface: [UInt8] = []
  let addressText: String
  private(set) lazy var localAddressText: String = carrier?.localAddress?.description ?? ""
  var tls: TLSSession? { carrier?.tls }

  init(_ stream: consuming ByteStream, to address: SocketAddress, key: UpstreamKey, terms: UpstreamTerms, worker: Worker) {
    self.stream = stream
    self.key = key
    self.terms = terms
    self.worker = worker
    addressText = address.description
    session = HTTP2Session(
      .client, limits: key.security == .mesh ? .mesh : HTTP2Limits(), pool: worker.http2Memory)
    openedAt = worker.loop.now
    lastReceived = openedAt
    idleSince = openedAt
  }

  /// Watches the connecting socket; who waits hears whether it succeeded.
  func open(within timeout: Duration) throws(ProxyError.ConnectFailure) {
    do throws(SystemError) {
      registration = try worker.loop.register(stream.descriptor, self)
    } catch {
      throw .unreachable
    }
    timer = worker.loop.schedule(after: timeout, self)
  }

  // MARK: Requests

  var isReady: Bool { phase == .ready }

  /// Another request can be put on it, now or once it is there.
  var hasRoom: Bool {
    switch phase {
    case .connecting, .handshake: waiting.count < min(ProxyLimits.waitingStreams, terms.streamsMax)
    case .ready: !isRetired && session.availableStreams > 0 && active < terms.streamsMax
    case .closed: false
    }
  }

  /// A place for one request. The observer is told by `upstreamConnected` unless it `isReady`.
  func reserve(for observer: any UpstreamObserver) -> HTTP2Upstream {
    let request = spare.popLast() ?? HTTP2Upstream(on: self)
    request.reserve(for: observer)
    active += 1
    if phase != .ready { waiting.append(request) }
    return request
  }

  func streamOpened() {
    carried += 1
    if carried >= terms.requestsMax { retire() }
    let now = worker.loop.now
    // A peer that was silent for long may be gone without a word: a sign of life is asked for along with the request.
    if pingDeadline == .distantFuture, now - max(lastReceived, openedAt) > ProxyLimits.silenceBeforePing {
      pingDeadline = now + ProxyLimits.pingTime
      session.ping(0)
      schedule(ProxyLimits.pingTime)
    }
  }

  func streamReleased(_ request: HTTP2Upstream) {
    active -= 1
    if active == 0 { idleSince = worker.loop.now }
    if phase != .closed, spare.count < ProxyLimits.spareStreams { spare.append(request) }
  }

  func stopWaiting(_ request: HTTP2Upstream) {
    waiting.removeAll { $0 === request }
    waitingForSettings.removeAll { $0 === request }
  }

  /// False when the peer has said already what it can.
  func waitForSettings(_ request: HTTP2Upstream) -> Bool {
    guard !hasSettings else { return false }
    waitingForSettings.append(request)
    return true
  }

  func flush() { carrier?.flush() }

  /// The client is to write what it has been given, once everything that came is taken.
  func touch(_ observer: any UpstreamObserver) {
    if touched.last !== observer { touched.append(observer) }
  }

  private func flushTouched() {
    guard !touched.isEmpty else { return }
    let observers = touched
    touched = []
    for observer in observers { observer.flushClient() }
    if touched.isEmpty {
      touched = observers
      touched.removeAll(keepingCapacity: true)
    }
  }

  /// Takes no more requests, and ends with the last of those it has.
  func retire() {
    guard !isRetired else { return }
    isRetired = true
    worker.http2Upstreams.remove(self)
    if phase == .ready { session.shutDown() }
    flush()
  }

  // MARK: Connecting

  func ready(_ readiness: Readiness) {
    switch phase {
    case .connecting:
      guard !readiness.isDisjoint(with: [.writable, .error, .hangup]) else { return }
      let code = pendingSocketError(stream.descriptor)
      guard code == 0, stream.writeFirst(preface) else { return failed(.connect(connectFailure(code))) }
      phase = .handshake
      continueHandshake()
    case .handshake: continueHandshake()
    case .ready, .closed: break
    }
  }

  private func continueHandshake() {
    switch stream.handshake() {
    case .wouldBlock: return
    case .failed(let reason): failed(.connect(.tls(reason)))
    case .done:
      guard !stream.isTLS || stream.applicationProtocol == "h2" else {
        return failed(.connect(.tls("the server does not speak HTTP/2")))
      }
      worker.counters.shookHandsUpstream(resumed: stream.isResumed)
      connected()
    }
  }

  private func connected() {
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    session.events = self
    let carrier = HTTP2Carrier(stream.handOver(), session, for: self, worker: worker)
    do throws(SystemError) {
      try carrier.open()
    } catch {
      return failed(.connect(.unreachable))
    }
    self.carrier = carrier
    phase = .ready
    lastReceived = worker.loop.now
    schedule(min(terms.idleTimeout, terms.maxDuration ?? terms.idleTimeout, terms.keepAlive?.interval ?? terms.idleTimeout))
    let requests = waiting
    waiting = []
    for request in requests { request.observer?.upstreamConnected(request) }
  }

  // MARK: Time

  private func schedule(_ delay: Duration) {
    if timer != .none { worker.loop.cancel(timer) }
    timer = worker.loop.schedule(after: delay, self)
  }

  func timerFired(_ token: TimerToken) {
    guard token == timer else { return }
    timer = .none
    let now = worker.loop.now
    switch phase {
    case .connecting, .handshake: return failed(.connect(.timedOut))
    case .closed: return
    case .ready: break
    }
    if now >= pingDeadline { return lose(.reset) }
    askIfSilent(now)
    var next = pingDeadline == .distantFuture ? terms.idleTimeout : pingDeadline - now
    if active == 0 {
      let rest = idleSince + terms.idleTimeout - now
      if rest <= .zero { return retire() }
      next = min(next, rest)
    }
    if let maxDuration = terms.maxDuration {
      let rest = openedAt + maxDuration - now
      if rest <= .zero { return retire() }
      next = min(next, rest)
    }
    if let keepAlive = terms.keepAlive, pingDeadline == .distantFuture { next = min(next, keepAlive.interval - silence(now)) }
    schedule(max(next, ProxyLimits.idleCheckMin))
  }

  /// How long the peer has said nothing.
  private func silence(_ now: Instant) -> Duration { now - max(lastReceived, openedAt) }

  /// A connection that its operator wants watched is asked for a sign of life when it has been silent for the interval.
  private func askIfSilent(_ now: Instant) {
    guard let keepAlive = terms.keepAlive, pingDeadline == .distantFuture, silence(now) >= keepAlive.interval else { return }
    pingDeadline = now + keepAlive.timeout
    session.ping(0)
    flush()
  }

  // MARK: The end

  /// The connection did not come about, or broke: everybody on it hears of it.
  private func failed(_ reason: UpstreamFailure.Reason) {
    guard phase != .closed else { return }
    close(reason)
  }

  private func lose(_ reason: UpstreamFailure.Reason) {
    carrier?.close()
    failed(reason)
  }

  private func close(_ reason: UpstreamFailure.Reason) {
    phase = .closed
    worker.http2Upstreams.remove(self)
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    stream.close()
    worker.upstreamClosed(key, terms)
    end = End(reason: reason, lastReceived: lastReceived)
    session.connectionLost()
    let requests = waiting + waitingForSettings
    waiting = []
    waitingForSettings = []
    for request in requests { request.fail(UpstreamFailure(reason, isSent: false)) }
    flushTouched()
    spare = []
    carrier = nil
  }

  func shutDown() {
    carrier?.close()
    failed(.closed)
  }
}

// MARK: What the session tells

extension HTTP2UpstreamConnection: HTTP2Events {
  private func request(of stream: HTTP2Stream) -> HTTP2Upstream? {
    stream.owner.map { unsafeDowncast($0, to: HTTP2Upstream.self) }
  }

  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    request(of: stream)?.responded(stream, ends: ends)
  }

  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session) {
    request(of: stream)?.received(bytes, of: stream)
  }

  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session) {
    request(of: stream)?.ended(stream, trailers: hasTrailers ? stream.trailers : nil)
  }

  func streamClosed(_ stream: HTTP2Stream, _ streamEnd: HTTP2StreamEnd, on session: HTTP2Session) {
    request(of: stream)?.closed(streamEnd, of: stream, connectionEnd: end)
  }

  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session) { request(of: stream)?.canWrite() }

  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session) {
    isRetired = true
    worker.http2Upstreams.remove(self)
    flush()
  }

  func settingsReceived(on session: HTTP2Session) {
    hasSettings = true
    let requests = waitingForSettings
    waitingForSettings = []
    for request in requests { request.settingsArrived() }
  }

  func pongReceived(_ payload: UInt64, on session: HTTP2Session) {}
  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {}
  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session) {}
}

extension HTTP2UpstreamConnection: HTTP2CarrierOwner {
  func carrierReceived(_ carrier: HTTP2Carrier) {
    lastReceived = worker.loop.now
    pingDeadline = .distantFuture
    flushTouched()
  }

  func carrier(_ carrier: HTTP2Carrier, lost reason: HTTP2CarrierEnd) {
    switch reason {
    case .finished, .closed: failed(.closed)
    case .reset: failed(.reset)
    case .refused(let why): failed(lastReceived == openedAt ? .connect(.tls(why)) : .reset)
    }
  }

  func carrier(_ carrier: HTTP2Carrier, failed error: HTTP2Error) {
    worker.counters.http2Errors += 1
    worker.http2Upstreams.remove(self)
    isRetired = true
  }
}
