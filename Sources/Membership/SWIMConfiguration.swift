/// Timing of the failure detector. The defaults suit 2–1,000 nodes on one site; see each value for what it trades.
///
/// A node that dies is called dead by all about `probePeriod + probeInterval + suspicionMin` later. A node that only stalls is safe
/// as long as its stall is shorter than `probeInterval + suspicionMin`, less one round trip for its refutation.
public struct SWIMConfiguration: Hashable, Sendable {
  /// Time between two regular probes and time one probe has in all, before scaling by local health.
  /// Shorter detects sooner and sends more; clusters of up to 32 nodes probe twice as often.
  public var probeInterval: Duration = .milliseconds(200)
  /// Time for the direct answer, after which others are asked to probe and the link is tried. Well above a LAN round trip.
  public var probeTimeout: Duration = .milliseconds(100)
  /// Members asked to probe for us (SWIM §4.1: k = 3 makes a false suspicion by loss a product of four failures).
  public var indirectProbes = 3
  /// Shortest suspicion, with all confirmations: above 900 ms together with `probeInterval`, the longest stall to forgive.
  public var suspicionMin: Duration = .milliseconds(850)
  /// Longest suspicion, without confirmations, in multiples of the shortest (Lifeguard β; memberlist uses 6).
  public var suspicionMaxFactor = 6
  /// Independent confirmations that bring a suspicion to its shortest (Lifeguard K; at most 3).
  public var confirmations = 3
  /// Highest local health score: intervals grow to at most one more than this many times (Lifeguard S = 8).
  public var awarenessMax = 7
  /// Time between two gossip rounds while there is something to tell; the first word goes out at once.
  public var gossipInterval: Duration = .milliseconds(100)
  /// Members told in one gossip round.
  public var gossipFanout = 3
  /// Retransmissions of a rumor in multiples of ⌈log10(n + 1)⌉ (SWIM §4.1 λ).
  public var retransmitFactor = 4
  /// Members told at once, besides gossip, when this node refutes or leaves: in small clusters everybody.
  public var announceFanout = 32
  /// Time between two full exchanges with a random member; doubled for each doubling above 32 members.
  public var synchroniseInterval: Duration = .seconds(10)
  /// Time between two attempts to reach a dead member or a seed that is not a member.
  public var knockInterval: Duration = .seconds(1)
  /// Time a dead or left member is kept as a tombstone, after which only a seed is still knocked at.
  public var tombstoneLife: Duration = .seconds(86_400)
  /// Lateness of a timer from which this node takes itself for stalled and gives others the time it missed.
  public var stallTolerance: Duration = .milliseconds(100)
  /// Word from a member that is younger than this outweighs an accusation by hearsay.
  public var evidenceWindow: Duration = .milliseconds(300)
  /// Time a departing node goes on telling before `leaveCompleted`.
  public var leaveTimeout: Duration = .milliseconds(1000)
  /// Members known at once, tombstones included; beyond it the oldest tombstone goes, then newcomers are refused.
  public var membersMax = MembershipLimits.membersMax

  public init() {}
}
