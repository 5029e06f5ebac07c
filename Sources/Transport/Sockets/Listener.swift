import CLinux
import Glibc

/// What an attempt to accept came to.
public enum AcceptResult: ~Copyable {
  case accepted(Socket, peer: SocketAddress)
  /// Nobody waits; an edge will tell.
  case wouldBlock
  /// The process or system is out of descriptors or memory. No edge will come for those who wait: try again after a pause.
  case exhausted(SystemError)
  case failed(SystemError)
}

/// A nonblocking listening socket, owned: it closes, and a Unix socket's path goes, when the value ends.
public struct Listener: ~Copyable {
  public let descriptor: Int32
  /// Where it listens, with the port the kernel chose when 0 was asked for.
  public let address: SocketAddress

  /// Listens on an address. `reusePort` lets several listeners share it, the kernel spreading connections (one a worker).
  ///
  /// A Unix socket is created with permission 0600; a path left behind by a dead process is replaced, one that another
  /// process still serves is refused.
  public init(
    on address: SocketAddress, reusePort: Bool = false, backlog: Int32 = TransportLimits.listenerBacklog
  ) throws(SystemError) {
    let socket = Socket(adopting: try SystemError.check(cl_socket_stream(address.family), "listen on \(address)"))
    if case .unix(let path) = address, !address.isAbstract {
      try Self.removeStale(path, address)
      try Self.bindPrivately(socket.descriptor, to: address)
    } else if address.isAbstract {
      try Socket.bind(socket.descriptor, to: address)
    } else {
      _ = try SystemError.check(cl_set_reuse_address(socket.descriptor), "listen on \(address)")
      if reusePort { _ = try SystemError.check(cl_set_reuse_port(socket.descriptor), "share \(address)") }
      if address.family == AF_INET6 { _ = try SystemError.check(cl_set_ipv6_only(socket.descriptor), "listen on \(address)") }
      try Socket.bind(socket.descriptor, to: address)
    }
    guard listen(socket.descriptor, backlog) == 0 else { throw .last("listen on \(address)") }
    let bound = address.ip == nil ? nil : Socket.address(socket.descriptor, getsockname)
    self.address = bound ?? address
    descriptor = socket.release()
  }

  deinit {
    close(descriptor)
    if case .unix(let path) = address, !address.isAbstract { unlink(path) }
  }

  /// Takes one connection, nonblocking and, over TCP, without Nagle's delay.
  public borrowing func accept() -> AcceptResult {
    while true {
      var storage = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let accepted = cl_accept(descriptor, &storage, &length)
      if accepted >= 0 {
        if address.ip != nil { _ = cl_set_no_delay(accepted) }
        return .accepted(Socket(adopting: accepted), peer: SocketAddress(storage, length: length) ?? .unix(path: ""))
      }
      switch -accepted {
      case EAGAIN: return .wouldBlock
      // A connection that died in the queue, or its pending network error, says nothing about the next (accept(2)).
      case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH, EPERM:
        continue
      case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted(SystemError("accept on \(address)", code: -accepted))
      default: return .failed(SystemError("accept on \(address)", code: -accepted))
      }
    }
  }

  /// The mode of the path is set before anyone can connect: nobody can before `listen`.
  private static func bindPrivately(_ descriptor: Int32, to address: SocketAddress) throws(SystemError) {
    try Socket.bind(descriptor, to: address)
    if case .unix(let path) = address, chmod(path, 0o600) < 0 { throw .last("protect \(address)") }
  }

  /// Removes a socket nobody listens on; another kind of file, or a served socket, is left and refused.
  private static func removeStale(_ path: String, _ address: SocketAddress) throws(SystemError) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else { throw SystemError("listen on \(address)", code: EEXIST) }
    do throws(SystemError) {
      let probe = try Socket.connect(to: address)
      if probe.pendingError == 0 { throw SystemError("listen on \(address)", code: EADDRINUSE) }
    } catch {
      let busy = error.code == EAGAIN
      guard error.code == ECONNREFUSED || error.code == ENOENT else {
        throw SystemError("listen on \(address)", code: busy ? EADDRINUSE : error.code)
      }
    }
    unlink(path)
  }
}
