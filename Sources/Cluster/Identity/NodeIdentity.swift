import Primitives
import Transport

/// The node's key and certificate. The key stays the same over renewals, so the rows it signed stay good.
public struct NodeIdentity: Sendable {
  public let id: SPIFFEID
  public let key: PrivateKey
  /// Leaf first.
  public private(set) var chain: [Certificate]
  private let chainPath: String

  /// Loads the identity of a data directory. A new node certifies itself with its own authority until the holder of the
  /// role does; so does one whose certificate expired while it was away.
  public init(directory: String, authority: NodeAuthority, node: NodeName, now: Int64, lifetime: Duration) throws {
    id = try SPIFFEID.node(trustDomain: authority.trustDomain, name: node)
    key = try StoredKey.loadOrMake("\(directory)/node-key.pem")
    chainPath = "\(directory)/node-cert.pem"
    if let stored = try StoredChain.load(chainPath, key: key, id: id, validAt: now + 5) {
      chain = stored
    } else {
      let request = try CertificateSigningRequest.make(key: key, identity: id)
      chain = try authority.issue(for: request, identity: id, now: now, lifetime: lifetime)
      try StoredChain.replace(chainPath, with: chain, key: key, id: id)
    }
  }

  public var leaf: Certificate? { chain.first }

  /// Takes a renewed certificate of the same key, and keeps it on disk.
  public mutating func renew(_ chain: [Certificate]) throws {
    try StoredChain.replace(chainPath, with: chain, key: key, id: id)
    self.chain = chain
  }
}
