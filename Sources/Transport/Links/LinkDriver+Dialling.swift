import Primitives
import Synchronization

/// Whom this node calls, and when it calls again.
extension LinkDriver {
  func setWanted(_ wanted: [NodeName: SocketAddress]) {
    guard !isClosing else { return }
    for node in peers.keys where wanted[node] == nil { with(node) { $0.isWanted = false } }
    for node in wanted.keys.sorted() where node != local.name {
      let isNew = with(node) { peer in
        defer { peer.isWanted = true }
        return !peer.isWanted && peer.link == nil && peer.dial == nil && peer.redialAt == nil
      }
      guard isNew else { continue }
      // The lower name dials first, so that most pairs do not call each other at the same time.
      if local.name < node {
        dial(node)
      } else {
        scheduleDial(node, after: random.duration(in: .milliseconds(100)...(.milliseconds(300))))
      }
    }
  }

  /// Frames wait for a node that has no link.
  func need(_ node: NodeName) {
    guard let outbox = shared.current(node), peers[node]?.link?.outbox !== outbox else { return }
    guard !isClosing else { return drop(outbox, "this node is closing its links") }
    guard let peer = peers[node] else { return dial(node) }
    guard peer.dial == nil else { return }
    if let redialAt = peer.redialAt, peer.failures > 0 {
      // Soon enough to wait for; otherwise the callers are told now what was wrong the last time.
      if redialAt - loop.now > LinkLimits.redialMin * 4 { drop(outbox, peer.lastFailure) }
      return
    }
    dial(node)
  }

  func scheduleDial(_ node: NodeName, after delay: Duration) {
    let token = loop.schedule(after: delay) { [weak self] in
      guard let self else { return }
      with(node) { $0.redialAt = nil }
      if peers[node]?.isWanted == true || shared.current(node) != nil { dial(node) }
    }
    with(node) { peer in
      loop.cancel(peer.redial)
      peer.redial = token
      peer.redialAt = loop.now + delay
    }
  }

  func dial(_ node: NodeName, isReplacement: Bool = false) {
    guard !isClosing, peers[node]?.dial == nil, isReplacement || peers[node]?.link == nil else { return }
    with(node) { peer in
      loop.cancel(peer.redial)
      peer.redialAt = nil
    }
    guard let address = shared.address(node) else { return dialFailed(node, "no address is known", nil) }
    do throws(SystemError) {
      let socket = try Socket.connect(to: address, from: local.address.sourceForDialling)
      let link = Link(
        owner: self, descriptor: socket.release(), address: address, dialled: node,
        local: handshakeLocal(dialled: node, isReplacement: isReplacement), security: security)
      with(node) { $0.dial = link }
      start(link)
    } catch {
      dialFailed(node, error.description, address)
    }
  }

  func dialFailed(_ node: NodeName, _ text: String, _ address: SocketAddress?, isRefusal: Bool = false) {
    let isNews = with(node) { peer in
      defer { peer.lastFailure = text }
      peer.failures += 1
      return peer.lastFailure != text || peer.failures == 1
    }
    if isNews, !isRefusal, let address { events(.failed(node: node, address: address, text: text)) }
    guard peers[node]?.link == nil else { return }
    if let outbox = shared.current(node) { drop(outbox, text) }
    let failures = with(node) { $0.failures }
    let delay = isRefusal ? LinkLimits.redialRefused : Self.redialDelay(failures: failures)
    scheduleDial(node, after: random.duration(in: (delay / 2)...delay))
  }

  /// The longest wait before the next attempt after that many failed ones, at least one; half of it is jitter.
  static func redialDelay(failures: Int) -> Duration {
    min(LinkLimits.redialMin * (1 << min(max(failures, 1) - 1, 10)), LinkLimits.redialMax)
  }

  func drop(_ outbox: Outbox, _ reason: String) {
    shared.remove(outbox)
    let handlers = shared.handlers.withLock { $0.closed }
    for handler in handlers { handler(LinkPeer(node: outbox.node, link: outbox.id), reason) }
  }

  /// Spread in time, or all nodes that renew together would dial together.
  func scheduleReplacement(_ node: NodeName, within range: ClosedRange<Duration>) {
    loop.schedule(after: random.duration(in: range)) { [weak self] in
      guard let self, peers[node]?.link != nil else { return }
      dial(node, isReplacement: true)
    }
  }
}

extension SocketAddress {
  /// The address to dial from, so that peers see where the node lives; nil for a wildcard.
  var sourceForDialling: IPAddress? {
    guard let ip, ip != .any, ip != .v6(high: 0, low: 0) else { return nil }
    return ip
  }
}
