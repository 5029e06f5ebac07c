import Primitives
import Transport

/// Seals the values of Secrets for the log and the disk with AES-256-GCM under a key derived from the join secret, so that a
/// copied database holds no private key.
///
/// `format u8 · nonce 12 · ciphertext · tag 16`; format and cluster name are authenticated too.
public struct SecretSeal: Sendable {
  private static let format: UInt8 = 1
  public static let keyBytes = AEAD.keyBytes
  private let key: [UInt8]
  private let authenticated: [UInt8]
  /// False where the key is not known yet: what was sealed here could be opened by nobody.
  public let isShared: Bool

  public init(joinSecret: [UInt8], cluster: DNSLabel) {
    self.init(
      key: HKDF.derive(
        material: joinSecret, salt: Array(cluster.string.utf8), info: Array("mesh-node secrets 1".utf8), count: AEAD.keyBytes),
      cluster: cluster)
  }

  /// - Parameter key: of the cluster, as another member gave it; nil while it is not known.
  public init(key: [UInt8]?, cluster: DNSLabel) {
    let shared = key.flatMap { $0.count == Self.keyBytes ? $0 : nil }
    isShared = shared != nil
    self.key = shared ?? secureRandom(count: Self.keyBytes)
    authenticated = [Self.format] + Array(cluster.string.utf8)
  }

  /// The key, for a member that joined with a token; nil where it is not known. It opens Secrets and lets nobody in.
  public var sharedKey: [UInt8]? { isShared ? key : nil }

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
