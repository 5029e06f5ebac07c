import CLinux
import Glibc
import HTTPCodec
import Primitives
import Traffic
import Transport

/// One side of a forwarded connection: a socket with or without TLS, or a stream of a multiplexed connection.
///
/// Like a nonblocking socket: after `wouldBlock` the observer is told when to try again. All calls come on the worker's
/// thread.
protocol TCPEnd: AnyObject {
  var observer: (any TCPEndObserver)? { get set }
  func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult
  /// Whether another read would bring bytes without asking the kernel.
  var hasMore: Bool { get }
  /// Takes a prefix of the bytes.
  func write(_ bytes: UnsafeRawBufferPointer) -> IOResult
  /// Bytes that the other side is owed before those of the relay.
  var greeting: [UInt8] { get }
  func greetingIsOut()
  /// Looks at the beginning without taking it; nil when the connection has ended or cannot be looked at.
  func peekHello() -> ClientHello.Outcome?
  /// The client says nothing before it is answered.
  var awaitsAnswer: Bool { get }
  /// The connection goes on: what asked for it is answered, where it waits for an answer.
  func accept()
  /// As above, with a refusal. `close` follows.
  func refuse(_ refusal: TCPForwarding.Refusal)
  /// Sends what was written, where writing only gathers.
  func flush()
  /// Nothing more is written; reading goes on. False when that cannot be said yet: asked again once writable.
  func endWriting() -> Bool
  func close(abortively: Bool)
  /// The socket, where bytes may move inside the kernel; nil where they have to be looked at.
  var plainDescriptor: Int32? { get }
  /// The other side's address, for logs.
  var addressText: String { get }
  var localAddressText: String { get }
}

extension TCPEnd {
  var awaitsAnswer: Bool { false }
  var greeting: [UInt8] { [] }
  func greetingIsOut() {}
}

/// Told that an end may be read or written again. Spurious calls are allowed.
protocol TCPEndObserver: AnyObject {
  func endReady(_ end: any TCPEnd)
}

/// Told how connecting ended, once.
protocol TCPConnectObserver: AnyObject {
  func connected(_ end: any TCPEnd)
  func connectFailed(_ failure: ProxyError.ConnectFailure)
}

/// A socket as one end.
final class SocketEnd: TCPEnd, EventHandler {
  private enum Phase { case connecting, handshake, open, closed }

  weak var observer: (any TCPEndObserver)?
  private weak var connecting: (any TCPConnectObserver)?
  private var stream: ByteStream
  private let loop: EventLoop
  private var phase: Phase
  private var registration: Registration?
  /// The client waits for the answer to a CONNECT.
  var answersConnect = false
  var greeting: [UInt8] = []
  /// What the server gets before all else.
  var preface: [UInt8] = []
  /// Bytes that were read before this end had the connection.
  private var early: ArraySlice<UInt8>
  private let address: SocketAddress
  private(set) lazy var addressText: String = address.description
  private(set) lazy var localAddressText: String = localAddressOf(stream.descriptor)?.description ?? ""

  /// A connection that is open; `early` are bytes of it that were read already.
  init(_ stream: consuming ByteStream, early: [UInt8] = [], address: SocketAddress, loop: EventLoop) {
    self.stream = stream
    self.early = early[...]
    self.address = address
    self.loop = loop
    phase = .open
  }

  /// A connection that is being made; the observer hears whether it succeeded.
  init(
    connecting stream: consuming ByteStream, address: SocketAddress, loop: EventLoop, for observer: any TCPConnectObserver
  ) {
    self.stream = stream
    early = []
    self.address = address
    self.loop = loop
    connecting = observer
    phase = .connecting
  }

  /// Watches the socket from now on.
  func open() throws(SystemError) { registration = try loop.register(stream.descriptor, self) }

  func ready(_ readiness: Readiness) {
    switch phase {
    case .connecting:
      guard !readiness.isDisjoint(with: [.writable, .error, .hangup]) else { return }
      let code = pendingSocketError(stream.descriptor)
      guard code == 0, stream.writeFirst(preface) else { return failConnect(connectFailure(code)) }
      phase = .handshake
      continueHandshake()
    case .handshake: continueHandshake()
    case .open: observer?.endReady(self)
    case .closed: break
    }
  }

  private func continueHandshake() {
    switch stream.handshake() {
    case .wouldBlock: return
    case .failed(let reason): failConnect(.tls(reason))
    case .done:
      phase = .open
      let waiting = connecting
      connecting = nil
      waiting?.connected(self)
    }
  }

  private func failConnect(_ failure: ProxyError.ConnectFailure) {
    let waiting = connecting
    close(abortively: true)
    waiting?.connectFailed(failure)
  }

  func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    guard !early.isEmpty else { return stream.read(into: buffer) }
    let part = early.prefix(buffer.count)
    part.withUnsafeBytes { buffer.copyMemory(from: $0) }
    early = early.dropFirst(part.count)
    if early.isEmpty { early = [] }
    return .bytes(part.count)
  }

  var hasMore: Bool { stream.hasMore }
  /// Whether the handshake continued an earlier session; nil without TLS.
  var isResumed: Bool? { stream.isResumed }

  func peekHello() -> ClientHello.Outcome? {
    guard !stream.isTLS else { return nil }
    return HelloPeek.read(stream.descriptor, after: early)
  }

  func greetingIsOut() { greeting = [] }

  var awaitsAnswer: Bool { answersConnect }

  /// Gives the connection to another owner, who has to know of the bytes that were read from here.
  func handOver() -> ByteStream {
    if let registration { loop.deregister(registration) }
    registration = nil
    phase = .closed
    observer = nil
    return stream.handOver()
  }

  func accept() {
    guard answersConnect else { return }
    answersConnect = false
    greeting += Array("HTTP/1.1 200 Connection Established\r\n\r\n".utf8)
  }

  func refuse(_ refusal: TCPForwarding.Refusal) {
    guard answersConnect else { return }
    answersConnect = false
    let head =
      "HTTP/1.1 \(refusal.status) \(StatusReason.phrase(Int(refusal.status)))\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    // A socket on which next to nothing was written has room for it.
    _ = (greeting + Array(head.utf8)).withUnsafeBytes { stream.write($0) }
  }

  func write(_ bytes: UnsafeRawBufferPointer) -> IOResult { stream.write(bytes) }

  func flush() {}

  func endWriting() -> Bool { stream.endWriting() }

  func close(abortively: Bool) {
    guard phase != .closed else { return }
    phase = .closed
    observer = nil
    connecting = nil
    if let registration { loop.deregister(registration) }
    registration = nil
    if abortively { stream.resetOnClose() }
    stream.close(orderly: !abortively)
  }

  var plainDescriptor: Int32? { stream.isTLS || !early.isEmpty ? nil : stream.descriptor }
}
