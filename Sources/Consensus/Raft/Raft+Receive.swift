import Primitives

/// Every message passes here first: cluster, term, then by kind.
extension Raft {
  mutating func receive(_ message: RaftMessage, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]) {
    guard message.cluster == cluster, peer != local, message.term.number <= ConsensusLimits.numberMax else { return }
    if message.term > term {
      guard acceptNewerTerm(message, from: peer, at: now, into: &effects) else { return }
    } else if message.term < term {
      return answerOlderTerm(message, from: peer, into: &effects)
    }
    dispatch(message, from: peer, at: now, into: &effects)
  }

  /// Moves to a newer term where the message calls for it; false when the message is to be ignored.
  private mutating func acceptNewerTerm(
    _ message: RaftMessage, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]
  ) -> Bool {
    switch message.body {
    case .preVote:
      return !isStickingToLeader(at: now)
    case .vote(_, let forced):
      // Without this a removed or returning server could depose a leader that all others hear (Raft thesis §4.2.3).
      if !forced && isStickingToLeader(at: now) { return false }
      adopt(message.term, at: now, into: &effects)
    case .preVoteReply(granted: true):
      return true
    case .append, .heartbeat, .snapshotChunk:
      adopt(message.term, at: now, into: &effects)
    case .preVoteReply, .voteReply, .appendReply, .heartbeatReply, .snapshotReply, .timeoutNow:
      adopt(message.term, at: now, into: &effects)
    }
    return true
  }

  private mutating func adopt(_ newer: Term, at now: Instant, into effects: inout [RaftEffect]) {
    leavePosition(into: &effects)
    setTerm(newer, vote: nil)
    position = .follower(Follower(leader: nil, electionDeadline: electionDeadline(after: now)))
  }

  /// A leader of the past is told the present term, so that it steps down; with pre-vote nobody else would tell it.
  private mutating func answerOlderTerm(_ message: RaftMessage, from peer: NodeName, into effects: inout [RaftEffect]) {
    switch message.body {
    case .append, .heartbeat, .snapshotChunk:
      send(.appendReply(.matched(.zero)), to: peer, into: &effects)
    case .preVote:
      send(.preVoteReply(granted: false), to: peer, into: &effects)
    default: break
    }
  }

  private mutating func dispatch(
    _ message: RaftMessage, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]
  ) {
    switch message.body {
    case .preVote(let last):
      receivePreVote(last: last, term: message.term, from: peer, into: &effects)
    case .preVoteReply(let granted):
      receivePreVoteReply(granted, from: peer, at: now, into: &effects)
    case .vote(let last, _):
      receiveVote(last: last, from: peer, at: now, into: &effects)
    case .voteReply(let granted):
      receiveVoteReply(granted, from: peer, at: now, into: &effects)
    case .append(let previous, let entries, let commit):
      guard hear(leader: peer, at: now, into: &effects) else { return }
      receiveAppend(previous: previous, entries: entries, commit: commit, from: peer, into: &effects)
    case .heartbeat(let commit, let round):
      guard hear(leader: peer, at: now, into: &effects) else { return }
      advanceCommit(to: commit, into: &effects)
      if commit > log.last.index {
        // The leader counts on entries that this server's disk has lost.
        send(.appendReply(.conflict(at: commit, hint: log.last)), to: peer, into: &effects)
      }
      send(.heartbeatReply(round: round), to: peer, into: &effects)
    case .snapshotChunk(let chunk):
      guard hear(leader: peer, at: now, into: &effects) else { return }
      receiveChunk(chunk, from: peer, into: &effects)
    case .appendReply(let reply):
      receiveAppendReply(reply, from: peer, at: now, into: &effects)
    case .heartbeatReply(let round):
      receiveHeartbeatReply(round: round, from: peer, at: now, into: &effects)
    case .snapshotReply(let position, let offset):
      receiveSnapshotReply(at: position, offset: offset, from: peer, at: now, into: &effects)
    case .timeoutNow:
      receiveTimeoutNow(from: peer, at: now, into: &effects)
    }
  }

  /// Follows the sender of a leader's message; false when this server leads the same term itself, which Raft excludes.
  private mutating func hear(leader peer: NodeName, at now: Instant, into effects: inout [RaftEffect]) -> Bool {
    if case .leader = position { return false }
    follow(peer, at: now, into: &effects)
    heardLeader(at: now)
    return true
  }
}
