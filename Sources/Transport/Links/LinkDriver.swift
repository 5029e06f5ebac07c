import Glibc
import Primitives
import Synchronization

/// The state of a network's links, confined to its loop.
final class LinkDriver: LinkOwner {
  let loop: EventLoop
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
  let local: LocalNode
  private let versions: ProtocolRange
  private let wallSeconds: @Sendable () -> Int64
  var security: LinkSecurity
  let shared: SharedLinks
  let events: @Sendable (LinkEvent) -> Void

  private var listener: LinkListener?
  var peers: [NodeName: PeerLinks] = [:]
  /// Connections whose handshake is not finished, by identity.
  var handshaking: [ObjectIdentifier: Link] = [:]
  var limiter = ProofLimiter()
  var random = SeededGenerator(seed: secureRandom(count: 8).reduce(0) { $0 << 8 | UInt64($1) })
  private var nextTick = Instant.zero
  private var isTicking = false
  var isClosing = false
  private var closed: (() -> Void)?

  /// What is known of one peer.
  struct PeerLinks {
    var isWanted = false
    var link: Link?
    /// Links that end when their calls are answered.
    var retired: [Link] = []
    var dial: Link?
    var redial = TimerToken.none
    var redialAt: Instant?
    var failures = 0
    var lastFailure = ""
    var incarnation: UInt64 = 0
  }

  init(
    loop: EventLoop, local: LocalNode, versions: ProtocolRange, wallSeconds: @escaping @Sendable () -> Int64,
    security: LinkSecurity, shared: SharedLinks, events: @escaping @Sendable (LinkEvent) -> Void
  ) {
    self.loop = loop
    self.local = local
    self.versions = versions
    self.wallSeconds = wallSeconds
    self.security = security
    self.shared = shared
    self.events = events
  }

  deinit { readBuffer.deallocate() }

  func with<Value>(_ node: NodeName, _ body: (inout PeerLinks) -> Value) -> Value {
    body(&peers[node, default: PeerLinks()])
  }

  // MARK: Accepting

  func accept(on box: LinkListener.Box) {
    let listener = LinkListener(box, loop: loop) { [unowned self] descriptor, address in accept(descriptor, address) }
    do throws(SystemError) {
      try listener.start()
      self.listener = listener
    } catch {
      events(.failed(node: nil, address: local.address, text: "links are not accepted: \(error)"))
    }
  }

  private func accept(_ descriptor: Int32, _ address: SocketAddress) {
    let inbound = handshaking.values.filter { !$0.isOutbound }
    let fromSource = inbound.count { $0.address.ip == address.ip }
    guard !isClosing, inbound.count < LinkLimits.handshakesMax, fromSource < LinkLimits.handshakesPerSourceMax,
      address.ip.map({ !limiter.isShutOut($0, now: loop.now) }) ?? true
    else {
      Glibc.close(descriptor)
      return
    }
    start(
      Link(
        owner: self, descriptor: descriptor, address: address, dialled: nil, local: handshakeLocal(), security: security))
  }

  func handshakeLocal(dialled: NodeName? = nil, isReplacement: Bool = false) -> LinkHandshake.Local {
    var handshake = LinkHandshake.Local(
      node: local, authorities: security.credentials.authorities.map(\.der), joinSecret: security.credentials.joinSecret,
      dialled: dialled, isReplacement: isReplacement, versions: versions, token: security.credentials.token,
      wallSeconds: { [wallSeconds] in UInt64(max(0, wallSeconds())) })
    if let judge = shared.handlers.withLock({ $0.token }) { handshake.judgeToken = judge }
    return handshake
  }

  func start(_ link: Link) {
    handshaking[ObjectIdentifier(link)] = link
    link.start()
    startTicking()
  }

  // MARK: Links

  func admit(_ peer: LinkHandshake.Peer, on link: Link) -> LinkHandshake.Refusal? {
    if let known = peers[peer.node]?.incarnation, peer.incarnation < known {
      return LinkHandshake.Refusal(
        code: .staleIncarnation, node: peer.node,
        here: "its incarnation \(peer.incarnation) is older than \(known), which was seen before",
        there: "incarnation \(peer.incarnation) is older than \(known); another process runs under this name")
    }
    if let known = peers[peer.node]?.link, let alive = known.peer, alive.incarnation != peer.incarnation,
      known.address.ip != link.address.ip,
      (known.channel?.pulse.silence(at: loop.now) ?? .zero) < LinkLimits.aliveWindow
    {
      // Should it have gone without a word, that is known when the newcomer comes again.
      known.ask()
      return LinkHandshake.Refusal(
        code: .nameInUse, node: peer.node,
        here: "\(peer.node) is alive at \(known.address); two nodes cannot have one name",
        there: "\(peer.node) is alive at \(known.address); give this node another name, or stop the other one first")
    }
    guard peers[peer.node] != nil || peers.count < LinkLimits.peersMax else {
      return LinkHandshake.Refusal(
        code: .overloaded, node: peer.node, here: "\(LinkLimits.peersMax) peers are known", there: "it knows too many peers")
    }
    guard let judge = shared.handlers.withLock({ $0.admission }),
      let words = judge(peer.node, peer.incarnation, peer.trust, peer.authorities)
    else { return nil }
    return LinkHandshake.Refusal(code: .declined, node: peer.node, here: words, there: words)
  }

  func established(_ link: Link, _ peer: LinkHandshake.Peer) {
    let node = peer.node
    handshaking[ObjectIdentifier(link)] = nil
    if peers[node]?.dial === link { with(node) { $0.dial = nil } }
    with(node) { peerLinks in
      loop.cancel(peerLinks.redial)
      peerLinks.redialAt = nil
      peerLinks.failures = 0
      peerLinks.lastFailure = ""
      peerLinks.incarnation = max(peerLinks.incarnation, peer.incarnation)
    }
    if peer.trust == .joinSecret {
      for authority in peer.authorities {
        events(.introduced(node, incarnation: peer.incarnation, authority: authority))
      }
    }
    if case .token(let token) = peer.trust, let authority = peer.authorities.first {
      events(.joining(node, token: token, authority: authority, address: link.address))
    }
    if let lead = peer.clockLead, lead.magnitude > UInt64(LinkLimits.clockToleranceSeconds) {
      events(.clockDiffers(node, seconds: lead))
    }
    guard let existing = peers[node]?.link, let known = existing.peer else {
      adopt(link, peer, isFirst: true)
      return
    }
    let choice = LinkPreference.choose(
      existing: candidate(existing, known), new: candidate(link, peer), local: local.name, peer: node)
    switch choice {
    case .replace:
      adopt(link, peer, isFirst: false)
      retire(existing)
    case .drop:
      existing.finish(.goodbye("\(node) has restarted"))
      adopt(link, peer, isFirst: true)
    case .keep:
      link.outbox = shared.makeOutbox(node, isCurrent: false, wake: wakeHandler)
      retire(link)
    }
  }

  private func candidate(_ link: Link, _ peer: LinkHandshake.Peer) -> LinkPreference.Candidate {
    LinkPreference.Candidate(
      dialler: link.isOutbound ? local.name : peer.node, incarnation: peer.incarnation,
      isReplacement: link.isReplacement || peer.isReplacement, establishedAt: link.establishedAt)
  }

  private var wakeHandler: @Sendable (Outbox) -> Void {
    let driver = LoopBound(self, on: loop)
    return { outbox in driver.loop.post { driver.value.wake(outbox) } }
  }

  /// Makes the link the one that carries new frames.
  private func adopt(_ link: Link, _ peer: LinkHandshake.Peer, isFirst: Bool) {
    let node = peer.node
    let waiting = isFirst ? shared.current(node) : nil
    let outbox = waiting ?? shared.makeOutbox(node, isCurrent: true, wake: wakeHandler)
    link.outbox = outbox
    outbox.attach(link.channel)
    let dial = with(node) { peerLinks in
      peerLinks.link = link
      return peerLinks.dial
    }
    // An attempt of ours that the peer has not seen yet is not needed; its rule prefers the lower name's.
    if let dial, dial !== link, dial.isEarly, node < local.name { dial.finish(.goodbye("the peer was faster")) }
    if isFirst { events(.up(node, incarnation: peer.incarnation, trust: peer.trust, address: link.address)) }
    link.flush()
  }

  /// Leaves the link to the calls that are open on it.
  private func retire(_ link: Link) {
    guard let node = link.peer?.node, !link.isRetired else { return }
    link.isRetired = true
    with(node) { $0.retired.append(link) }
    link.outbox?.retire()
    link.flush()
    loop.schedule(after: LinkLimits.retirementTimeout) { [weak link] in link?.finish(.goodbye("replaced")) }
    endIfDone(link)
  }

  private func endIfDone(_ link: Link) {
    guard link.isRetired, link.isRetiredByPeer, link.outbox?.isIdle ?? true else { return }
    link.close(.goodbye("replaced"))
  }

  func wake(_ outbox: Outbox) {
    guard let peer = peers[outbox.node] else { return }
    let link = peer.link?.outbox === outbox ? peer.link : peer.retired.first { $0.outbox === outbox }
    guard let link else { return }
    link.flush()
    endIfDone(link)
  }

  func received(_ frame: Frame, on link: Link) {
    guard let node = link.peer?.node, let outbox = link.outbox else { return }
    switch frame.kind {
    case .ping:
      link.write(Frame(kind: .pong, lane: .urgent, id: frame.id))
    case .pong:
      if link.answered(frame.id) { break }
      let sample = loop.now - Instant(nanoseconds: frame.id)
      // A number that no ping of ours can have had is the peer's mistake.
      guard sample >= .zero, sample < LinkLimits.silenceTimeout * 2 else { return }
      link.roundTrip = link.roundTrip.map { $0 * 7 / 8 + sample / 8 } ?? sample
    case .goodbye:
      receivedGoodbye(frame, on: link, node)
    case .hello, .welcome, .reject:
      link.finish(.failed("\(node) sent \(frame.kind) on an established link"))
    default:
      guard let handler = shared.handlers.withLock({ $0.frames[frame.kind] }) else { return }
      handler(LinkPeer(node: node, link: outbox.id), frame)
    }
    endIfDone(link)
  }

  private func receivedGoodbye(_ frame: Frame, on link: Link, _ node: NodeName) {
    guard let notice = try? LinkNotice(parsing: frame.body) else {
      return link.finish(.failed("\(node) sent a goodbye that cannot be read"))
    }
    if notice.code == LinkNotice.replaced {
      link.isRetiredByPeer = true
      return
    }
    if peers[node]?.link === link { events(.leaving(node, reason: notice.text)) }
    link.close(.goodbye("\(node) left: \(notice.text)"))
  }

  // MARK: Keeping alive

  private func startTicking() {
    guard !isTicking else { return }
    isTicking = true
    nextTick = loop.now + LinkLimits.pulseInterval
    loop.schedule(after: LinkLimits.pulseInterval) { [weak self] in self?.tick() }
  }

  private func tick() {
    isTicking = false
    // A loop that was itself stalled has not listened: that is no evidence against its peers.
    let stalled = loop.now - nextTick > LinkLimits.pulseInterval
    let unixSeconds = Int64(time(nil))
    for peer in peers.values {
      for link in [peer.link].compactMap({ $0 }) + peer.retired where link.isEstablished {
        if !stalled, let reason = complaint(about: link, unixSeconds) {
          link.finish(.failed(reason))
        } else if link.channel?.pulse.isDue(at: loop.now, isDialler: link.isOutbound) == true {
          link.ask()
        }
      }
    }
    if !peers.values.allSatisfy({ $0.link == nil && $0.retired.isEmpty && $0.dial == nil }) { startTicking() }
  }

  private func complaint(about link: Link, _ unixSeconds: Int64) -> String? {
    if unixSeconds > link.peerExpiry { return "its certificate expired and was not renewed on this link" }
    return link.channel?.pulse.complaint(at: loop.now)
  }

  // MARK: Credentials, end, numbers

  func update(_ new: LinkSecurity) {
    let isRenewed = new.credentials.identity.chain.first != security.credentials.identity.chain.first
    security = new
    guard isRenewed else { return }
    for node in peers.keys.sorted() where peers[node]?.link != nil && shared.address(node) != nil {
      scheduleReplacement(node, within: .zero...(.milliseconds(500)))
    }
  }

  func disconnect(_ node: NodeName, _ reason: String) {
    guard let peer = peers[node] else { return }
    with(node) { peer in
      peer.isWanted = false
      loop.cancel(peer.redial)
      peer.redialAt = nil
    }
    peer.dial?.finish(.goodbye(reason))
    for link in [peer.link].compactMap({ $0 }) + peer.retired { link.close(.goodbye(reason)) }
  }

  func close(_ reason: String, then done: @escaping () -> Void) {
    guard !isClosing else { return done() }
    isClosing = true
    closed = done
    shared.close()
    listener?.stop()
    listener = nil
    let notice = LinkNotice(code: LinkNotice.leaving, text: reason).body
    for peer in peers.values {
      loop.cancel(peer.redial)
      peer.dial?.finish(.goodbye(reason))
      for link in [peer.link].compactMap({ $0 }) + peer.retired {
        link.write(Frame(kind: .goodbye, lane: .urgent, body: notice))
        link.close(.goodbye(reason))
      }
    }
    for link in handshaking.values { link.finish(.goodbye(reason)) }
    for node in peers.keys { if let outbox = shared.current(node) { drop(outbox, reason) } }
    if peers.values.allSatisfy({ $0.link == nil && $0.retired.isEmpty }) { reportClosed() }
  }

  func reportClosed() {
    let done = closed
    closed = nil
    done?()
  }

  func statistics() -> [LinkStatistics] {
    var all: [LinkStatistics] = []
    for node in peers.keys.sorted() {
      guard let link = peers[node]?.link else { continue }
      all.append(
        LinkStatistics(
          node: node, address: link.address.description, outbound: link.isOutbound,
          upSeconds: (loop.now - link.establishedAt).inSeconds, roundTripMilliseconds: link.roundTrip?.inMilliseconds,
          bytesSent: link.channel?.bytesSent ?? 0, bytesReceived: link.channel?.bytesReceived ?? 0,
          framesReceived: link.framesReceived,
          queuedBytes: link.outbox?.queuedBytes ?? 0, callsInFlight: link.outbox?.callsInFlight ?? 0))
    }
    return all
  }
}
