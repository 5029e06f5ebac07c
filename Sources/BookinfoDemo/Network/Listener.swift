import CLinux
import Glibc

/// Why a service cannot listen; exit code 1.
struct ListenError: Error, Hashable, CustomStringConvertible {
  let description: String
}

/// A listening TCP socket that closes itself.
final class Listener: Sendable {
  let descriptor: Int32
  let port: UInt16

  init(address: String, port: UInt16) throws(ListenError) {
    guard let target = try? SocketAddress.resolve(host: address, port: port, isNumeric: true).first else {
      throw ListenError(description: "'\(address)' is not an IP address; try --address 127.0.0.1")
    }
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    let descriptor = socket(target.family, kind, 0)
    guard descriptor >= 0 else { throw ListenError(description: "no socket: \(systemError(errno))") }
    Self.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
    if target.family == AF_INET6 { Self.set(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
    guard target.withPointer({ bind(descriptor, $0, $1) }) == 0, listen(descriptor, SOMAXCONN) == 0 else {
      let number = errno
      close(descriptor)
      throw ListenError(description: Self.explain(number, address: address, port: port))
    }
    self.descriptor = descriptor
    self.port = Self.port(of: descriptor)
  }

  deinit { close(descriptor) }

  private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  private static func explain(_ number: Int32, address: String, port: UInt16) -> String {
    switch number {
    case EADDRINUSE: "\(address) port \(port) is in use; stop what listens there or choose another --port"
    case EACCES: "\(address) port \(port) needs privileges; choose a --port from 1024 up"
    case EADDRNOTAVAIL: "\(address) is not an address of this host; try --address 127.0.0.1"
    default: "cannot listen on \(address) port \(port): \(systemError(number))"
    }
  }

  private static func port(of descriptor: Int32) -> UInt16 {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let code = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    guard code == 0 else { return 0 }
    // The port stands at the same place in both address families.
    return withUnsafeBytes(of: storage) { UInt16($0[2]) << 8 | UInt16($0[3]) }
  }
}
