import Primitives
import Synchronization

/// The calls of both directions on one link, with the numbers that mean something only there.
final class CallSession: Sendable {
  let peer: LinkPeer
  private let carrier: any FrameCarrier
  private let counters: CallCounters
  private let state = Mutex(State())

  private struct State {
    var nextCall: UInt64 = 1
    var pending: [UInt64: CheckedContinuation<Result<[UInt8], MeshError>, Never>] = [:]
    var routesOut: [Route: UInt32] = [:]
    var routesIn: [UInt32: Route] = [:]
    var running: [UInt64: InboundCall] = [:]
    var closed: String?
  }

  init(peer: LinkPeer, carrier: any FrameCarrier, counters: CallCounters) {
    self.peer = peer
    self.carrier = carrier
    self.counters = counters
  }

  // MARK: Calls made here

  /// Reserves the number of a call, so that it can be cancelled from the moment it is sent.
  func reserve() -> UInt64 {
    state.withLock { state in
      defer { state.nextCall &+= 1 }
      return state.nextCall
    }
  }

  /// Sends a request; the continuation is resumed exactly once, whatever becomes of it.
  func start(
    _ call: UInt64, route: Route, body: [UInt8], arguments: Int, deadline: ContinuousClock.Instant,
    _ continuation: CheckedContinuation<Result<[UInt8], MeshError>, Never>
  ) {
    var body = body
    let prepared = state.withLock { state -> Result<UInt32, MeshError> in
      if let reason = state.closed { return .failure(.unreachable(peer.node, reason)) }
      guard state.pending.count < CallLimits.pendingMax else {
        return .failure(MeshError(.overloaded, "\(CallLimits.pendingMax) calls to \(peer.node) are waiting for replies"))
      }
      guard let number = Self.number(of: route, &state, send: { carrier.send($0, on: peer.link) }) else {
        return .failure(MeshError(.overloaded, "the queue to \(peer.node) is full"))
      }
      // Before the frame leaves: the reply may be there before this function returns.
      state.pending[call] = continuation
      return .success(number)
    }
    let number: UInt32
    switch prepared {
    case .success(let known): number = known
    case .failure(let failure): return continuation.resume(returning: .failure(failure))
    }
    RequestHead.fill(&body, remainingMilliseconds: Self.milliseconds(until: deadline), route: number, arguments: arguments)
    let result = carrier.send(Frame(kind: .request, lane: .calls, id: call, body: body), on: peer.link)
    guard let failure = MeshError(sending: result, to: peer.node) else { return }
    // Unless the end of the link has failed it already.
    _ = settle(call, .failure(failure))
  }

  /// The route's number on this link, announced before its first use.
  private static func number(of route: Route, _ state: inout State, send: (Frame) -> SendResult) -> UInt32? {
    if let known = state.routesOut[route] { return known }
    guard state.routesOut.count < CallLimits.routesMax else { return nil }
    let number = UInt32(state.routesOut.count)
    // A refused announcement is not remembered; a closed link is noticed by the request that follows.
    switch send(Frame(kind: .route, lane: .calls, id: UInt64(number), body: route.body)) {
    case .queueFull, .tooLong: return nil
    case .queued, .unknownNode, .closed: break
    }
    state.routesOut[route] = number
    return number
  }

  private static func milliseconds(until deadline: ContinuousClock.Instant) -> UInt32 {
    UInt32(clamping: max(1, Int64((deadline - .now).inMilliseconds)))
  }

  func isPending(_ call: UInt64) -> Bool { state.withLock { $0.pending[call] != nil } }

  /// The reply to a call; one that no call waits for is counted and ignored.
  func reply(_ call: UInt64, body: [UInt8]) {
    guard settle(call, .success(body)) else {
      counters.unexpectedReplies.add(1, ordering: .relaxed)
      return
    }
  }

  func expire(_ call: UInt64) {
    let error = MeshError(.timeout, "\(peer.node) did not answer before the deadline; the call may have run")
    if settle(call, .failure(error)) { sendCancel(call) }
  }

  func cancel(_ call: UInt64) {
    if settle(call, .failure(MeshError(.cancelled, "the caller's task was cancelled"))) { sendCancel(call) }
  }

  private func sendCancel(_ call: UInt64) {
    _ = carrier.send(Frame(kind: .cancel, lane: .calls, id: call), on: peer.link)
  }

  private func settle(_ call: UInt64, _ result: Result<[UInt8], MeshError>) -> Bool {
    guard let continuation = state.withLock({ $0.pending.removeValue(forKey: call) }) else { return false }
    continuation.resume(returning: result)
    return true
  }

  // MARK: Calls served here

  /// Learns what a route number stands for; false when the peer breaks the rules of routes.
  func learn(_ number: UInt64, _ route: Route) -> Bool {
    state.withLock { state in
      guard let number = UInt32(exactly: number), number < CallLimits.routesMax, state.routesIn[number] == nil else {
        return false
      }
      state.routesIn[number] = route
      return true
    }
  }

  func route(_ number: UInt32) -> Route? { state.withLock { $0.routesIn[number] } }

  /// Notes a call that will be served; false when the link has ended or the number is in use.
  func accept(_ call: InboundCall) -> Bool {
    state.withLock { state in
      guard state.closed == nil, state.running[call.id] == nil else { return false }
      state.running[call.id] = call
      return true
    }
  }

  /// Forgets a call that was noted and then not taken.
  func abandon(_ call: UInt64) { state.withLock { $0.running[call] = nil } }

  func cancelInbound(_ call: UInt64) { state.withLock { $0.running[call] }?.cancel() }

  /// Sends the one reply of a call.
  func finish(_ call: UInt64, body: [UInt8]) {
    state.withLock { $0.running[call] = nil }
    switch carrier.send(Frame(kind: .reply, lane: .calls, id: call, body: body), on: peer.link) {
    case .queued, .closed, .unknownNode: return
    case .tooLong:
      let error = MeshError(.tooLarge, "the result has \(body.count) bytes; a reply has at most \(CallLimits.bodyBytesMax)")
      if carrier.send(Frame(kind: .reply, lane: .calls, id: call, body: error.replyBody), on: peer.link) == .queued { return }
    case .queueFull: break
    }
    counters.lostReplies.add(1, ordering: .relaxed)
  }

  // MARK: The end

  /// Whether nothing would be lost with it: no calls, and no route that the peer counts on.
  var isIdle: Bool { state.withLock { $0.pending.isEmpty && $0.running.isEmpty && $0.routesIn.isEmpty } }

  /// Fails every call that waits, because the cluster has given the peer up, though the link may not know it yet.
  func giveUp(_ reason: String) {
    let waiting = state.withLock { state in
      defer { state.pending = [:] }
      return state.pending
    }
    for continuation in waiting.values { continuation.resume(returning: .failure(.unreachable(peer.node, reason))) }
  }

  /// Fails every call that waits and cancels every call that runs, once.
  func close(_ reason: String) {
    let (waiting, running) = state.withLock { state in
      let ended = (state.pending, state.running)
      state.closed = state.closed ?? reason
      state.pending = [:]
      state.running = [:]
      return ended
    }
    for continuation in waiting.values { continuation.resume(returning: .failure(.unreachable(peer.node, reason))) }
    for call in running.values { call.cancel() }
  }
}

extension MeshError {
  static func unreachable(_ node: NodeName, _ reason: String) -> MeshError {
    MeshError(.nodeUnreachable, "\(node): \(reason)")
  }

  /// The error of a call that was never sent, because its link ended or another took over.
  static func linkEnded(_ node: NodeName) -> MeshError { .unreachable(node, "the link has ended") }

  /// The error of a message that was not taken; nil for one that was.
  init?(sending result: SendResult, to node: NodeName) {
    switch result {
    case .queued: return nil
    case .queueFull: self.init(.overloaded, "the queue to \(node) is full")
    case .tooLong: self.init(.tooLarge, "the arguments have more than \(CallLimits.bodyBytesMax) bytes")
    case .unknownNode: self = .unreachable(node, "no address is known")
    case .closed: self = .linkEnded(node)
    }
  }
}

/// What a system counts about its calls.
final class CallCounters: Sendable {
  let callsSent = Atomic<UInt64>(0)
  let callsServed = Atomic<UInt64>(0)
  let callsRefused = Atomic<UInt64>(0)
  let unexpectedReplies = Atomic<UInt64>(0)
  let lostReplies = Atomic<UInt64>(0)
}
