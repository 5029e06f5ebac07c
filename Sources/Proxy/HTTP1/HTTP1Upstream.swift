import Glibc
import HTTPCodec
import Primitives
import Traffic
import Transport

/// One HTTP/1.1 connection to an endpoint: connects, carries one request at a time, and goes back to its pool when clean.
final class HTTP1Upstream: Upstream, EventHandler, TimerHandler {
  private enum Phase { case connecting, handshake, idle, busy, tunnel, closed }

  private let worker: Worker
  let key: UpstreamKey
  private(set) var stream: ByteStream
  private var phase: Phase
  private var registration: Registration?
  /// Held while a request is carried; cleared at its end, so the two do not keep each other.
  private var observer: (any UpstreamObserver)?
  private var timer = TimerToken.none

  private var output = OutputBuffer()
  private var input: ReadBuffer?
  private var parser = ResponseParser()
  private var head = ResponseHead()
  private var decoder: BodyDecoder?
  private var method = HTTPMethod.get
  /// The request's body goes in chunks.
  private var isChunked = false
  /// The exchange waits for room; it is told once there is some.
  private var isCongested = false
  private var interims = 0
  private var canRead = true
  private var peerClosed = false
  private var isReading = false
  private var isPaused = false
  private var requestIsWhole = false
  /// The client has ended its side of a tunnel: so does this side, once all is out.
  private var mustShutDown = false

  /// It carried a request before this one.
  private var isReused = false
  /// A byte of this request was handed to the kernel.
  private var hasSent = false
  /// A byte of a response came.
  private var hasReceived = false
  private(set) var idleSince = Instant.zero
  /// How long it lay idle before the request it carries now.
  private var idledFor = Duration.zero
  private var requestsCarried = 0
  private let terms: UpstreamTerms
  private let endsBy: Instant
  let address: SocketAddress
  private(set) lazy var addressText: String = address.description
  private(set) lazy var localAddressText: String = localAddressOf(stream.descriptor)?.description ?? ""
  var isHTTP2: Bool { false }
  var tls: TLSSession? { stream.tls }

  /// What the server gets before all else.
  var preface: [UInt8] = []

  /// Made by `Worker.openUpstream`, which counts it.
  init(_ stream: consuming ByteStream, to address: SocketAddress, key: UpstreamKey, terms: UpstreamTerms, worker: Worker) {
    self.terms = terms
    endsBy = terms.maxDuration.map { worker.loop.now + $0 } ?? .distantFuture
    self.stream = stream
    self.address = address
    self.key = key
    self.worker = worker
    phase = .connecting
  }

  /// Watches the connecting socket; the observer hears whether it succeeded.
  func open(for observer: any UpstreamObserver, within timeout: Duration) throws(ProxyError.ConnectFailure) {
    self.observer = observer
    do throws(SystemError) {
      registration = try worker.loop.register(stream.descriptor, self)
    } catch {
      throw .unreachable
    }
    timer = worker.loop.schedule(after: timeout, self)
  }

  // MARK: Carrying a request

  var pendingOutput: Int { output.pending }

  func begin(_ request: borrowing RequestHead, for observer: any UpstreamObserver) {
    self.observer = observer
    method = request.method
    isChunked = request.framing == .chunked
    isReused = requestsCarried > 0
    idledFor = isReused ? worker.loop.now - idleSince : .zero
    requestsCarried += 1
    hasSent = false
    hasReceived = false
    requestIsWhole = false
    decoder = nil
    interims = 0
    isPaused = false
    isCongested = false
    phase = .busy
    request.write(into: &output.bytes, chunked: isChunked)
  }

  func write(_ body: UnsafeBufferPointer<UInt8>) {
    output.appendBody(body, chunked: isChunked)
  }

  func end(trailers: HeaderBlock?) {
    if phase == .tunnel {
      mustShutDown = true
    } else {
      if isChunked { ChunkedEncoder.writeEnd(trailers: trailers, into: &output.bytes) }
      requestIsWhole = true
    }
  }

  func waitForRoom() { isCongested = true }

  func flush() {
    guard phase == .busy || phase == .tunnel, !output.isEmpty || mustShutDown else { return }
    let before = output.pending
    let result = output.flush(to: stream)
    if output.pending < before { hasSent = true }
    switch result {
    case .bytes:
      if mustShutDown {
        mustShutDown = false
        stream.shutdownWrite()
      }
    case .wouldBlock: break
    case .endOfStream, .failed:
      // A response may have been sent before the connection broke, for example 413 while the body was still flowing.
      canRead = true
      output.removeAll()
      readNow()
      if phase == .busy || phase == .tunnel { fail(.reset) }
      return
    }
    if isCongested, output.pending <= ProxyLimits.outputLowWater {
      isCongested = false
      observer?.upstreamCanTakeMore()
    }
  }

  func pause() { isPaused = true }

  func resume() {
    guard isPaused else { return }
    isPaused = false
    readNow()
  }

  func cancel() {
    observer = nil
    close()
  }

  /// Whether the peer closed or spoke while the connection lay idle, as far as the kernel knows now.
  func isStale() -> Bool {
    var byte: UInt8 = 0
    if stream.isTLS { return isStaleTLS() }
    let count = recv(stream.descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    return count >= 0 || (errno != EAGAIN && errno != EINTR)
  }

  /// TLS records may wait that carry no data (session tickets): the session has to look.
  private func isStaleTLS() -> Bool {
    var byte: UInt8 = 0
    return withUnsafeMutableBytes(of: &byte) { stream.read(into: $0) } != .wouldBlock
  }

  // MARK: Events

  func ready(_ readiness: Readiness) {
    if readiness.contains(.readable) { canRead = true }
    if !readiness.isDisjoint(with: [.peerClosed, .hangup, .error]) { peerClosed = true }
    switch phase {
    case .connecting:
      guard !readiness.isDisjoint(with: [.writable, .error, .hangup]) else { return }
      finishConnect()
    case .handshake: continueHandshake()
    case .idle:
      // An idle peer has nothing to say: a close, or bytes that answer no request (RFC 9112).
      if readiness.contains(.readable), isStale() {
        worker.upstreams.learnClose(key, after: worker.loop.now - idleSince)
        worker.upstreams.remove(self)
        close()
      }
    case .busy, .tunnel:
      if readiness.contains(.writable) { flush() }
      if canRead { readNow() }
    case .closed: break
    }
  }

  func timerFired(_ token: TimerToken) {
    guard token == timer else { return }
    timer = .none
    switch phase {
    case .connecting, .handshake: fail(.connect(.timedOut))
    case .idle:
      // Armed when it was first idle, and left alone since: requests in between moved the end.
      guard worker.loop.now >= idleUntil else { return startIdleTimer() }
      worker.upstreams.remove(self)
      close()
    case .busy, .tunnel, .closed: break
    }
  }

  private func finishConnect() {
    let code = pendingSocketError(stream.descriptor)
    guard code == 0, stream.writeFirst(preface) else { return fail(.connect(connectFailure(code))) }
    if stream.isHandshaking {
      phase = .handshake
      continueHandshake()
    } else {
      connected()
    }
  }

  private func continueHandshake() {
    switch stream.handshake() {
    case .wouldBlock: return
    case .failed(let reason): fail(.connect(.tls(reason)))
    case .done:
      worker.counters.shookHandsUpstream(resumed: stream.isResumed)
      connected()
    }
  }

  private func connected() {
    worker.loop.cancel(timer)
    timer = .none
    phase = .idle
    canRead = true
    let observer = observer
    self.observer = nil
    if let observer { observer.upstreamConnected(self) } else { close() }
  }

  // MARK: Reading

  private func readNow() {
    guard !isReading else { return }
    isReading = true
    var wasPaused: Bool
    repeat {
      readUntilPaused()
      wasPaused = isPaused
      observer?.flushClient()
      // The client took everything at once: go on here, not deeper in the stack.
    } while wasPaused && !isPaused && (phase == .busy || phase == .tunnel)
    isReading = false
  }

  private func readUntilPaused() {
    while phase == .busy || phase == .tunnel, !isPaused {
      if let input, !input.isEmpty {
        guard use(input) else { return }
        continue
      }
      guard canRead else { return }
      let buffer = input ?? worker.readBuffers.take()
      input = buffer
      guard fill(buffer) else { return }
    }
  }

  /// Reads once; false when nothing came or the connection ended.
  private func fill(_ buffer: ReadBuffer) -> Bool {
    switch buffer.fill(from: stream) {
    case .bytes:
      hasReceived = true
      // As on the client's side: a short read has emptied the socket.
      if buffer.hasRoom, !peerClosed, !stream.isTLS { canRead = false }
      return true
    case .wouldBlock:
      canRead = false
      return false
    case .endOfStream:
      ended()
      return false
    case .failed:
      // A server that refuses our certificate says so only now (TLS 1.3), and has seen no request.
      if let refusal = stream.tlsFailure, !hasReceived, requestsCarried == 1 {
        fail(.connect(.tls(refusal.description)))
      } else {
        fail(.reset)
      }
      return false
    }
  }

  private func ended() {
    guard phase == .busy || phase == .tunnel, var body = decoder else { return fail(.closed) }
    do throws(MessageError) {
      try body.finish()
      decoder = body
      finish(trailers: nil, reusable: false)
    } catch {
      fail(.closed)
    }
  }

  /// Uses buffered bytes; false when more are needed first or nothing is left to do.
  private func use(_ input: ReadBuffer) -> Bool {
    do throws(MessageError) {
      return decoder == nil ? try useHead(input) : try useBody(input)
    } catch {
      fail(.malformed(error))
      return false
    }
  }

  private func useHead(_ input: ReadBuffer) throws(MessageError) -> Bool {
    let bytes = input.bytes
    guard let used = try parser.parse(bytes.span, from: 0, answering: method, into: &head) else { return needMore(input) }
    input.consume(used)
    if head.isInterim {
      interims += 1
      guard interims <= ProxyLimits.interimResponses else { throw MessageError(.extraBytes, status: 502) }
      observer?.upstreamInterim(&head)
      return true
    }
    let isSwitching = head.status == 101
    if isSwitching {
      phase = .tunnel
      isChunked = false
    }
    decoder = BodyDecoder(isSwitching ? .untilClose : head.framing)
    observer?.upstreamResponded(&head)
    guard phase == .busy || phase == .tunnel else { return false }
    if decoder?.isComplete == true {
      finish(trailers: nil, reusable: true)
      return false
    }
    return true
  }

  private func useBody(_ input: ReadBuffer) throws(MessageError) -> Bool {
    let bytes = input.bytes
    var position = 0
    // Taken out while it works: its line buffer would be copied otherwise.
    guard var decoder = decoder.take() else { return false }
    loop: while true {
      let event: BodyDecoder.Event
      do throws(MessageError) {
        event = try decoder.next(bytes.span, from: &position)
      } catch {
        throw error
      }
      switch event {
      case .data(let range): observer?.upstreamBody(UnsafeBufferPointer(rebasing: bytes[range]))
      case .needMore: break loop
      case .end:
        input.consume(position)
        let trailers = decoder.trailers
        self.decoder = decoder
        finish(trailers: trailers, reusable: true)
        return false
      }
      guard phase == .busy || phase == .tunnel else { return false }
    }
    self.decoder = decoder
    input.consume(position)
    return true
  }

  private func needMore(_ input: ReadBuffer) -> Bool {
    guard canRead else { return false }
    return fill(input)
  }

  // MARK: Ends

  /// The response is complete. Only a connection on which nothing is left over may carry another request.
  private func finish(trailers: HeaderBlock?, reusable: Bool) {
    let isClean =
      reusable && head.keepsAlive && !peerClosed && requestsCarried < terms.requestsMax && requestIsWhole && output.isEmpty
      && input?.isEmpty ?? true && key.allowsReuse && worker.loop.now < endsBy
    let observer = observer
    self.observer = nil
    if isClean {
      phase = .idle
      idleSince = worker.loop.now
      if let input { worker.readBuffers.give(input) }
      input = nil
      worker.upstreams.give(self)
    } else {
      close()
    }
    observer?.upstreamEnded(trailers: trailers)
    observer?.flushClient()
  }

  private func fail(_ reason: UpstreamFailure.Reason) {
    let observer = observer
    self.observer = nil
    let isBusy = phase == .busy || phase == .tunnel
    let isStale = isBusy && isReused && !hasReceived
    if isStale { worker.upstreams.learnClose(key, after: idledFor) }
    close()
    observer?.upstreamFailed(UpstreamFailure(reason, isSent: isBusy && hasSent, isStale: isStale))
    observer?.flushClient()
  }

  /// Starts the clock after which an idle connection is closed.
  func startIdleTimer() {
    guard timer == .none else { return }
    timer = worker.loop.schedule(at: idleUntil, self)
  }

  private var idleUntil: Instant { min(idleSince + terms.idleTimeout, endsBy) }

  func stopIdleTimer() {
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
  }

  func close() {
    guard phase != .closed else { return }
    phase = .closed
    stopIdleTimer()
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    stream.close()
    if let input { worker.readBuffers.give(input) }
    input = nil
    worker.upstreamClosed(key, terms)
  }
}

/// What an `errno` of a connect means to a client.
func connectFailure(_ code: Int32) -> ProxyError.ConnectFailure {
  switch code {
  case ECONNREFUSED: .refused
  case ETIMEDOUT: .timedOut
  default: .unreachable
  }
}

/// The error a socket holds, 0 for none.
func pendingSocketError(_ descriptor: Int32) -> Int32 {
  let socket = Socket(adopting: descriptor)
  let code = socket.pendingError
  _ = socket.release()
  return code
}

func localAddressOf(_ descriptor: Int32) -> SocketAddress? {
  let socket = Socket(adopting: descriptor)
  let address = socket.localAddress
  _ = socket.release()
  return address
}
