import CLinux
import Glibc
import Primitives

/// What a link tells the network it belongs to. All on the loop.
protocol LinkOwner: AnyObject {
  var loop: EventLoop { get }
  var readBuffer: UnsafeMutableRawBufferPointer { get }
  func admit(_ peer: LinkHandshake.Peer, on link: Link) -> LinkHandshake.Refusal?
  /// Gives the link its outbox.
  func established(_ link: Link, _ peer: LinkHandshake.Peer)
  func received(_ frame: Frame, on link: Link)
  /// Called once, when nothing more happens on the link.
  func ended(_ link: Link, _ end: Link.End)
}

/// One connection to a peer, from connect or accept to its end: drives TLS, the handshake, and the frames.
final class Link: EventHandler, TurnHandler {
  enum End: Hashable {
    case failed(String)
    case refusedHere(LinkHandshake.Refusal)
    case refusedByPeer(LinkRejection, String)
    /// On purpose, by either side.
    case goodbye(String)
  }

  private enum Phase { case connecting, securing, greeting, established, closing, closed }

  let address: SocketAddress
  let dialled: NodeName?
  let isReplacement: Bool
  private unowned let owner: any LinkOwner
  private let descriptor: Int32
  private let security: LinkSecurity
  private let local: LinkHandshake.Local

  private var phase: Phase
  private var registration: Registration?
  private var timer = TimerToken.none
  /// Until its handshake is done.
  private var session: TLSSession?
  /// From then on.
  private(set) var channel: LinkChannel?
  private var handshake: LinkHandshake?
  private var decoder = FrameDecoder()
  private var end: End?
  private var isTurnDue = false
  /// Bytes wait for the socket to take them.
  private var isBlocked = false
  /// The link itself has written something, or there is room for more bulk.
  private var isFlushDue = false
  /// Of the decoder, when it was last looked at.
  private var isMidMessage = false

  private(set) var peer: LinkHandshake.Peer?
  private(set) var peerExpiry = Int64.max
  private(set) var establishedAt = Instant.zero
  private(set) var framesReceived: UInt64 = 0
  var outbox: Outbox?
  var roundTrip: Duration?
  /// This side, and the peer, have said that another link took over.
  var isRetired = false
  var isRetiredByPeer = false

  /// Takes over a connected or connecting descriptor.
  init(
    owner: any LinkOwner, descriptor: Int32, address: SocketAddress, dialled: NodeName?, local: LinkHandshake.Local,
    security: LinkSecurity
  ) {
    self.owner = owner
    self.descriptor = descriptor
    self.address = address
    self.dialled = dialled
    self.local = local
    self.security = security
    isReplacement = local.isReplacement
    phase = dialled == nil ? .securing : .connecting
  }

  var isOutbound: Bool { dialled != nil }
  var isEstablished: Bool { phase == .established }
  /// Whether this side has not yet told the peer that it is welcome, so the attempt can be dropped unseen.
  var isEarly: Bool { phase == .connecting || phase == .securing }

  func start() {
    do throws(SystemError) {
      registration = try owner.loop.register(descriptor, self)
    } catch {
      return finish(.failed(error.description))
    }
    var lowWater: Int32 = 16_384
    // Keeps bulk bytes out of the kernel, where an urgent frame could not overtake them.
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NOTSENT_LOWAT, &lowWater, socklen_t(MemoryLayout<Int32>.size))
    let limit = dialled == nil ? LinkLimits.handshakeTimeout : LinkLimits.connectTimeout
    setTimer(limit, dialled == nil ? "the handshake took longer than \(limit)" : "no answer within \(limit)")
    if phase == .securing { secure() }
  }

  private func setTimer(_ delay: Duration, _ words: String) {
    owner.loop.cancel(timer)
    timer = owner.loop.schedule(after: delay) { [weak self] in self?.finish(.failed(words)) }
  }

  // MARK: Readiness

  func ready(_ readiness: Readiness) {
    switch phase {
    case .connecting: connected()
    case .securing: continueSecuring()
    case .greeting, .established:
      if isBlocked { flush() }
      read()
    case .closing: drain()
    case .closed: return
    }
  }

  func turnEnded() {
    isTurnDue = false
    switch phase {
    case .greeting, .established:
      flush()
      read()
    case .closing: drain()
    case .connecting, .securing, .closed: return
    }
  }

  private func connected() {
    let code = abs(cl_socket_error(descriptor))
    guard code == 0 else { return finish(.failed(SystemError("connect to \(address)", code: code).description)) }
    setTimer(LinkLimits.handshakeTimeout, "the handshake took longer than \(LinkLimits.handshakeTimeout)")
    secure()
  }

  private func secure() {
    phase = .securing
    do throws(TLSError) {
      session = try TLSSession(dialled == nil ? security.server : security.client, descriptor: descriptor)
    } catch {
      return finish(.failed(error.description))
    }
    continueSecuring()
  }

  private func continueSecuring() {
    guard let session else { return }
    switch session.handshake() {
    case .wantRead, .wantWrite: return
    case .failed(let error): finish(.failed(error.description))
    case .done: greet(session)
    }
  }

  // MARK: Handshake

  private func greet(_ session: TLSSession) {
    let exporter: [UInt8]
    do throws(TLSError) {
      exporter = try session.exporter(label: "EXPORTER-mesh-node-link", length: 32)
    } catch {
      return finish(.failed(error.description))
    }
    guard session.applicationProtocol == LinkSecurity.applicationProtocol else {
      return finish(.failed("\(address) does not speak the link protocol"))
    }
    let chain = session.peerChain
    peerExpiry = chain.first?.notAfter ?? .max
    let role: PeerRole = dialled == nil ? .server : .client
    let channel = LinkHandshake.Channel(
      role: role, exporter: exporter, identity: Self.identity(session.verification),
      identityUnder: { [trustDomain = local.node.trustDomain] authorities in
        Self.identity(of: chain, under: authorities, trustDomain: trustDomain, as: role == .client ? .server : .client)
      })
    phase = .greeting
    self.session = nil
    self.channel = LinkChannel(session, at: owner.loop.now)
    let handshake = LinkHandshake(local, channel)
    self.handshake = handshake
    write(handshake.hello)
    flush()
    read()
  }

  private static func identity(_ verification: PeerVerification) -> Result<SPIFFEID, CertificateError> {
    switch verification {
    case .member(let identity): .success(identity)
    case .unverified(let reason): .failure(reason)
    case .anonymous: .failure(.noCertificate)
    case .trusted: .failure(.noIdentity)
    }
  }

  private static func identity(
    of chain: [Certificate], under authorities: [[UInt8]], trustDomain: String, as role: PeerRole
  ) -> Result<SPIFFEID, CertificateError> {
    Result { () throws(CertificateError) in
      var offered: [Certificate] = []
      for der in authorities { offered.append(try Certificate(der: der)) }
      let bundle = try TrustBundle(trustDomain: trustDomain, authorities: offered, version: 0)
      return try bundle.verify(chain: chain, at: Int64(time(nil)), as: role)
    }
  }

  private func carryOut(_ effects: [LinkHandshake.Effect]) {
    for effect in effects {
      switch effect {
      case .send(let frame): write(frame)
      case .established(let peer):
        owner.loop.cancel(timer)
        self.peer = peer
        handshake = nil
        phase = .established
        establishedAt = owner.loop.now
        owner.established(self, peer)
      case .refuse(let refusal): close(.refusedHere(refusal))
      case .refused(let code, let text): finish(.refusedByPeer(code, text))
      case .fail(let text): finish(.failed(text))
      }
    }
  }

  // MARK: Bytes

  /// Reads all there is, and only then hands it on: who is told writes to the channel at once, from another thread, and has it alone.
  private func read() {
    var (total, undelivered) = (0, 0)
    defer { if isFlushDue { flush() } }
    while let channel, phase == .greeting || phase == .established {
      guard total < LinkLimits.readBatchBytes else {
        deliver(channel)
        return goOnNextTurn()
      }
      let (result, failure) = channel.read(into: owner.readBuffer, at: owner.loop.now)
      guard case .bytes(let count) = result else {
        if undelivered > 0 { deliver(channel) }
        if result != .wouldBlock { finish(.failed(failure)) }
        return
      }
      total += count
      undelivered += count
      decoder.append(UnsafeRawBufferPointer(rebasing: owner.readBuffer[..<count]))
      guard phase == .greeting || undelivered >= LinkLimits.deliveryBytes else { continue }
      deliver(channel)
      undelivered = 0
    }
  }

  private func goOnNextTurn() {
    guard !isTurnDue else { return }
    isTurnDue = true
    owner.loop.atEndOfTurn(self)
  }

  private func deliver(_ channel: LinkChannel) {
    var isCompleted = false
    defer {
      if isMidMessage || decoder.isMidMessage {
        isMidMessage = decoder.isMidMessage
        channel.decoded(completed: isCompleted, isOpen: isMidMessage, at: owner.loop.now)
      }
    }
    do throws(FrameError) {
      if phase == .greeting, handshake?.isPeerKnown == false,
        channel.bytesReceived > UInt64(LinkLimits.handshakeBytesMax)
      {
        throw .handshakeTooLong
      }
      while phase == .greeting || phase == .established, let frame = try decoder.next() {
        isCompleted = true
        framesReceived &+= 1
        if phase == .established {
          outbox?.received(frame.kind)
          owner.received(frame, on: self)
        } else if var handshake {
          let effects = handshake.receive(frame) { [unowned self] in owner.admit($0, on: self) }
          self.handshake = handshake
          carryOut(effects)
        }
      }
    } catch {
      finish(.failed("the peer broke the frame protocol: \(error)"))
    }
  }

  /// Queues a frame of the link's own ahead of everything not yet taken from the outbox.
  func write(_ frame: Frame) {
    channel?.append(frame)
    isFlushDue = true
  }

  /// Takes the id of a pong; false when it answers no mark of a bulk transfer.
  func answered(_ id: UInt64) -> Bool {
    guard channel?.answered(id) == true else { return false }
    isFlushDue = true
    return true
  }

  /// Asks the peer whether it is there.
  func ask() {
    channel?.asked(at: owner.loop.now)
    write(Frame(kind: .ping, lane: .urgent, id: owner.loop.now.nanoseconds))
    flush()
  }

  func flush() {
    guard let channel, phase == .greeting || phase == .established || phase == .closing else { return }
    isFlushDue = false
    isBlocked = false
    switch channel.flush(phase == .established ? outbox : nil, at: owner.loop.now) {
    case .done: break
    case .blocked: return isBlocked = true
    case .unfinished: return goOnNextTurn()
    case .failed(let words): return finish(end ?? .failed(words))
    }
    if phase == .closing, channel.shutdown() { Glibc.shutdown(descriptor, Int32(SHUT_WR)) }
  }

  // MARK: The end

  /// Writes what the link itself has queued, then ends. The peer's last bytes are read, or its unread ones would make the
  /// kernel discard ours.
  func close(_ end: End) {
    guard phase != .closing, phase != .closed else { return }
    guard channel != nil, phase != .connecting, phase != .securing else { return finish(end) }
    self.end = end
    phase = .closing
    outbox?.attach(nil)
    owner.loop.cancel(timer)
    timer = owner.loop.schedule(after: LinkLimits.goodbyeTimeout) { [weak self] in self?.finish(end) }
    drain()
  }

  private func drain() {
    flush()
    var total = 0
    while let channel, let end, phase == .closing, total < LinkLimits.readBatchBytes {
      switch channel.read(into: owner.readBuffer, at: owner.loop.now).result {
      case .bytes(let count): total += count
      case .wouldBlock: return
      case .endOfStream, .failed: return finish(end)
      }
    }
    if let end { finish(end) }
  }

  func finish(_ end: End) {
    guard phase != .closed else { return }
    phase = .closed
    owner.loop.cancel(timer)
    if let registration { owner.loop.deregister(registration) }
    session = nil
    channel?.close()
    Glibc.close(descriptor)
    owner.ended(self, self.end ?? end)
  }
}
