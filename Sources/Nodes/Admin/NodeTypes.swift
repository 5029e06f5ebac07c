/// What the admin socket answers and accepts about tokens, nodes and roles, as JSON.

public struct TokenRequest: Codable, Sendable {
  public var ttlSeconds: UInt64
  public var uses: UInt32
  public init(ttlSeconds: UInt64, uses: UInt32) {
    self.ttlSeconds = ttlSeconds
    self.uses = uses
  }
}

/// A new token. It is shown once and kept nowhere.
public struct TokenReply: Codable, Sendable {
  public var id: String
  public var token: String
  public var expires: String
}

/// One row of `mesh-node token list`.
public struct TokenInfo: Codable, Sendable, Hashable {
  public var id: String
  /// valid, expired or used.
  public var state: String
  public var usesLeft: Int
  public var expires: String
  public var author: String
  public var joined: [String]
}

/// The node, or the token's id, that a request is about.
public struct NameRequest: Codable, Sendable {
  public var name: String
  public init(name: String) { self.name = name }
}

public struct TransferRequest: Codable, Sendable {
  public var role: String
  public var node: String
  public init(role: String, node: String) {
    self.role = role
    self.node = node
  }
}
