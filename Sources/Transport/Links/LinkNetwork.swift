import Glibc
import Primitives
import Synchronization

/// The links of one node to its peers: accepts, dials, keeps alive, replaces, and carries frames in lanes.
///
/// Any thread may call it. Handlers and events run on the loop's thread and must return at once; set them before `listen`.
public final class LinkNetwork: FrameCarrier {
  public let loop: EventLoop
  public let local: LocalNode
  private let driver: LoopBound<LinkDriver>
  let shared: SharedLinks

  /// - Parameter wallSeconds: this node's wall clock, in seconds since 1970; peers are told it.
  /// - Throws: when the credentials do not work together, or the join secret is too short.
  public init(
    loop: EventLoop, local: LocalNode, credentials: LinkCredentials, versions: ProtocolRange = .links,
    wallSeconds: @escaping @Sendable () -> Int64 = { Int64(time(nil)) }, events: @escaping @Sendable (LinkEvent) -> Void
  ) throws(TLSError) {
    self.loop = loop
    self.local = local
    let shared = SharedLinks()
    self.shared = shared
    let security = try LinkSecurity(credentials)
    driver = LoopBound(
      LinkDriver(
        loop: loop, local: local, versions: versions, wallSeconds: wallSeconds, security: security, shared: shared,
        events: events), on: loop)
  }

  public var localNode: NodeName { local.name }

  /// Asked, on the loop, about each peer that is otherwise accepted: a sentence refuses it. Set before `listen`.
  public func onAdmission(
    _ judge: @escaping @Sendable (NodeName, _ incarnation: UInt64, LinkTrust, _ authorities: [[UInt8]]) -> String?
  ) {
    shared.handlers.withLock { $0.admission = judge }
  }

  /// Asked, on the loop, about each join token that a stranger comes with. Set before `listen`.
  public func onToken(_ judge: @escaping LinkTokenJudge) { shared.handlers.withLock { $0.token = judge } }

  /// Accepts links at the local address, and returns it with the port the kernel chose where 0 was asked for.
  @discardableResult
  public func listen() throws(SystemError) -> SocketAddress {
    let socket = LinkListener.Box(try Listener(on: local.address))
    let address = socket.listener.address
    loop.post { [driver] in driver.value.accept(on: socket) }
    return address
  }

  /// Keeps a link to each of these nodes, and to no other of its own accord. Links that exist stay.
  public func setPeers(_ peers: [NodeName: SocketAddress]) {
    shared.learn(peers)
    loop.post { [driver] in driver.value.setWanted(peers) }
  }

  /// Learns where a node accepts links, so that frames for it can be sent.
  public func learn(_ node: NodeName, at address: SocketAddress) { shared.learn([node: address]) }

  /// Takes other credentials for new connections. When this node's certificate changed, links are made anew, each old one
  /// ending when its calls are answered.
  public func update(_ credentials: LinkCredentials) throws(TLSError) {
    let security = LoopBound(try LinkSecurity(credentials), on: loop)
    loop.post { [driver] in driver.value.update(security.value) }
  }

  // MARK: Frames

  public func link(to node: NodeName) -> LinkID? { outbox(for: node)?.id }

  /// Sends a message to a node, dialling it when no link exists. Best effort: it may be lost with the link.
  @discardableResult
  public func send(_ kind: FrameKind, _ lane: Lane, to node: NodeName, body: [UInt8]) -> SendResult {
    guard let outbox = outbox(for: node) else { return .unknownNode }
    return outbox.send(Frame(kind: kind, lane: lane, body: body))
  }

  public func send(_ frame: Frame, on link: LinkID) -> SendResult { shared.outbox(link)?.send(frame) ?? .closed }

  private func outbox(for node: NodeName) -> Outbox? {
    let (outbox, isNew) = shared.outbox(for: node) { [driver] outbox in
      let loop = driver.loop
      loop.post { driver.value.wake(outbox) }
    }
    if isNew { loop.post { [driver] in driver.value.need(node) } }
    return outbox
  }

  /// Calls `handler` for each message of one of these kinds.
  public func onFrame(_ kinds: [FrameKind], _ handler: @escaping @Sendable (LinkPeer, Frame) -> Void) {
    shared.handlers.withLock { handlers in
      for kind in kinds { handlers.frames[kind] = handler }
    }
  }

  /// Calls `handler` for each message of a kind with the node that sent it.
  public func onFrame(_ kind: FrameKind, _ handler: @escaping @Sendable (NodeName, [UInt8]) -> Void) {
    onFrame([kind]) { peer, frame in handler(peer.node, frame.body) }
  }

  public func onLinkClosed(_ handler: @escaping @Sendable (LinkPeer, String) -> Void) {
    shared.handlers.withLock { $0.closed.append(handler) }
  }

  /// Ends the links with a node that the cluster no longer wants.
  public func disconnect(_ node: NodeName, reason: String) {
    loop.post { [driver] in driver.value.disconnect(node, reason) }
  }

  // MARK: The end, and numbers

  /// Tells every peer that this node leaves, and ends all links. Returns when they have ended, at most a second later.
  public func close(reason: String) async {
    await withCheckedContinuation { continuation in
      loop.post { [driver] in driver.value.close(reason) { continuation.resume() } }
    }
  }

  /// The established links, by node.
  public func statistics() async -> [LinkStatistics] {
    await withCheckedContinuation { continuation in
      loop.post { [driver] in continuation.resume(returning: driver.value.statistics()) }
    }
  }
}

/// What other threads see of a network's links.
final class SharedLinks: Sendable {
  struct Handlers {
    var frames: [FrameKind: @Sendable (LinkPeer, Frame) -> Void] = [:]
    var closed: [@Sendable (LinkPeer, String) -> Void] = []
    var token: LinkTokenJudge?
    var admission: (@Sendable (NodeName, UInt64, LinkTrust, [[UInt8]]) -> String?)?
  }
  private struct State {
    var addresses: [NodeName: SocketAddress] = [:]
    var current: [NodeName: Outbox] = [:]
    var all: [LinkID: Outbox] = [:]
    var next: UInt64 = 1
    var isClosed = false
  }

  let handlers = Mutex(Handlers())
  private let state = Mutex(State())

  func learn(_ peers: [NodeName: SocketAddress]) {
    state.withLock { $0.addresses.merge(peers) { _, new in new } }
  }
  func address(_ node: NodeName) -> SocketAddress? { state.withLock { $0.addresses[node] } }
  func outbox(_ id: LinkID) -> Outbox? { state.withLock { $0.all[id] } }
  func current(_ node: NodeName) -> Outbox? { state.withLock { $0.current[node] } }

  /// The queue for a node, made when its address is known.
  func outbox(for node: NodeName, wake: @escaping @Sendable (Outbox) -> Void) -> (Outbox?, isNew: Bool) {
    state.withLock { state in
      if let current = state.current[node] { return (current, false) }
      guard !state.isClosed, state.addresses[node] != nil, state.current.count < LinkLimits.peersMax else {
        return (nil, false)
      }
      return (Self.make(node, &state, wake), true)
    }
  }

  /// Makes a new queue for a link that is established; `isCurrent` when new frames are to go there.
  func makeOutbox(_ node: NodeName, isCurrent: Bool, wake: @escaping @Sendable (Outbox) -> Void) -> Outbox {
    state.withLock { state in
      let before = state.current[node]
      let outbox = Self.make(node, &state, wake)
      if !isCurrent { state.current[node] = before }
      return outbox
    }
  }

  private static func make(_ node: NodeName, _ state: inout State, _ wake: @escaping @Sendable (Outbox) -> Void) -> Outbox {
    let outbox = Outbox(id: LinkID(state.next), node: node, wake: wake)
    state.next &+= 1
    state.current[node] = outbox
    state.all[outbox.id] = outbox
    return outbox
  }

  /// Drops a queue with what waits in it.
  func remove(_ outbox: Outbox) {
    outbox.close()
    state.withLock { state in
      state.all[outbox.id] = nil
      if state.current[outbox.node] === outbox { state.current[outbox.node] = nil }
    }
  }

  func close() { state.withLock { $0.isClosed = true } }
}
