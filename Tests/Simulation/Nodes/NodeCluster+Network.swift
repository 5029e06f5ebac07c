import Consensus
import Membership
import Primitives

/// Links, datagrams, and who lets whom in.
extension NodeCluster {
  func areLinked(_ a: Int, _ b: Int) -> Bool {
    !cuts.contains(Way(from: a, to: b)) && !cuts.contains(Way(from: b, to: a))
  }

  /// Whether a node believes another by what it knows: the trust bundle, the cluster's file, or a token.
  private func believes(_ index: Int, _ peer: Int) -> Bool {
    guard let control = nodes[index].process?.control else { return false }
    let name = nodes[peer].name
    guard control.posture(of: name) != .gone else { return false }
    let known = control.trust.anchors.filter { $0.node == name }
    if known.contains(where: { $0.certificate == nodes[peer].disk.authority }) { return true }
    guard known.isEmpty else { return false }
    if nodes[peer].token == nil, listed.contains(name), nodes[index].token == nil { return true }
    if let token = nodes[peer].token, let entry = control.token(token), entry.refusal(at: wall(index)) == nil { return true }
    // A node with a token believes whoever knows it.
    if let token = nodes[index].token { return nodes[peer].process?.control.token(token) != nil }
    return false
  }

  func mayLink(_ a: Int, _ b: Int) -> Bool { believes(a, b) && believes(b, a) }

  // MARK: Sending

  private mutating func transmit(_ parcel: Parcel, from: Int, to: Int) {
    var delay = generator.duration(in: faults.delay)
    if nodes[from].slowness > .zero { delay += generator.duration(in: .zero...nodes[from].slowness) }
    queue.add(.deliver(parcel, from: from, to: to, life: nodes[to].life), at: now + delay)
  }

  /// By UDP: may be lost, doubled, overtaken.
  mutating func sendDatagram(_ message: SWIMMessage, from: Int, to address: NodeAddress) {
    guard let to = nodes.firstIndex(where: { $0.address == address }) else { return }
    guard !cuts.contains(Way(from: from, to: to)) else { return counts.blocked += 1 }
    if generator.chance(faults.loss) { return counts.lost += 1 }
    transmit(.swim(message, isStream: false), from: from, to: to)
    if generator.chance(faults.duplication) {
      counts.duplicated += 1
      transmit(.swim(message, isStream: false), from: from, to: to)
    }
  }

  /// By a link, which may break at any moment: so messages on it are lost too.
  mutating func send(_ parcel: Parcel, from: Int, to name: NodeName) {
    guard let to = index(of: name), to != from else { return }
    guard areLinked(from, to), nodes[to].process != nil, mayLink(from, to) else {
      counts.blocked += 1
      if case .swim = parcel { feed(from, .linkDown(name, .refused)) }
      return
    }
    if generator.chance(faults.loss / 4) { return counts.lost += 1 }
    transmit(tampered(parcel), from: from, to: to)
  }

  /// Somebody in between changes rows that are not its own.
  private mutating func tampered(_ parcel: Parcel) -> Parcel {
    guard case .registry(.rows(var rows, let continuations)) = parcel, !rows.isEmpty, generator.chance(faults.tampering) else {
      return parcel
    }
    counts.tampered += 1
    let victim = generator.index(below: rows.count)
    var payload = rows[victim].payload
    guard !payload.isEmpty else { return parcel }
    // Behind the head, so that it still reads as a row: an address, a port, a label.
    let at = payload.count - 1 - generator.index(below: max(1, payload.count / 3))
    payload[at] ^= 1 << UInt8(generator.below(7))
    rows[victim] = SignedRow(payload: payload, signature: rows[victim].signature)
    return .registry(.rows(rows, continuations: continuations))
  }

  // MARK: Receiving

  mutating func deliver(_ parcel: Parcel, from sender: Int, to receiver: Int, life: Int) {
    guard nodes[receiver].process != nil else { return }
    let name = nodes[sender].name
    if case .swim(let message, false) = parcel {
      guard !cuts.contains(Way(from: sender, to: receiver)) else { return counts.blocked += 1 }
      guard (try? SWIMMessage(decoding: message.encoded())) == message else {
        return checker.note("codecs", "a membership message does not survive its encoding")
      }
      return feed(receiver, .datagram(message, from: nodes[sender].address))
    }
    // A link ends with either process.
    guard nodes[receiver].life == life, areLinked(sender, receiver), mayLink(receiver, sender) else {
      return counts.blocked += 1
    }
    vouch(receiver, for: sender)
    feed(receiver, .evidenceOfLife(name, at: clock(receiver)))
    switch parcel {
    case .swim(let message, _): feed(receiver, .stream(message, from: name))
    case .registry(let message): receiveRows(message, from: name, at: receiver)
    case .raft(let bytes):
      guard let message = try? RaftMessage(decoding: bytes) else {
        return checker.note("codecs", "a Raft message does not decode")
      }
      feedRaft(receiver, .received(message, from: name))
    case .renew(let renewal):
      feedAssignment(receiver, .renewal(renewal, from: name, leaderHoldsLease: mayProlong(receiver)))
    case .acknowledge(let renewal): if knownLeader(receiver) == name { feedLease(receiver, .acknowledged(renewal)) }
    case .catchUp(let bytes): receiveCatchUp(bytes, from: sender, at: receiver)
    case .forward(let command, let floor): receiveForward(command, floor: floor, from: sender, at: receiver)
    case .written(let place, let floor):
      counts.writesAcknowledged += 1
      checker.answeredWrite(at: place, floor: floor)
    }
  }

  /// The first node that a token is shown to speaks for the newcomer.
  private mutating func vouch(_ index: Int, for peer: Int) {
    guard let token = nodes[peer].token, let control = nodes[index].process?.control else { return }
    guard !control.trust.anchors.contains(where: { $0.node == nodes[peer].name }), control.token(token) != nil else { return }
    guard generator.chance(0.2) else { return }
    let node = AdmittedNode(name: nodes[peer].name, address: nodes[peer].address.host, locality: "", canIssue: true)
    propose(
      .joinByToken(TokenJoin(token: token, node: node, certificate: nodes[peer].disk.authority, at: wall(index))), by: index)
  }

  private mutating func receiveCatchUp(_ bytes: [UInt8], from sender: Int, at receiver: Int) {
    guard let message = try? CatchUpMessage(decoding: bytes), let process = nodes[receiver].process else { return }
    let peer = nodes[sender].name
    switch message {
    case .pull(let after, let through):
      send(.catchUp(process.recent.answer(after: after, through: through).encoded()), from: receiver, to: peer)
    case .pullState(let place, let offset):
      let answer = process.states.answer(at: place, offset: offset, state: process.control, now: clock(receiver))
      send(.catchUp(answer.encoded()), from: receiver, to: peer)
    case .askHead: send(.catchUp(CatchUpMessage.reached(process.control.head).encoded()), from: receiver, to: peer)
    case .head:
      let voters = process.control.configuration.voters
      let local = clock(receiver)
      if voters.isEmpty || voters.contains(peer) { nodes[receiver].process?.heard = (peer, local) }
      feedFollower(receiver, .received(message, from: peer))
    case .entries, .unavailable, .state, .reached: feedFollower(receiver, .received(message, from: peer))
    }
  }
}
