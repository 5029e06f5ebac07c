import Glibc
import Primitives
import Synchronization

/// The state of a network's links, confined to its loop.
final class LinkDriver: LinkOwner {
  let loop: EventLoop
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
  private let local: LocalNode
  private let versions: LinkVersions
  private let wallSeconds: @Sendable () -> Int64
  private var security: LinkSecurity
  private let shared: SharedLinks
  private let events: @Sendable (LinkEvent) -> Void

  private var listener: LinkListener?
  private var peers: [NodeName: PeerLinks] = [:]
  /// Connections whose handshake is not finished, by identity.
  private var handshaking: [ObjectIdentifier: Link] = [:]
  private var limiter = ProofLimiter()
  private var random = SeededGenerator(seed: secureRandom(count: 8).reduce(0) { $0 << 8 | UInt64($1) })
  private var nextTick = Instant.zero
  private var isTicking = false
  private var isClosing = false
  private var closed: (() -> Void)?

  /// What is known of one peer.
  private struct PeerLinks {
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
    loop: EventLoop, local: LocalNode, versions: LinkVersions, wallSeconds: @escaping @Sendable () -> Int64,
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

  private func with<Value>(_ node: NodeName, _ body: (inout PeerLinks) -> Value) -> Value {
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

  private func handshakeLocal(dialled: NodeName? = nil, isReplacement: Bool = false) -> LinkHandshake.Local {
    var handshake = LinkHandshake.Local(
      node: local, authorities: security.credentials.authorities.map(\.der), joinSecret: security.credentials.joinSecret,
      dialled: dialled, isReplacement: isReplacement, versions: versions, token: security.credentials.token,
      wallSeconds: { [wallSeconds] in UInt64(max(0, wallSeconds())) })
    if let judge = shared.handlers.withLock({ $0.token }) { handshake.judgeToken = judge }
    return handshake
  }

  private func start(_ link: Link) {
    handshaking[ObjectIdentifier(link)] = link
    link.start()
    startTicking()
  }

  // MARK: Dialling

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

  private func scheduleDial(_ node: NodeName, after delay: Duration) {
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

  private func dial(_ node: NodeName, isReplacement: Bool = false) {
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

  private func dialFailed(_ node: NodeName, _ text: String, _ address: SocketAddress?, isRefusal: Bool = false) {
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

  private func drop(_ outbox: Outbox, _ reason: String) {
    shared.remove(outbox)
    let handlers = shared.handlers.withLock { $0.closed }
    for handler in handlers { handler(LinkPeer(node: outbox.node, link: outbox.id), reason) }
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

  /// Spread in time, or all nodes that renew together would dial together.
  private func scheduleReplacement(_ node: NodeName, within range: ClosedRange<Duration>) {
    loop.schedule(after: random.duration(in: range)) { [weak self] in
      guard let self, peers[node]?.link != nil else { return }
      dial(node, isReplacement: true)
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

  private func reportClosed() {
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

extension SocketAddress {
  /// The address to dial from, so that peers see where the node lives; nil for a wildcard.
  var sourceForDialling: IPAddress? {
    guard let ip, ip != .any, ip != .v6(high: 0, low: 0) else { return nil }
    return ip
  }
}
