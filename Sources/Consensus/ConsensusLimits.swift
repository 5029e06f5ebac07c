/// Bounds on everything this target keeps or takes from the network. Beyond a bound an error is returned; nothing traps.
public enum ConsensusLimits {
  /// Terms and indexes above this are refused on receipt, so that counting on from one never overflows.
  public static let numberMax: UInt64 = 1 << 62
  /// Bytes of one log entry's command: room for a change set of a few thousand Istio objects.
  public static let commandBytesMax = 2 << 20
  /// Entries in one append message; more only delays the first acknowledgement.
  public static let appendEntriesMax = 1024
  /// Bytes of an encoded `RaftMessage`: one largest command, or one full batch, and its header.
  public static let messageBytesMax = commandBytesMax + (512 << 10)
  /// Bytes of the state in one snapshot, on disk and in memory.
  public static let snapshotBytesMax = 64 << 20
  /// Bytes of one snapshot chunk: a bulk frame that delays an urgent one by about a millisecond at 1 Gbit/s.
  public static let chunkBytesMax = 256 << 10
  /// Without an answer for this long a member takes no part in consensus: many heartbeats, and less than a role's lease.
  public static let memberSilence: Duration = .milliseconds(800)
  /// Voters and learners of one configuration.
  public static let membersMax = 64
  /// Linearizable reads waiting on the leader; further ones are refused and may be retried.
  public static let readsMax = 4096

  /// Configuration objects in the control state (security: 10^5 small objects must not stop a cluster).
  public static let objectsMax = 50_000
  /// Canonical bytes of one object; etcd's and Kubernetes' practical bound is 1.5 MiB.
  public static let objectBytesMax = 1 << 20
  /// Bytes of all objects together, so that a snapshot always fits.
  public static let objectsBytesMax = 48 << 20
  /// Puts and deletes in one change set.
  public static let changesMax = 10_000
  /// Bytes of one field of an object key: a DNS name's 253 and a little.
  public static let keyFieldBytesMax = 316
  /// Bytes of an author's name or a reason, kept for audit.
  public static let noteBytesMax = 512
  /// Change-set outcomes remembered to answer duplicates; the oldest are forgotten first.
  public static let outcomesMax = 1024
  /// Certificates in the trust bundle: a few for each CA-capable node.
  public static let trustAnchorsMax = 1024
  /// Anchors of one node: the present one, and during a rotation the next.
  public static let trustAnchorsPerNodeMax = 2
  /// DER bytes of one CA certificate.
  public static let certificateBytesMax = 16 << 10
  /// Nodes admitted to the cluster.
  public static let nodesMax = 10_000
  /// Bytes of a node's address or locality.
  public static let addressBytesMax = 256
  /// Service addresses: the hosts of 240.240.0.0/16 without its first and last.
  public static let serviceAddressesMax = 65_534
  /// Applied entries kept in memory for nodes that follow; whoever is further behind takes the whole state.
  public static let recentEntriesMax = 2_048
  /// Bytes of those entries.
  public static let recentBytesMax = 16 << 20
  /// Join tokens at once, expired ones included until the next is made.
  public static let tokensMax = 1_024
  /// Nodes that one token may let in.
  public static let tokenUsesMax: UInt32 = 1_000
  /// Gossip keys at once: the present one and the one before.
  public static let gossipKeysMax = 2
  /// Configuration revisions that can be looked at and returned to.
  public static let revisionsMax = 100
  /// Bytes of what they replaced: with the objects themselves a snapshot still fits.
  public static let revisionBytesMax = 8 << 20
  /// Allocations in one command.
  public static let allocationsMax = 4096
}
