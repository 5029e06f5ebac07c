import Primitives

/// A tag of the cluster, carried by every message, so that a server of another cluster is never listened to.
public struct ClusterTag: Hashable, Sendable {
  public let number: UInt64
  public init(_ number: UInt64) { self.number = number }
  /// The first eight bytes of the name's SHA-256.
  public init(clusterName: String) {
    var reader = ByteReader(SHA256.digest(of: Array(clusterName.utf8)).bytes)
    number = (try? reader.uint64()) ?? 0
  }
}

/// A message between two Raft servers.
public struct RaftMessage: Hashable, Sendable {
  public let cluster: ClusterTag
  /// The sender's term; in a pre-vote and its grant, the term that would begin.
  public let term: Term
  public let body: Body

  public init(cluster: ClusterTag, term: Term, body: Body) {
    self.cluster = cluster
    self.term = term
    self.body = body
  }

  public enum Body: Hashable, Sendable {
    /// Would you vote for me? Changes nothing at the receiver (Raft thesis §9.6).
    case preVote(last: LogPosition)
    case preVoteReply(granted: Bool)
    /// `forced` by a leadership transfer: the receiver need not wait for its leader's silence.
    case vote(last: LogPosition, forced: Bool)
    case voteReply(granted: Bool)
    /// `entries` follow directly on `previous`.
    case append(previous: LogPosition, entries: [LogEntry], commit: LogIndex)
    case appendReply(AppendReply)
    /// `round` is the leader's clock when it was sent, echoed by the reply.
    case heartbeat(commit: LogIndex, round: UInt64)
    case heartbeatReply(round: UInt64)
    case snapshotChunk(SnapshotChunk)
    /// The offset the follower waits for.
    case snapshotReply(at: LogPosition, offset: Int)
    /// Stand for election at once (Raft thesis §3.10).
    case timeoutNow
  }

  public enum AppendReply: Hashable, Sendable {
    /// The follower's log is the leader's up to here.
    case matched(LogIndex)
    /// The entry before was not there; `hint` is the last position that may be shared, to skip a whole term at a time.
    case conflict(at: LogIndex, hint: LogPosition)
  }

  /// Whether to send it on the bulk lane.
  public var isBulk: Bool {
    if case .snapshotChunk = body { true } else { false }
  }
}

/// A piece of a snapshot's state.
public struct SnapshotChunk: Hashable, Sendable {
  public let position: LogPosition
  public let configuration: ClusterConfiguration
  /// SHA-256 of the whole state.
  public let digest: Digest
  /// Bytes of the whole state.
  public let total: Int
  public let offset: Int
  public let bytes: [UInt8]

  public init(
    position: LogPosition, configuration: ClusterConfiguration, digest: Digest, total: Int, offset: Int, bytes: [UInt8]
  ) {
    self.position = position
    self.configuration = configuration
    self.digest = digest
    self.total = total
    self.offset = offset
    self.bytes = bytes
  }
}
