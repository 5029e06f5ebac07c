import Primitives

/// All rows of one owner, with the sums that make comparing cheap.
struct OwnerRows: Hashable, Sendable {
  struct Stored: Hashable, Sendable {
    let row: Row
    let signed: SignedRow
    /// When this node took or wrote it, on its own clock.
    let storedAt: Instant
    let hash: UInt64
  }

  private(set) var rows: [RowKey: Stored] = [:]
  /// The highest version seen.
  private(set) var version = RowVersion.zero
  /// Rows below are void: those of an earlier life of the owner, or compacted away.
  private(set) var floor = RowVersion.zero
  /// Chain from the node row; empty until there is one.
  private(set) var certificates: [[UInt8]] = []
  private(set) var bytes = 0
  /// Sum of the rows' hashes, so that it does not depend on their order.
  private(set) var hash: UInt64 = 0
  /// Set when the owner signed two rows of one version: asking others again would not help until it goes on.
  var equivocatedAt: RowVersion?

  var inOrder: [Stored] { rows.values.sorted { $0.row.version < $1.row.version } }
  var node: Stored? { rows.values.first { $0.row.key.kind == .node } }
  var tombstones: [Stored] { inOrder.filter(\.row.isTombstone) }

  /// Bytes the owner would have after storing a row.
  func bytes(afterStoring signed: SignedRow, for key: RowKey) -> Int { bytes - (rows[key]?.signed.bytes ?? 0) + signed.bytes }

  /// Stores a row and returns what changed by it, the rows it voids included.
  mutating func store(_ row: Row, _ signed: SignedRow, at now: Instant) -> [RowChange] {
    let stored = Stored(row: row, signed: signed, storedAt: now, hash: Self.hash(signed.payload))
    let old = rows.updateValue(stored, forKey: row.key)
    bytes += signed.bytes - (old?.signed.bytes ?? 0)
    hash = hash &+ stored.hash &- (old?.hash ?? 0)
    version = max(version, row.version)
    if let equivocated = equivocatedAt, row.version > equivocated { equivocatedAt = nil }
    var changes = [RowChange(old: old?.row, new: row)]
    if case .node(let node) = row.content {
      certificates = node.certificates
      if node.floor > floor {
        floor = node.floor
        changes += removeBelowFloor()
      }
    }
    return changes
  }

  private mutating func removeBelowFloor() -> [RowChange] {
    var changes: [RowChange] = []
    for stored in inOrder where stored.row.version < floor && stored.row.key.kind != .node {
      rows[stored.row.key] = nil
      bytes -= stored.signed.bytes
      hash = hash &- stored.hash
      changes.append(RowChange(old: stored.row, new: nil))
    }
    return changes
  }

  /// FNV-1a, 64 bits. An owner that makes its own rows collide only hides its own news.
  static func hash(_ bytes: [UInt8]) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return hash
  }

  /// What the owner adds to the digest of the whole registry.
  func digest(of owner: NodeName) -> UInt64 {
    var writer = ByteWriter(reserving: 80)
    writer.string(owner.string)
    version.encode(into: &writer)
    writer.uint64(hash)
    return Self.hash(writer.bytes)
  }
}
