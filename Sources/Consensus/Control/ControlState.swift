import Primitives

/// What the nodes agree on: configuration objects, roles, the trust bundle, service addresses and admitted nodes.
///
/// A deterministic state machine over committed log entries: two nodes that applied the same entries hold equal states.
public struct ControlState: Sendable, Equatable {
  /// The last entry applied.
  public internal(set) var applied: LogPosition
  /// The index of the last entry that changed configuration objects; the number of the configuration state.
  public internal(set) var revision: LogIndex
  /// SHA-256 over every entry applied since the beginning, each chained to the one before: equal at one index exactly
  /// when the histories are equal, so entries pulled from any peer can be checked against a voter's word.
  public internal(set) var history: Digest
  public internal(set) var objects: [ObjectKey: StoredObject]
  public internal(set) var roles: RoleTable
  public internal(set) var trust: TrustBundle
  public internal(set) var addresses: [String: ServiceAddress]
  public internal(set) var nodes: [NodeName: AdmittedNode]
  /// Sorted by id.
  public internal(set) var tokens: [JoinToken] = []
  /// Oldest first; empty while gossip is sealed with the key made from the join secret.
  public internal(set) var gossipKeys: [GossipKey] = []
  /// Who takes part in consensus, as the last entry that said so.
  public internal(set) var configuration = ClusterConfiguration()
  /// Nodes that are not `active`.
  public internal(set) var postures: [NodeName: NodePosture] = [:]
  /// The latest changes of the configuration, oldest first.
  public internal(set) var revisions = RevisionHistory()
  var outcomes: OutcomeMemory
  /// Bytes of all objects.
  var objectBytes: Int

  public init() {
    applied = .zero
    revision = .zero
    history = .zero
    objects = [:]
    roles = RoleTable()
    trust = TrustBundle()
    addresses = [:]
    nodes = [:]
    outcomes = OutcomeMemory()
    objectBytes = 0
  }

  /// Objects in key order.
  public var sortedObjects: [(key: ObjectKey, object: StoredObject)] {
    objects.sorted { $0.key < $1.key }.map { (key: $0.key, object: $0.value) }
  }

  /// Applies the entry after `applied`. On an error nothing is changed and nothing more may be applied: this node's
  /// state can no longer follow the others', and skipping would hide that.
  public mutating func apply(_ entry: LogEntry) throws(ControlStateError) -> AppliedEntry {
    guard entry.index == applied.index.next else { throw .gap(expected: applied.index.next, found: entry.index) }
    var result = AppliedEntry(position: entry.position, outcome: nil, touched: [])
    switch entry.payload {
    case .command(let bytes):
      let command: Command
      do { command = try Command(decoding: bytes) } catch { throw .undecodable(entry.position, error) }
      result = perform(command, at: entry.position)
    case .configuration(let members): configuration = members
    case .noop: break
    }
    applied = entry.position
    history = Self.chain(history, entry)
    return result
  }

  /// The digest after `entry`, given the one before.
  static func chain(_ history: Digest, _ entry: LogEntry) -> Digest {
    var writer = ByteWriter(reserving: 64 + entry.cost)
    writer.raw(history.bytes)
    writer.uint64(entry.index.number)
    writer.uint64(entry.term.number)
    entry.payload.encode(to: &writer)
    return SHA256.digest(of: writer.bytes)
  }
}

/// A configuration object as it stands.
public struct StoredObject: Hashable, Sendable {
  public let bytes: [UInt8]
  /// The entry that created it; kept by updates, new after delete and create. Orders objects by age.
  public let created: LogIndex
  /// The entry that last wrote it.
  public let version: LogIndex

  public init(bytes: [UInt8], created: LogIndex, version: LogIndex) {
    self.bytes = bytes
    self.created = created
    self.version = version
  }
}

/// Every CA certificate that peers accept.
public struct TrustBundle: Hashable, Sendable {
  /// The entry that last changed it.
  public internal(set) var version: LogIndex = .zero
  /// Sorted by node, then fingerprint.
  public internal(set) var anchors: [TrustAnchor] = []

  public init() {}
}

/// A node's CA certificate.
public struct TrustAnchor: Hashable, Sendable {
  public let node: NodeName
  /// DER.
  public let certificate: [UInt8]
  /// SHA-256 of the DER bytes.
  public let fingerprint: Digest
  /// The entry that added it.
  public let added: LogIndex

  static func precedes(_ a: TrustAnchor, _ b: TrustAnchor) -> Bool {
    a.node != b.node ? a.node < b.node : a.fingerprint.bytes.lexicographicallyPrecedes(b.fingerprint.bytes)
  }
}

/// The outcomes of the latest change sets, oldest first, to answer repeated requests.
struct OutcomeMemory: Hashable, Sendable {
  private(set) var order: [RequestID] = []
  private(set) var outcomes: [RequestID: Outcome] = [:]

  subscript(id: RequestID) -> Outcome? { outcomes[id] }

  mutating func remember(_ outcome: Outcome, for id: RequestID) {
    guard outcomes.updateValue(outcome, forKey: id) == nil else { return }
    order.append(id)
    if order.count > ConsensusLimits.outcomesMax { outcomes[order.removeFirst()] = nil }
  }
}

/// Why the control state could not go on. Never answered by starting over: data would be lost silently.
public enum ControlStateError: Error, Hashable, Sendable, CustomStringConvertible {
  case gap(expected: LogIndex, found: LogIndex)
  case undecodable(LogPosition, ByteError)
  /// A snapshot whose bytes are not what was written.
  case corruptSnapshot(String)
  /// A snapshot written by a newer version.
  case unknownVersion(UInt8)

  public var description: String {
    switch self {
    case .gap(let expected, let found): "entry \(found) was given to the control state where \(expected) comes next"
    case .undecodable(let position, let error):
      "the log entry \(position) cannot be decoded (\(error)): this node stopped applying; "
        + "upgrade it to the version of the other nodes"
    case .corruptSnapshot(let detail):
      "the snapshot of the control state is corrupt (\(detail)): restart this node with an empty data directory "
        + "so that it gets the state from the others"
    case .unknownVersion(let version):
      "the snapshot of the control state has format \(version), which this version does not know: upgrade this node"
    }
  }
}
