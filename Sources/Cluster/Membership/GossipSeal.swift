import Membership
import Primitives
import Transport

/// Seals gossip datagrams with AES-256-GCM under a key derived from the join secret, so that nothing is parsed before its
/// sender has shown that it belongs to the cluster.
///
/// `format u8 · key id u8 · nonce 12 · ciphertext · tag 16`; format, key id and cluster name are authenticated too.
struct GossipSeal {
  static let format: UInt8 = 1
  static let overheadBytes = 2 + AEAD.nonceBytes + AEAD.tagBytes
  /// The key derived from the join secret; later keys are numbered upwards.
  private static let firstKeyID: UInt8 = 1

  private let cipher: AEAD
  private let authenticated: [UInt8]

  init(joinSecret: [UInt8], cluster: DNSLabel) {
    let key = HKDF.derive(
      material: joinSecret, salt: Array(cluster.string.utf8), info: Array("mesh-node gossip 1".utf8), count: AEAD.keyBytes)
    cipher = AEAD(key: key)
    authenticated = [Self.format, Self.firstKeyID] + Array(cluster.string.utf8)
  }

  func seal(_ message: [UInt8]) -> [UInt8] {
    let nonce = secureRandom(count: AEAD.nonceBytes)
    return [Self.format, Self.firstKeyID] + nonce + cipher.seal(message, nonce: nonce, authenticating: authenticated)
  }

  /// The message, or nil from a stranger.
  func open(_ datagram: ArraySlice<UInt8>) -> [UInt8]? {
    guard datagram.count > Self.overheadBytes, datagram.first == Self.format,
      datagram[datagram.startIndex + 1] == Self.firstKeyID
    else { return nil }
    let nonce = datagram.dropFirst(2).prefix(AEAD.nonceBytes)
    return cipher.open(datagram.dropFirst(2 + AEAD.nonceBytes), nonce: nonce, authenticating: authenticated)
  }
}
