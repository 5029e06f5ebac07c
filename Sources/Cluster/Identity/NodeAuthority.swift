import Primitives
import Transport

/// This node's own certificate authority: a key that never leaves the host, and the certificate that the others trust.
public struct NodeAuthority: Sendable {
  public let trustDomain: String
  public let certificate: Certificate
  private let signer: CertificateSigner

  /// Loads the authority of a data directory, or makes one.
  public init(directory: String, trustDomain: String, node: NodeName, now: Int64, lifetime: Duration) throws {
    let keyPath = "\(directory)/ca-key.pem"
    let certificatePath = "\(directory)/ca-cert.pem"
    self.trustDomain = trustDomain
    if fileExists(keyPath) && fileExists(certificatePath) {
      signer = try Self.load(certificatePath, key: PrivateKey(contentsOf: keyPath))
    } else {
      let key = try StoredKey.loadOrMake(keyPath)
      signer = try CertificateSigner.selfSigned(
        trustDomain: trustDomain, node: node, key: key, now: now, lifetime: Int64(lifetime.inSeconds))
      try replaceFile(certificatePath, with: signer.certificate.pem, mode: 0o644)
    }
    certificate = signer.certificate
  }

  private static func load(_ path: String, key: PrivateKey) throws -> CertificateSigner {
    let chain = try Certificate.load(path)
    guard let certificate = chain.first else {
      throw FileError("\(path) holds no certificate; remove it and the key beside it to make new ones")
    }
    // An authority that an operator's root signed travels with its certificates.
    return try CertificateSigner(certificate: certificate, key: key, intermediates: chain.count > 1 ? chain : [])
  }

  /// A leaf for the request's key and the identity given; the chain without this authority's own certificate.
  public func issue(
    for request: CertificateSigningRequest, identity: SPIFFEID, now: Int64, lifetime: Duration
  ) throws(CertificateError) -> [Certificate] {
    [try signer.issue(for: request, identity: identity, now: now, lifetime: Int64(lifetime.inSeconds))] + signer.intermediates
  }
}

/// Keys on disk: created exclusively, readable by their owner only.
enum StoredKey {
  static func loadOrMake(_ path: String) throws -> PrivateKey {
    if fileExists(path) { return try PrivateKey(contentsOf: path) }
    let key = PrivateKey.generate()
    try key.store(at: path)
    return key
  }
}
