/// Bounds of the drivers. What the cores and links bound themselves is not repeated here.
public enum ClusterLimits {
  /// Bytes of one sealed gossip datagram: the core's 1,200 with seal, below every common MTU.
  static let datagramBytesMax = 1_500
  /// Datagrams read before the control loop serves links and timers again.
  static let datagramsPerTurn = 64
  /// Bytes that have to be free before a node whose disk was full takes part in consensus again: a few hundred changes, so that it
  /// does not fall out at the next one.
  static let roomBytesMin: UInt64 = 1 << 20
  /// Between two looks for room: the first soon, later ones further apart.
  static let roomIntervals: ClosedRange<Duration> = .milliseconds(250) ... .seconds(4)
  /// Entries applied since the last snapshot that cause the next: keeps the log, and a restart, short.
  static let entriesBetweenSnapshots = 2_000
  /// Proposals that wait for their entry to be applied; more are refused as overloaded.
  static let proposalsWaitingMax = 4_096
  /// Between two looks for a leader while there is none: well below an election.
  static let leaderPoll: Duration = .milliseconds(15)
  /// How long a live member may be without a row before nobody waits for its trust: many times what a first exchange takes.
  static let rowPatience: Duration = .seconds(10)
  /// A timer this late means that the process was stopped: its registry may be far behind.
  static let stall: Duration = .seconds(5)
  /// How long a new gossip key is known before it is used for sending: many times what the log takes to reach everybody.
  static let keySpread: Duration = .seconds(5)
  /// Between two reports of the revision that this node serves.
  static let reportInterval: Duration = .milliseconds(250)
  /// Between two words of the leader to nodes that follow from outside; each change is told at once besides, and so is who comes back.
  static let headInterval: Duration = .seconds(3)
  /// Without a word for this long a follower knows no leader, should membership not have called that one dead before.
  static let leaderSilence: Duration = .seconds(10)
  /// Between two looks whether the voters are the right ones.
  static let voterInterval: Duration = .milliseconds(500)
  /// Entries that a learner may lack when it becomes a voter.
  static let learnerLagMax: UInt64 = 64
  /// How long a proposal waits while too few voters are alive: longer than a failover, shorter than a person's patience.
  static let quorumPatience: Duration = .seconds(3)
}
