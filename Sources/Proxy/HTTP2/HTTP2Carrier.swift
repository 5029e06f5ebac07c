import HTTP2
import HTTPCodec
import Primitives
import Transport

/// Moves the bytes of one HTTP/2 session over one connection: what comes goes in at once, what the session has to say goes
/// out once a turn, so that frames of many streams share a write and a TLS record.
final class HTTP2Carrier: EventHandler, TurnHandler {
  let session: HTTP2Session
  private let worker: Worker
  private var stream: ByteStream
  private weak var owner: (any HTTP2CarrierOwner)?
  private var registration: Registration?
  private var output = OutputBuffer()
  private var canRead = true
  private var peerClosed = false
  private var isTurnAsked = false
  private(set) var isClosed = false
  /// Bytes were handed to the kernel at this moment for the last time.
  private(set) var lastWrite = Instant.zero

  init(_ stream: consuming ByteStream, _ session: HTTP2Session, for owner: any HTTP2CarrierOwner, worker: Worker) {
    self.stream = stream
    self.session = session
    self.owner = owner
    self.worker = worker
  }

  /// Watches the connection. Fails when the kernel cannot.
  func open() throws(SystemError) {
    registration = try worker.loop.register(stream.descriptor, self)
    lastWrite = worker.loop.now
    flush()
  }

  var pendingOutput: Int { output.pending }
  var tls: TLSSession? { stream.tls }
  var localAddress: SocketAddress? { localAddressOf(stream.descriptor) }

  // MARK: Reading

  func ready(_ readiness: Readiness) {
    if !readiness.isDisjoint(with: [.peerClosed, .hangup, .error]) { peerClosed = true }
    if readiness.contains(.writable), !output.isEmpty { write() }
    if readiness.contains(.readable) {
      canRead = true
      read()
    }
  }

  /// Bytes that were read before the connection was known to be HTTP/2.
  func receive(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard !isClosed, !bytes.isEmpty else { return }
    do throws(HTTP2Error) {
      try session.receive(bytes, now: worker.loop.now)
    } catch {
      owner?.carrier(self, failed: error)
    }
    owner?.carrierReceived(self)
    flush()
  }

  private func read() {
    guard canRead, !isClosed else { return }
    let buffer = worker.readBuffers.take()
    var reads = 0
    while canRead, !isClosed, session.failure == nil {
      // Others have to get their turn, too.
      guard reads < ProxyLimits.readsPerTurn else {
        flush()
        break
      }
      reads += 1
      readOnce(into: buffer)
    }
    worker.readBuffers.give(buffer)
  }

  private func readOnce(into buffer: ReadBuffer) {
    switch buffer.fill(from: stream) {
    case .bytes:
      // A short read has emptied the socket, and an edge tells of more (epoll(7)); TLS keeps bytes of its own.
      if buffer.hasRoom, !peerClosed, !stream.isTLS { canRead = false }
      receive(buffer.bytes)
      buffer.removeAll()
    case .wouldBlock: canRead = false
    case .endOfStream: lost(.closed)
    case .failed:
      // A server that refuses our certificate says so only now (TLS 1.3), and has seen no request.
      lost(stream.tlsFailure.map { .refused($0.description) } ?? .reset)
    }
  }

  // MARK: Writing

  /// Writes at the end of this turn.
  func flush() {
    guard !isTurnAsked, !isClosed else { return }
    isTurnAsked = true
    worker.loop.atEndOfTurn(self)
  }

  func turnEnded() {
    isTurnAsked = false
    if canRead { read() }
    write()
  }

  private func write() {
    guard !isClosed else { return }
    var writes = 0
    while true {
      if output.isEmpty {
        guard session.wantsWrite else { break }
        guard writes < ProxyLimits.writesPerTurn else { return flush() }
        writes += 1
        session.send(into: &output.bytes, upTo: ProxyLimits.framesPerWrite)
        if isClosed { return }
        if output.isEmpty { break }
      }
      let before = output.pending
      let result = output.flush(to: stream)
      if output.pending < before { lastWrite = worker.loop.now }
      switch result {
      case .bytes: continue
      case .wouldBlock: return
      case .endOfStream, .failed:
        // What the peer said before may still be there to be read.
        canRead = true
        output.removeAll()
        read()
        return lost(.reset)
      }
    }
    if session.isFinished { lost(.finished) }
  }

  // MARK: The end

  private func lost(_ reason: HTTP2CarrierEnd) {
    guard !isClosed else { return }
    close()
    owner?.carrier(self, lost: reason)
  }

  /// Ends the connection. The owner is not told.
  func close() {
    guard !isClosed else { return }
    isClosed = true
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    stream.close()
  }
}

/// Why a connection is gone.
enum HTTP2CarrierEnd: Equatable {
  /// The session is over, in good order or by its own error.
  case finished
  case closed
  case reset
  /// TLS failed after the handshake: the peer refused our certificate.
  case refused(String)
}

protocol HTTP2CarrierOwner: AnyObject {
  /// What came in one read was taken.
  func carrierReceived(_ carrier: HTTP2Carrier)
  /// The connection is gone; `session.connectionLost` is still to be called.
  func carrier(_ carrier: HTTP2Carrier, lost reason: HTTP2CarrierEnd)
  /// The peer broke the protocol; the GOAWAY goes out at the end of the turn.
  func carrier(_ carrier: HTTP2Carrier, failed error: HTTP2Error)
}
