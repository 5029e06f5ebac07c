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
    if fileExists(chainPath), let stored = try? Certificate.load(chainPath), let leaf = stored.first, leaf.notAfter > now + 5,
      try leaf.publicKey == key.publicKey, try leaf.spiffeID() == id
    {
      chain = stored
    } else {
      let request = try CertificateSigningRequest.make(key: key, identity: id)
      chain = try authority.issue(for: request, identity: id, now: now, lifetime: lifetime)
      try replaceFile(chainPath, with: chain.flatMap(\.pem), mode: 0o644)
    }
  }

  public var leaf: Certificate? { chain.first }

  /// Takes a renewed certificate of the same key, and keeps it on disk.
  public mutating func renew(_ chain: [Certificate]) throws {
    guard let leaf = chain.first, try leaf.publicKey == key.publicKey, try leaf.spiffeID() == id else {
      throw FileError("the issued certificate is not for this node's key and identity")
    }
    try replaceFile(chainPath, with: chain.flatMap(\.pem), mode: 0o644)
    self.chain = chain
  }
}
