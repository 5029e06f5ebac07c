import Consensus
import Glibc
import Primitives

/// What is done to the data directory of a node that does not run.
public enum OfflineRecovery {
  /// Writes the beginning of a cluster of one voter into an empty data directory, which exists.
  public static func begin(
    _ state: ControlState, directory: String, cluster: String, node: NodeName
  ) throws(StorageError) {
    let lock = try DirectoryLock(directory: directory)
    defer { withExtendedLifetime(lock) {} }
    let store = try RaftStore(directory: directory, cluster: cluster, node: node)
    let snapshot = Snapshot(position: state.applied, configuration: state.configuration, state: state.snapshot())
    try store.write(Persistence(hardState: HardState(term: state.applied.term), snapshot: snapshot, resetsLog: true))
  }

  /// How far a node's log goes, and whom it takes for voters.
  public struct LogEnd: Sendable {
    public let last: LogPosition
    public let voters: [NodeName]
    /// The disk has lost entries that this node had promised to keep.
    public let lacksEntries: Bool
  }

  /// Reads how far the log of a node goes.
  public static func logEnd(directory: String, cluster: String, node: NodeName) throws(StorageError) -> LogEnd {
    let lock = try DirectoryLock(directory: directory)
    defer { withExtendedLifetime(lock) {} }
    return end(of: try RaftStore(directory: directory, cluster: cluster, node: node).load())
  }

  /// Makes this node the only voter, by an entry behind all that it holds: what others had decided beyond that is lost.
  public static func becomeOnlyVoter(
    directory: String, cluster: String, node: NodeName
  ) throws(StorageError) -> LogEnd {
    let lock = try DirectoryLock(directory: directory)
    defer { withExtendedLifetime(lock) {} }
    let store = try RaftStore(directory: directory, cluster: cluster, node: node)
    let found = try store.load()
    let before = end(of: found)
    let term = Term(max(found.hardState.term.number, before.last.term.number) &+ 1)
    let entry = LogEntry(
      index: before.last.index.next, term: term, payload: .configuration(ClusterConfiguration(voters: [node])))
    try store.write(Persistence(hardState: HardState(term: term, vote: node), entries: [entry]))
    try store.forgetHealing()
    return before
  }

  private static func end(of found: RecoveredState) -> LogEnd {
    var configuration = found.snapshot?.configuration ?? ClusterConfiguration()
    for case .configuration(let later) in found.entries.map(\.payload) { configuration = later }
    return LogEnd(
      last: found.entries.last?.position ?? found.snapshot?.position ?? .zero, voters: configuration.voters,
      lacksEntries: found.healUntil != nil)
  }
}
