import CLinux
import Glibc

/// A nonblocking stream socket, owned: it closes when the value ends.
///
/// To hand it to another thread, `release` it and adopt the number there.
public struct Socket: ~Copyable {
  public let descriptor: Int32

  /// Takes over an open, nonblocking descriptor.
  public init(adopting descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Gives the descriptor away: the caller closes it.
  public consuming func release() -> Int32 {
    let descriptor = descriptor
    discard self
    return descriptor
  }

  /// Begins to connect. Writable readiness tells the end; then ask `pendingError`.
  public static func connect(to address: SocketAddress, from source: IPAddress? = nil) throws(SystemError) -> Socket {
    let operation = "connect to \(address)"
    let socket = Socket(adopting: try SystemError.check(cl_socket_stream(address.family), operation))
    if address.ip != nil { _ = cl_set_no_delay(socket.descriptor) }
    if let source { try bind(socket.descriptor, to: .ip(source, port: 0)) }
    guard let result = address.withSockaddr({ Glibc.connect(socket.descriptor, $0, $1) }) else {
      throw SystemError(operation, code: ENAMETOOLONG)
    }
    // EINTR leaves the connection in progress, as EINPROGRESS does (connect(2)).
    if result < 0, errno != EINPROGRESS, errno != EINTR { throw .last(operation) }
    return socket
  }

  /// The error the socket holds, 0 for none; reading clears it. After `connect`: whether it succeeded.
  public var pendingError: Int32 { abs(cl_socket_error(descriptor)) }

  public borrowing func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    Self.read(descriptor, into: buffer)
  }
  public borrowing func write(_ buffer: UnsafeRawBufferPointer) -> IOResult { Self.write(descriptor, buffer) }
  public borrowing func write(_ buffers: UnsafeBufferPointer<iovec>) -> IOResult { Self.write(descriptor, buffers) }

  /// Ends the sending side; the peer reads the end of the stream.
  public borrowing func shutdownWrite() { Glibc.shutdown(descriptor, Int32(SHUT_WR)) }

  /// Makes closing send RST and drop what was not sent.
  public borrowing func resetOnClose() { _ = cl_set_reset_on_close(descriptor) }

  public var localAddress: SocketAddress? { Self.address(descriptor, getsockname) }
  public var peerAddress: SocketAddress? { Self.address(descriptor, getpeername) }

  /// The address a connection was meant for before iptables redirected it; nil when it was not.
  public var originalDestination: SocketAddress? {
    guard let family = localAddress?.family, family != AF_UNIX else { return nil }
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    guard cl_original_destination(descriptor, family, &storage, &length) == 0 else { return nil }
    return SocketAddress(storage, length: length)
  }

  /// Who opened the other end of a Unix socket.
  public func peerCredentials() throws(SystemError) -> PeerCredentials {
    var credentials = PeerCredentials(process: 0, user: 0, group: 0)
    let code = cl_peer_credentials(descriptor, &credentials.process, &credentials.user, &credentials.group)
    _ = try SystemError.check(code, "read peer credentials")
    return credentials
  }

  /// A connected pair of Unix sockets.
  public static func pair() throws(SystemError) -> (Int32, Int32) {
    var descriptors: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &descriptors) == 0 else { throw .last("create socket pair") }
    return (descriptors[0], descriptors[1])
  }
}

/// Process, user and group on the other end of a Unix socket when it connected.
public struct PeerCredentials: Hashable, Sendable {
  public var process: pid_t
  public var user: uid_t
  public var group: gid_t
}

// The calls themselves, also for those who keep a plain descriptor.
extension Socket {
  public static func read(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    while true {
      let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
      if count > 0 { return .bytes(count) }
      if count == 0 { return buffer.isEmpty ? .wouldBlock : .endOfStream }
      if errno != EINTR { return failure(errno) }
    }
  }

  public static func write(_ descriptor: Int32, _ buffer: UnsafeRawBufferPointer) -> IOResult {
    guard let start = buffer.baseAddress, !buffer.isEmpty else { return .wouldBlock }
    while true {
      let count = cl_send(descriptor, start, buffer.count)
      if count >= 0 { return .bytes(count) }
      if count != -Int(EINTR) { return failure(Int32(clamping: -count)) }
    }
  }

  /// Gathers at most `TransportLimits.buffersPerWrite` buffers into one call. Needs SIGPIPE ignored.
  public static func write(_ descriptor: Int32, _ buffers: UnsafeBufferPointer<iovec>) -> IOResult {
    while true {
      let count = writev(descriptor, buffers.baseAddress, Int32(min(buffers.count, TransportLimits.buffersPerWrite)))
      if count > 0 { return .bytes(count) }
      if count == 0 { return .wouldBlock }
      if errno != EINTR { return failure(errno) }
    }
  }

  static func failure(_ code: Int32) -> IOResult { code == EAGAIN ? .wouldBlock : .failed(code) }

  static func bind(_ descriptor: Int32, to address: SocketAddress) throws(SystemError) {
    guard let result = address.withSockaddr({ Glibc.bind(descriptor, $0, $1) }) else {
      throw SystemError("bind \(address)", code: ENAMETOOLONG)
    }
    if result < 0 { throw .last("bind \(address)") }
  }

  static func address(
    _ descriptor: Int32, _ ask: (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let code = withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { ask(descriptor, $0, &length) }
    }
    return code == 0 ? SocketAddress(storage, length: length) : nil
  }
}
