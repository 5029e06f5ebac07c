/// Times and sizes of one Raft server. The same on every server of a cluster.
public struct RaftSettings: Sendable, Equatable {
  /// Between heartbeats of a leader; a fifth or less of the shortest election timeout.
  public var heartbeatInterval: Duration = .milliseconds(75)
  /// Without a leader for a random time in this range a server stands for election (Raft thesis §3.4). The lower bound
  /// is also how long a server sticks to a leader it hears, and how long a leader acts without hearing a majority.
  public var electionTimeout: ClosedRange<Duration> = .milliseconds(400) ... .milliseconds(800)
  /// After the link to the leader broke: how soon to ask the others, by pre-vote, whether they lost it too.
  public var lostLeaderDelay: ClosedRange<Duration> = .milliseconds(5) ... .milliseconds(60)
  /// Bytes of entries in one append message; a single larger entry still travels alone.
  public var appendBytesMax: Int = 256 << 10
  /// Append messages on the way to one follower without an answer.
  public var inflightMax: Int = 64
  /// Bytes of proposals accepted but not committed; beyond it proposals are refused, so a lost majority costs no memory.
  public var uncommittedBytesMax: Int = 16 << 20
  /// Bytes of one snapshot chunk.
  public var chunkBytes: Int = ConsensusLimits.chunkBytesMax
  /// Entries kept in memory behind a snapshot, so that a follower slightly behind needs no snapshot.
  public var trailingEntries: Int = 256
  /// A learner this many entries or fewer behind may become a voter.
  public var promotionLag: Int = 64

  public init() {}
}
