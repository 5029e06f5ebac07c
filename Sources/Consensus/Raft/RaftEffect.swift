import Primitives

/// What a driver carries out for a Raft server.
///
/// **Order is a contract.** Effects are carried out strictly in the order they came, across calls of `handle`. A `persist`
/// is durable before any later effect begins: in particular no later `send` may leave and no later `apply` may be seen.
/// Effects before a `persist` need not wait for it: a leader's appends travel while its own disk writes (Raft thesis
/// §10.2.1). When a `persist` fails, drop every later effect and feed `storageFailed`, or `storageFull` when nothing of it was
/// written.
public enum RaftEffect: Sendable, Equatable {
  case persist(Persistence)
  /// Best effort: messages may be lost, delayed, repeated and reordered.
  case send(RaftMessage, to: NodeName)
  /// Committed entries, in order, each exactly once per process life after the last `installSnapshot`.
  case apply([LogEntry])
  /// Replaces the whole state machine; later `apply`s continue after its position.
  case installSnapshot(Snapshot)
  case becameLeader(Term)
  /// This server no longer leads. Outcomes of accepted, unapplied proposals are unknown to it: they may still commit.
  case steppedDown(Term)
  /// The leader this server follows, as far as it knows.
  case leaderChanged(NodeName?, Term)
  /// The proposal stands in the log. It committed if the entry applied at `position.index` has this term, else it is lost.
  case accepted(RequestToken, at: LogPosition)
  case rejected(RequestToken, RejectionReason)
  /// The read may be answered once everything up to the index is applied.
  case readReady(RequestToken, LogIndex)
  /// The configuration in effect, at the index of its entry.
  case configurationChanged(ClusterConfiguration, at: LogIndex)
  /// The server met a state that Raft excludes and stopped. Nothing more comes from it.
  case failed(RaftFailure)
}

/// One atomic write. Steps in this order: snapshot (drop everything up to it, or the whole log when `resetsLog`), truncate,
/// append, hard state.
public struct Persistence: Sendable, Equatable {
  public var hardState: HardState?
  public var snapshot: Snapshot?
  /// True when the stored log conflicts with the snapshot and has to go whole.
  public var resetsLog = false
  /// Entries from here on are removed before `entries` are appended.
  public var truncateFrom: LogIndex?
  public var entries: [LogEntry] = []

  public init(
    hardState: HardState? = nil, snapshot: Snapshot? = nil, resetsLog: Bool = false, truncateFrom: LogIndex? = nil,
    entries: [LogEntry] = []
  ) {
    self.hardState = hardState
    self.snapshot = snapshot
    self.resetsLog = resetsLog
    self.truncateFrom = truncateFrom
    self.entries = entries
  }

  public var isEmpty: Bool { hardState == nil && snapshot == nil && truncateFrom == nil && entries.isEmpty }
}

/// Why a proposal, read or configuration change was not taken. Nothing of it is in the log.
public enum RejectionReason: Sendable, Hashable {
  /// Ask the node named, or any other after an election.
  case notLeader(hint: NodeName?)
  /// Leadership is being handed over; retry in a moment.
  case transferring
  /// Too much waits for a majority; retry later.
  case overloaded
  case tooLarge(bytes: Int)
  /// Another change is not committed yet, or this leader has committed nothing in its term yet; retry.
  case changeInProgress
  /// The learner has to catch up before it can vote; retry.
  case notCaughtUp
  /// The change would leave fewer live voters than a majority.
  case wouldLoseQuorum
  /// The change names a node that is already so, or too many nodes.
  case invalidChange
}

public enum RaftFailure: Sendable, Hashable, CustomStringConvertible {
  case storage
  /// A leader's log contradicts entries that were committed here: one of the two disks lost what it promised to keep.
  case committedConflict(LogPosition)

  public var description: String {
    switch self {
    case .storage: "the Raft storage failed; this node takes no part in consensus until it is restarted"
    case .committedConflict(let position):
      "the leader's log has \(position), which contradicts what is committed here: a disk lost data; "
        + "restart this node with an empty data directory so that it joins again"
    }
  }
}
