import Primitives

/// Single-server membership changes (Raft thesis §4.1–4.2), with the rule found later that a leader first commits an
/// entry of its own term (raft-dev, "bug in single-server membership changes", 2015).
extension Raft {
  mutating func changeConfiguration(
    _ token: RequestToken, _ change: ConfigurationChange, at now: Instant, into effects: inout [RaftEffect]
  ) {
    guard case .leader(var leader) = position else {
      return effects.append(.rejected(token, .notLeader(hint: knownLeader)))
    }
    if let reason = reasonToReject(change, leader) { return effects.append(.rejected(token, reason)) }
    let next = configuration.applying(change)
    append([.configuration(next)], &leader)
    effects.append(.accepted(token, at: log.last))
    effects.append(.configurationChanged(next, at: log.last.index))
    for peer in peers where leader.progress[peer] == nil { leader.progress[peer] = Progress(next: log.last.index, at: now) }
    broadcastAppends(&leader, emptyAllowed: false, into: &effects)
    let members = Set(peers)
    leader.progress = leader.progress.filter { members.contains($0.key) }
    finish(leader, at: now, into: &effects)
  }

  private func reasonToReject(_ change: ConfigurationChange, _ leader: Leader) -> RejectionReason? {
    if leader.transfer != nil { return .transferring }
    let isSettled = commitIndex >= leader.firstIndex && log.configuration.index <= commitIndex
    guard isSettled || mutated(.changeManyAtOnce) else { return .changeInProgress }
    let next = configuration.applying(change)
    guard next != configuration, !next.voters.isEmpty,
      next.voters.count + next.learners.count <= ConsensusLimits.membersMax
    else { return .invalidChange }
    if case .promote(let node) = change {
      guard configuration.learners.contains(node), let progress = leader.progress[node] else { return .invalidChange }
      let lag = log.last.index.distance(from: progress.match)
      guard progress.isActive, lag <= settings.promotionLag else { return .notCaughtUp }
    }
    // A leader that is new takes everybody for active until it has heard otherwise: who acknowledged something is.
    let live = next.voters.count { voter in
      voter == local || leader.progress[voter].map { $0.isActive && $0.match > .zero } == true
    }
    return live >= next.quorum ? nil : .wouldLoseQuorum
  }
}
