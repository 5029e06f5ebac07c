import Primitives

/// What follows when a link has ended, and what is said of it.
extension LinkDriver {
  func ended(_ link: Link, _ end: Link.End) {
    handshaking[ObjectIdentifier(link)] = nil
    report(end, of: link)
    let reason = Self.words(end)
    if let peer = link.peer {
      endedEstablished(link, peer.node, reason)
    } else if let node = link.dialled, peers[node]?.dial === link {
      with(node) { $0.dial = nil }
      if peers[node]?.link != nil {
        if link.isReplacement { scheduleReplacement(node, within: LinkLimits.redialMax...(LinkLimits.redialMax * 2)) }
        return
      }
      var isRefusal = false
      if case .refusedByPeer = end { isRefusal = true }
      if case .refusedHere = end { isRefusal = true }
      dialFailed(node, reason, link.address, isRefusal: isRefusal)
    } else if !link.isOutbound, case .failed = end {
      events(.failed(node: nil, address: link.address, text: reason))
    }
    if isClosing, peers.values.allSatisfy({ $0.link == nil && $0.retired.isEmpty }) { reportClosed() }
  }

  private func endedEstablished(_ link: Link, _ node: NodeName, _ reason: String) {
    let wasCurrent = peers[node]?.link === link
    with(node) { peer in
      if wasCurrent { peer.link = nil }
      peer.retired.removeAll { $0 === link }
    }
    if let outbox = link.outbox { drop(outbox, reason) }
    guard wasCurrent else { return }
    events(.down(node, reason: reason))
    guard !isClosing, peers[node]?.isWanted == true, peers[node]?.dial == nil else { return }
    let low = local.name < node ? LinkLimits.redialMin / 2 : LinkLimits.redialMin * 2
    scheduleDial(node, after: random.duration(in: low...(low * 2)))
  }

  /// Says what was refused, in a sentence that names the peer and, where there is one, the remedy.
  private func report(_ end: Link.End, of link: Link) {
    let address = link.address
    switch end {
    case .refusedHere(let refusal):
      let isProof = [.joinSecretMismatch, .joinSecretMissing, .tokenRefused].contains(refusal.code)
      if isProof, let ip = address.ip, !link.isOutbound { limiter.recordFailure(from: ip, now: loop.now) }
      let who = refusal.node.map { "\($0) at \(address)" } ?? "\(address)"
      events(
        .refused(
          refusal.code, byPeer: false, node: refusal.node, address: address, text: "\(who) was refused: \(refusal.here)"))
    case .refusedByPeer(let code, let words):
      let who = link.dialled.map { "\(address) (\($0))" } ?? "\(address)"
      events(
        .refused(code, byPeer: true, node: link.dialled, address: address, text: "\(who) refused this node: \(words)"))
    case .failed, .goodbye: return
    }
  }

  private static func words(_ end: Link.End) -> String {
    switch end {
    case .failed(let text), .goodbye(let text): text
    case .refusedHere(let refusal): "refused: \(refusal.here)"
    case .refusedByPeer(_, let text): "it refused this node: \(text)"
    }
  }
}
