import Primitives

/// What links are secured with. Given anew when a certificate, the bundle or the secret changes.
public struct LinkCredentials: Sendable {
  /// The node's certificate `spiffe://<trust domain>/node/<name>` and its key.
  public var identity: TLSIdentity
  /// The authorities that peers may come to trust for this node: its own, and during a rotation the next one.
  public var authorities: [Certificate]
  /// Who is trusted now; may be empty at first start.
  public var bundle: TrustBundle
  /// What nodes that do not trust each other's authority yet prove to each other; nil when this node has none.
  public var joinSecret: [UInt8]?
  /// The token that this node came with, until it trusts the others and they trust it.
  public var token: LinkToken?

  public init(
    identity: TLSIdentity, authorities: [Certificate], bundle: TrustBundle, joinSecret: [UInt8]?, token: LinkToken? = nil
  ) {
    self.token = token
    self.identity = identity
    self.authorities = authorities
    self.bundle = bundle
    self.joinSecret = joinSecret
  }
}

/// A join token as links prove it.
public struct LinkToken: Hashable, Sendable {
  public let id: UInt64
  /// 32 bytes derived from its secret.
  public let key: [UInt8]

  public init(id: UInt64, key: [UInt8]) {
    self.id = id
    self.key = key
  }
}

/// What a node says to a token that a stranger came with.
public enum LinkTokenAnswer: Hashable, Sendable {
  /// The key to check the stranger's proof with.
  case key([UInt8])
  /// Why it lets nobody in, for the stranger to read.
  case refused(String)
}

/// Judges a token by its id, for a node that offers these authorities.
public typealias LinkTokenJudge = @Sendable (_ token: UInt64, _ node: NodeName, _ authorities: [[UInt8]]) -> LinkTokenAnswer

/// Credentials compiled for connections: they outlive a change that comes while a connection is being made.
struct LinkSecurity {
  let credentials: LinkCredentials
  let server: TLSContext
  let client: TLSContext

  static let applicationProtocol = "mesh-link"

  init(_ credentials: LinkCredentials) throws(TLSError) {
    if let secret = credentials.joinSecret, secret.count < LinkLimits.joinSecretBytesMin {
      throw .configuration(
        "the join secret has \(secret.count) bytes; it needs at least \(LinkLimits.joinSecretBytesMin) random ones")
    }
    guard credentials.authorities.count <= LinkLimits.offeredAuthoritiesMax,
      credentials.authorities.allSatisfy({ $0.der.count <= LinkLimits.certificateBytesMax })
    else {
      throw .configuration(
        "a node offers at most \(LinkLimits.offeredAuthoritiesMax) authorities of \(LinkLimits.certificateBytesMax) bytes each")
    }
    self.credentials = credentials
    let trust = TLSTrust.reported(credentials.bundle)
    server = try .server(identity: credentials.identity, trust: trust, protocols: [Self.applicationProtocol])
    client = try .client(identity: credentials.identity, trust: trust, protocols: [Self.applicationProtocol])
  }
}

/// The proof that a node knows the join secret, bound to one TLS connection, one direction and what the node offers.
enum JoinProof {
  /// - Parameter exporter: keying material of the connection (RFC 9266); another connection has another.
  static func make(
    secret: [UInt8], role: PeerRole, exporter: [UInt8], cluster: DNSLabel, node: NodeName, authorities: [[UInt8]]
  ) -> [UInt8] {
    let info = Array("mesh-node link proof".utf8)
    let key = HKDF.derive(material: secret, salt: Array(cluster.string.utf8), info: info, count: 32)
    var message = ByteWriter()
    message.string("mesh-node join 1")
    message.uint8(role == .client ? 0 : 1)
    message.lengthPrefixed(exporter)
    message.string(cluster.string)
    message.string(node.string)
    message.count(authorities.count)
    for authority in authorities { message.raw(SHA256.hash(authority)) }
    return HMACSHA256.authenticate(message.bytes, key: key)
  }
}
