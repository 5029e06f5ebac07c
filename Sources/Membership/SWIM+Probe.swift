import Primitives

/// A probe of one member: direct, then through others and the link, then given up.
struct Probe: Hashable, Sendable {
  enum Kind: Hashable, Sendable {
    /// The one of this probe interval.
    case regular
    /// Because of an accusation or a lost link.
    case verification
  }

  let sequence: UInt32
  let target: NodeName
  let kind: Kind
  let startedAt: Instant
  /// When others are asked; nil once they were.
  var indirectAt: Instant?
  var endAt: Instant
  /// Members asked to probe for us, which answer with an acknowledgement or a nack.
  var askedMembers: [NodeName] = []
  var nackedMembers: [NodeName] = []

  var nextDeadline: Instant { indirectAt.map { min($0, endAt) } ?? endAt }

  mutating func postpone(by time: Duration) {
    indirectAt = indirectAt.map { $0 + time }
    endAt = endAt + time
  }
}

/// A probe carried out for another member.
struct Relay: Hashable, Sendable {
  let sequence: UInt32
  let target: NodeName
  let requester: NodeAddress
  let requesterSequence: UInt32
  /// When the nack is sent; nil once it was.
  var nackAt: Instant?
  let endAt: Instant

  var nextDeadline: Instant { nackAt.map { min($0, endAt) } ?? endAt }
}

extension SWIM {
  /// Clusters of up to 32 nodes probe twice as often. In each interval a dead member is missed by all with probability 1/e, so the
  /// time to its first failed probe has a long tail; ten small datagrams a second are a fair price for shortening it.
  private var regularInterval: Duration {
    liveCount <= 32 ? configuration.probeInterval / 2 : configuration.probeInterval
  }

  private mutating func takeSequence() -> UInt32 {
    nextSequence &+= 1
    return nextSequence
  }

  // MARK: Starting

  mutating func startRegularProbe(at now: Instant, into effects: inout [Effect]) {
    nextProbeAt = now + awareness.scaled(regularInterval)
    guard let target = nextInOrder() else { return }
    startProbe(of: target, kind: .regular, at: now, into: &effects)
  }

  /// The next live member of the random permutation.
  private mutating func nextInOrder() -> NodeName? {
    for _ in 0..<2 {
      while let name = probeOrder.popLast() {
        if let entry = table[name], entry.state.isLive { return name }
      }
      probeOrder = table.entries.filter(\.state.isLive).map(\.member.name)
      generator.shuffle(&probeOrder)
    }
    return nil
  }

  /// Probes a member unless a probe of it is under way or too many are.
  mutating func startProbe(
    of name: NodeName, kind: Probe.Kind, telling extra: Rumor? = nil, at now: Instant, into effects: inout [Effect]
  ) {
    guard let entry = table[name] else { return }
    guard probes.count < MembershipLimits.probesMax, !probes.contains(where: { $0.target == name }) else {
      // Its answer is awaited already, but the accusation is news to it.
      if kind == .verification { sendDatagram(.gossip, to: entry.member, telling: extra, into: &effects) }
      return
    }
    let timeout = awareness.scaled(configuration.probeTimeout)
    let probe = Probe(
      sequence: takeSequence(), target: name, kind: kind, startedAt: now, indirectAt: now + timeout,
      endAt: now + max(awareness.scaled(configuration.probeInterval), timeout * 2))
    probes.append(probe)
    sendDatagram(.ping(sequence: probe.sequence, target: name), to: entry.member, telling: extra, into: &effects)
  }

  // MARK: Time

  mutating func advanceProbes(at now: Instant, into effects: inout [Effect]) {
    var index = 0
    while index < probes.count {
      let probe = probes[index]
      if now >= probe.endAt {
        probes.remove(at: index)
        probeFailed(probe, at: now, into: &effects)
        continue
      }
      if let due = probe.indirectAt, now >= due {
        probes[index].indirectAt = nil
        probes[index].askedMembers = askOthers(to: probe, into: &effects)
      }
      index += 1
    }
  }

  /// SWIM §3.1 and memberlist's fallback: k others by datagram, and the member itself on its link.
  private mutating func askOthers(to probe: Probe, into effects: inout [Effect]) -> [NodeName] {
    guard let target = table[probe.target]?.member else { return [] }
    let helpers = table.pick(configuration.indirectProbes, using: &generator) {
      $0.state == .alive && $0.member.name != probe.target
    }
    for helper in helpers {
      sendDatagram(.pingRequest(sequence: probe.sequence, target: probe.target), to: helper.member, into: &effects)
    }
    sendStream(.ping(sequence: probe.sequence, target: probe.target), to: target, into: &effects)
    return helpers.map(\.member.name)
  }

  private mutating func probeFailed(_ probe: Probe, at now: Instant, into effects: inout [Effect]) {
    guard let entry = table[probe.target], entry.state.isLive else { return }
    if let heardAt = entry.heardAt, heardAt > probe.startedAt { return }
    // Healthy helpers nack: each one missing says that it is rather we who are not heard (Lifeguard §IV.A).
    let missing = probe.askedMembers.count - probe.nackedMembers.count
    if probe.askedMembers.isEmpty { awareness.add(1) } else if missing > 0 { awareness.add(missing) }
    accuse(probe.target, at: now, into: &effects)
  }

  mutating func advanceRelays(at now: Instant, into effects: inout [Effect]) {
    for index in relays.indices {
      guard let due = relays[index].nackAt, now >= due else { continue }
      relays[index].nackAt = nil
      let body = SWIMMessage.Body.negativeAcknowledgement(sequence: relays[index].requesterSequence)
      sendBare(body, to: relays[index].requester, into: &effects)
    }
    relays.removeAll { now >= $0.endAt }
  }

  // MARK: Messages

  /// Answers a ping, on the way it came.
  mutating func answerPing(sequence: UInt32, target: NodeName, replyTo: ReplyPath, into effects: inout [Effect]) {
    guard target == local.name else { return }
    switch replyTo {
    case .unknown(let address): sendBare(.acknowledgement(sequence: sequence), to: address, into: &effects)
    case .datagram(let member): sendDatagram(.acknowledgement(sequence: sequence), to: member, into: &effects)
    case .stream(let member): sendStream(.acknowledgement(sequence: sequence), to: member, into: &effects)
    }
  }

  mutating func relayPing(
    sequence: UInt32, target: NodeName, from requester: NodeAddress, at now: Instant, into effects: inout [Effect]
  ) {
    guard let entry = table[target], relays.count < MembershipLimits.relaysMax else {
      sendBare(.negativeAcknowledgement(sequence: sequence), to: requester, into: &effects)
      return
    }
    let relay = Relay(
      sequence: takeSequence(), target: target, requester: requester, requesterSequence: sequence,
      nackAt: now + configuration.probeTimeout * 4 / 5, endAt: now + configuration.probeInterval * 2)
    relays.append(relay)
    sendDatagram(.ping(sequence: relay.sequence, target: target), to: entry.member, into: &effects)
  }

  mutating func acknowledged(
    sequence: UInt32, by sender: NodeName, at now: Instant, into effects: inout [Effect]
  ) {
    if let index = probes.firstIndex(where: { $0.sequence == sequence }) {
      let probe = probes[index]
      guard sender == probe.target || probe.askedMembers.contains(sender) else { return }
      probes.remove(at: index)
      table.heard(probe.target, at: now)
      awareness.add(-1)
    } else if let index = relays.firstIndex(where: { $0.sequence == sequence && $0.target == sender }) {
      let relay = relays.remove(at: index)
      sendBare(.acknowledgement(sequence: relay.requesterSequence), to: relay.requester, into: &effects)
    }
  }

  mutating func nacked(sequence: UInt32, by sender: NodeName) {
    guard let index = probes.firstIndex(where: { $0.sequence == sequence }) else { return }
    guard probes[index].askedMembers.contains(sender), !probes[index].nackedMembers.contains(sender) else { return }
    probes[index].nackedMembers.append(sender)
  }
}
