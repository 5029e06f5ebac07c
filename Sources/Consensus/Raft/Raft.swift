import Primitives

/// One server of a Raft cluster: leader election with pre-vote and check-quorum, log replication, linearizable reads,
/// leadership transfer, snapshots, learners and single-server membership changes.
///
/// A pure state machine after Diego Ongaro's thesis *Consensus: Bridging Theory and Practice* (2014). Feed it inputs with
/// the time on a monotonic clock, carry out the effects in order, and feed `tick` at `nextDeadline`.
public struct Raft: Sendable, Equatable {
  public let local: NodeName
  public let cluster: ClusterTag
  public let settings: RaftSettings
  public internal(set) var term: Term
  /// Whom this server voted for in `term`.
  public internal(set) var vote: NodeName?
  /// Everything up to here is decided and was given to the state machine.
  public internal(set) var commitIndex: LogIndex
  var log: RaftLog
  var position: Position
  var generator: SeededGenerator
  /// See `HardState`.
  var isFounder: Bool
  var newcomerSince: Term?
  /// The cluster has a history, of which this node knows from outside of the log: without a log it begins no other.
  var knowsHistory = false
  /// Until the log reaches this entry again this server neither votes nor stands: its disk lost entries that it had promised to
  /// keep, and a majority may have counted on them.
  public internal(set) var healUntil: LogIndex?
  /// Changes since the last `persist` effect; empty between calls of `handle`.
  var pending = Persistence()

  /// What this server is in its term; each case holds what only it needs.
  enum Position: Sendable, Equatable {
    case follower(Follower)
    case preCandidate(Campaign)
    case candidate(Campaign)
    case leader(Leader)
    case stopped
  }

  struct Follower: Sendable, Equatable {
    var leader: NodeName?
    /// Until then no other candidate is listened to: a leader was heard lately, or may have been before a restart.
    var stickyUntil: Instant = .zero
    var electionDeadline: Instant
    var arriving: ArrivingSnapshot?
  }

  struct Campaign: Sendable, Equatable {
    /// First answers only: a voter's second one does not count (security: duplicate votes).
    var answers: [NodeName: Bool]
    var electionDeadline: Instant
  }

  /// Starts as a follower. `configuration` holds only while neither log nor snapshot has one: it is the agreement made
  /// outside (the same on all first voters, empty on a node that joins later). Gives `recovered.snapshot` to the state
  /// machine is the caller's duty; entries after it come as `apply` once they are known to be committed.
  public init(
    local: NodeName, cluster: ClusterTag, recovered: RecoveredState, configuration: ClusterConfiguration,
    settings: RaftSettings = RaftSettings(), seed: UInt64, now: Instant
  ) {
    self.local = local
    self.cluster = cluster
    self.settings = settings
    term = recovered.hardState.term
    vote = recovered.hardState.vote
    isFounder = recovered.hardState.isFounder
    newcomerSince = recovered.hardState.newcomerSince
    commitIndex = recovered.snapshot?.position.index ?? .zero
    log = RaftLog(recovered: recovered, configuration: configuration)
    generator = SeededGenerator(seed: seed)
    healUntil = recovered.healUntil
    position = .stopped
    position = .follower(
      Follower(
        leader: nil, stickyUntil: now + settings.electionTimeout.lowerBound, electionDeadline: electionDeadline(after: now)))
  }

  /// Takes one input and appends what is to be done, in order.
  public mutating func handle(_ input: RaftInput, at now: Instant, into effects: inout [RaftEffect]) {
    if case .stopped = position { return refuse(input, into: &effects) }
    switch input {
    case .tick: tick(at: now, into: &effects)
    case .received(let message, let peer): receive(message, from: peer, at: now, into: &effects)
    case .propose(let proposals): propose(proposals, at: now, into: &effects)
    case .read(let token): read(token, at: now, into: &effects)
    case .changeConfiguration(let token, let change): changeConfiguration(token, change, at: now, into: &effects)
    case .transferLeadership(let target): transferLeadership(to: target, at: now, into: &effects)
    case .compact(let index, let state): compact(through: index, state: state, into: &effects)
    case .peerUnreachable(let peer): peerUnreachable(peer, at: now)
    case .historyKnown: knowsHistory = true
    case .storageFailed: fail(.storage, into: &effects)
    case .storageFull: if !mutated(.goOnWithoutRoom) { leaveConsensus(into: &effects) }
    }
    flush(into: &effects)
  }

  /// When to feed `tick` next.
  public var nextDeadline: Instant {
    switch position {
    case .follower(let follower): follower.electionDeadline
    case .preCandidate(let campaign), .candidate(let campaign): campaign.electionDeadline
    case .leader(let leader): leader.nextDeadline
    case .stopped: .distantFuture
    }
  }

  private mutating func tick(at now: Instant, into effects: inout [RaftEffect]) {
    switch position {
    case .follower(var follower):
      guard now >= follower.electionDeadline else { return }
      if isPromotable {
        startPreVote(at: now, into: &effects)
      } else {
        follower.electionDeadline = electionDeadline(after: now)
        position = .follower(follower)
      }
    case .preCandidate(let campaign), .candidate(let campaign):
      if now >= campaign.electionDeadline { startPreVote(at: now, into: &effects) }
    case .leader(let leader):
      tickLeader(leader, at: now, into: &effects)
    case .stopped: break
    }
  }

  /// Whether this server may stand for election.
  var isPromotable: Bool {
    guard configuration.isVoter(local), term.next != nil, isWhole else { return false }
    return log.last.index > .zero || !knowsHistory || mutated(.beginAnew)
  }
  /// Whether the log holds everything that this server ever promised to keep.
  var isWhole: Bool { (healUntil == nil && newcomerSince == nil) || mutated(.voteBeforeHealing) }
  var configuration: ClusterConfiguration { log.configuration.configuration }
  /// The voters whose majority decides, but this server.
  var otherVoters: [NodeName] { configuration.voters.filter { $0 != local } }
  var peers: [NodeName] { configuration.members.filter { $0 != local } }

  mutating func electionDeadline(after now: Instant) -> Instant { now + generator.duration(in: settings.electionTimeout) }

  /// A stopped server answers requests and ignores everything else.
  private func refuse(_ input: RaftInput, into effects: inout [RaftEffect]) {
    switch input {
    case .propose(let proposals):
      for proposal in proposals { effects.append(.rejected(proposal.token, .notLeader(hint: nil))) }
    case .read(let token), .changeConfiguration(let token, _):
      effects.append(.rejected(token, .notLeader(hint: nil)))
    default: break
    }
  }

  // MARK: Effects

  /// Writes what changed before anything that depends on it.
  mutating func flush(into effects: inout [RaftEffect]) {
    guard !pending.isEmpty else { return }
    effects.append(.persist(pending))
    pending = Persistence()
  }

  /// Sends after everything promised so far is durable.
  mutating func send(_ body: RaftMessage.Body, to peer: NodeName, term: Term? = nil, into effects: inout [RaftEffect]) {
    if !mutated(.promiseBeforeWriting) { flush(into: &effects) }
    effects.append(.send(RaftMessage(cluster: cluster, term: term ?? self.term, body: body), to: peer))
  }

  /// Sends before this leader's own entries are durable, which promises nothing about them (Raft thesis §10.2.1).
  mutating func sendAhead(_ body: RaftMessage.Body, to peer: NodeName, into effects: inout [RaftEffect]) {
    if pending.hardState != nil { flush(into: &effects) }
    effects.append(.send(RaftMessage(cluster: cluster, term: term, body: body), to: peer))
  }

  mutating func setTerm(_ term: Term, vote: NodeName?) {
    self.term = term
    self.vote = vote
    keepHardState()
  }

  private mutating func keepHardState() {
    pending.hardState = HardState(term: term, vote: vote, isFounder: isFounder, newcomerSince: newcomerSince)
  }

  /// Before the first entry: a server without a log that did not found the cluster may have lost a disk, and with it votes and
  /// acknowledgements that others count on. A leader's first decided entry comes after all that was decided before it, so from
  /// then on this server holds what it may have helped to decide, and votes like one that has never been away.
  mutating func noteArrival() {
    guard log.last.index == .zero, !isFounder, newcomerSince == nil else { return }
    newcomerSince = term
    keepHardState()
  }

  /// An entry of this term was decided: a newcomer may vote if its time has come.
  mutating func admit(decided: Term?) {
    guard let since = newcomerSince, let decided, decided >= since else { return }
    newcomerSince = nil
    keepHardState()
  }

  mutating func fail(_ failure: RaftFailure, into effects: inout [RaftEffect]) {
    leaveConsensus(into: &effects)
    effects.append(.failed(failure))
  }

  /// Nothing may be written any more, so nothing is promised.
  private mutating func leaveConsensus(into effects: inout [RaftEffect]) {
    pending = Persistence()
    leavePosition(into: &effects)
    position = .stopped
  }

  /// Gives committed entries to the state machine.
  mutating func advanceCommit(to index: LogIndex, into effects: inout [RaftEffect]) {
    let end = min(index, log.last.index)
    guard end > commitIndex else { return }
    let entries = log.entries(after: commitIndex, through: end)
    commitIndex = end
    admit(decided: log.term(at: end))
    flush(into: &effects)
    effects.append(.apply(entries))
  }
}
