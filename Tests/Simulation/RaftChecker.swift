import Consensus
import Primitives

/// Watches every server of a simulated cluster and notes what Raft promises never to happen (Raft thesis, figure 3.2).
public struct RaftChecker: Sendable {
  /// Each begins with the name of the promise that was broken.
  public private(set) var violations: [String] = []
  private var leaders: [Term: NodeName] = [:]
  /// The entry every state machine applies at an index.
  public private(set) var decided: [LogIndex: LogEntry] = [:]
  public private(set) var lastDecided = LogIndex.zero
  /// The term in which an entry was decided, or a later one: that of the first server known to have applied it.
  private var decidedIn: [LogIndex: Term] = [:]
  private var holders: [RoleTenure: NodeName] = [:]

  private struct RoleTenure: Hashable {
    let role: Role
    let epoch: RoleEpoch
  }

  public init() {}

  mutating func note(_ promise: String, _ detail: String) {
    if violations.count < 20 { violations.append("\(promise): \(detail)") }
  }

  /// Election safety and leader completeness.
  mutating func becameLeader(_ server: NodeName, _ term: Term, disk: RecoveredState) {
    if let other = leaders[term], other != server { note("election safety", "\(other) and \(server) lead term \(term)") }
    leaders[term] = server
    let start = disk.snapshot?.position.index ?? .zero
    var held: [LogIndex: LogEntry] = [:]
    for entry in disk.entries { held[entry.index] = entry }
    var index = start.next
    while index <= lastDecided {
      if let entry = decided[index], let before = decidedIn[index], before < term, held[index] != entry {
        return note("leader completeness", "\(server) leads term \(term) without the decided entry \(entry.position)")
      }
      index = index.next
    }
  }

  /// State-machine safety. `term`: that of the server; nil where it says nothing of when the entry was decided.
  mutating func applied(_ server: NodeName, _ entry: LogEntry, in term: Term?) {
    if let other = decided[entry.index], other != entry {
      note("state-machine safety", "\(server) applies \(entry.position) where another applied \(other.position)")
    }
    decided[entry.index] = entry
    if let term { decidedIn[entry.index] = min(decidedIn[entry.index] ?? term, term) }
    lastDecided = max(lastDecided, entry.index)
  }

  /// Log matching, between two durable logs.
  mutating func compare(_ a: (NodeName, RecoveredState), _ b: (NodeName, RecoveredState)) {
    var other: [LogIndex: LogEntry] = [:]
    for entry in b.1.entries { other[entry.index] = entry }
    let shared = a.1.entries.filter { other[$0.index] != nil }
    guard let agreed = shared.last(where: { other[$0.index]?.term == $0.term }) else { return }
    for entry in shared where entry.index <= agreed.index && other[entry.index] != entry {
      return note("log matching", "\(a.0) and \(b.0) share \(agreed.position) but differ at \(entry.index)")
    }
  }

  mutating func acts(_ server: NodeName, _ role: Role, _ epoch: RoleEpoch) {
    let tenure = RoleTenure(role: role, epoch: epoch)
    if let other = holders[tenure], other != server {
      note("one holder an epoch", "\(other) and \(server) act as \(role) in epoch \(epoch)")
    }
    holders[tenure] = server
  }

  /// How many epochs were acted in.
  public var tenures: Int { holders.count }
}
