import CLinux
import Glibc
import Primitives

/// An IP address without port or scope.
public enum IPAddress: Hashable, Sendable, CustomStringConvertible {
  /// Network order in the most significant byte first.
  case v4(UInt32)
  case v6(high: UInt64, low: UInt64)

  public static let loopback = IPAddress.v4(0x7F00_0001)
  /// Every IPv4 address of this host, for listeners.
  public static let any = IPAddress.v4(0)

  /// Parses exactly the canonical forms: dotted decimal without leading zeros, or RFC 4291 text without a scope.
  public init?(_ text: some StringProtocol) {
    guard text.utf8.count <= 45, text.utf8.allSatisfy(Self.isAddressByte) else { return nil }
    var v4 = in_addr()
    var v6 = in6_addr()
    if inet_pton(AF_INET, String(text), &v4) == 1 {
      self = .v4(UInt32(bigEndian: v4.s_addr))
    } else if inet_pton(AF_INET6, String(text), &v6) == 1 {
      self.init(v6)
    } else {
      return nil
    }
  }

  /// 4 or 16 bytes in network order.
  public init?(bytes: [UInt8]) {
    func integer(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
    switch bytes.count {
    case 4: self = .v4(UInt32(integer(0..<4)))
    case 16: self = .v6(high: integer(0..<8), low: integer(8..<16))
    default: return nil
    }
  }

  init(_ address: in6_addr) {
    let (high, low) = withUnsafeBytes(of: address) { bytes in
      (bytes.load(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
    self = .v6(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low))
  }

  private static func isAddressByte(_ byte: UInt8) -> Bool {
    ASCII.isDigit(byte) || byte == 0x2E || byte == 0x3A || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x66)
  }

  /// An IPv4 address mapped into IPv6 (`::ffff:0:0/96`) as IPv4, any other as it is.
  public var unmapped: IPAddress {
    guard case .v6(0, let low) = self, low >> 32 == 0xFFFF else { return self }
    return .v4(UInt32(truncatingIfNeeded: low))
  }

  public var isLoopback: Bool {
    switch unmapped {
    case .v4(let bits): bits >> 24 == 127
    case .v6(let high, let low): high == 0 && low == 1
    }
  }

  /// 4 or 16 bytes in network order.
  public var bytes: [UInt8] {
    switch self {
    case .v4(let bits): (0..<4).map { UInt8(truncatingIfNeeded: bits >> (24 - 8 * UInt32($0))) }
    case .v6(let high, let low):
      [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * UInt64($0))) } }
    }
  }

  var in6: in6_addr {
    var address = in6_addr()
    if case .v6(let high, let low) = self {
      withUnsafeMutableBytes(of: &address) { bytes in
        bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
        bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
      }
    }
    return address
  }

  public var description: String {
    if case .v4 = self { return bytes.map(String.init).joined(separator: ".") }
    var address = in6
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    guard let words = inet_ntop(AF_INET6, &address, &text, socklen_t(text.count)) else { return "?" }
    return String(cString: words)
  }
}

/// Where a socket is bound or connected: an IP address with a port, or the path of a Unix socket.
public enum SocketAddress: Hashable, Sendable, CustomStringConvertible {
  case ip(IPAddress, port: UInt16)
  /// At most 107 bytes. A path that begins with `@` is a name in the kernel's abstract namespace.
  case unix(path: String)

  /// Parses `127.0.0.1:80` and `[::1]:80`; names, scopes, signs and blanks are refused.
  public init(parsing text: String) throws(NameError) {
    let bytes = text.utf8
    guard let colon = bytes.lastIndex(of: 0x3A), let port = parseDecimal(bytes[bytes.index(after: colon)...], max: 65535) else {
      throw NameError("'\(text.prefix(80))' is not ADDRESS:PORT, like 127.0.0.1:80 or [::1]:80")
    }
    var host = text[..<colon]
    let bracketed = host.utf8.first == 0x5B && host.utf8.last == 0x5D
    if bracketed { host = host.dropFirst().dropLast() }
    guard let address = IPAddress(host), bracketed == address.isV6 else {
      throw NameError("'\(host.prefix(80))' is not an IP address; IPv6 addresses stand in brackets, like [::1]:80")
    }
    self = .ip(address, port: UInt16(port))
  }

  /// A name that no file stands for.
  public var isAbstract: Bool {
    guard case .unix(let path) = self else { return false }
    return path.utf8.first == 0x40
  }

  public var port: UInt16? {
    guard case .ip(_, let port) = self else { return nil }
    return port
  }

  public var ip: IPAddress? {
    guard case .ip(let address, _) = self else { return nil }
    return address
  }

  var family: Int32 {
    switch self {
    case .ip(.v4, _): AF_INET
    case .ip(.v6, _): AF_INET6
    case .unix: AF_UNIX
    }
  }

  public var description: String {
    switch self {
    case .ip(let address, let port): address.isV6 ? "[\(address)]:\(port)" : "\(address):\(port)"
    case .unix(let path): path.isEmpty ? "(unnamed socket)" : path
    }
  }

  /// Parses the address of an endpoint: an IP address, to which the port belongs, or `unix://` with a path. Nil for a name.
  public init?(endpoint text: String, port: UInt16) {
    if let address = IPAddress(text) {
      self = .ip(address, port: port)
    } else if text.hasPrefix("unix://") {
      self = .unix(path: String(text.dropFirst("unix://".count)))
    } else {
      return nil
    }
  }

  /// Lends the kernel's form. Nil from a path that is empty, too long or holds NUL.
  func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result? {
    switch self {
    case .ip(.v4(let bits), let port):
      var value = sockaddr_in()
      value.sin_family = sa_family_t(AF_INET)
      value.sin_port = port.bigEndian
      value.sin_addr.s_addr = bits.bigEndian
      return Self.lend(&value, body)
    case .ip(let address, let port):
      var value = sockaddr_in6()
      value.sin6_family = sa_family_t(AF_INET6)
      value.sin6_port = port.bigEndian
      value.sin6_addr = address.in6
      return Self.lend(&value, body)
    case .unix(let path):
      var value = sockaddr_un()
      let bytes = path.utf8
      guard !bytes.isEmpty, bytes.count <= TransportLimits.unixPathBytesMax, !bytes.contains(0) else { return nil }
      value.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &value.sun_path) { $0.copyBytes(from: bytes) }
      guard bytes.first == 0x40 else { return Self.lend(&value, body) }
      // The name begins with NUL and ends where the length says (unix(7)).
      value.sun_path.0 = 0
      let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
      return Self.lend(&value) { pointer, _ in body(pointer, length) }
    }
  }

  private static func lend<Value, Result>(
    _ value: inout Value, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    withUnsafePointer(to: &value) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<Value>.size)) }
    }
  }

  /// Reads what the kernel filled in; nil for a family not used here.
  init?(_ storage: sockaddr_storage, length: socklen_t) {
    switch Int32(storage.ss_family) {
    case AF_INET:
      let value = withUnsafeBytes(of: storage) { $0.load(as: sockaddr_in.self) }
      self = .ip(.v4(UInt32(bigEndian: value.sin_addr.s_addr)), port: UInt16(bigEndian: value.sin_port))
    case AF_INET6:
      let value = withUnsafeBytes(of: storage) { $0.load(as: sockaddr_in6.self) }
      self = .ip(IPAddress(value.sin6_addr), port: UInt16(bigEndian: value.sin6_port))
    case AF_UNIX:
      let start = MemoryLayout<sa_family_t>.size
      let end = min(Int(length), MemoryLayout<sockaddr_un>.size)
      let path = withUnsafeBytes(of: storage) { bytes in
        end > start ? Array(bytes[start..<end].prefix { $0 != 0 }) : []
      }
      self = .unix(path: String(decoding: path, as: UTF8.self))
    default: return nil
    }
  }
}

extension IPAddress {
  public var isV6: Bool {
    if case .v6 = self { return true }
    return false
  }
}
