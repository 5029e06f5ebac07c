import Primitives

/// Log replication (Raft thesis §3.5) with conflict hints and pipelined appends (§10.2.1).
extension Raft {
  // MARK: Leader

  mutating func broadcastAppends(_ leader: inout Leader, emptyAllowed: Bool, into effects: inout [RaftEffect]) {
    for peer in peers { sendAppends(to: peer, &leader, emptyAllowed: emptyAllowed, into: &effects) }
  }

  /// Sends what the follower lacks, as much as its flow allows; with `emptyAllowed` also just the commit index.
  mutating func sendAppends(
    to peer: NodeName, _ leader: inout Leader, emptyAllowed: Bool, into effects: inout [RaftEffect]
  ) {
    guard var progress = leader.progress[peer] else { return }
    defer { leader.progress[peer] = progress }
    var mayBeEmpty = emptyAllowed
    while true {
      switch progress.flow {
      case .snapshot, .probe(waiting: true): return
      case .replicate(let inflight) where inflight.count >= settings.inflightMax: return
      case .probe, .replicate: break
      }
      let previous = progress.next.previous
      guard let previousTerm = log.term(at: previous) else { return startSnapshot(to: peer, &progress, into: &effects) }
      let entries = log.entries(from: progress.next, bytesMax: settings.appendBytesMax)
      guard mayBeEmpty || !entries.isEmpty else { return }
      mayBeEmpty = false
      let position = LogPosition(index: previous, term: previousTerm)
      sendAhead(.append(previous: position, entries: entries, commit: commitIndex), to: peer, into: &effects)
      note(entries, sentTo: &progress)
    }
  }

  private func note(_ entries: [LogEntry], sentTo progress: inout Progress) {
    switch progress.flow {
    case .probe: progress.flow = .probe(waiting: true)
    case .replicate(var inflight):
      guard let last = entries.last?.index else { return }
      inflight.append(last)
      progress.next = last.next
      progress.flow = .replicate(inflight: inflight)
    case .snapshot: break
    }
  }

  mutating func receiveAppendReply(
    _ reply: RaftMessage.AppendReply, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]
  ) {
    guard case .leader(var leader) = position, var progress = leader.progress[peer] else { return }
    progress.heard(at: now)
    switch reply {
    case .matched(let index):
      // A follower cannot hold more than was sent.
      guard index <= log.last.index else { return }
      let wasWaiting = progress.flow == .probe(waiting: true)
      let isNews = progress.matched(index)
      leader.progress[peer] = progress
      if isNews && indexToCommit(leader) == nil {
        // While one append was awaited the follower was not told what got decided meanwhile.
        sendAppends(to: peer, &leader, emptyAllowed: wasWaiting, into: &effects)
      }
    case .conflict(let index, let hint):
      let shared = log.lastPosition(atOrBefore: hint.index, termAtMost: hint.term)
      let isNews = progress.conflicted(at: index, hint: shared.index)
      leader.progress[peer] = progress
      if isNews { sendAppends(to: peer, &leader, emptyAllowed: true, into: &effects) }
    }
    continueTransfer(&leader, into: &effects)
    finish(leader, at: now, into: &effects)
  }

  mutating func receiveHeartbeatReply(
    round: UInt64, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]
  ) {
    guard case .leader(var leader) = position, var progress = leader.progress[peer], round <= leader.round else { return }
    progress.heard(at: now)
    progress.round = max(progress.round, round)
    let resend = isChunkOverdue(&progress)
    if case .probe = progress.flow { progress.flow = .probe(waiting: false) }
    // An answer with room for one more: what was lost in flight shows itself by the conflict it meets.
    if case .replicate(var inflight) = progress.flow, inflight.count >= settings.inflightMax {
      inflight.removeFirst()
      progress.flow = .replicate(inflight: inflight)
    }
    leader.progress[peer] = progress
    if resend { sendChunk(to: peer, &leader, into: &effects) }
    if progress.match < log.last.index { sendAppends(to: peer, &leader, emptyAllowed: true, into: &effects) }
    releaseReads(&leader, into: &effects)
    position = .leader(leader)
  }

  // MARK: Follower

  mutating func receiveAppend(
    previous: LogPosition, entries: [LogEntry], commit: LogIndex, from peer: NodeName, into effects: inout [RaftEffect]
  ) {
    guard isWellFormed(entries, after: previous) else { return }
    guard previous.index >= commitIndex else {
      return send(.appendReply(.matched(commitIndex)), to: peer, into: &effects)
    }
    guard log.holds(previous) || (mutated(.appendBlindly) && previous.index <= log.last.index) else {
      if previous.index == commitIndex { return fail(.committedConflict(previous), into: &effects) }
      let hint = log.lastPosition(atOrBefore: previous.index, termAtMost: previous.term)
      return send(.appendReply(.conflict(at: previous.index, hint: hint)), to: peer, into: &effects)
    }
    let new = Array(entries.drop { log.holds($0.position) })
    if let first = new.first { takeEntries(new, from: first.index, into: &effects) }
    let match = previous.index.advanced(by: entries.count)
    send(.appendReply(.matched(match)), to: peer, into: &effects)
    advanceCommit(to: min(commit, match), into: &effects)
  }

  private mutating func takeEntries(_ new: [LogEntry], from first: LogIndex, into effects: inout [RaftEffect]) {
    let before = log.configuration
    noteArrival()
    if first <= log.last.index {
      log.truncate(from: first)
      pending.truncateFrom = first
    }
    log.append(new)
    pending.entries = new
    heal()
    let after = log.configuration
    if after != before { effects.append(.configurationChanged(after.configuration, at: after.index)) }
  }

  /// The leader's log is here again up to where this server had promised to hold one: the promise is kept once more.
  mutating func heal() {
    if let target = healUntil, log.last.index >= target { healUntil = nil }
  }

  /// Contiguous after `previous`, terms that never fall and none above the present one.
  private func isWellFormed(_ entries: [LogEntry], after previous: LogPosition) -> Bool {
    guard previous.index.number <= ConsensusLimits.numberMax else { return false }
    var last = previous
    for entry in entries {
      guard entry.index == last.index.next, entry.term >= last.term else { return false }
      last = entry.position
    }
    return last.term <= term
  }
}
