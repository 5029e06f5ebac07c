import Primitives

/// What became of one key: `old` is nil when it was unknown, `new` is nil when it was voided.
public struct RowChange: Hashable, Sendable {
  public let old: Row?
  public let new: Row?
}

/// Why a row was not taken.
public enum RowRejection: Hashable, Sendable {
  /// The payload's head could not be read.
  case malformed
  /// No certificates of the owner are known yet; its node row comes with the next comparison.
  case unknownOwner(RowKey)
  /// The signature is not the owner's.
  case signature(RowKey)
  /// The owner signed two different rows of one version.
  case equivocation(RowKey, RowVersion)
  /// The owner, or all together, have as many rows or bytes as they may.
  case quota(RowKey)
  /// Somebody holds a newer row of this node than this node wrote: its incarnation is behind.
  case ownRowAhead(RowVersion)
}

/// What a merge did. Rows already known or superseded are neither accepted nor rejected.
public struct MergeResult: Hashable, Sendable {
  public var accepted = 0
  public var changed: [RowChange] = []
  public var rejected: [RowRejection] = []
}

/// Why a row of this node could not be published.
public enum PublishError: Error, Hashable, Sendable, CustomStringConvertible {
  case nodeRowMissing
  case invalid(RowKey)
  case quota
  case signing

  public var description: String {
    switch self {
    case .nodeRowMissing: "publish the node row first: others verify workloads with its certificates"
    case .invalid(let key):
      "row '\(key.name)' does not fit the limits of a row: shorten its labels, ports, locality or certificates"
    case .quota: "this node has as many rows as one node may: withdraw some"
    case .signing: "the node key could not sign the row: check the node's certificate"
    }
  }
}

/// All rows of all owners, as this node knows them.
///
/// Each row has one writer, its owner, which versions and signs it; so there are no conflicts to resolve, and nobody can write
/// for another. Owners push changes; digests are compared on a timer and whenever gossip shows a difference, and what is lacking is
/// pulled page by page (Demers et al. 1987, anti-entropy).
///
/// *Floor.* An owner's node row names a floor: its rows below are void. A restarted owner voids its earlier life, and an owner
/// forgets tombstones by writing its rows anew above a new floor. No retention time decides whether a deleted row can rise again.
public struct Registry: Hashable, Sendable {
  /// Whether `signed` was signed with the key of the first certificate, and the chain proves that it is the owner's.
  /// A node row is passed with the certificates it carries itself.
  public typealias Verify = (_ signed: SignedRow, _ owner: NodeName, _ certificates: [[UInt8]]) -> Bool
  /// The signature of this node's key over the payload, or nil when there is none.
  public typealias Sign = (_ payload: [UInt8]) -> [UInt8]?

  /// To be carried out in order. Sending may fail silently.
  public enum Effect: Hashable, Sendable {
    case send(RegistryMessage, to: NodeName)
    /// Rows that changed; compile a new snapshot.
    case changed([RowChange])
    /// Count and log; a correct cluster causes only `unknownOwner`, and that briefly.
    case rejected(RowRejection, from: NodeName)
    /// Call `compact(sign:at:into:)`.
    case compactionDue
  }

  /// A pull under way: given up at `until` unless another page comes; `rest` is asked for after the current request.
  struct Pull: Hashable, Sendable {
    var until: Instant
    var rest: [RegistryMessage.OwnerRequest] = []
  }

  public let owner: NodeName
  public let configuration: RegistryConfiguration
  /// Incarnation of the next row of this node.
  public internal(set) var incarnation: UInt64
  /// Whether a peer had nothing more for us since the start or since `markStale`: only then publish and serve by it.
  public internal(set) var hasSynchronised = false
  /// Equal on nodes that hold equal rows.
  public internal(set) var digestHash: UInt64 = 0
  /// Grows with every change of rows or quarantine.
  public internal(set) var changeCount: UInt64 = 0
  var recent = RecentChanges()

  var sequence: UInt64 = 0
  var generator: SeededGenerator
  /// Sorted, so that no order depends on hashing.
  var ownerNames: [NodeName] = []
  var owners: [NodeName: OwnerRows] = [:]
  var bytes = 0
  /// Rows of forgotten owners are not taken again up to these versions.
  var forgotten: [NodeName: RowVersion] = [:]
  var quarantined: [RowKey: RowVersion] = [:]
  /// Live members besides this node, sorted.
  var peers: [NodeName] = []
  /// Peers that were asked and have not finished answering.
  var pulls: [NodeName: Pull] = [:]
  var nextCompareAt: Instant
  var compareAllowedAt: Instant = .zero
  /// Comparisons in a row that brought nothing: each doubles the gap, so that a difference nobody can settle stays cheap.
  var idleComparisons = 0
  var compactionAnnounced = false

  public init(
    owner: NodeName, incarnation: UInt64, configuration: RegistryConfiguration = RegistryConfiguration(), seed: UInt64,
    at now: Instant
  ) {
    self.owner = owner
    self.incarnation = min(incarnation, MembershipLimits.incarnationMax)
    self.configuration = configuration
    generator = SeededGenerator(seed: seed)
    nextCompareAt = now + generator.duration(in: .zero...configuration.compareInterval)
  }

  // MARK: Looking

  /// A workload and where it stands.
  public struct PlacedWorkload: Hashable, Sendable {
    public let owner: NodeName
    public let row: WorkloadRow
    public let version: RowVersion
    /// Port of mutual TLS of the owner.
    public let meshPort: UInt16
    /// Whether the owner is a live member.
    public let isReachable: Bool
  }

  /// All workloads in the order of their keys. Those of owners that are not live stay, marked unreachable.
  public func workloads(live: Set<NodeName>) -> [PlacedWorkload] {
    ownerNames.flatMap { name -> [PlacedWorkload] in
      guard let rows = owners[name] else { return [] }
      let port = Self.nodeRow(of: rows)?.meshPort ?? 15008
      return rows.rows.values.compactMap { stored -> PlacedWorkload? in
        guard case .workload(let row) = stored.row.content, !isQuarantined(stored.row) else { return nil }
        return PlacedWorkload(
          owner: name, row: row, version: stored.row.version, meshPort: port, isReachable: name == owner || live.contains(name))
      }.sorted { ($0.row.namespace, $0.row.name) < ($1.row.namespace, $1.row.name) }
    }
  }

  /// The node rows of all owners that have one, sorted by owner.
  public var nodes: [(owner: NodeName, row: NodeRow)] {
    ownerNames.compactMap { name in owners[name].flatMap(Self.nodeRow).map { (name, $0) } }
  }

  /// Everybody who has rows, sorted.
  public var ownersWithRows: [NodeName] { ownerNames }
  public func row(_ key: RowKey) -> Row? { owners[key.owner]?.rows[key]?.row }
  public func signedRow(_ key: RowKey) -> SignedRow? { owners[key.owner]?.rows[key]?.signed }
  /// Rows of all owners, tombstones included.
  public var rowCount: Int { ownerNames.reduce(0) { $0 + (owners[$1]?.rows.count ?? 0) } }

  private static func nodeRow(of rows: OwnerRows) -> NodeRow? {
    guard case .node(let row)? = rows.node?.row.content else { return nil }
    return row
  }

  // MARK: Owners that misbehave or are gone

  /// Hides a row at this version from `workloads`, because a consumer failed on it; it is still carried.
  public mutating func quarantine(_ key: RowKey, at version: RowVersion) {
    guard quarantined[key] != nil || quarantined.count < MembershipLimits.rowsPerOwnerMax else { return }
    quarantined[key] = version
    changeCount &+= 1
    recent.note([key])
  }

  func isQuarantined(_ row: Row) -> Bool { quarantined[row.key] == row.version }

  /// Removes all rows of an owner that will not come back; it may return with newer ones, and with any after `readmit`.
  public mutating func forget(_ name: NodeName, into effects: inout [Effect]) {
    guard name != owner, let rows = owners.removeValue(forKey: name) else { return }
    ownerNames.removeAll { $0 == name }
    digestHash = digestHash &- rows.digest(of: name)
    bytes -= rows.bytes
    if forgotten.count < MembershipLimits.ownersMax { forgotten[name] = rows.version }
    changeCount &+= 1
    recent.note(rows.rows.keys.sorted())
    effects.append(.changed(rows.inOrder.map { RowChange(old: $0.row, new: nil) }))
  }

  /// Takes rows of these owners again, whatever was forgotten of them: the cluster has let them in, perhaps anew.
  public mutating func readmit(_ names: Set<NodeName>) {
    guard !forgotten.isEmpty else { return }
    forgotten = forgotten.filter { !names.contains($0.key) }
  }

  /// After a long stall or partition: nothing is served as fresh before a peer was compared with again.
  public mutating func markStale(at now: Instant) {
    hasSynchronised = false
    nextCompareAt = now
  }

  // MARK: Storing

  /// Stores a row in its owner's table and keeps the sums.
  mutating func store(_ row: Row, _ signed: SignedRow, at now: Instant) -> [RowChange] {
    let name = row.key.owner
    var rows = owners[name] ?? OwnerRows()
    if owners[name] == nil {
      ownerNames.insert(name, at: ownerNames.firstIndex { name < $0 } ?? ownerNames.endIndex)
    } else {
      digestHash = digestHash &- rows.digest(of: name)
    }
    bytes -= rows.bytes
    let changes = rows.store(row, signed, at: now)
    bytes += rows.bytes
    digestHash = digestHash &+ rows.digest(of: name)
    owners[name] = rows
    for change in changes where change.new?.version != change.old?.version {
      if let key = (change.new ?? change.old)?.key { quarantined[key] = nil }
    }
    changeCount &+= 1
    recent.note(changes.compactMap { ($0.new ?? $0.old)?.key })
    return changes
  }
}
