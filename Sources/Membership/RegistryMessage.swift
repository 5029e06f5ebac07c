import Primitives

/// One message between registries, on the bulk lane of a link.
public enum RegistryMessage: Hashable, Sendable {
  /// What the sender has; the receiver asks for what it lacks and answers with its own digest when `wantsReply`.
  case digest([OwnerDigest], wantsReply: Bool)
  /// Send me what you have of these owners.
  case request([OwnerRequest])
  /// Rows, in an order in which they verify; `continuations` ask for more of owners whose rows did not fit.
  case rows([SignedRow], continuations: [OwnerRequest])

  /// One owner in short.
  public struct OwnerDigest: Hashable, Sendable {
    public let owner: NodeName
    /// The highest version of the owner's rows.
    public let version: RowVersion
    /// Sum of the hashes of the owner's rows.
    public let hash: UInt64

    public init(owner: NodeName, version: RowVersion, hash: UInt64) {
      self.owner = owner
      self.version = version
      self.hash = hash
    }
  }

  /// The rows of an owner above a version.
  public struct OwnerRequest: Hashable, Sendable {
    public let owner: NodeName
    public let after: RowVersion

    public init(owner: NodeName, after: RowVersion) {
      self.owner = owner
      self.after = after
    }
  }
}

extension RegistryMessage {
  private static let format: UInt8 = 1
  private enum Tag: UInt8 { case digest = 1, request, rows }
  /// Bytes of the largest message: a page of rows may exceed its budget by one row.
  public static let bytesMax = MembershipLimits.pageBytesMax + 2 * MembershipLimits.payloadBytesMax

  /// The bytes that `init(decoding:)` reads.
  public func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 1024)
    writer.uint8(Self.format)
    switch self {
    case .digest(let owners, let wantsReply):
      writer.uint8(Tag.digest.rawValue)
      writer.bool(wantsReply)
      writer.count(owners.count)
      for owner in owners {
        writer.string(owner.owner.string)
        owner.version.encode(into: &writer)
        writer.uint64(owner.hash)
      }
    case .request(let requests):
      writer.uint8(Tag.request.rawValue)
      Self.encode(requests, into: &writer)
    case .rows(let rows, let continuations):
      writer.uint8(Tag.rows.rawValue)
      writer.count(rows.count)
      for row in rows { row.encode(into: &writer) }
      Self.encode(continuations, into: &writer)
    }
    return writer.bytes
  }

  private static func encode(_ requests: [OwnerRequest], into writer: inout ByteWriter) {
    writer.count(requests.count)
    for request in requests {
      writer.string(request.owner.string)
      request.after.encode(into: &writer)
    }
  }

  /// Reads a whole message from untrusted bytes; rows stay sealed in their signed payloads.
  public init(decoding bytes: ArraySlice<UInt8>) throws(ByteError) {
    guard bytes.count <= Self.bytesMax else { throw .tooLong }
    var reader = ByteReader(bytes)
    guard try reader.uint8() == Self.format, let tag = Tag(rawValue: try reader.uint8()) else { throw .malformed }
    switch tag {
    case .digest:
      let wantsReply = try reader.bool()
      var owners: [OwnerDigest] = []
      for _ in 0..<(try reader.count(max: MembershipLimits.digestOwnersMax)) {
        let owner = try reader.nodeName()
        let version = try RowVersion(from: &reader)
        owners.append(OwnerDigest(owner: owner, version: version, hash: try reader.uint64()))
      }
      self = .digest(owners, wantsReply: wantsReply)
    case .request:
      self = .request(try Self.requests(from: &reader))
    case .rows:
      var rows: [SignedRow] = []
      for _ in 0..<(try reader.count(max: MembershipLimits.rowsPerMessageMax)) { rows.append(try SignedRow(from: &reader)) }
      self = .rows(rows, continuations: try Self.requests(from: &reader))
    }
    try reader.finish()
  }

  public init(decoding bytes: [UInt8]) throws(ByteError) { try self.init(decoding: bytes[...]) }

  private static func requests(from reader: inout ByteReader) throws(ByteError) -> [OwnerRequest] {
    var requests: [OwnerRequest] = []
    for _ in 0..<(try reader.count(max: MembershipLimits.requestOwnersMax)) {
      let owner = try reader.nodeName()
      requests.append(OwnerRequest(owner: owner, after: try RowVersion(from: &reader)))
    }
    return requests
  }
}
