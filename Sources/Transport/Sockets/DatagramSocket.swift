import CLinux
import Glibc

/// What receiving a datagram came to.
public enum DatagramResult: Hashable, Sendable {
  /// `count` bytes, which may be 0, from `sender`; `truncated` when the buffer was too small for all.
  case datagram(count: Int, sender: SocketAddress, truncated: Bool)
  case wouldBlock
  case failed(Int32)
}

/// A bound, nonblocking UDP socket, owned: it closes when the value ends.
public struct DatagramSocket: ~Copyable {
  public let descriptor: Int32
  /// Where it is bound, with the port the kernel chose when 0 was asked for.
  public let address: SocketAddress

  public init(boundTo address: SocketAddress, reusePort: Bool = false) throws(SystemError) {
    let socket = Socket(adopting: try SystemError.check(cl_socket_datagram(address.family), "bind \(address)"))
    if reusePort { _ = try SystemError.check(cl_set_reuse_port(socket.descriptor), "share \(address)") }
    if address.family == AF_INET6 { _ = try SystemError.check(cl_set_ipv6_only(socket.descriptor), "bind \(address)") }
    try Socket.bind(socket.descriptor, to: address)
    self.address = Socket.address(socket.descriptor, getsockname) ?? address
    descriptor = socket.release()
  }

  deinit { close(descriptor) }

  public borrowing func receive(into buffer: UnsafeMutableRawBufferPointer) -> DatagramResult {
    while true {
      var storage = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let flags = Int32(MSG_TRUNC)
      let count = withUnsafeMutablePointer(to: &storage) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          recvfrom(descriptor, buffer.baseAddress, buffer.count, flags, $0, &length)
        }
      }
      if count >= 0 {
        guard let sender = SocketAddress(storage, length: length) else { continue }
        return .datagram(count: min(count, buffer.count), sender: sender, truncated: count > buffer.count)
      }
      if errno == EINTR { continue }
      return errno == EAGAIN ? .wouldBlock : .failed(errno)
    }
  }

  /// Sends one datagram. `wouldBlock` and failures mean it is lost, which UDP allows.
  @discardableResult
  public borrowing func send(_ bytes: UnsafeRawBufferPointer, to address: SocketAddress) -> IOResult {
    while true {
      let flags = Int32(MSG_NOSIGNAL)
      let sent = address.withSockaddr { sendto(descriptor, bytes.baseAddress, bytes.count, flags, $0, $1) }
      guard let sent else { return .failed(ENAMETOOLONG) }
      if sent >= 0 { return .bytes(sent) }
      if errno != EINTR { return Socket.failure(errno) }
    }
  }
}
