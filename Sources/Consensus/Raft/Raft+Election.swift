import Primitives

/// Elections (Raft thesis §3.4), pre-vote (§9.6) and leader stickiness (§4.2.3, §6.4.1).
extension Raft {
  /// Asks whether an election could be won, without raising the term: a server that was cut off disturbs nobody.
  mutating func startPreVote(at now: Instant, into effects: inout [RaftEffect]) {
    guard isPromotable, let next = term.next else {
      return follow(nil, at: now, into: &effects)
    }
    leavePosition(into: &effects)
    let campaign = Campaign(answers: [local: true], electionDeadline: electionDeadline(after: now))
    position = .preCandidate(campaign)
    if isWon(campaign) { return startElection(forced: false, at: now, into: &effects) }
    for voter in otherVoters { send(.preVote(last: log.last), to: voter, term: next, into: &effects) }
  }

  mutating func startElection(forced: Bool, at now: Instant, into effects: inout [RaftEffect]) {
    guard isPromotable, let next = term.next else { return follow(nil, at: now, into: &effects) }
    leavePosition(into: &effects)
    if log.last.index == .zero { isFounder = true }
    setTerm(next, vote: local)
    let campaign = Campaign(answers: [local: true], electionDeadline: electionDeadline(after: now))
    position = .candidate(campaign)
    if isWon(campaign) { return lead(at: now, into: &effects) }
    for voter in otherVoters { send(.vote(last: log.last, forced: forced), to: voter, into: &effects) }
  }

  private func isWon(_ campaign: Campaign) -> Bool {
    configuration.voters.count { campaign.answers[$0] == true } >= votesNeeded
  }
  private func isLost(_ campaign: Campaign) -> Bool {
    configuration.voters.count { campaign.answers[$0] != false } < votesNeeded
  }

  /// The first leader of a cluster needs the votes of all first voters. Servers that lost their disks believe to be at the beginning,
  /// too: a majority of such would begin a second history beside the one that the others hold.
  private var votesNeeded: Int {
    log.last.index == .zero && !mutated(.beginAnew) ? configuration.voters.count : configuration.quorum
  }

  mutating func receivePreVoteReply(_ granted: Bool, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]) {
    guard case .preCandidate(var campaign) = position, configuration.isVoter(peer), campaign.answers[peer] == nil else {
      return
    }
    campaign.answers[peer] = granted
    position = .preCandidate(campaign)
    if isWon(campaign) {
      startElection(forced: false, at: now, into: &effects)
    } else if isLost(campaign) {
      follow(nil, at: now, into: &effects)
    }
  }

  mutating func receiveVoteReply(_ granted: Bool, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]) {
    guard case .candidate(var campaign) = position, configuration.isVoter(peer), campaign.answers[peer] == nil else { return }
    campaign.answers[peer] = granted
    position = .candidate(campaign)
    if isWon(campaign) {
      lead(at: now, into: &effects)
    } else if isLost(campaign) {
      follow(nil, at: now, into: &effects)
    }
  }

  /// Says what the vote would be; changes nothing here, not even the election timer.
  mutating func receivePreVote(last: LogPosition, term asked: Term, from peer: NodeName, into effects: inout [RaftEffect]) {
    let granted = asked > term && isWorthy(last) && isWhole
    // A refusal carries this server's own term, so that a candidate behind learns of it.
    send(.preVoteReply(granted: granted), to: peer, term: granted ? asked : term, into: &effects)
  }

  /// Whether a candidate's log holds everything that this server may have promised to keep. One without a log may have lost its disk,
  /// and its earlier promises with it: it votes for the first leader of a cluster, as long as it knows of no history. All first voters
  /// have to, so one that did has shown that it began with the cluster, and votes by the usual rule from then on: else a first leader
  /// that dies before its first entry has arrived anywhere would leave nobody that may be elected.
  private func isWorthy(_ last: LogPosition) -> Bool {
    if mutated(.voteForWhoLacksEntries) { return true }
    guard log.isNotAhead(of: last) else { return false }
    if log.last.index > .zero || mutated(.beginAnew) { return true }
    return last.index == .zero ? !knowsHistory : isFounder
  }

  mutating func receiveVote(last: LogPosition, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]) {
    let isFree = mutated(.voteTwice) || vote == peer || (vote == nil && knownLeader == nil)
    guard isFree && isWorthy(last) && isWhole else {
      return send(.voteReply(granted: false), to: peer, into: &effects)
    }
    if vote == nil {
      if last.index == .zero { isFounder = true }
      setTerm(term, vote: peer)
    }
    if case .follower(var follower) = position {
      follower.electionDeadline = electionDeadline(after: now)
      position = .follower(follower)
    }
    send(.voteReply(granted: true), to: peer, into: &effects)
  }

  /// A leader asks this server to stand at once; no pre-vote, since the leader itself makes room.
  mutating func receiveTimeoutNow(from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]) {
    guard case .follower(let follower) = position, follower.leader == peer else { return }
    startElection(forced: true, at: now, into: &effects)
  }

  /// True while a leader was heard so recently that nobody else may have a reason to replace it.
  func isStickingToLeader(at now: Instant) -> Bool {
    switch position {
    case .leader: true
    case .follower(let follower): now < follower.stickyUntil
    case .preCandidate, .candidate, .stopped: false
    }
  }

  /// The leader of this term, as far as this server knows.
  public var knownLeader: NodeName? {
    switch position {
    case .leader: local
    case .follower(let follower): follower.leader
    case .preCandidate, .candidate, .stopped: nil
    }
  }

  /// Becomes a follower in the current term, of `leader` when it is known.
  mutating func follow(_ leader: NodeName?, at now: Instant, into effects: inout [RaftEffect]) {
    if case .follower(let follower) = position, follower.leader == leader, leader != nil { return }
    leavePosition(into: &effects)
    position = .follower(Follower(leader: leader, electionDeadline: electionDeadline(after: now)))
    if leader != nil { effects.append(.leaderChanged(leader, term)) }
  }

  /// Notes that the leader spoke.
  mutating func heardLeader(at now: Instant) {
    guard case .follower(var follower) = position else { return }
    follower.stickyUntil = now + settings.electionTimeout.lowerBound
    follower.electionDeadline = electionDeadline(after: now)
    position = .follower(follower)
  }

  /// Tells what ends with the present position: a known leader, or leadership and the requests that hang on it.
  mutating func leavePosition(into effects: inout [RaftEffect]) {
    switch position {
    case .leader(let leader):
      flush(into: &effects)
      effects.append(.steppedDown(term))
      effects.append(.leaderChanged(nil, term))
      for read in leader.reads { effects.append(.rejected(read.token, .notLeader(hint: nil))) }
    case .follower(let follower):
      if follower.leader != nil { effects.append(.leaderChanged(nil, term)) }
    case .preCandidate, .candidate, .stopped: break
    }
  }

  mutating func peerUnreachable(_ peer: NodeName, at now: Instant) {
    switch position {
    case .follower(var follower) where follower.leader == peer:
      follower.stickyUntil = .zero
      follower.electionDeadline = min(follower.electionDeadline, now + generator.duration(in: settings.lostLeaderDelay))
      position = .follower(follower)
    case .leader(var leader):
      leader.progress[peer]?.lost()
      position = .leader(leader)
    default: break
    }
  }
}
