import Primitives
import Transport

/// Certificate chains on disk, leaf first. Only one that fits its key and identity is read or written.
enum StoredChain {
  /// The chain at `path`; nil when there is none, it fits another key or identity, or it has expired at `validAt`.
  static func load(_ path: String, key: PrivateKey, id: SPIFFEID, validAt: Int64) throws -> [Certificate]? {
    guard fileExists(path), let chain = try? Certificate.load(path), let leaf = chain.first, leaf.notAfter > validAt,
      try fits(leaf, key, id)
    else { return nil }
    return chain
  }

  static func replace(_ path: String, with chain: [Certificate], key: PrivateKey, id: SPIFFEID) throws {
    guard let leaf = chain.first, try fits(leaf, key, id) else {
      throw FileError("the issued certificate is not for the key and identity \(id)")
    }
    try replaceFile(path, with: chain.flatMap(\.pem), mode: 0o644)
  }

  private static func fits(_ leaf: Certificate, _ key: PrivateKey, _ id: SPIFFEID) throws -> Bool {
    try leaf.publicKey == key.publicKey && leaf.spiffeID() == id
  }
}
