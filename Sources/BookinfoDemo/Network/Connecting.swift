import CLinux
import Glibc
import Primitives

extension TCPStream {
  /// Connects to the first address of `host` that answers.
  static func connect(host: String, port: UInt16, until deadline: Instant) throws(CallError) -> TCPStream {
    let addresses = try SocketAddress.resolve(host: host, port: port)
    var failure = CallError.unresolved(host: host)
    for address in addresses {
      do {
        return try connect(to: address, until: deadline)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  private static func connect(to address: SocketAddress, until deadline: Instant) throws(CallError) -> TCPStream {
    let descriptor = socket(address.family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .notConnected(systemError(errno)) }
    let stream = TCPStream(descriptor: descriptor)
    let code = address.withPointer { Glibc.connect(descriptor, $0, $1) }
    if code == 0 { return stream }
    guard errno == EINPROGRESS else { throw .notConnected(systemError(errno)) }
    guard stream.wait(for: POLLOUT, until: deadline) else { throw .timedOut("connecting") }
    var problem: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &size)
    guard problem == 0 else { throw .notConnected(systemError(problem)) }
    return stream
  }
}

/// An IPv4 or IPv6 address with its port, as the system takes it.
struct SocketAddress: Hashable, Sendable {
  let family: Int32
  private let bytes: [UInt8]

  /// All addresses of a name, in the system's order of preference.
  static func resolve(host: String, port: UInt16, isNumeric: Bool = false) throws(CallError) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV | (isNumeric ? AI_NUMERICHOST : 0)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, String(port), &hints, &list) == 0 else { throw .unresolved(host: host) }
    defer { freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = list
    while let entry = next?.pointee {
      if let address = entry.ai_addr {
        let raw = UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen))
        addresses.append(SocketAddress(family: entry.ai_family, bytes: Array(raw)))
      }
      next = entry.ai_next
    }
    return addresses
  }

  func withPointer<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    var storage = sockaddr_storage()
    withUnsafeMutableBytes(of: &storage) { $0.copyBytes(from: bytes.prefix($0.count)) }
    return withUnsafePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(bytes.count)) }
    }
  }
}
