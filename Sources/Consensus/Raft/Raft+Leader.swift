import Primitives

extension Raft {
  /// What only a leader knows.
  struct Leader: Sendable, Equatable {
    /// Every member of the configuration but this server.
    var progress: [NodeName: Progress]
    var heartbeatDeadline: Instant
    /// When a majority has to have been heard since the last time.
    var quorumDeadline: Instant
    /// The entry that began this term; nothing is committed by counting before it is (Raft thesis §3.6.2).
    let firstIndex: LogIndex
    /// The latest heartbeat round sent: this server's clock then, raised where needed so that rounds only grow.
    var round: UInt64
    var reads: [PendingRead] = []
    var transfer: Transfer?
    /// Cost of entries appended in this term and not committed.
    var uncommittedBytes = 0

    var nextDeadline: Instant {
      let deadline = min(heartbeatDeadline, quorumDeadline)
      return transfer.map { min(deadline, $0.deadline) } ?? deadline
    }
  }

  struct PendingRead: Sendable, Equatable {
    let token: RequestToken
    /// The round that confirms it, once this term has committed an entry.
    var round: UInt64
    var index: LogIndex
  }

  struct Transfer: Sendable, Equatable {
    let target: NodeName
    let deadline: Instant
    /// The target may stand for election at any moment from here on.
    var isSent = false
  }

  mutating func lead(at now: Instant, into effects: inout [RaftEffect]) {
    leavePosition(into: &effects)
    let first = log.last.index.next
    var progress: [NodeName: Progress] = [:]
    for peer in peers { progress[peer] = Progress(next: first, at: now) }
    var leader = Leader(
      progress: progress, heartbeatDeadline: now + settings.heartbeatInterval,
      quorumDeadline: now + settings.electionTimeout.lowerBound, firstIndex: first, round: now.nanoseconds)
    // A configuration agreed outside becomes part of the log with the first leader.
    let payload: LogEntry.Payload = log.lacksConfiguration ? .configuration(configuration) : .noop
    flush(into: &effects)
    effects.append(.becameLeader(term))
    effects.append(.leaderChanged(local, term))
    append([payload], &leader)
    broadcastAppends(&leader, emptyAllowed: true, into: &effects)
    finish(leader, at: now, into: &effects)
  }

  mutating func tickLeader(_ leader: Leader, at now: Instant, into effects: inout [RaftEffect]) {
    var leader = leader
    if let transfer = leader.transfer, now >= transfer.deadline {
      leader.transfer = nil
      // The target may still win with the message on its way: this leader could no longer vouch for its lease.
      if transfer.isSent { return follow(nil, at: now, into: &effects) }
    }
    if now >= leader.quorumDeadline {
      guard hasActiveQuorum(leader) else { return follow(nil, at: now, into: &effects) }
      for peer in peers { leader.progress[peer]?.forgetActivity() }
      leader.quorumDeadline = now + settings.electionTimeout.lowerBound
    }
    if now >= leader.heartbeatDeadline { sendHeartbeats(&leader, at: now, into: &effects) }
    position = .leader(leader)
  }

  private func hasActiveQuorum(_ leader: Leader) -> Bool {
    configuration.voters.count { $0 == local || leader.progress[$0]?.isActive == true } >= configuration.quorum
  }

  /// Starts a heartbeat round; its answers confirm reads and the lease.
  mutating func sendHeartbeats(_ leader: inout Leader, at now: Instant, into effects: inout [RaftEffect]) {
    leader.round = max(leader.round &+ 1, now.nanoseconds)
    leader.heartbeatDeadline = now + settings.heartbeatInterval
    for peer in peers {
      guard let progress = leader.progress[peer] else { continue }
      let commit = min(progress.match, commitIndex)
      sendAhead(.heartbeat(commit: commit, round: leader.round), to: peer, into: &effects)
    }
  }

  // MARK: Requests

  mutating func propose(_ proposals: [Proposal], at now: Instant, into effects: inout [RaftEffect]) {
    guard case .leader(var leader) = position else {
      for proposal in proposals { effects.append(.rejected(proposal.token, .notLeader(hint: knownLeader))) }
      return
    }
    var payloads: [LogEntry.Payload] = []
    var accepted: [RaftEffect] = []
    var waiting = leader.uncommittedBytes
    for proposal in proposals {
      if let reason = reasonToReject(proposal, waiting: waiting, leader) {
        effects.append(.rejected(proposal.token, reason))
        continue
      }
      payloads.append(.command(proposal.command))
      waiting += proposal.command.count
      let index = log.last.index.advanced(by: payloads.count)
      accepted.append(.accepted(proposal.token, at: LogPosition(index: index, term: term)))
    }
    guard !payloads.isEmpty else { return }
    effects += accepted
    append(payloads, &leader)
    broadcastAppends(&leader, emptyAllowed: false, into: &effects)
    finish(leader, at: now, into: &effects)
  }

  private func reasonToReject(_ proposal: Proposal, waiting: Int, _ leader: Leader) -> RejectionReason? {
    if leader.transfer != nil { return .transferring }
    guard proposal.command.count <= ConsensusLimits.commandBytesMax else {
      return .tooLarge(bytes: proposal.command.count)
    }
    // One proposal is always taken when nothing waits, whatever its size.
    let fits = waiting == 0 || waiting + proposal.command.count <= settings.uncommittedBytesMax
    return fits ? nil : .overloaded
  }

  mutating func read(_ token: RequestToken, at now: Instant, into effects: inout [RaftEffect]) {
    guard case .leader(var leader) = position else {
      return effects.append(.rejected(token, .notLeader(hint: knownLeader)))
    }
    guard leader.reads.count < ConsensusLimits.readsMax else { return effects.append(.rejected(token, .overloaded)) }
    sendHeartbeats(&leader, at: now, into: &effects)
    // Before this term's first commit the leader may not know the latest decided entry: it is at most its own first.
    leader.reads.append(PendingRead(token: token, round: leader.round, index: max(commitIndex, leader.firstIndex)))
    releaseReads(&leader, into: &effects)
    position = .leader(leader)
  }

  mutating func transferLeadership(to target: NodeName?, at now: Instant, into effects: inout [RaftEffect]) {
    guard case .leader(var leader) = position, leader.transfer == nil else { return }
    let candidates = otherVoters.filter { leader.progress[$0]?.isActive == true }
    let best = candidates.max { a, b in
      let (x, y) = (leader.progress[a]?.match ?? .zero, leader.progress[b]?.match ?? .zero)
      return x == y ? b < a : x < y
    }
    guard let chosen = target ?? best, otherVoters.contains(chosen) else { return }
    leader.transfer = Transfer(target: chosen, deadline: now + settings.electionTimeout.lowerBound)
    sendAppends(to: chosen, &leader, emptyAllowed: true, into: &effects)
    continueTransfer(&leader, into: &effects)
    position = .leader(leader)
  }

  /// Tells the target to stand as soon as its log is complete.
  mutating func continueTransfer(_ leader: inout Leader, into effects: inout [RaftEffect]) {
    guard let transfer = leader.transfer, !transfer.isSent,
      leader.progress[transfer.target]?.match == log.last.index
    else { return }
    leader.transfer?.isSent = true
    send(.timeoutNow, to: transfer.target, into: &effects)
  }

  // MARK: Commit

  /// Adds entries of this term to the leader's own log.
  mutating func append(_ payloads: [LogEntry.Payload], _ leader: inout Leader) {
    var entries: [LogEntry] = []
    for payload in payloads {
      entries.append(LogEntry(index: log.last.index.advanced(by: entries.count + 1), term: term, payload: payload))
    }
    log.append(entries)
    pending.entries += entries
    leader.uncommittedBytes += entries.reduce(0) { $0 + $1.cost }
  }

  /// Commits what can be, then keeps the leader's state or leaves leadership; the last act of every leader's step.
  mutating func finish(_ leader: Leader, at now: Instant, into effects: inout [RaftEffect]) {
    var leader = leader
    guard let decided = indexToCommit(leader) else {
      releaseReads(&leader, into: &effects)
      position = .leader(leader)
      return
    }
    let cost = log.entries(after: commitIndex, through: decided).reduce(0) { $0 + ($1.term == term ? $1.cost : 0) }
    leader.uncommittedBytes = max(0, leader.uncommittedBytes - cost)
    advanceCommit(to: decided, into: &effects)
    broadcastAppends(&leader, emptyAllowed: true, into: &effects)
    releaseReads(&leader, into: &effects)
    position = .leader(leader)
    let change = log.configuration
    // A leader that removed itself leads until that is decided (Raft thesis §4.2.2).
    if change.index <= commitIndex && !change.configuration.isVoter(local) { follow(nil, at: now, into: &effects) }
  }

  /// The highest index that a majority of the voters holds, when it can be committed now. Only entries of the own term are
  /// committed by counting; earlier ones follow with them (Raft thesis §3.6.2).
  func indexToCommit(_ leader: Leader) -> LogIndex? {
    let held = configuration.voters.map { $0 == local ? log.last.index : leader.progress[$0]?.match ?? .zero }
    guard held.count >= configuration.quorum else { return nil }
    let decided = held.sorted(by: >)[mutated(.commitAlone) ? 0 : configuration.quorum - 1]
    let isOwn = log.term(at: decided) == term || mutated(.commitEarlierTerms)
    return decided > commitIndex && isOwn ? decided : nil
  }

  /// Answers reads whose round a majority has answered (Raft thesis §6.4).
  mutating func releaseReads(_ leader: inout Leader, into effects: inout [RaftEffect]) {
    guard !leader.reads.isEmpty, commitIndex >= leader.firstIndex else { return }
    let confirmed = mutated(.readWithoutAsking) ? .max : confirmedRound(leader)
    let ready = leader.reads.filter { $0.round <= confirmed }
    guard !ready.isEmpty else { return }
    leader.reads.removeAll { $0.round <= confirmed }
    flush(into: &effects)
    for read in ready { effects.append(.readReady(read.token, read.index)) }
  }

  /// The latest round that a majority answered.
  func confirmedRound(_ leader: Leader) -> UInt64 {
    let rounds = configuration.voters.map { $0 == local ? leader.round : leader.progress[$0]?.round ?? 0 }
    guard rounds.count >= configuration.quorum else { return 0 }
    return rounds.sorted(by: >)[configuration.quorum - 1]
  }

  /// Whether no other server can have been elected yet, as far as clocks run at one rate: a majority answered a
  /// heartbeat sent less than the shortest election timeout ago (Raft thesis §6.4.1). Used to renew role leases;
  /// false while leadership is being handed over.
  public func holdsLease(at now: Instant) -> Bool {
    guard case .leader(let leader) = position, leader.transfer == nil, commitIndex >= leader.firstIndex else { return false }
    if configuration.voters == [local] { return true }
    return now < Instant(nanoseconds: confirmedRound(leader)) + settings.electionTimeout.lowerBound
  }
}
