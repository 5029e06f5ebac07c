import Primitives

/// Names a join token without telling its secret.
public struct JoinTokenID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let number: UInt64
  public init(_ number: UInt64) { self.number = number }

  /// Reads the sixteen digits that `description` writes.
  public init?(parsing text: String) {
    guard text.utf8.count == 16 else { return nil }
    var number: UInt64 = 0
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39: number = number << 4 | UInt64(byte - 0x30)
      case 0x61...0x66: number = number << 4 | UInt64(byte - 0x57)
      default: return nil
      }
    }
    self.number = number
  }

  public static func < (a: JoinTokenID, b: JoinTokenID) -> Bool { a.number < b.number }
  public var description: String {
    var writer = ByteWriter(reserving: 8)
    writer.uint64(number)
    return hexString(writer.bytes)
  }
}

/// Lets nodes into the cluster that no cluster file names, a counted number of them, until it expires.
public struct JoinToken: Hashable, Sendable {
  public static let verifierBytes = 32

  public let id: JoinTokenID
  /// What a proof of the token is checked with, derived one way from its secret; the secret is kept nowhere.
  public let verifier: [UInt8]
  /// Wall-clock milliseconds since 1970.
  public let createdAt: UInt64
  /// Wall-clock milliseconds since 1970 from which it lets nobody in.
  public let expiresAt: UInt64
  /// Nodes it may still let in.
  public internal(set) var usesLeft: UInt32
  /// Who made it, for audit.
  public let author: String
  /// The nodes it let in, in order.
  public internal(set) var joined: [NodeName] = []

  public init(
    id: JoinTokenID, verifier: [UInt8], createdAt: UInt64, expiresAt: UInt64, uses: UInt32, author: String
  ) {
    self.id = id
    self.verifier = verifier
    self.createdAt = createdAt
    self.expiresAt = expiresAt
    usesLeft = uses
    self.author = author
  }

  /// Why it lets nobody in at that wall-clock time, or nil when it does.
  public func refusal(at milliseconds: UInt64) -> Outcome.Reason? {
    if milliseconds >= expiresAt { return .tokenExpired }
    return usesLeft == 0 ? .tokenUsed : nil
  }

  func encode(to writer: inout ByteWriter) {
    writer.uint64(id.number)
    writer.raw(verifier)
    writer.uint64(createdAt)
    writer.uint64(expiresAt)
    writer.uint32(usesLeft)
    writer.string(author)
    writer.count(joined.count)
    for node in joined { writer.string(node.string) }
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    id = JoinTokenID(try reader.uint64())
    verifier = Array(try reader.bytes(count: Self.verifierBytes))
    createdAt = try reader.uint64()
    expiresAt = try reader.uint64()
    usesLeft = try reader.uint32()
    guard usesLeft <= ConsensusLimits.tokenUsesMax else { throw .malformed }
    author = try reader.string(max: ConsensusLimits.noteBytesMax)
    joined = try reader.list(max: Int(ConsensusLimits.tokenUsesMax)) { r throws(ByteError) in try r.nodeName() }
  }
}

/// A node that proved a token to a member, which vouches for it.
public struct TokenJoin: Hashable, Sendable {
  public let token: JoinTokenID
  public let node: AdmittedNode
  /// The authority that the node offered, in DER.
  public let certificate: [UInt8]
  /// Wall-clock milliseconds at the member that vouches: what the token's end is compared with.
  public let at: UInt64

  public init(token: JoinTokenID, node: AdmittedNode, certificate: [UInt8], at: UInt64) {
    self.token = token
    self.node = node
    self.certificate = certificate
    self.at = at
  }

  func encode(to writer: inout ByteWriter) {
    writer.uint64(token.number)
    node.encode(to: &writer)
    writer.lengthPrefixed(certificate)
    writer.uint64(at)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    token = JoinTokenID(try reader.uint64())
    node = try AdmittedNode(from: &reader)
    certificate = Array(try reader.lengthPrefixed(max: ConsensusLimits.certificateBytesMax))
    at = try reader.uint64()
  }
}
