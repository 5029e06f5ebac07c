import Distributed
import Primitives
import Synchronization
import Testing

@testable import Transport

/// Notes of whom it was told, on any node.
distributed actor Watchman: LifecycleWatch {
  typealias ActorSystem = SocketActorSystem

  private let log: WatchLog

  init(log: WatchLog, actorSystem: SocketActorSystem) {
    self.log = log
    self.actorSystem = actorSystem
  }

  func terminated(_ actor: MeshActorID, because termination: Termination) async { log.note(actor, termination) }
}

final class WatchLog: Sendable {
  struct Entry: Hashable, Sendable {
    var actor: String
    var termination: Termination
  }
  private let state = Mutex<[Entry]>([])
  var all: [Entry] { state.withLock { $0 } }
  func note(_ actor: MeshActorID, _ termination: Termination) {
    state.withLock { $0.append(Entry(actor: "\(actor)", termination: termination)) }
  }
  func first() async throws -> Entry {
    try await eventually { !all.isEmpty }
    return all[0]
  }
}

/// Pauses of a watch table that end when a test says so.
private final class Pauses: Sendable {
  private let state = Mutex<(asked: [Duration], waiting: [CheckedContinuation<Void, Never>])>(([], []))
  var asked: [Duration] { state.withLock { $0.asked } }

  func wait(_ duration: Duration) async {
    await withCheckedContinuation { continuation in
      state.withLock { state in
        state.asked.append(duration)
        state.waiting.append(continuation)
      }
    }
  }

  /// Ends the pause that comes next.
  func end() async throws {
    try await eventually { state.withLock { !$0.waiting.isEmpty } }
    let continuation = state.withLock { $0.waiting.removeFirst() }
    continuation.resume()
  }
}

private struct Watching {
  let (near, far): (PairedCarrier, PairedCarrier)
  let (a, b): (SocketActorSystem, SocketActorSystem)
  let log = WatchLog()
  let watchman: Watchman
  let pauses = Pauses()

  init() throws {
    (near, far) = try PairedCarrier.pair()
    a = SocketActorSystem(carrier: near, recorder: nil, pause: { [pauses] in await pauses.wait($0) })
    b = SocketActorSystem(carrier: far)
    watchman = Watchman(log: log, actorSystem: a)
  }

  var library: Library { get throws { try Library.on(b.node, using: a) } }
  var gone: WatchLog.Entry { WatchLog.Entry(actor: "library@b", termination: .ended) }

  /// Everything sent so far has been received, both ways.
  func settled() async throws {
    for (system, other) in [(a, b), (b, a)] {
      let nobody = try Vault.on(other.node, using: system)
      await #expect(throws: MeshError.self) { _ = try await nobody.openUp(1) }
    }
  }

  func watchLibrary() async throws {
    try await watchman.whenLocal { [library] watchman in _ = try watchman.watchTermination(of: library) }
    try await settled()
  }
}

@Suite("Lifecycle watch", .timeLimit(.minutes(1))) struct WatchTests {
  @Test("the end of a remote actor is told once, after the replies it gave") func ended() async throws {
    let world = try Watching()
    do {
      let library = Library(actorSystem: world.b)
      try await world.watchLibrary()
      try await world.watchman.whenLocal { [library = try world.library] in _ = try $0.watchTermination(of: library) }
      #expect(world.b.statistics.watchesServed == 1)
      #expect(world.a.statistics.watchesMade == 1)
      #expect(world.log.all.isEmpty)
      #expect(try await library.noted() == [])
    }
    #expect(try await world.log.first() == world.gone)
    // Another of that name is none of the watcher's business.
    for _ in 0..<3 { _ = Library(actorSystem: world.b) }
    try await world.settled()
    #expect(world.log.all == [world.gone])
    #expect(world.a.statistics.watchesMade == 0 && world.b.statistics.watchesServed == 0)
  }

  @Test("actors of one node are watched in the same way") func local() async throws {
    let world = try Watching()
    let watchman = Watchman(log: world.log, actorSystem: world.b)
    do {
      let library = Library(actorSystem: world.b)
      try await watchman.whenLocal { _ = try $0.watchTermination(of: library) }
      #expect(world.log.all.isEmpty)
    }
    #expect(try await world.log.first() == world.gone)
    #expect(world.far.sent.isEmpty)
  }

  @Test("the watch of an actor that is not there is told at once") func absent() async throws {
    let world = try Watching()
    try await world.watchLibrary()
    #expect(try await world.log.first() == WatchLog.Entry(actor: "library@b", termination: .absent))
    #expect(world.a.statistics.watchesMade == 0)
    let local = MeshActorID(node: world.a.node, name: "nobody")
    let told = Mutex<[Termination]>([])
    _ = try world.a.watch(local) { termination in told.withLock { $0.append(termination) } }
    #expect(told.withLock { $0 } == [.absent])
  }

  @Test("a watch that was taken back is not told, and the other node forgets it") func unwatch() async throws {
    let world = try Watching()
    do {
      let library = Library(actorSystem: world.b)
      try await world.watchLibrary()
      await world.watchman.whenLocal { [library = try? world.library] watchman in
        if let library { watchman.unwatchTermination(of: library) }
      }
      try await world.settled()
      #expect(world.b.statistics.watchesServed == 0)
      #expect(try await library.noted() == [])
    }
    try await world.settled()
    #expect(world.log.all.isEmpty)
  }

  @Test("a broken link alone is no end: the watch is made again on the next link") func linkBreaks() async throws {
    let world = try Watching()
    let library = Library(actorSystem: world.b)
    try await world.watchLibrary()
    world.near.cut("cut")
    try await eventually { world.b.statistics.watchesServed == 0 }
    // While nothing gets through, the pauses grow.
    try await world.pauses.end()
    try await world.pauses.end()
    try await eventually { world.pauses.asked.count == 3 }
    #expect(world.pauses.asked == [.milliseconds(50), .milliseconds(100), .milliseconds(200)])
    #expect(world.log.all.isEmpty)
    world.near.mend()
    try await world.pauses.end()
    try await eventually { world.b.statistics.watchesServed == 1 }
    #expect(world.log.all.isEmpty)
    #expect(try await library.noted() == [])
  }

  @Test("a node that was started anew under the same name, or an actor made anew, ends the watch") func reborn() async throws {
    let world = try Watching()
    do {
      let library = Library(actorSystem: world.b)
      try await world.watchLibrary()
      world.near.cut("cut")
      try await eventually { world.b.statistics.watchesServed == 0 }
      #expect(try await library.noted() == [])
    }
    // What the watch was of has ended unheard, and another stands under its name.
    let other = Library(actorSystem: world.b)
    world.near.mend()
    try await world.pauses.end()
    #expect(try await world.log.first() == world.gone)
    #expect(try await other.noted() == [])
  }

  @Test("a node that the cluster gives up ends its watches and the calls that wait for it, once") func nodeGone() async throws {
    let world = try Watching()
    let started = Gate()
    let library = Library(actorSystem: world.b, started: started)
    try await world.watchLibrary()
    let call = Task { try await world.library.hold() }
    await started.wait()
    world.a.update(gone: [])
    #expect(world.log.all.isEmpty)
    world.a.update(gone: [world.b.node])
    world.a.update(gone: [world.b.node])
    let told = WatchLog.Entry(actor: "library@b", termination: .nodeGone)
    #expect(try await world.log.first() == told)
    await #expect {
      try await call.value
    } throws: { ($0 as? MeshError)?.code == .nodeUnreachable }
    // Nor does the end of the link, or of the actor, tell again; a new watch is told at once.
    world.near.cut("cut")
    try await world.watchman.whenLocal { [library = try world.library] in _ = try $0.watchTermination(of: library) }
    try await eventually { world.log.all.count == 2 }
    #expect(world.log.all == [told, told])
    #expect(world.a.statistics.watchesMade == 0)
    #expect(try await library.noted() == [])
  }

  @Test("when the watcher ends, its watches go on both nodes") func watcherEnds() async throws {
    let world = try Watching()
    let library = Library(actorSystem: world.b)
    do {
      let watchman = Watchman(log: world.log, actorSystem: world.a)
      try await watchman.whenLocal { [library = try world.library] in _ = try $0.watchTermination(of: library) }
      try await world.settled()
      #expect(world.b.statistics.watchesServed == 1)
    }
    try await eventually { world.a.statistics.watchesMade == 0 }
    try await eventually { world.b.statistics.watchesServed == 0 }
    #expect(try await library.noted() == [])
  }

  @Test("tables are bounded: too many watches are an error here, and a refusal there") func bounded() async throws {
    let world = try Watching()
    // None of them is there; without the answers the entries stay.
    world.far.answerSends(with: .queueFull)
    for number in 0..<CallLimits.watchesPerPeerMax {
      _ = try world.a.watch(MeshActorID(node: world.b.node, name: "\(number)")) { _ in }
    }
    #expect {
      _ = try world.a.watch(MeshActorID(node: world.b.node, name: "more")) { _ in }
    } throws: { ($0 as? MeshError)?.code == .overloaded }
  }

  @Test("a peer that watches more than it may is refused, and nobody else is") func refused() async throws {
    let world = try Watching()
    let library = Library(actorSystem: world.b)
    for number in 0...CallLimits.watchesPerPeerMax {
      let request = WatchRequest(actor: Library.name, life: 0)
      world.far.deliver(Frame(kind: .watch, lane: .calls, id: UInt64(number), body: request.body))
    }
    try await eventually { world.far.sent.count == CallLimits.watchesPerPeerMax + 1 }
    #expect(world.far.sent.last?.body == Termination.refused.body)
    #expect(world.far.sent.count { $0.kind == .watching } == CallLimits.watchesPerPeerMax)
    #expect(world.b.statistics.watchesServed == CallLimits.watchesPerPeerMax)
    #expect(try await library.noted() == [])
  }

  @Test("what a full queue held back is told when there is room") func heldBack() async throws {
    let (near, far) = try PairedCarrier.pair()
    let (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    let log = WatchLog()
    let watched = MeshActorID(node: b.node, name: Library.name)
    do {
      let library = Library(actorSystem: b)
      _ = try a.watch(watched) { log.note(watched, $0) }
      try await eventually { b.statistics.watchesServed == 1 }
      far.answerSends(with: .queueFull)
      #expect(try await library.noted() == [])
    }
    try await eventually { far.sent.contains { $0.kind == .terminated } }
    #expect(log.all.isEmpty)
    far.answerSends(with: .queued)
    #expect(try await log.first().termination == .ended)
  }

  @Test("forged answers, and messages that cannot be read, change nothing") func forged() async throws {
    let world = try Watching()
    let library = Library(actorSystem: world.b)
    try await world.watchLibrary()
    for number: UInt64 in [0, 2, 99, .max] {
      world.near.deliver(Frame(kind: .terminated, lane: .calls, id: number, body: Termination.ended.body))
    }
    for body: [UInt8] in [[], [3], [0, 0], [255]] {
      world.near.deliver(Frame(kind: .terminated, lane: .calls, id: 1, body: body))
    }
    for body: [UInt8] in [[], [0], [UInt8](repeating: 0, count: 8), [UInt8](repeating: 1, count: 9)] {
      world.near.deliver(Frame(kind: .watching, lane: .calls, id: 1, body: body))
      world.far.deliver(Frame(kind: .watch, lane: .calls, id: 50, body: body))
      world.far.deliver(Frame(kind: .unwatch, lane: .calls, id: 50, body: body))
    }
    try await world.settled()
    #expect(world.log.all.isEmpty)
    #expect(world.b.statistics.watchesServed == 1)
    #expect(try await library.noted() == [])
  }

  @Test("nothing is watched on a node without an address") func nowhere() throws {
    let world = try Watching()
    #expect {
      _ = try world.a.watch(MeshActorID(node: NodeName("nowhere"), name: "library")) { _ in }
    } throws: { ($0 as? MeshError)?.code == .nodeUnreachable }
  }
}
