import Consensus
import Membership
import Primitives
import Transport

/// Seals gossip datagrams with AES-256-GCM, so that nothing is parsed before its sender has shown that it belongs to the cluster,
/// and nothing is taken twice.
///
/// `format u8 · key id u8 · nonce 12 · ciphertext · tag 16`; format, key id and cluster name are authenticated too. The plaintext is
/// `life u64 · number u64 · message`. Key 1 is derived from the join secret; the others come from the log, and the two newest
/// of all are accepted. A new one is used for sending once there was time for it to spread; who lacks it is reached by links.
final class GossipSeal {
  static let format: UInt8 = 2
  static let markBytes = 16
  static let overheadBytes = 2 + AEAD.nonceBytes + AEAD.tagBytes + markBytes
  /// The key derived from the join secret.
  private static let secretKeyID: UInt8 = 1

  private struct Key {
    let id: UInt8
    let bytes: [UInt8]
    let cipher: AEAD
    let since: Instant
  }

  private let cluster: DNSLabel
  private let life: UInt64
  private let secretKey: Key?
  private var ring: [Key] = []
  private var number: UInt64 = 0
  private var window = ReplayWindow()
  /// Datagrams that no key opened, and those that had come before.
  private(set) var strangers: UInt64 = 0
  private(set) var replays: UInt64 = 0
  /// Opened, and no message that this version reads.
  private(set) var unreadable: UInt64 = 0

  /// - Parameter life: what this node's datagrams are numbered under; higher with every start of the process.
  init(joinSecret: [UInt8]?, cluster: DNSLabel, life: UInt64) {
    self.cluster = cluster
    self.life = life
    secretKey = joinSecret.map { secret in
      let key = HKDF.derive(
        material: secret, salt: Array(cluster.string.utf8), info: Array("mesh-node gossip 1".utf8), count: AEAD.keyBytes)
      return Key(id: Self.secretKeyID, bytes: key, cipher: AEAD(key: key), since: .zero)
    }
  }

  /// Takes the keys of the log, oldest first. The first ones that are ever seen are in use already.
  func take(_ keys: [GossipKey], at now: Instant) {
    let isFirst = ring.isEmpty && secretKey == nil
    ring = keys.map { key in
      if let known = ring.first(where: { $0.id == key.id && $0.bytes == key.bytes }) { return known }
      return Key(id: key.id, bytes: key.bytes, cipher: AEAD(key: key.bytes), since: isFirst ? .zero : now)
    }
  }

  /// The two newest of all keys, newest last.
  private var accepted: [Key] { Array(([secretKey].compactMap { $0 } + ring).suffix(2)) }

  /// The newest key that the others have had time to learn, or the only one.
  private func sealing(at now: Instant) -> Key? {
    let keys = accepted
    return keys.last { $0.since == .zero || now - $0.since >= ClusterLimits.keySpread } ?? keys.first
  }

  private func authenticated(_ id: UInt8) -> [UInt8] { [Self.format, id] + Array(cluster.string.utf8) }

  /// Nil while this node has no key: what it has to say goes over links.
  func seal(_ message: [UInt8], at now: Instant) -> [UInt8]? {
    guard let key = sealing(at: now) else { return nil }
    number &+= 1
    var writer = ByteWriter(reserving: message.count + Self.markBytes)
    writer.uint64(life)
    writer.uint64(number)
    writer.raw(message)
    let nonce = secureRandom(count: AEAD.nonceBytes)
    return [Self.format, key.id] + nonce + key.cipher.seal(writer.bytes, nonce: nonce, authenticating: authenticated(key.id))
  }

  /// The message, or nil from a stranger or when it has come before.
  func open(_ datagram: ArraySlice<UInt8>) -> SWIMMessage? {
    guard datagram.count > Self.overheadBytes, datagram.first == Self.format,
      let key = accepted.first(where: { $0.id == datagram[datagram.startIndex + 1] })
    else {
      strangers &+= 1
      return nil
    }
    let nonce = datagram.dropFirst(2).prefix(AEAD.nonceBytes)
    let sealed = datagram.dropFirst(2 + AEAD.nonceBytes)
    guard let opened = key.cipher.open(sealed, nonce: nonce, authenticating: authenticated(key.id)) else {
      strangers &+= 1
      return nil
    }
    var reader = ByteReader(opened)
    guard let life = try? reader.uint64(), let number = try? reader.uint64(),
      let message = try? SWIMMessage(decoding: opened.dropFirst(Self.markBytes))
    else {
      unreadable &+= 1
      return nil
    }
    guard window.accepts(ReplayWindow.Mark(life: life, number: number), from: message.sender) else {
      replays &+= 1
      return nil
    }
    return message
  }

  func forget(_ node: NodeName) { window.forget(node) }
}
