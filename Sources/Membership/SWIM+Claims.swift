import Primitives

/// Precedence (SWIM §4.2): a higher incarnation wins; at the same one `left` > `dead` > `suspect` > `alive`.
extension SWIM {
  /// Where a claim comes from.
  enum Origin: Hashable, Sendable {
    /// From the member itself over its authenticated link.
    case firstHand
    /// From another member.
    case hearsay
  }

  mutating func apply(_ rumor: Rumor, from sender: NodeName, at now: Instant, into effects: inout [Effect]) {
    switch rumor {
    case .alive(let record): applyAlive(record, origin: .hearsay, at: now, into: &effects)
    case .suspect(let name, let incarnation, let accuser):
      applyAccusation(
        of: name, incarnation: incarnation, accuser: accuser, toldBy: sender, at: now, into: &effects)
    case .dead(let name, let incarnation, let accuser):
      applyAccusation(
        of: name, incarnation: incarnation, accuser: accuser, toldBy: sender, at: now, into: &effects)
      followConviction(of: name, incarnation: incarnation, at: now, into: &effects)
    case .left(let name, let incarnation):
      applyLeft(name, incarnation: incarnation, firstHand: false, from: sender, at: now, into: &effects)
    }
  }

  // MARK: Alive

  mutating func applyAlive(_ record: MemberRecord, origin: Origin, at now: Instant, into effects: inout [Effect]) {
    if record.name == local.name {
      contradict(record, at: now, into: &effects)
      return
    }
    guard let entry = table[record.name] else {
      insert(record, state: .alive, origin: origin, at: now, into: &effects)
      return
    }
    guard isNews(record, about: entry, origin: origin, at: now, into: &effects) else {
      if origin == .firstHand {
        table.update(record.name) { $0.ownIncarnation = max($0.ownIncarnation ?? 0, record.incarnation) }
      }
      return
    }
    var updated = entry
    updated.member.record = record
    if origin == .firstHand { updated.ownIncarnation = record.incarnation }
    table.set(updated)
    changeState(of: record.name, to: .alive, previous: entry.member, at: now, into: &effects)
    rumors.enqueue(.alive(record))
    if !entry.state.isLive { synchronise(with: record, at: now, into: &effects) }
  }

  private mutating func isNews(
    _ record: MemberRecord, about entry: MemberTable.Entry, origin: Origin, at now: Instant, into effects: inout [Effect]
  ) -> Bool {
    switch origin {
    case .firstHand:
      // The owner's own word also lowers what was only rumored.
      if entry.ownIncarnation == nil, entry.state == .alive || record.incarnation > entry.incarnation {
        return record != entry.member.record
      }
      return record.incarnation > entry.incarnation
    case .hearsay:
      guard record.incarnation > entry.incarnation else { return false }
      if isFar(record.incarnation, for: entry) {
        effects.append(.claimRejected(.farIncarnation(record.name, claimed: record.incarnation)))
      } else if record.address != entry.member.address, entry.ownIncarnation != nil {
        effects.append(.claimRejected(.addressMoved(record.name, to: record.address)))
      } else {
        return true
      }
      askForIntroduction(record.name, at: record.address, now: now, into: &effects)
      return false
    }
  }

  /// Whether a third party's claim is too far above what the owner said.
  private func isFar(_ incarnation: UInt64, for entry: MemberTable.Entry) -> Bool {
    guard let own = entry.ownIncarnation else { return false }
    return incarnation > max(own, entry.incarnation) + MembershipLimits.hearsayIncarnationsAhead
  }

  /// At most once a second for each member, so that a flood of claims is not a flood of links.
  private mutating func askForIntroduction(
    _ name: NodeName, at address: NodeAddress, now: Instant, into effects: inout [Effect]
  ) {
    if let asked = table[name]?.introductionAskedAt, now < asked + .seconds(1) { return }
    table.update(name) { $0.introductionAskedAt = now }
    effects.append(.sendStream(message(.introduction(local, wantsReply: true)), to: name, at: address))
  }

  /// Somebody speaks of this node as it was before, or as it never was.
  private mutating func contradict(_ record: MemberRecord, at now: Instant, into effects: inout [Effect]) {
    guard record.incarnation > local.incarnation || (record.incarnation == local.incarnation && record != local) else { return }
    raiseIncarnation(above: record.incarnation, at: now, into: &effects)
  }

  // MARK: Suspect and dead

  /// An accusation: `suspect`, or `dead`, which is no more than another member's suspicion come to its end.
  mutating func applyAccusation(
    of name: NodeName, incarnation: UInt64, accuser: NodeName, toldBy teller: NodeName, at now: Instant,
    into effects: inout [Effect]
  ) {
    if name == local.name {
      refute(incarnation, toldBy: teller, at: now, into: &effects)
      return
    }
    guard var entry = table[name], entry.state.isLive, incarnation >= entry.incarnation, accuser != local.name else { return }
    guard accuser != name, table[accuser]?.state.isLive == true else {
      effects.append(.claimRejected(.accuser(accuser, of: name)))
      return
    }
    if incarnation > entry.incarnation {
      guard !isFar(incarnation, for: entry) else {
        effects.append(.claimRejected(.farIncarnation(name, claimed: incarnation)))
        return
      }
      entry.member.record.incarnation = incarnation
      table.set(entry)
      if entry.state == .suspect { changeState(of: name, to: .alive, at: now, into: &effects) }
    }
    if table[name]?.state == .suspect {
      confirm(name, incarnation: incarnation, accuser: accuser)
    } else if let heardAt = entry.heardAt, now < heardAt + configuration.evidenceWindow {
      // We heard it just now. Let it know, so that it can refute.
      if entry.doubters.count < configuration.confirmations, !entry.doubters.contains(accuser) {
        table.update(name) { $0.doubters.append(accuser) }
      }
      startProbe(
        of: name, kind: .verification, telling: .suspect(name, incarnation: incarnation, accuser: accuser), at: now,
        into: &effects)
    } else {
      beginSuspicion(of: table[name] ?? entry, accuser: accuser, ownProbeFailed: false, at: now, into: &effects)
    }
  }

  private mutating func confirm(_ name: NodeName, incarnation: UInt64, accuser: NodeName) {
    var confirmed = false
    table.update(name) { confirmed = $0.suspicion?.confirm(by: accuser) ?? false }
    if confirmed { rumors.enqueue(.suspect(name, incarnation: incarnation, accuser: accuser)) }
  }

  // MARK: Left

  mutating func applyLeft(
    _ name: NodeName, incarnation: UInt64, firstHand: Bool, from sender: NodeName, at now: Instant,
    into effects: inout [Effect]
  ) {
    if name == local.name {
      if !isLeaving { refute(incarnation, toldBy: sender, at: now, into: &effects) }
      return
    }
    guard var entry = table[name], entry.state != .left, incarnation >= entry.incarnation else { return }
    if !firstHand, isFar(incarnation, for: entry) {
      effects.append(.claimRejected(.farIncarnation(name, claimed: incarnation)))
      return
    }
    if !firstHand, sender != name, entry.state == .alive, let heardAt = entry.heardAt,
      now < heardAt + configuration.evidenceWindow
    {
      // A farewell told by a third party while the member still talks to us is worth a suspicion, not more.
      entry.member.record.incarnation = incarnation
      table.set(entry)
      beginSuspicion(
        of: entry, accuser: sender, ownProbeFailed: false, saidToHaveLeft: true, at: now, into: &effects)
      return
    }
    let previous = entry.member
    entry.member.record.incarnation = incarnation
    if firstHand { entry.ownIncarnation = incarnation }
    table.set(entry)
    changeState(of: name, to: .left, previous: previous, at: now, into: &effects)
    rumors.enqueue(.left(name, incarnation: incarnation))
  }

  // MARK: This node

  /// Lifeguard: having to refute is a sign that this node was slow. Who tells an accusation already refuted hears the answer too.
  private mutating func refute(_ incarnation: UInt64, toldBy teller: NodeName, at now: Instant, into effects: inout [Effect]) {
    guard !isLeaving, !mutated(.neverRefute) else { return }
    if incarnation >= local.incarnation {
      awareness.add(1)
      raiseIncarnation(above: incarnation, at: now, into: &effects)
    }
    if let teller = table[teller]?.member {
      sendDatagram(.gossip, to: teller, telling: .alive(local), into: &effects)
    }
  }

  /// Only the owner raises its incarnation. A claim too near the end of the range is ignored: no correct node makes it.
  mutating func raiseIncarnation(above claimed: UInt64, at now: Instant, into effects: inout [Effect]) {
    let floor = max(claimed, local.incarnation)
    guard floor <= MembershipLimits.incarnationMax - MembershipLimits.incarnationReserve || floor == local.incarnation,
      floor < MembershipLimits.incarnationMax
    else { return }
    local.incarnation = floor + 1
    effects.append(.incarnationRaised(local.incarnation))
    guard !isLeaving else { return }
    announce(.alive(local), at: now, into: &effects)
  }

  mutating func changeMetadata(_ metadata: [UInt8], at now: Instant, into effects: inout [Effect]) {
    let bounded = Array(metadata.prefix(MembershipLimits.metadataBytesMax))
    guard bounded != local.metadata, !isLeaving else { return }
    local.metadata = bounded
    raiseIncarnation(above: local.incarnation, at: now, into: &effects)
  }

  // MARK: The table

  /// Enters a member that was unknown.
  mutating func insert(
    _ record: MemberRecord, state: MemberState, origin: Origin, at now: Instant, into effects: inout [Effect]
  ) {
    guard makeRoom(into: &effects) else {
      effects.append(.claimRejected(.tableFull(record.name)))
      return
    }
    let member = Member(record: record, state: state, since: now)
    table.set(MemberTable.Entry(member: member, ownIncarnation: origin == .firstHand ? record.incarnation : nil))
    effects.append(.memberChanged(MemberChange(old: nil, new: member)))
    switch state {
    case .alive, .suspect:
      // SWIM §4.3: newcomers enter the permutation at a random place.
      probeOrder.insert(record.name, at: generator.index(below: probeOrder.count + 1))
      rumors.enqueue(.alive(record))
    case .dead: scheduleKnock(at: now)
    case .left: break
    }
  }

  /// Makes room for one more member by forgetting the oldest tombstone; false when there is none.
  private mutating func makeRoom(into effects: inout [Effect]) -> Bool {
    guard table.count + 1 >= configuration.membersMax else { return true }
    let tombstones = table.entries.map(\.member).filter { !$0.state.isLive }
    guard let oldest = tombstones.min(by: { $0.since < $1.since }) else { return false }
    forget(oldest, into: &effects)
    return true
  }

  mutating func forget(_ member: Member, into effects: inout [Effect]) {
    table.remove(member.name)
    rumors.drop(about: member.name)
    effects.append(.memberChanged(MemberChange(old: member, new: nil)))
  }

  /// Moves a member to a state and reports the step, if it is one.
  mutating func changeState(
    of name: NodeName, to state: MemberState, suspicion: Suspicion? = nil, previous: Member? = nil, at now: Instant,
    into effects: inout [Effect]
  ) {
    guard var entry = table[name] else { return }
    let old = previous ?? entry.member
    entry.suspicion = suspicion
    if entry.member.state != state {
      entry.member.state = state
      entry.member.since = now
    }
    table.set(entry)
    if !old.state.isLive, state.isLive { probeOrder.insert(name, at: generator.index(below: probeOrder.count + 1)) }
    if state == .dead { scheduleKnock(at: now) }
    if !state.isLive { probes.removeAll { $0.target == name } }
    if old != entry.member { effects.append(.memberChanged(MemberChange(old: old, new: entry.member))) }
  }
}
