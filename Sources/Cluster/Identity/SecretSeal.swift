import Primitives
import Transport

/// Seals the values of Secrets for the log and the disk with AES-256-GCM under a key derived from the join secret, so that a
/// copied database holds no private key.
///
/// `format u8 · nonce 12 · ciphertext · tag 16`; format and cluster name are authenticated too.
public struct SecretSeal: Sendable {
  private static let format: UInt8 = 1
  private let key: [UInt8]
  private let authenticated: [UInt8]

  public init(joinSecret: [UInt8], cluster: DNSLabel) {
    key = HKDF.derive(
      material: joinSecret, salt: Array(cluster.string.utf8), info: Array("mesh-node secrets 1".utf8), count: AEAD.keyBytes)
    authenticated = [Self.format] + Array(cluster.string.utf8)
  }

  public func seal(_ plain: [UInt8]) -> [UInt8] {
    let nonce = secureRandom(count: AEAD.nonceBytes)
    return [Self.format] + nonce + AEAD(key: key).seal(plain, nonce: nonce, authenticating: authenticated)
  }

  /// The values, or nil when they were changed or sealed under another join secret.
  public func open(_ sealed: [UInt8]) -> [UInt8]? {
    guard sealed.count > 1 + AEAD.nonceBytes, sealed.first == Self.format else { return nil }
    let nonce = sealed.dropFirst().prefix(AEAD.nonceBytes)
    return AEAD(key: key).open(sealed.dropFirst(1 + AEAD.nonceBytes), nonce: nonce, authenticating: authenticated)
  }
}
