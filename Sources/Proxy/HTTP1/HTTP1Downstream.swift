import Glibc
import HTTPCodec
import Primitives
import Transport

/// One HTTP/1 connection from a client: reads requests in order, hands each to its exchange, writes what the exchange answers.
///
/// Confined to its worker's thread. At most one request is under way; pipelined bytes wait in the read buffer.
final class HTTP1Downstream: ClientConnection, EventHandler, TimerHandler {
  enum Phase {
    case handshake
    /// Waiting for, or reading, a request head.
    case head
    /// A request is under way.
    case exchange
    /// Bytes go both ways untouched.
    case tunnel
    /// Answers are still to be written, then the connection ends.
    case closing
    /// Everything is written; what the client still sends is swallowed, so that a reset does not destroy the answer.
    case lingering
    case closed
  }

  let worker: Worker
  let caller: Caller
  private(set) var stream: ByteStream
  private(set) var phase: Phase
  private var registration: Registration?
  private var parser: RequestParser
  private let exchange: Exchange
  private var decoder = BodyDecoder(.none)
  private var input: ReadBuffer?
  private var output = OutputBuffer()
  /// The response's body goes in chunks.
  private var isChunked = false

  private var canRead = true
  private var isProcessing = false
  private var mustProcessAgain = false
  private var peerClosed = false
  /// Requests wait until the client has taken earlier answers.
  private var isCongested = false
  /// The client takes no more of the present answer for now.
  private var isStalled = false
  /// The first bytes may be HTTP/2's preface: on a connection without TLS, or whose handshake agreed on nothing.
  private var mayBeHTTP2 = true
  private var lingered = 0
  /// Since when no request has been under way.
  private var waitsSince: Instant
  private var wasAborted = false
  private var timer = TimerToken.none
  /// The moment at which the present phase is given up; checked when the timer fires, so that progress costs nothing.
  private var deadline = Instant.distantFuture
  private var timerAt = Instant.distantFuture
  private var headBegan = Instant.zero

  init(_ stream: consuming ByteStream, from caller: Caller, worker: Worker) {
    self.worker = worker
    self.caller = caller
    phase = stream.isHandshaking ? .handshake : .head
    self.stream = stream
    var options = RequestParser.Options()
    options.normalization = worker.state.pathNormalization
    if case .gateway = caller.port.listener.kind { options.allowUnderscores = false }
    parser = RequestParser(options: options)
    exchange = Exchange(for: caller, worker: worker)
    waitsSince = worker.loop.now
  }

  /// - Parameter received: bytes that were read from the connection already.
  func open(received: [UInt8] = []) {
    exchange.client = self
    if !received.isEmpty {
      let buffer = worker.readBuffers.take()
      buffer.append(received)
      input = buffer
    }
    do {
      registration = try worker.loop.register(stream.descriptor, self)
    } catch {
      close()
      return
    }
    let options = worker.state.options
    setDeadline(phase == .handshake ? options.handshakeTimeout : options.headerTimeout)
    process()
  }

  // MARK: Events

  func ready(_ readiness: Readiness) {
    if readiness.contains(.readable) { canRead = true }
    if readiness.contains(.peerClosed) || readiness.contains(.hangup) { peerClosed = true }
    if readiness.contains(.writable) { flush() }
    process()
  }

  func timerFired(_ token: TimerToken) {
    guard token == timer else { return }
    timer = .none
    timerAt = .distantFuture
    guard phase != .closed else { return }
    if worker.loop.now < deadline { return arm() }
    expire()
  }

  private func expire() {
    switch phase {
    case .head where input?.isEmpty == false:
      worker.counters.headerTimeouts += 1
      phase = .exchange
      exchange.refuse(status: 408, details: "request_header_timeout", since: headBegan)
      process()
    case .exchange:
      isStalled = false
      exchange.streamIdle()
      process()
    default: close()
    }
  }

  /// Gives the present phase `duration` from now. The timer moves only when the new deadline is earlier than it.
  private func setDeadline(_ duration: Duration?) {
    deadline = duration.map { worker.loop.now + $0 } ?? .distantFuture
    if deadline < timerAt { arm() }
  }

  private func arm() {
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
    timerAt = deadline
    guard deadline != .distantFuture else { return }
    timer = worker.loop.schedule(at: deadline, self)
  }

  // MARK: Progress

  /// Does all there is to do now. Called again from within, it only notes that there may be more.
  func process() {
    guard !isProcessing else {
      mustProcessAgain = true
      return
    }
    isProcessing = true
    var served = 0
    repeat {
      mustProcessAgain = false
      step(&served)
    } while mustProcessAgain && phase != .closed
    isProcessing = false
    flush()
    releaseInputIfIdle()
  }

  private func step(_ served: inout Int) {
    while true {
      switch phase {
      case .handshake:
        guard continueHandshake() else { return }
      case .head:
        isCongested = output.pending >= ProxyLimits.outputHighWater
        guard !isCongested, readHead() else { return }
        served += 1
        if served > ProxyLimits.requestsPerTurn {
          worker.resumeNextTurn(self)
          return
        }
      case .exchange:
        exchange.pumpRequestBody()
        if phase == .exchange, peerClosed { noticeClientGone() }
        if phase == .exchange { return }
      case .tunnel:
        exchange.pumpRequestBody()
        return
      case .lingering:
        linger()
        return
      case .closing, .closed: return
      }
    }
  }

  /// True when the handshake is over and the connection can go on.
  private func continueHandshake() -> Bool {
    switch stream.handshake() {
    case .wouldBlock: return false
    case .failed(let reason):
      worker.counters.handshakeFailures += 1
      worker.noteHandshakeFailure(reason)
      close()
      return false
    case .done:
      guard let peer = stream.meshPeer else {
        worker.counters.handshakeFailures += 1
        close()
        return false
      }
      caller.peer = peer
      caller.tls = stream.tls
      phase = .head
      if stream.applicationProtocol == "h2" {
        giveWayToHTTP2()
        return false
      }
      canRead = true
      setDeadline(worker.state.options.headerTimeout)
      return true
    }
  }

  /// Parses the next head and begins its exchange; false when bytes are missing.
  private func readHead() -> Bool {
    while true {
      if let input, !input.isEmpty {
        if headBegan == .zero {
          headBegan = worker.loop.now
          setDeadline(worker.state.options.headerTimeout)
        }
        if mayBeHTTP2 {
          switch HTTP2Preface.match(input.bytes) {
          case .no: mayBeHTTP2 = false
          case .whole:
            giveWayToHTTP2()
            return false
          case .part:
            guard fill() else { return false }
            continue
          }
        }
        do throws(MessageError) {
          let bytes = input.bytes
          if let used = try parser.parse(bytes.span, from: 0, into: &exchange.head) {
            input.consume(used)
            phase = .exchange
            decoder = BodyDecoder(exchange.head.framing)
            setDeadline(worker.state.options.streamIdleTimeout)
            exchange.begin(at: headBegan)
            headBegan = .zero
            return true
          }
        } catch {
          phase = .exchange
          exchange.refuse(error, since: headBegan)
          headBegan = .zero
          return true
        }
      }
      guard fill() else { return false }
    }
  }

  /// Reads once into the buffer; false when nothing came. The end of the stream closes or marks the connection.
  private func fill() -> Bool {
    guard canRead, phase != .closed else { return false }
    let buffer = input ?? worker.readBuffers.take()
    input = buffer
    switch buffer.fill(from: stream) {
    case .bytes:
      // A short read has emptied the socket, and an edge tells of more (epoll(7)); TLS keeps bytes of its own.
      if buffer.hasRoom, !peerClosed, !stream.isTLS { canRead = false }
      return true
    case .wouldBlock:
      canRead = false
      return false
    case .endOfStream, .failed:
      canRead = false
      peerClosed = true
      if phase == .head { output.isEmpty ? close() : beginClosing() }
      return false
    }
  }

  /// Ends being the owner of the socket, which stays open for the next.
  private func letGo() {
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    phase = .closed
    exchange.client = nil
    worker.remove(self)
  }

  /// The client speaks HTTP/2: another owner takes the connection with what has been read.
  private func giveWayToHTTP2() {
    let next = HTTP2DownstreamConnection(from: caller, worker: worker)
    letGo()
    worker.add(next)
    let received = input
    input = nil
    next.open(stream.handOver(), received: received?.bytes ?? UnsafeBufferPointer(start: nil, count: 0))
    if let received { worker.readBuffers.give(received) }
  }

  /// After a CONNECT: what was read behind it goes along, and what was not written yet comes before the answer.
  func giveSocket() -> SocketEnd? {
    letGo()
    let received = input.map { Array($0.bytes) } ?? []
    if let input { worker.readBuffers.give(input) }
    input = nil
    let end = SocketEnd(stream.handOver(), early: received, address: caller.address, loop: worker.loop)
    end.answersConnect = true
    end.greeting = output.takeAll()
    return end
  }

  private func noticeClientGone() {
    if decoder.isComplete || !canRead { close() }
  }

  // MARK: The end

  private func beginClosing() {
    phase = .closing
    setDeadline(ProxyLimits.lingerTime)
    flush()
  }

  /// Writes what is queued, and acts on what that makes possible.
  func flush() {
    guard phase != .closed, phase != .handshake, !isProcessing else { return }
    let before = output.pending
    switch output.flush(to: stream) {
    case .bytes:
      if isStalled { setStalled(false) }
      if phase == .closing { finishClosing() }
    case .wouldBlock:
      if !isStalled || output.pending < before { setStalled(true) }
    case .endOfStream, .failed:
      close()
      return
    }
    guard output.pending <= ProxyLimits.outputLowWater else { return }
    if phase == .exchange || phase == .tunnel { exchange.clientCanTakeMore() }
    if isCongested {
      isCongested = false
      process()
    }
  }

  /// An answer that its client does not take is given up after a while, also where nothing else limits a stream.
  private func setStalled(_ stalled: Bool) {
    guard phase == .exchange || phase == .tunnel, worker.state.options.streamIdleTimeout == nil else { return }
    isStalled = stalled
    setDeadline(stalled ? worker.state.options.stalledTimeout : nil)
  }

  /// All answers are out. With request bytes unread, closing now would reset the connection and could destroy them.
  private func finishClosing() {
    if peerClosed || (decoder.isComplete && input?.isEmpty ?? true && !canRead) {
      close()
      return
    }
    phase = .lingering
    stream.shutdownWrite()
    linger()
  }

  private func linger() {
    while phase == .lingering {
      input?.removeAll()
      guard fill() else { break }
      lingered += input?.count ?? 0
      if lingered > ProxyLimits.lingerBytes { break }
    }
    if peerClosed || lingered > ProxyLimits.lingerBytes { close() }
  }

  func adopt(_ state: ServingState) { exchange.adoptIfIdle(state) }

  /// The listener goes. A request that is on its way already is answered as the connection's last; who stays idle is
  /// closed soon.
  func drain() {
    if phase == .head, input?.isEmpty ?? true { setDeadline(ProxyLimits.drainIdle) }
  }

  func close() {
    guard phase != .closed else { return }
    let wasExchanging = phase == .exchange || phase == .tunnel
    phase = .closed
    if timer != .none { worker.loop.cancel(timer) }
    timer = .none
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    stream.close(orderly: !wasAborted)
    if let input { worker.readBuffers.give(input) }
    input = nil
    if wasExchanging { exchange.clientGone() }
    exchange.client = nil
    worker.remove(self)
  }

  var evictableSince: Instant? {
    if phase == .exchange { return !decoder.isComplete && exchange.bodyIsTooSlow ? exchange.began : nil }
    let mayGo = phase == .head && caller.port.listener.kind != .meshInbound
    return mayGo || phase == .handshake || phase == .lingering ? waitsSince : nil
  }

  private func releaseInputIfIdle() {
    guard phase == .head, let buffer = input, buffer.isEmpty else { return }
    worker.readBuffers.give(buffer)
    input = nil
  }
}

// MARK: What the exchange uses

extension HTTP1Downstream: Downstream {
  func nextBodyEvent() throws(MessageError) -> BodyEvent {
    while true {
      if let input {
        let bytes = input.bytes
        var position = 0
        let event = try decoder.next(bytes.span, from: &position)
        if case .data(let range) = event {
          exchange.requestBody(UnsafeBufferPointer(rebasing: bytes[range]))
          input.consume(position)
          return .data
        }
        input.consume(position)
        if event == .end { return .end }
      } else if decoder.isComplete {
        return .end
      }
      guard fill() else {
        guard phase == .tunnel, peerClosed, !canRead else { return .needMore }
        try decoder.finish()
        return .end
      }
    }
  }

  var requestTrailers: HeaderBlock? { decoder.trailers }
  var requestIsComplete: Bool { decoder.isComplete }

  func interim(_ head: borrowing ResponseHead) {
    head.write(into: &output.bytes, chunked: false, close: false)
  }

  func respond(_ head: borrowing ResponseHead, closing: Bool) -> Int {
    isChunked = head.framing == .chunked || head.framing == .untilClose
    let before = output.bytes.count
    head.write(into: &output.bytes, chunked: isChunked, close: closing)
    return output.bytes.count - before
  }

  func write(_ body: UnsafeBufferPointer<UInt8>) {
    output.appendBody(body, chunked: isChunked)
  }

  func end(trailers: HeaderBlock?) {
    if isChunked { ChunkedEncoder.writeEnd(trailers: trailers, into: &output.bytes) }
  }

  var pendingOutput: Int { output.pending }

  func touch() { if !isStalled { setDeadline(worker.state.options.streamIdleTimeout) } }

  func beginTunnel() {
    phase = .tunnel
    decoder = BodyDecoder(.untilClose)
  }

  /// The exchange is over: the next request, or the end.
  func exchangeEnded(keepAlive: Bool) {
    guard phase == .exchange || phase == .tunnel else { return }
    isStalled = false
    let isUsable = keepAlive && decoder.isComplete && !peerClosed
    if isUsable {
      phase = .head
      waitsSince = worker.loop.now
      setDeadline(caller.port.isDraining ? ProxyLimits.drainIdle : worker.state.options.idleTimeout)
      process()
    } else {
      beginClosing()
    }
  }

  func abort() {
    stream.resetOnClose()
    wasAborted = true
    close()
  }
}
