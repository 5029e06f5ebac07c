import Primitives

extension SWIM {
  /// The way an answer takes.
  enum ReplyPath: Hashable, Sendable {
    /// A source that is not a member's address: it gets no more than it sent.
    case unknown(NodeAddress)
    case datagram(Member)
    case stream(Member)
  }

  // MARK: Receiving

  mutating func receive(
    _ message: SWIMMessage, fromAddress address: NodeAddress, at now: Instant, into effects: inout [Effect]
  ) {
    guard message.sender != local.name else {
      effects.append(.claimRejected(.senderMismatch(claimed: message.sender, peer: nil)))
      return
    }
    let known = table[message.sender]?.member
    let isAtItsAddress = known?.address == address
    if isAtItsAddress { table.heard(message.sender, at: now) }
    for rumor in message.rumors { apply(rumor, from: message.sender, at: now, into: &effects) }
    let path: ReplyPath =
      if isAtItsAddress, let member = table[message.sender]?.member { .datagram(member) } else { .unknown(address) }
    switch message.body {
    case .ping(let sequence, let target): answerPing(sequence: sequence, target: target, replyTo: path, into: &effects)
    case .pingRequest(let sequence, let target):
      if isAtItsAddress { relayPing(sequence: sequence, target: target, from: address, at: now, into: &effects) }
    case .acknowledgement(let sequence): acknowledged(sequence: sequence, by: message.sender, at: now, into: &effects)
    case .negativeAcknowledgement(let sequence): nacked(sequence: sequence, by: message.sender)
    case .gossip: correct(message.sender, isAtItsAddress: isAtItsAddress, at: now, into: &effects)
    case .introduction, .synchronisation: break
    }
    compareRegistry(with: message, into: &effects)
  }

  mutating func receive(_ message: SWIMMessage, fromPeer peer: NodeName, at now: Instant, into effects: inout [Effect]) {
    guard message.sender == peer, peer != local.name else {
      effects.append(.claimRejected(.senderMismatch(claimed: message.sender, peer: peer)))
      return
    }
    table.heard(peer, at: now)
    for rumor in message.rumors { apply(rumor, from: peer, at: now, into: &effects) }
    switch message.body {
    case .ping(let sequence, let target):
      if let member = table[peer]?.member {
        answerPing(sequence: sequence, target: target, replyTo: .stream(member), into: &effects)
      }
    case .acknowledgement(let sequence): acknowledged(sequence: sequence, by: peer, at: now, into: &effects)
    case .introduction(let record, let wantsReply):
      introduced(record, by: peer, wantsReply: wantsReply, at: now, into: &effects)
    case .synchronisation(let claims, let wantsReply):
      synchronised(claims, by: peer, wantsReply: wantsReply, at: now, into: &effects)
    case .pingRequest, .negativeAcknowledgement, .gossip: break
    }
    compareRegistry(with: message, into: &effects)
  }

  /// Gossip from a member we hold for dead: tell it, so that it refutes. Not often: it may hold us for dead as well.
  private mutating func correct(
    _ sender: NodeName, isAtItsAddress: Bool, at now: Instant, into effects: inout [Effect]
  ) {
    guard isAtItsAddress, let entry = table[sender], entry.state == .dead else { return }
    if let corrected = entry.correctedAt, now < corrected + configuration.probeInterval { return }
    table.update(sender) { $0.correctedAt = now }
    sendDatagram(.gossip, to: entry.member, into: &effects)
  }

  private func compareRegistry(with message: SWIMMessage, into effects: inout [Effect]) {
    guard message.registryDigest != registryDigest, table[message.sender]?.state.isLive == true else { return }
    effects.append(.registryDiffers(message.sender, digest: message.registryDigest))
  }

  // MARK: Sending

  func message(_ body: SWIMMessage.Body, rumors: [Rumor] = []) -> SWIMMessage {
    SWIMMessage(sender: local.name, registryDigest: registryDigest, body: body, rumors: rumors)
  }

  /// What the receiver is accused of, told before anything else (Lifeguard §IV.C, buddy system).
  private func accusation(of member: Member) -> Rumor? {
    guard let entry = table[member.name] else { return nil }
    return switch entry.state {
    case .suspect: .suspect(member.name, incarnation: entry.incarnation, accuser: entry.suspicion?.accusers.first ?? local.name)
    case .dead: .dead(member.name, incarnation: entry.incarnation, accuser: local.name)
    case .left: .left(member.name, incarnation: entry.incarnation)
    case .alive: nil
    }
  }

  /// Rumors for one message: what the receiver must know first, then the least told, within the datagram.
  private mutating func piggyback(for member: Member, body: SWIMMessage.Body, telling extra: Rumor?) -> [Rumor] {
    var first: [Rumor] = []
    if let extra { first.append(extra) }
    if let accusation = accusation(of: member), accusation != extra { first.append(accusation) }
    let used = SWIMMessage.headerBytes(sender: local.name) + body.bytesMax + first.reduce(0) { $0 + $1.encodedBytes }
    let rest = rumors.take(
      bytesMax: MembershipLimits.datagramBytesMax - used, countMax: MembershipLimits.rumorsPerMessageMax - first.count,
      transmissionsMax: configuration.retransmitFactor * Self.digits(liveCount))
    return first + rest.filter { !first.contains($0) }
  }

  mutating func sendDatagram(
    _ body: SWIMMessage.Body, to member: Member, telling extra: Rumor? = nil, into effects: inout [Effect]
  ) {
    let rumors = piggyback(for: member, body: body, telling: extra)
    effects.append(.sendDatagram(message(body, rumors: rumors), to: member.address))
  }

  /// A datagram without rumors, no longer than the one it answers.
  func sendBare(_ body: SWIMMessage.Body, to address: NodeAddress, into effects: inout [Effect]) {
    effects.append(.sendDatagram(message(body), to: address))
  }

  mutating func sendStream(_ body: SWIMMessage.Body, to member: Member, into effects: inout [Effect]) {
    let rumors = accusation(of: member).map { [$0] } ?? []
    effects.append(.sendStream(message(body, rumors: rumors), to: member.name, at: member.address))
  }

  // MARK: Spreading

  /// One round of gossip to random live members.
  mutating func gossip(at now: Instant, into effects: inout [Effect]) {
    nextGossipAt = now + configuration.gossipInterval
    for entry in table.pick(configuration.gossipFanout, using: &generator, where: { $0.state.isLive }) {
      guard !rumors.isEmpty else { return }
      sendDatagram(.gossip, to: entry.member, into: &effects)
    }
  }

  /// Queues a rumor and tells it to as many members as `announceFanout` at once.
  mutating func announce(_ rumor: Rumor, at now: Instant, into effects: inout [Effect]) {
    rumors.enqueue(rumor)
    for entry in table.pick(configuration.announceFanout, using: &generator, where: { $0.state.isLive }) {
      sendDatagram(.gossip, to: entry.member, telling: rumor, into: &effects)
    }
  }
}

extension SWIMMessage.Body {
  /// Upper bound of the bytes of a body that travels by datagram.
  var bytesMax: Int {
    switch self {
    case .ping(_, let target), .pingRequest(_, let target): 6 + target.string.utf8.count
    case .acknowledgement, .negativeAcknowledgement: 5
    case .gossip: 1
    case .introduction, .synchronisation: MembershipLimits.datagramBytesMax
    }
  }
}
