import Consensus
import Membership
import Primitives

/// Watches a cluster of whole nodes. The names of what it notes are the promises that were broken.
public struct NodeChecker: Sendable {
  public private(set) var raft = RaftChecker()
  public private(set) var violations: [String] = []
  /// What each owner wrote under each version.
  private var written: [RowKey: [RowVersion: [UInt8]]] = [:]
  /// The place in the log of the latest operation that was answered.
  public private(set) var answered = LogIndex.zero
  /// The epoch of the configuration role as the log says it, up to `raft.lastDecided`.
  private var configurationEpoch = RoleEpoch.zero
  private var held: [HeldRow: RowVersion] = [:]

  private struct HeldRow: Hashable {
    let node: NodeName
    let key: RowKey
  }

  public init() {}

  public var all: [String] { raft.violations + violations }

  mutating func note(_ promise: String, _ detail: String) {
    if violations.count < 20 { violations.append("\(promise): \(detail)") }
  }

  mutating func becameLeader(_ node: NodeName, _ term: Term, disk: RecoveredState) { raft.becameLeader(node, term, disk: disk) }
  mutating func acts(_ node: NodeName, _ role: Role, _ epoch: RoleEpoch) { raft.acts(node, role, epoch) }
  mutating func compare(_ a: (NodeName, RecoveredState), _ b: (NodeName, RecoveredState)) { raft.compare(a, b) }

  mutating func applied(_ node: NodeName, _ entry: LogEntry, in term: Term?) {
    let isNew = entry.index > raft.lastDecided
    raft.applied(node, entry, in: term)
    guard isNew, case .command(let bytes) = entry.payload, let command = try? Command(decoding: bytes) else { return }
    if case .assignRole(let grant) = command, grant.role == .configuration, grant.epoch == configurationEpoch.next {
      configurationEpoch = grant.epoch
    }
  }

  // MARK: Roles

  /// A change of the configuration came into force that was made under an epoch.
  mutating func changed(under epoch: RoleEpoch, by node: NodeName) {
    if epoch != configurationEpoch {
      note("fenced roles", "\(node) applied a change of epoch \(epoch) in epoch \(configurationEpoch)")
    }
  }

  // MARK: Linearizability

  /// An operation that began when `floor` was the latest answered place was itself answered at `place`. The log orders all
  /// operations; so what is left to show is that real time agrees with it.
  mutating func answeredWrite(at place: LogIndex, floor: LogIndex) {
    if place <= floor { note("linearizable writes", "a write took place \(place) after one at \(floor) was answered") }
    answered = max(answered, place)
  }

  mutating func answeredRead(at place: LogIndex, floor: LogIndex) {
    if place < floor { note("linearizable reads", "a read saw \(place) after \(floor) was answered") }
    answered = max(answered, place)
  }

  // MARK: Rows

  mutating func wrote(_ row: Row) { written[row.key, default: [:]][row.version] = row.payload() }

  /// A node begins with no rows.
  mutating func began(_ node: NodeName) { held = held.filter { $0.key.node != node } }

  mutating func forgot(_ node: NodeName, _ key: RowKey) { held[HeldRow(node: node, key: key)] = nil }

  /// A row that a node holds.
  mutating func holds(_ node: NodeName, _ row: Row) {
    let place = HeldRow(node: node, key: row.key)
    if let known = held[place], row.version < known {
      note("rows never go back", "\(node) holds \(row.key) \(row.version) after \(known)")
    }
    held[place] = row.version
    guard let payload = written[row.key]?[row.version] else {
      return note("rows are their owners'", "\(node) holds \(row.key) \(row.version), which \(row.key.owner) never wrote")
    }
    if payload != row.payload() { note("rows are their owners'", "\(node) holds \(row.key) \(row.version) changed") }
  }

  // MARK: Bounds

  mutating func bounded(_ node: NodeName, _ what: String, _ count: Int, _ limit: Int) {
    if count > limit { note("bounded queues", "\(node) has \(count) \(what), more than \(limit)") }
  }
}
