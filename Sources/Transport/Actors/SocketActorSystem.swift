import Distributed
import Primitives
import Synchronization

/// The distributed actor system of the mesh: actors call each other over the links of a `FrameCarrier`.
///
/// A call is made at most once. It ends with its result, the callee's `MeshError`, `timeout`, `cancelled`, or
/// `nodeUnreachable` as soon as its link is gone; the caller decides whether to try again. Calls from one node to one actor
/// start in the order in which they were made.
public final class SocketActorSystem: DistributedActorSystem {
  public typealias ActorID = MeshActorID
  public typealias SerializationRequirement = any Codable
  public typealias InvocationEncoder = MeshInvocationEncoder
  public typealias InvocationDecoder = MeshInvocationDecoder
  public typealias ResultHandler = MeshResultHandler

  public let node: NodeName
  private let carrier: any FrameCarrier
  private let recorder: TargetRecorder?
  private let deadlines = DeadlineQueue()
  private let counters = CallCounters()
  private let actors = ActorRegistry()
  private let watches: WatchTable
  private let state = Mutex(State())
  private let traced = Mutex<(@Sendable (TracedCall) -> Void)?>(nil)

  private struct State {
    var sessions: [LinkID: CallSession] = [:]
    var nextWatch: UInt64 = 0
    var isShutDown = false
  }

  /// Attaches to the carrier, which must not have started.
  public convenience init(carrier: any FrameCarrier) { self.init(carrier: carrier, recorder: nil) }

  init(
    carrier: any FrameCarrier, recorder: TargetRecorder?,
    pause: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
  ) {
    node = carrier.localNode
    self.carrier = carrier
    self.recorder = recorder
    watches = WatchTable(carrier: carrier, life: { [actors] in actors.life(of: $0) }, pause: pause)
    carrier.onFrame([.request, .reply, .cancel, .route]) { [weak self] peer, frame in self?.receive(frame, from: peer) }
    carrier.onFrame([.watch, .watching, .terminated, .unwatch]) { [weak self] peer, frame in
      self?.receive(watch: frame, from: peer)
    }
    carrier.onLinkClosed { [weak self] peer, reason in
      self?.closeSession(peer.link, reason)
      self?.watches.linkClosed(peer)
    }
  }

  /// Refuses new calls as `unavailable`, cancels those that run and fails those that wait.
  public func shutDown() {
    let sessions = state.withLock { state in
      state.isShutDown = true
      defer { state.sessions = [:] }
      return state.sessions
    }
    for session in sessions.values { session.close("this node is shutting down") }
    deadlines.stop()
    watches.close()
  }

  // MARK: Actors

  public func resolve<Act: DistributedActor>(id: MeshActorID, as actorType: Act.Type) throws -> Act?
  where Act.ID == MeshActorID {
    guard id.node == node else { return nil }
    guard let found = actors.recipient(id.name)?.actor else {
      throw MeshError(.unknownActor, "no actor '\(id.name)' lives on this node (\(node))")
    }
    guard let actor = found as? Act else {
      throw MeshError(.unknownActor, "'\(id.name)' on this node (\(node)) is not a \(Act.self)")
    }
    return actor
  }

  public func assignID<Act: DistributedActor>(_ actorType: Act.Type) -> MeshActorID where Act.ID == MeshActorID {
    if let known = actorType as? any MeshActor.Type { return MeshActorID(node: node, name: known.name) }
    return MeshActorID(node: node, name: actors.unusedName(of: actorType))
  }

  public func actorReady<Act: DistributedActor>(_ actor: Act) where Act.ID == MeshActorID {
    // An actor that is no `MeshActor` has no list of targets: nobody can call it from elsewhere.
    guard let actor = actor as? any MeshActor else { return }
    let recipient = Recipient(actor, life: actors.unusedLife(), system: self)
    if let ended = actors.insert(recipient, as: actor.id.name) { watches.ended(actor.id, life: ended.life) }
  }

  public func resignID(_ id: MeshActorID) {
    let ended = actors.removeEnded(id.name)
    // Another that has taken the name already keeps what it watches.
    guard ended != nil || actors.recipient(id.name) == nil else { return }
    watches.forget(.actor(id))
    if let ended { watches.ended(id, life: ended.life) }
  }

  // MARK: Watches

  /// Calls `told` once when the actor is gone, at once if it is gone already; see `LifecycleWatch` for what that means.
  ///
  /// - Throws: `overloaded` when too many are watched, `nodeUnreachable` when no address of its node is known.
  public func watch(_ actor: MeshActorID, told: @escaping @Sendable (Termination) -> Void) throws(MeshError) -> ActorWatch {
    let watch = state.withLock { state in
      state.nextWatch &+= 1
      return ActorWatch(actor: actor, number: state.nextWatch)
    }
    try watches.watch(actor, for: .closure(watch.number), told: told)
    return watch
  }

  /// Takes a watch back: nobody is told of it unless that was already under way.
  public func unwatch(_ watch: ActorWatch) { watches.unwatch(watch.actor, for: .closure(watch.number)) }

  func watch(_ actor: MeshActorID, for watcher: Watcher, told: @escaping WatchTable.Told) throws(MeshError) {
    try watches.watch(actor, for: watcher, told: told)
  }

  func unwatch(_ actor: MeshActorID, for watcher: Watcher) { watches.unwatch(actor, for: watcher) }

  /// Takes the nodes that the cluster has given up: dead, or left. Whoever watches an actor there is told, and calls that wait
  /// for a reply from there fail now, not when the link has been silent for long enough.
  public func update(gone: Set<NodeName>) {
    let new = watches.update(gone: gone)
    guard !new.isEmpty else { return }
    let sessions = state.withLock { $0.sessions.values.filter { new.contains($0.peer.node) } }
    for session in sessions { session.giveUp("the cluster has given it up") }
  }

  private func receive(watch frame: Frame, from peer: LinkPeer) {
    // What cannot be read is of a newer version, and costs that peer its watch only.
    switch frame.kind {
    case .watch:
      if let request = try? WatchRequest(parsing: frame.body) { watches.receivedWatch(frame.id, request, from: peer) }
    case .watching:
      if let life = try? WatchedLife(parsing: frame.body).life { watches.receivedWatching(frame.id, life: life, from: peer) }
    case .terminated:
      if let termination = Termination(parsing: frame.body) {
        watches.receivedTerminated(frame.id, termination, from: peer)
      }
    case .unwatch: watches.receivedUnwatch(frame.id, from: peer)
    default: return
    }
  }

  // MARK: Calls made here

  public func makeInvocationEncoder() -> MeshInvocationEncoder { MeshInvocationEncoder(trace: RemoteCall.trace) }

  public func remoteCall<Act: DistributedActor, Failure: Error, Success: Codable>(
    on actor: Act, target: RemoteCallTarget, invocation: inout MeshInvocationEncoder, throwing: Failure.Type,
    returning: Success.Type
  ) async throws -> Success where Act.ID == MeshActorID {
    let body = try await perform(actor.id, target, invocation)
    let tape: ValueTape
    do {
      guard body.first == ReplyStatus.value.rawValue else { throw ValueError.mismatch(expected: "a result") }
      tape = try ValueTape(body, from: 1, count: 1)
      return try tape.decode(Success.self, at: 0)
    } catch {
      throw MeshError(.badArguments, "the result of \(actor.id) is not a \(Success.self): \(ValueError.text(error))")
    }
  }

  public func remoteCallVoid<Act: DistributedActor, Failure: Error>(
    on actor: Act, target: RemoteCallTarget, invocation: inout MeshInvocationEncoder, throwing: Failure.Type
  ) async throws where Act.ID == MeshActorID {
    guard try await perform(actor.id, target, invocation) == [ReplyStatus.void.rawValue] else {
      throw MeshError(.badArguments, "\(actor.id) answered with a result where none belongs")
    }
  }

  /// Sends the call and returns the body of its reply, which is not an error.
  private func perform(
    _ id: MeshActorID, _ target: RemoteCallTarget, _ invocation: MeshInvocationEncoder
  ) async throws(MeshError) -> [UInt8] {
    recorder?.record(identifier: target.identifier, arguments: invocation.arguments)
    let now = ContinuousClock.now
    let deadline = RemoteCall.outboundDeadline(now: now)
    guard deadline > now else { throw MeshError(.timeout, "the deadline passed before \(id) was called") }
    guard !Task.isCancelled else { throw MeshError(.cancelled, "the caller's task was cancelled") }
    counters.callsSent.add(1, ordering: .relaxed)
    let route = Route(actor: id.name, target: target.identifier)
    let body: [UInt8]
    do {
      body = try await exchange(route, invocation, deadline, with: id.node)
    } catch  where error == .linkEnded(id.node) {
      // Nothing was sent: the link was replaced between the choice and the call, which happens once.
      body = try await exchange(route, invocation, deadline, with: id.node)
    }
    guard body.first == ReplyStatus.error.rawValue else { return body }
    var reader = ByteReader(body[1...])
    do {
      throw try MeshError(parsingReply: &reader)
    } catch let error as MeshError {
      throw error
    } catch {
      throw MeshError(.internal, "the error from \(id) cannot be read")
    }
  }

  private func exchange(
    _ route: Route, _ invocation: MeshInvocationEncoder, _ deadline: ContinuousClock.Instant, with node: NodeName
  ) async throws(MeshError) -> [UInt8] {
    guard let link = carrier.link(to: node) else { throw .unreachable(node, "no address is known") }
    guard let session = session(for: LinkPeer(node: node, link: link)) else {
      throw MeshError(.unavailable, "this node is shutting down")
    }
    let call = session.reserve()
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        session.start(
          call, route: route, body: invocation.writer.bytes, arguments: invocation.arguments, deadline: deadline, continuation)
        if Task.isCancelled { session.cancel(call) } else { deadlines.add(deadline, session: session, call: call) }
      }
    } onCancel: {
      session.cancel(call)
    }
    if case .failure(let error) = result, error == .linkEnded(node), session.isIdle {
      // The link may have ended before the session was made, and then nobody else would forget it.
      closeSession(link, "the link has ended")
    }
    return try result.get()
  }

  private func session(for peer: LinkPeer) -> CallSession? {
    state.withLock { state in
      guard !state.isShutDown else { return nil }
      if let known = state.sessions[peer.link] { return known }
      let new = CallSession(peer: peer, carrier: carrier, counters: counters)
      state.sessions[peer.link] = new
      return new
    }
  }

  private func closeSession(_ link: LinkID, _ reason: String) {
    state.withLock { $0.sessions.removeValue(forKey: link) }?.close(reason)
  }

  // MARK: Calls served here

  private func receive(_ frame: Frame, from peer: LinkPeer) {
    guard let session = session(for: peer) else {
      if frame.kind == .request { refuse(frame.id, MeshError(.unavailable, "\(node) is shutting down"), to: peer) }
      return
    }
    switch frame.kind {
    case .request: receive(request: frame, on: session)
    case .reply: session.reply(frame.id, body: frame.body)
    case .cancel: session.cancelInbound(frame.id)
    case .route:
      // A route that is refused makes the requests that use it fail by name.
      guard let route = try? Route(parsing: frame.body) else { return }
      _ = session.learn(frame.id, route)
    default: return
    }
  }

  private func receive(request frame: Frame, on session: CallSession) {
    do throws(MeshError) {
      try serve(frame, on: session)
      counters.callsServed.add(1, ordering: .relaxed)
    } catch {
      counters.callsRefused.add(1, ordering: .relaxed)
      refuse(frame.id, error, to: session.peer)
    }
  }

  private func refuse(_ call: UInt64, _ error: MeshError, to peer: LinkPeer) {
    _ = carrier.send(Frame(kind: .reply, lane: .calls, id: call, body: error.replyBody), on: peer.link)
  }

  /// Checks everything that can be checked without decoding arguments, then puts the call into its actor's mailbox.
  private func serve(_ frame: Frame, on session: CallSession) throws(MeshError) {
    let head: RequestHead
    do {
      head = try RequestHead(parsing: frame.body)
    } catch {
      throw MeshError(.badArguments, "the head of the call cannot be read: \(error)")
    }
    guard !head.hasGenerics else { throw MeshError(.invalid, "calls with generic substitutions are refused") }
    guard let route = session.route(head.route) else {
      throw MeshError(.unknownTarget, "route \(head.route) was not announced on this link")
    }
    guard let recipient = actors.recipient(route.actor), recipient.actor != nil else {
      throw MeshError(.unknownActor, "no actor '\(route.actor)' lives on \(node)")
    }
    let caller = session.peer.node
    let target = try recipient.target(route.target, actor: route.actor, caller: caller)
    guard head.arguments == target.signature.arguments else {
      throw MeshError(
        .badArguments,
        "'\(route.target)' takes \(target.signature.arguments) arguments; the call has \(head.arguments)")
    }
    let remaining = min(Duration.milliseconds(head.remainingMilliseconds), CallLimits.timeoutMax)
    let arrived = ContinuousClock.now
    let deadline = arrived.advanced(by: remaining)
    let body = frame.body
    let call = InboundCall(caller: caller, id: frame.id, order: target.order, bytes: body.count) { [weak self] call in
      let reply = await Self.run(call, target, on: recipient, body: body, head: head, deadline: deadline)
      session.finish(call.id, body: reply)
      if let trace = head.trace, let self { self.note(trace, call, of: route.actor, since: arrived, reply) }
    }
    guard session.accept(call) else { throw MeshError(.invalid, "call \(frame.id) is already being served on this link") }
    guard recipient.mailbox.push(call) else {
      session.abandon(call.id)
      throw MeshError(.overloaded, "the mailbox of '\(route.actor)' on \(node) is full")
    }
  }

  private func note(
    _ trace: CallTrace, _ call: InboundCall, of actor: String, since arrived: ContinuousClock.Instant, _ reply: [UInt8]
  ) {
    guard let report = traced.withLock({ $0 }) else { return }
    report(
      TracedCall(
        actor: actor, caller: call.caller, trace: trace, duration: arrived.duration(to: .now),
        failed: reply.first == ReplyStatus.error.rawValue))
  }

  private static func run(
    _ call: InboundCall, _ target: MeshTarget, on recipient: Recipient, body: [UInt8], head: RequestHead,
    deadline: ContinuousClock.Instant
  ) async -> [UInt8] {
    guard !call.isCancelled else { return MeshError(.cancelled, "the caller cancelled the call before it ran").replyBody }
    guard ContinuousClock.now < deadline else {
      return MeshError(.timeout, "the deadline passed while the call waited; it did not run").replyBody
    }
    let inbound = RemoteCall.InboundCall(caller: call.caller, deadline: deadline)
    return await RemoteCall.$inbound.withValue(inbound) {
      guard let trace = head.trace else { return await recipient.execute(target, body: body, head: head) }
      return await RemoteCall.$trace.withValue(trace) { await recipient.execute(target, body: body, head: head) }
    }
  }

  // MARK: Numbers

  /// Has each call told that carried a trace and was served here, so that a trace can be followed from node to node.
  public func onTracedCall(_ report: @escaping @Sendable (TracedCall) -> Void) { traced.withLock { $0 = report } }

  /// What the system has done since it was made.
  public var statistics: CallStatistics {
    CallStatistics(
      callsSent: counters.callsSent.load(ordering: .relaxed),
      callsServed: counters.callsServed.load(ordering: .relaxed),
      callsRefused: counters.callsRefused.load(ordering: .relaxed),
      unexpectedReplies: counters.unexpectedReplies.load(ordering: .relaxed),
      lostReplies: counters.lostReplies.load(ordering: .relaxed),
      watchesMade: watches.counts.made, watchesServed: watches.counts.served)
  }
}

public struct CallStatistics: Hashable, Sendable, Codable {
  public var callsSent: UInt64
  public var callsServed: UInt64
  /// Calls answered with an error before they reached an actor.
  public var callsRefused: UInt64
  /// Replies that no call waited for: late, unknown or twice.
  public var unexpectedReplies: UInt64
  /// Replies that found the queue to the caller full.
  public var lostReplies: UInt64
  /// Watches kept now: made here, and made by peers of actors here.
  public var watchesMade: Int
  public var watchesServed: Int
}
