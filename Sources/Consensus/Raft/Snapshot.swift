import Primitives

/// The state machine's state after the entry at `position`, which replaces the log up to there (Raft thesis §5).
public struct Snapshot: Hashable, Sendable {
  public let position: LogPosition
  /// The members as of `position`.
  public let configuration: ClusterConfiguration
  public let state: [UInt8]
  /// SHA-256 of `state`; checked when the snapshot is loaded or received.
  public let digest: Digest

  public init(position: LogPosition, configuration: ClusterConfiguration, state: [UInt8]) {
    self.init(position: position, configuration: configuration, state: state, digest: SHA256.digest(of: state))
  }

  /// Takes a digest read with the state; `isIntact` tells whether they belong together.
  public init(position: LogPosition, configuration: ClusterConfiguration, state: [UInt8], digest: Digest) {
    self.position = position
    self.configuration = configuration
    self.state = state
    self.digest = digest
  }

  public var isIntact: Bool { SHA256.digest(of: state) == digest }
}

/// What a server must never forget: its term and whom it voted for in it (Raft thesis §3.4), and what its disk can vouch for.
public struct HardState: Hashable, Sendable {
  public var term: Term
  public var vote: NodeName?
  /// Voted, without a log, for the first leader of its cluster: the disk is as old as the cluster, and lost nothing.
  public var isFounder: Bool
  /// Set while a server that came without a log to a cluster that had one may not vote: until an entry of this term or a later
  /// one is decided.
  public var newcomerSince: Term?

  public init(term: Term = .zero, vote: NodeName? = nil, isFounder: Bool = false, newcomerSince: Term? = nil) {
    self.term = term
    self.vote = vote
    self.isFounder = isFounder
    self.newcomerSince = newcomerSince
  }
}

/// What storage held when the process started.
public struct RecoveredState: Hashable, Sendable {
  public var hardState: HardState
  public var snapshot: Snapshot?
  /// Contiguous, starting at or before the index after the snapshot's.
  public var entries: [LogEntry]
  /// Entries up to here were promised, and those missing have rotted: they have to come from the others again before this
  /// server may vote. Nil while the log is whole.
  public var healUntil: LogIndex?

  public init(
    hardState: HardState = HardState(), snapshot: Snapshot? = nil, entries: [LogEntry] = [], healUntil: LogIndex? = nil
  ) {
    self.healUntil = healUntil
    self.hardState = hardState
    self.snapshot = snapshot
    self.entries = entries
  }
}
