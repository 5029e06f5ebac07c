import Primitives

extension SWIM {
  // MARK: Joining and synchronising

  mutating func join(_ newSeeds: [Seed], at now: Instant, into effects: inout [Effect]) {
    for seed in newSeeds where seed.name != local.name && seeds.count < MembershipLimits.seedsMax {
      seeds.removeAll { $0.name == seed.name }
      seeds.append(seed)
    }
    nextKnockAt = now
  }

  /// Sends all this node knows, in as many messages as it takes; the last one asks for an answer when wanted.
  private func sendTable(to name: NodeName, at address: NodeAddress, wantsReply: Bool, into effects: inout [Effect]) {
    var claims = [SWIMMessage.Claim(record: local, state: localState)]
    claims += table.entries.map { SWIMMessage.Claim(record: $0.member.record, state: $0.state) }
    let size = MembershipLimits.claimsPerMessageMax
    for start in stride(from: 0, to: claims.count, by: size) {
      let end = min(start + size, claims.count)
      let body = SWIMMessage.Body.synchronisation(
        Array(claims[start..<end]), wantsReply: wantsReply && end == claims.count)
      effects.append(.sendStream(message(body), to: name, at: address))
    }
  }

  mutating func synchronise(with record: MemberRecord, at now: Instant, into effects: inout [Effect]) {
    sendTable(to: record.name, at: record.address, wantsReply: true, into: &effects)
  }

  /// Between two full exchanges: what they cost grows with the cluster.
  var synchroniseInterval: Duration {
    var interval = configuration.synchroniseInterval
    var members = liveCount
    while members > 32 {
      interval = interval * 2
      members /= 2
    }
    return interval
  }

  mutating func synchroniseWithSomebody(at now: Instant, into effects: inout [Effect]) {
    let interval = synchroniseInterval
    nextSynchroniseAt = now + generator.duration(in: (interval * 3 / 4)...(interval * 5 / 4))
    guard let partner = table.pick(1, using: &generator, where: { $0.state == .alive }).first else { return }
    synchronise(with: partner.member.record, at: now, into: &effects)
  }

  mutating func synchronised(
    _ claims: [SWIMMessage.Claim], by peer: NodeName, wantsReply: Bool, at now: Instant, into effects: inout [Effect]
  ) {
    for claim in claims {
      if claim.record.name == peer {
        introduced(claim, by: peer, at: now, into: &effects)
      } else {
        merge(claim, from: peer, at: now, into: &effects)
      }
    }
    if wantsReply, let member = table[peer]?.member {
      sendTable(to: peer, at: member.address, wantsReply: false, into: &effects)
    }
  }

  private mutating func introduced(
    _ claim: SWIMMessage.Claim, by peer: NodeName, at now: Instant, into effects: inout [Effect]
  ) {
    if claim.state == .left {
      applyLeft(peer, incarnation: claim.record.incarnation, firstHand: true, from: peer, at: now, into: &effects)
    } else {
      introduced(claim.record, by: peer, wantsReply: false, at: now, into: &effects)
    }
  }

  /// A third party's view. A conviction counts as an accusation only; a stranger that is dead there is dead here.
  private mutating func merge(
    _ claim: SWIMMessage.Claim, from peer: NodeName, at now: Instant, into effects: inout [Effect]
  ) {
    let record = claim.record
    if record.name != local.name, table[record.name] == nil, !claim.state.isLive {
      insert(record, state: claim.state, origin: .hearsay, at: now, into: &effects)
      return
    }
    switch claim.state {
    case .alive: applyAlive(record, origin: .hearsay, at: now, into: &effects)
    case .suspect, .dead:
      if record.name != local.name { applyAlive(record, origin: .hearsay, at: now, into: &effects) }
      applyAccusation(
        of: record.name, incarnation: record.incarnation, accuser: peer, toldBy: peer, at: now, into: &effects)
    case .left:
      applyLeft(record.name, incarnation: record.incarnation, firstHand: false, from: peer, at: now, into: &effects)
    }
  }

  // MARK: Links

  mutating func introduced(
    _ record: MemberRecord, by peer: NodeName, wantsReply: Bool, at now: Instant, into effects: inout [Effect]
  ) {
    guard record.name == peer else {
      effects.append(.claimRejected(.senderMismatch(claimed: record.name, peer: peer)))
      return
    }
    applyAlive(record, origin: .firstHand, at: now, into: &effects)
    table.heard(peer, at: now)
    guard let entry = table[peer] else { return }
    if wantsReply {
      sendStream(.introduction(local, wantsReply: false), to: entry.member, into: &effects)
    } else if entry.state != .alive {
      sendStream(.gossip, to: entry.member, into: &effects)
    }
  }

  mutating func linkOpened(with peer: NodeName, incarnation: UInt64, at now: Instant, into effects: inout [Effect]) {
    guard peer != local.name else { return }
    table.heard(peer, at: now)
    let seed = seeds.first { $0.name == peer }
    guard let address = table[peer]?.member.address ?? seed?.address else { return }
    guard let entry = table[peer] else {
      sendTable(to: peer, at: address, wantsReply: true, into: &effects)
      return
    }
    let isNewer = incarnation > (entry.ownIncarnation ?? 0) && incarnation <= MembershipLimits.incarnationMax
    if isNewer || entry.state != .alive {
      sendStream(.introduction(local, wantsReply: true), to: entry.member, into: &effects)
    }
  }

  /// A lost link is no accusation, but a reason to look at once.
  mutating func linkEnded(with peer: NodeName, _ reason: LinkDownReason, at now: Instant, into effects: inout [Effect]) {
    guard table[peer]?.state == .alive, reason != .closed else { return }
    startProbe(of: peer, kind: .verification, at: now, into: &effects)
  }

  // MARK: Knocking

  mutating func scheduleKnock(at now: Instant) {
    let due = now + generator.duration(in: (configuration.knockInterval / 2)...configuration.knockInterval)
    nextKnockAt = min(nextKnockAt, due)
  }

  /// Tries one dead member and, while there is none alive or at every fourth knock, the absent seeds by link.
  mutating func knock(at now: Instant, into effects: inout [Effect]) {
    nextKnockAt = .distantFuture
    guard !isLeaving else { return }
    knocks &+= 1
    let dead = table.pick(1, using: &generator) { $0.state == .dead }
    let absent = seeds.filter { table[$0.name].map { !$0.state.isLive } ?? true }
    if !dead.isEmpty || !absent.isEmpty { scheduleKnock(at: now) }
    if let member = dead.first?.member {
      sendDatagram(.gossip, to: member, into: &effects)
      if knocks % 4 == 0 { sendStream(.gossip, to: member, into: &effects) }
    }
    guard table.liveCount == 0 || knocks % 4 == 0 else { return }
    var candidates = absent
    generator.shuffle(&candidates)
    for seed in candidates.prefix(configuration.gossipFanout) {
      sendTable(to: seed.name, at: seed.address, wantsReply: true, into: &effects)
    }
  }

  mutating func purgeTombstones(at now: Instant, into effects: inout [Effect]) {
    nextPurgeAt = now + configuration.tombstoneLife / 8
    for member in members where !member.state.isLive && member.name != local.name {
      if now >= member.since + configuration.tombstoneLife { forget(member, into: &effects) }
    }
  }

  // MARK: Leaving

  mutating func leave(at now: Instant, into effects: inout [Effect]) {
    guard !isLeaving else { return }
    let old = Member(record: local, state: .alive, since: localSince)
    isLeaving = true
    raiseIncarnation(above: local.incarnation, at: now, into: &effects)
    localState = .left
    localSince = now
    rumors.drop(about: local.name)
    leaveDeadline = now + configuration.leaveTimeout
    effects.append(.memberChanged(MemberChange(old: old, new: member(local.name))))
    announce(.left(local.name, incarnation: local.incarnation), at: now, into: &effects)
  }

  mutating func finishLeaving(at now: Instant, into effects: inout [Effect]) {
    guard let deadline = leaveDeadline, now >= deadline || rumors.isEmpty || table.liveCount == 0 else { return }
    leaveDeadline = nil
    effects.append(.leaveCompleted)
  }
}
