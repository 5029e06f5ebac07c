import Primitives
import Synchronization

/// Who watches whom across nodes, both ways. A watch belongs to the link it was made on and is made again on the next.
final class WatchTable: Sendable {
  typealias Told = @Sendable (Termination) -> Void

  private let carrier: any FrameCarrier
  /// The life of the local actor of a name; nil when there is none.
  private let life: @Sendable (String) -> UInt64?
  private let pause: @Sendable (Duration) async throws -> Void
  private let state = Mutex(State())

  /// An actor that is watched from here.
  private struct Watched {
    var watchers: [Watcher: Told] = [:]
    /// Its number on the wire, another one each time it is sent; zero for local actors.
    var number: UInt64 = 0
    /// Where it was sent; nil while it has to be sent again.
    var link: LinkID?
    var life: UInt64 = 0
  }

  /// A watch that a peer has made of an actor here.
  private struct Served: Hashable {
    var peer: LinkPeer
    var number: UInt64
  }

  private struct State {
    var watched: [MeshActorID: Watched] = [:]
    var numbers: [UInt64: MeshActorID] = [:]
    var byNode: [NodeName: Set<MeshActorID>] = [:]
    var byWatcher: [Watcher: Set<MeshActorID>] = [:]
    var nextNumber: UInt64 = 1
    var watchers = 0

    var served: [LinkID: [UInt64: String]] = [:]
    var servedOf: [String: Set<Served>] = [:]
    var servedCount = 0
    /// What found a queue full and has to reach its peer all the same.
    var unsent: [NodeName: [(peer: LinkPeer, frame: Frame)]] = [:]

    var gone: Set<NodeName> = []
    var retries: [NodeName: Task<Void, Never>] = [:]
    var isClosed = false
  }

  init(
    carrier: any FrameCarrier, life: @escaping @Sendable (String) -> UInt64?,
    pause: @escaping @Sendable (Duration) async throws -> Void
  ) {
    self.carrier = carrier
    self.life = life
    self.pause = pause
  }

  // MARK: Watching

  func watch(_ actor: MeshActorID, for watcher: Watcher, told: @escaping Told) throws(MeshError) {
    let isLocal = actor.node == carrier.localNode
    let result = state.withLock { state -> Result<Termination?, MeshError> in
      if state.watched[actor]?.watchers[watcher] != nil {
        // The watcher may be a new one with the old one's name.
        state.watched[actor]?.watchers[watcher] = told
        return .success(nil)
      }
      guard !state.isClosed else { return .failure(MeshError(.unavailable, "this node is shutting down")) }
      guard state.watchers < CallLimits.watchesMax else {
        return .failure(MeshError(.overloaded, "\(CallLimits.watchesMax) watches are kept on this node"))
      }
      if !isLocal, state.gone.contains(actor.node) { return .success(.nodeGone) }
      if isLocal, life(actor.name) == nil { return .success(.absent) }
      if state.watched[actor] == nil, !isLocal {
        guard carrier.link(to: actor.node) != nil else { return .failure(.unreachable(actor.node, "no address is known")) }
        guard state.byNode[actor.node, default: []].count < CallLimits.watchesPerPeerMax else {
          return .failure(
            MeshError(.overloaded, "\(CallLimits.watchesPerPeerMax) actors of \(actor.node) are watched from this node"))
        }
      }
      let isNew = state.watched[actor] == nil
      state.watched[actor, default: Watched()].watchers[watcher] = told
      state.byWatcher[watcher, default: []].insert(actor)
      state.watchers += 1
      if isNew, isLocal { state.watched[actor]?.life = life(actor.name) ?? 0 }
      if isNew, !isLocal {
        state.byNode[actor.node, default: []].insert(actor)
        send(actor, &state)
      }
      return .success(nil)
    }
    if let gone = try result.get() { told(gone) }
  }

  func unwatch(_ actor: MeshActorID, for watcher: Watcher) {
    state.withLock { forget(watcher, actor, &$0) }
  }

  /// Takes back everything that an actor which has ended watched.
  func forget(_ watcher: Watcher) {
    state.withLock { state in
      for actor in state.byWatcher[watcher] ?? [] { forget(watcher, actor, &state) }
    }
  }

  private func forget(_ watcher: Watcher, _ actor: MeshActorID, _ state: inout State) {
    guard state.watched[actor]?.watchers.removeValue(forKey: watcher) != nil else { return }
    state.watchers -= 1
    Self.remove(actor, from: &state.byWatcher, at: watcher)
    guard let watched = state.watched[actor], watched.watchers.isEmpty else { return }
    drop(actor, &state)
    guard let link = watched.link else { return }
    // One that is lost costs the peer an entry until the link ends.
    _ = carrier.send(Frame(kind: .unwatch, lane: .calls, id: watched.number), on: link)
  }

  private static func remove<Key: Hashable>(_ actor: MeshActorID, from index: inout [Key: Set<MeshActorID>], at key: Key) {
    index[key]?.remove(actor)
    if index[key]?.isEmpty == true { index[key] = nil }
  }

  /// Removes a watched actor with all who watch it; they are told by the caller, outside of the lock.
  @discardableResult
  private func drop(_ actor: MeshActorID, _ state: inout State) -> [Told] {
    guard let watched = state.watched.removeValue(forKey: actor) else { return [] }
    if watched.number != 0 { state.numbers[watched.number] = nil }
    Self.remove(actor, from: &state.byNode, at: actor.node)
    for watcher in watched.watchers.keys { Self.remove(actor, from: &state.byWatcher, at: watcher) }
    state.watchers -= watched.watchers.count
    return Array(watched.watchers.values)
  }

  /// Makes the watch on the link that there is now, or tries again later.
  private func send(_ actor: MeshActorID, _ state: inout State) {
    guard var watched = state.watched[actor] else { return }
    if watched.number != 0 { state.numbers[watched.number] = nil }
    watched.number = state.nextNumber
    watched.link = nil
    state.nextNumber &+= 1
    state.numbers[watched.number] = actor
    let request = WatchRequest(actor: actor.name, life: watched.life)
    let frame = Frame(kind: .watch, lane: .calls, id: watched.number, body: request.body)
    if let link = carrier.link(to: actor.node), carrier.send(frame, on: link) == .queued { watched.link = link }
    state.watched[actor] = watched
    if watched.link == nil { retry(actor.node, &state) }
  }

  // MARK: Told by peers

  func receivedWatching(_ number: UInt64, life: UInt64, from peer: LinkPeer) {
    state.withLock { state in
      guard let actor = state.numbers[number], state.watched[actor]?.link == peer.link else { return }
      state.watched[actor]?.life = life
    }
  }

  func receivedTerminated(_ number: UInt64, _ termination: Termination, from peer: LinkPeer) {
    let told = state.withLock { state -> [Told] in
      guard let actor = state.numbers[number], state.watched[actor]?.link == peer.link else { return [] }
      return drop(actor, &state)
    }
    for tell in told { tell(termination) }
  }

  // MARK: Watched by peers

  func receivedWatch(_ number: UInt64, _ request: WatchRequest, from peer: LinkPeer) {
    state.withLock { state in
      guard !state.isClosed, state.served[peer.link]?[number] == nil else { return }
      let answer: Frame
      if state.served[peer.link, default: [:]].count >= CallLimits.watchesPerPeerMax
        || state.servedCount >= CallLimits.watchesServedMax
      {
        answer = Frame(kind: .terminated, lane: .calls, id: number, body: Termination.refused.body)
      } else if let life = life(request.actor), request.life == 0 || request.life == life {
        state.served[peer.link, default: [:]][number] = request.actor
        state.servedOf[request.actor, default: []].insert(Served(peer: peer, number: number))
        state.servedCount += 1
        answer = Frame(kind: .watching, lane: .calls, id: number, body: WatchedLife(life: life).body)
      } else {
        let termination: Termination = request.life == 0 ? .absent : .ended
        answer = Frame(kind: .terminated, lane: .calls, id: number, body: termination.body)
      }
      send(answer, to: peer, &state)
    }
  }

  func receivedUnwatch(_ number: UInt64, from peer: LinkPeer) {
    state.withLock { forget(Served(peer: peer, number: number), &$0) }
  }

  private func forget(_ served: Served, _ state: inout State) {
    guard let name = state.served[served.peer.link]?.removeValue(forKey: served.number) else { return }
    if state.served[served.peer.link]?.isEmpty == true { state.served[served.peer.link] = nil }
    state.servedOf[name]?.remove(served)
    if state.servedOf[name]?.isEmpty == true { state.servedOf[name] = nil }
    state.servedCount -= 1
  }

  private func send(_ frame: Frame, to peer: LinkPeer, _ state: inout State) {
    // On a link that has ended nobody waits for it: the watch is made again on the next.
    guard carrier.send(frame, on: peer.link) == .queueFull else { return }
    state.unsent[peer.node, default: []].append((peer, frame))
    retry(peer.node, &state)
  }

  // MARK: Ends

  /// A local actor has ended. Called when its name is free already, or taken by another.
  func ended(_ actor: MeshActorID, life: UInt64) {
    let told = state.withLock { state -> [Told] in
      for served in state.servedOf[actor.name] ?? [] {
        forget(served, &state)
        send(Frame(kind: .terminated, lane: .calls, id: served.number, body: Termination.ended.body), to: served.peer, &state)
      }
      return state.watched[actor]?.life == life ? drop(actor, &state) : []
    }
    for tell in told { tell(.ended) }
  }

  func linkClosed(_ peer: LinkPeer) {
    state.withLock { state in
      for number in state.served[peer.link, default: [:]].keys { forget(Served(peer: peer, number: number), &state) }
      state.unsent[peer.node]?.removeAll { $0.peer == peer }
      var isBroken = false
      for actor in state.byNode[peer.node] ?? [] where state.watched[actor]?.link == peer.link {
        state.watched[actor]?.link = nil
        isBroken = true
      }
      if isBroken { retry(peer.node, &state) }
    }
  }

  /// The nodes that the cluster has given up, all of them. Returns those that are new.
  func update(gone: Set<NodeName>) -> Set<NodeName> {
    let (new, told) = state.withLock { state -> (Set<NodeName>, [Told]) in
      let new = gone.subtracting(state.gone)
      state.gone = gone
      var told: [Told] = []
      for node in new.sorted() {
        for actor in state.byNode[node] ?? [] { told += drop(actor, &state) }
        state.retries.removeValue(forKey: node)?.cancel()
      }
      return (new, told)
    }
    for tell in told { tell(.nodeGone) }
    return new
  }

  func close() {
    let retries = state.withLock { state in
      defer { state = State(isClosed: true) }
      return state.retries.values
    }
    for task in retries { task.cancel() }
  }

  // MARK: Trying again

  /// Sends what waits for the node, with growing pauses, until all of it was taken.
  private func retry(_ node: NodeName, _ state: inout State) {
    guard !state.isClosed, state.retries[node] == nil, !state.gone.contains(node) else { return }
    state.retries[node] = Task { [weak self, pause] in
      var delay = LinkLimits.redialMin
      while true {
        do { try await pause(delay) } catch { return }
        guard let self, !self.sendWaiting(for: node) else { return }
        delay = min(delay * 2, LinkLimits.redialMax)
      }
    }
  }

  /// Whether nothing is left to send.
  private func sendWaiting(for node: NodeName) -> Bool {
    state.withLock { state in
      let unsent = state.unsent.removeValue(forKey: node) ?? []
      for (index, item) in unsent.enumerated() where carrier.send(item.frame, on: item.peer.link) == .queueFull {
        state.unsent[node] = Array(unsent[index...])
        break
      }
      for actor in state.byNode[node] ?? [] where state.watched[actor]?.link == nil { send(actor, &state) }
      let isDone =
        state.unsent[node] == nil && (state.byNode[node] ?? []).allSatisfy { state.watched[$0]?.link != nil }
      if isDone { state.retries[node] = nil }
      return isDone
    }
  }

  /// Watches kept: made here, and by peers.
  var counts: (made: Int, served: Int) { state.withLock { ($0.watchers, $0.servedCount) } }
}
