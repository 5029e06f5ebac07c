import HTTP2
import HTTPCodec
import Primitives
import Transport

/// One try as a stream of an HTTP/2 connection to an endpoint. Used for stream after stream of its connection.
final class HTTP2Upstream: Upstream, TurnHandler {
  private let connection: HTTP2UpstreamConnection
  private var stream: HTTP2Stream?
  /// Held while a request is carried; cleared at its end, so the two do not keep each other.
  private(set) var observer: (any UpstreamObserver)?
  /// A request that asks for another protocol waits until the peer has said whether it can.
  private var waitingHead: RequestHead?
  private var openedAt = Instant.zero
  private var requestIsWhole = false
  /// After a CONNECT each side ends for itself.
  private var isTunnel = false
  private var tunnelAnswerHasEnded = false

  /// The session asked to stop writing until it says `canWrite`.
  private var isFull = false
  private var isCongested = false

  // The response, while the client takes it more slowly than it comes.
  private var isPaused = false
  private var held: [UInt8] = []
  private var hasEnded = false
  private var trailers: HeaderBlock?
  private var interims = 0

  private var failure: UpstreamFailure?
  /// Counts the requests it has carried.
  private var use: UInt64 = 0

  init(on connection: HTTP2UpstreamConnection) { self.connection = connection }

  private var session: HTTP2Session { connection.session }
  var addressText: String { connection.addressText }
  var localAddressText: String { connection.localAddressText }
  var isHTTP2: Bool { true }
  var tls: TLSSession? { connection.tls }
  /// A stream can be opened now; otherwise the observer is told when it can.
  var isReady: Bool { connection.isReady }

  func reserve(for observer: any UpstreamObserver) {
    self.observer = observer
    use &+= 1
    requestIsWhole = false
    isTunnel = false
    tunnelAnswerHasEnded = false
    isFull = false
    isCongested = false
    isPaused = false
    hasEnded = false
    trailers = nil
    interims = 0
  }

  // MARK: The request

  func begin(_ head: borrowing RequestHead, for observer: any UpstreamObserver) {
    self.observer = observer
    if head.wantsUpgrade, !session.peerAllowsExtendedConnect {
      guard connection.waitForSettings(self) else {
        return fail(soon: UpstreamFailure(.malformed(MessageError(.upgradeWithBody, status: 502)), isSent: false))
      }
      waitingHead = copy head
      return
    }
    open(head)
  }

  private func open(_ head: borrowing RequestHead) {
    openedAt = connection.worker.loop.now
    let ends = head.framing == .none && !head.wantsUpgrade && head.method != .connect
    guard let stream = session.request(head, ends: ends, owner: self) else {
      return fail(soon: UpstreamFailure(.notProcessed, isSent: false))
    }
    self.stream = stream
    requestIsWhole = ends
    isTunnel = head.method == .connect
    connection.streamOpened()
  }

  /// The peer has said what it can.
  func settingsArrived() {
    guard let head = waitingHead else { return }
    waitingHead = nil
    guard session.peerAllowsExtendedConnect else {
      return fail(UpstreamFailure(.malformed(MessageError(.upgradeWithBody, status: 502)), isSent: false))
    }
    open(head)
    connection.flush()
  }

  func write(_ body: UnsafeBufferPointer<UInt8>) {
    if let stream, !session.write(stream, body) { isFull = true }
  }

  func end(trailers: HeaderBlock?) {
    requestIsWhole = true
    if let stream { session.end(stream, trailers: trailers) }
    if tunnelAnswerHasEnded { release() }
  }

  var pendingOutput: Int { isFull ? ProxyLimits.outputHighWater : stream?.pending ?? 0 }
  func waitForRoom() { isCongested = true }
  func flush() { connection.flush() }

  func canWrite() {
    isFull = false
    guard isCongested else { return }
    isCongested = false
    observer?.upstreamCanTakeMore()
  }

  // MARK: The response

  func responded(_ stream: HTTP2Stream, ends: Bool) {
    guard let observer, self.stream === stream else { return }
    connection.touch(observer)
    if stream.response.isInterim {
      interims += 1
      guard interims <= ProxyLimits.interimResponses else { return refuse(stream, MessageError(.extraBytes, status: 502)) }
      return observer.upstreamInterim(&stream.response)
    }
    observer.upstreamResponded(&stream.response)
    if ends, self.stream === stream { finish(trailers: nil) }
  }

  func received(_ bytes: UnsafeBufferPointer<UInt8>, of stream: HTTP2Stream) {
    guard let observer, self.stream === stream else { return }
    if isPaused {
      held.append(contentsOf: bytes)
    } else {
      connection.touch(observer)
      session.consumed(stream, bytes.count)
      observer.upstreamBody(bytes)
    }
  }

  func ended(_ stream: HTTP2Stream, trailers: HeaderBlock?) {
    guard observer != nil, self.stream === stream else { return }
    if isPaused {
      hasEnded = true
      self.trailers = trailers
    } else {
      finish(trailers: trailers)
    }
  }

  func pause() { isPaused = true }

  func resume() {
    guard isPaused, let observer else { return }
    isPaused = false
    let began = use
    if !held.isEmpty {
      let bytes = held
      held = []
      if let stream {
        session.consumed(stream, bytes.count)
        connection.flush()
      }
      bytes.withUnsafeBufferPointer { observer.upstreamBody($0) }
      observer.flushClient()
    }
    // The client may have had enough again, or gone away meanwhile.
    if use == began, hasEnded, !isPaused {
      finish(trailers: trailers)
      observer.flushClient()
    }
  }

  // MARK: Ends

  /// The response is complete. What the client still sends is not wanted: the stream ends with it.
  private func finish(trailers: HeaderBlock?) {
    guard let observer else { return }
    connection.touch(observer)
    if isTunnel, !requestIsWhole {
      tunnelAnswerHasEnded = true
      return observer.upstreamEnded(trailers: nil)
    }
    if !requestIsWhole, let stream { session.reset(stream, .cancel) }
    release()
    observer.upstreamEnded(trailers: trailers)
  }

  /// What comes back is no answer that may be passed on.
  private func refuse(_ stream: HTTP2Stream, _ error: MessageError) {
    session.reset(stream, .enhanceYourCalm)
    fail(UpstreamFailure(.malformed(error)))
  }

  /// The stream ended without a complete response.
  func closed(_ end: HTTP2StreamEnd, of stream: HTTP2Stream, connectionEnd: HTTP2UpstreamConnection.End?) {
    guard self.stream === stream else { return }
    // Held bytes of a complete response go out first.
    if hasEnded { return self.stream = nil }
    var failure = UpstreamFailure(.reset, isSent: !end.isNotProcessed)
    if end.isNotProcessed { failure.reason = .notProcessed }
    if let connectionEnd {
      if case .connect = connectionEnd.reason {
        failure = UpstreamFailure(connectionEnd.reason, isSent: false)
      } else {
        if !end.isNotProcessed { failure.reason = connectionEnd.reason }
        failure.isStale = connectionEnd.lastReceived < openedAt
      }
    }
    fail(failure)
  }

  func fail(_ failure: UpstreamFailure) {
    guard let observer else { return }
    connection.touch(observer)
    release()
    observer.upstreamFailed(failure)
  }

  /// Not from within `begin`: the exchange goes on with the request after it.
  private func fail(soon failure: UpstreamFailure) {
    self.failure = failure
    connection.worker.loop.atEndOfTurn(self)
  }

  func turnEnded() {
    guard let failure else { return }
    self.failure = nil
    let observer = observer
    fail(failure)
    observer?.flushClient()
  }

  func cancel() {
    guard observer != nil else { return }
    if let stream {
      session.reset(stream, .cancel)
      connection.flush()
    } else {
      connection.stopWaiting(self)
    }
    release()
  }

  /// May serve another try from here on.
  private func release() {
    observer = nil
    use &+= 1
    stream = nil
    waitingHead = nil
    failure = nil
    held.removeAll(keepingCapacity: held.capacity <= ProxyLimits.outputKeptBytes)
    hasEnded = false
    connection.streamReleased(self)
  }
}
