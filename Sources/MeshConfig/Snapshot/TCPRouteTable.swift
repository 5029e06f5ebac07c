import Primitives

/// Destinations of connections that are not read as HTTP, by port and host: what one source workload can reach.
public struct TCPRouteTable: Sendable {
  /// Sorted by port.
  public var ports: [PortTable]

  public init(ports: [PortTable] = []) { self.ports = ports }

  public struct PortTable: Sendable {
    public var port: UInt16
    public var services: [TCPService]
    /// Every name and address a client may write for a service → index into `services`.
    public var hosts: ByteTable<Int>
    /// Rules by the server name of a TLS client on this port, most specific first.
    public var serverNames: [ServerNameRoute]
    /// Blocks of addresses that stand for services, the longest prefix first.
    private let blocks: [(block: AddressBlock, service: Int)]

    public init(port: UInt16, services: [TCPService], hosts: ByteTable<Int>, serverNames: [ServerNameRoute]) {
      self.port = port
      self.services = services
      self.hosts = hosts
      self.serverNames = serverNames
      let written = services.indices.flatMap { index in services[index].blocks.map { (block: $0, service: index) } }
      blocks = written.sorted { ($1.block.bits, $0.service) < ($0.block.bits, $1.service) }
    }

    /// The service that a connection for a name or an address is meant for: its own name or address, else the narrowest block.
    public func service(host: [UInt8], address: [UInt8]) -> Int? {
      if let index = hosts[host], services.indices.contains(index) { return index }
      if blocks.isEmpty || address.isEmpty { return nil }
      return blocks.first { $0.block.contains(address) }?.service
    }
  }

  public func port(_ number: UInt16) -> PortTable? { ports.first { $0.port == number } }
}

/// One service port as opaque connections reach it.
public struct TCPService: Sendable {
  public var host: String
  public var `protocol`: PortProtocol
  /// The service's own address, for rules by destination; empty without one.
  public var address: [UInt8]
  /// Its routes, made when a connection first needs them.
  public var content: CallByNeed<TCPRoutes>
  /// Rules of this service by the server name of a TLS client, most specific first.
  public var serverNames: [ServerNameRoute]
  /// Blocks of addresses that stand for the service.
  public var blocks: [AddressBlock] = []

  public init(
    host: String, protocol: PortProtocol, address: [UInt8], routes: [TCPRoute], serverNames: [ServerNameRoute] = []
  ) {
    self.init(
      host: host, protocol: `protocol`, address: address, content: CallByNeed(TCPRoutes(routes)), serverNames: serverNames)
  }

  init(
    host: String, protocol: PortProtocol, address: [UInt8], content: CallByNeed<TCPRoutes>, serverNames: [ServerNameRoute] = []
  ) {
    self.serverNames = serverNames
    self.host = host
    self.protocol = `protocol`
    self.address = address
    self.content = content
  }

  /// In order; the first that fits has the connection. Never empty: the last one is the service itself.
  public var routes: [TCPRoute] { content.value.routes }
}

/// The routes of one service port.
public final class TCPRoutes: Sendable {
  public let routes: [TCPRoute]
  public init(_ routes: [TCPRoute]) { self.routes = routes }
}

/// One `tcp[]` or `tls[]` rule, as far as it depends on the connection.
public struct TCPRoute: Sendable {
  /// Which object and rule it came from; nil for a service's own route.
  public var origin: RouteOrigin?
  /// Where the connection must be meant for; empty: anywhere.
  public var subnets: [AddressBlock]
  /// Never empty. One destination: its weight is ignored. More: weights above 0 only.
  public var destinations: [WeightedDestination]

  public init(origin: RouteOrigin?, subnets: [AddressBlock] = [], destinations: [WeightedDestination]) {
    self.origin = origin
    self.subnets = subnets
    self.destinations = destinations
  }
}

/// A rule for TLS clients that ask for a server name.
public struct ServerNameRoute: Sendable {
  public var pattern: ServerNamePattern
  public var route: TCPRoute
  public init(pattern: ServerNamePattern, route: TCPRoute) {
    self.pattern = pattern
    self.route = route
  }
}

/// A host name, `*.suffix`, or `*`, compared with server names in lower case.
public struct ServerNamePattern: Sendable, Hashable {
  /// As written, in lower case.
  public let text: String
  /// What a name has to end in, or has to be.
  private let bytes: [UInt8]
  private let isWildcard: Bool

  public init(_ written: String) {
    text = written.lowercased()
    isWildcard = text.hasPrefix("*")
    bytes = Array(isWildcard ? text.utf8.dropFirst() : text.utf8.dropFirst(0))
  }

  /// `*` admits every name and none; `*.suffix` one or more labels before the suffix.
  public func admits(_ name: [UInt8]) -> Bool {
    guard isWildcard else { return name == bytes }
    return bytes.isEmpty || name.count > bytes.count && name.suffix(bytes.count).elementsEqual(bytes)
  }

  /// Exact names first, then longer suffixes.
  public static func isMoreSpecific(_ a: ServerNamePattern, _ b: ServerNamePattern) -> Bool {
    a.isWildcard != b.isWildcard ? !a.isWildcard : a.bytes.count > b.bytes.count
  }
}

/// An address with the count of its leading bits that matter (CIDR).
public struct AddressBlock: Sendable, Hashable {
  public let address: [UInt8]
  public let bits: Int

  /// Parses `10.0.0.0/8`, `2001:db8::/32` or a single address.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = parts.first, let address = AddressForm.parse(String(first)) else { return nil }
    self.address = address
    guard parts.count == 2 else {
      bits = address.count * 8
      return
    }
    guard let bits = parseDecimal(parts[1].utf8, max: UInt64(address.count * 8)) else { return nil }
    self.bits = Int(bits)
  }

  /// Whether 4 or 16 bytes in network order lie within. Addresses of the other family never do.
  public func contains(_ other: [UInt8]) -> Bool {
    guard other.count == address.count else { return false }
    let whole = bits / 8
    guard address.prefix(whole) == other.prefix(whole) else { return false }
    guard bits % 8 != 0 else { return true }
    let mask = UInt8.max << UInt8(8 - bits % 8)
    return address[whole] & mask == other[whole] & mask
  }
}

// MARK: - Gateway servers

/// How a gateway port proves who it is and what it asks of clients (Istio, Gateway `tls`).
public struct ServerTLS: Sendable, Hashable {
  /// Where certificate and key come from.
  public enum Source: Sendable, Hashable {
    /// The gateway workload's own identity, under the mesh's trust (ISTIO_MUTUAL).
    case workload
    case files(certificate: String, key: String)
    /// PEM of a Secret.
    case material(certificate: [UInt8], key: [UInt8])
    /// There is none: handshakes fail, and this is why.
    case missing(String)
  }
  public enum Authorities: Sendable, Hashable {
    case file(String)
    case material([UInt8])
  }
  public enum ClientCertificate: Sendable, Hashable { case notAsked, optional, required }
  public enum Version: Int, Sendable, Hashable, Comparable {
    case tls12 = 12
    case tls13 = 13
    public static func < (a: Version, b: Version) -> Bool { a.rawValue < b.rawValue }
  }

  /// One, or one for each kind of key.
  public var sources: [Source]
  public var clientCertificate: ClientCertificate
  /// A client whose certificate is not trusted is let in, and counts as one without.
  public var acceptsUnverified = false
  /// Whose clients are trusted.
  public var authorities: Authorities?
  /// Names of which a client's certificate must hold one; empty: any that is trusted.
  public var subjectAltNames: [String]
  /// Base64 of SHA-256 of a client's public key; empty: any.
  public var publicKeyHashes: [String]
  /// Hexadecimal SHA-256 of a client's certificate, in lower case; empty: any.
  public var certificateHashes: [String]
  public var minimum: Version
  public var maximum: Version
  /// OpenSSL's names for TLS 1.2; empty: the default.
  public var cipherSuites: [String]
  /// OpenSSL's names of groups for key exchange, best first; empty: the default.
  public var curves: [String] = []
  /// Lists of client certificates that were taken back.
  public var revocations: Authorities?

  public init(
    sources: [Source], clientCertificate: ClientCertificate = .notAsked, authorities: Authorities? = nil,
    subjectAltNames: [String] = [], publicKeyHashes: [String] = [], certificateHashes: [String] = [],
    minimum: Version = .tls12, maximum: Version = .tls13, cipherSuites: [String] = []
  ) {
    self.sources = sources
    self.clientCertificate = clientCertificate
    self.authorities = authorities
    self.subjectAltNames = subjectAltNames
    self.publicKeyHashes = publicKeyHashes
    self.certificateHashes = certificateHashes
    self.minimum = minimum
    self.maximum = maximum
    self.cipherSuites = cipherSuites
  }
}

extension GatewayListener {
  /// What connections of a gateway server are taken for.
  public enum Role: Sendable {
    /// Plaintext HTTP by `table`.
    case http
    /// TLS ends here; HTTP by `table`.
    case https(ServerTLS)
    /// TLS ends here; what is inside goes by these routes.
    case tls(ServerTLS, [TCPRoute])
    /// TLS is not looked into: by server name.
    case passthrough([ServerNameRoute])
    case tcp([TCPRoute])

    /// Whether clients begin with a ClientHello.
    public var isTLS: Bool {
      switch self {
      case .http, .tcp: false
      case .https, .tls, .passthrough: true
      }
    }
  }
}
