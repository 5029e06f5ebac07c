import Primitives
import Synchronization
import Testing

@testable import Transport

/// Two nodes with a link over TLS, and a library on `far`.
private struct LinkedNodes {
  let (near, far): (LinkNode, LinkNode)
  let (a, b): (Credentials, Credentials)
  let system: SocketActorSystem
  let farSystem: SocketActorSystem
  let library: Library
  let started = Gate()
  let gate = Gate()
  var proxy: Library { get throws { try Library.on(far.name, using: system) } }

  init() async throws {
    (a, b) = (try Credentials("a"), try Credentials("b"))
    let systems = Mutex<[SocketActorSystem]>([])
    let attach: (LinkNetwork) -> Void = { network in systems.withLock { $0.append(SocketActorSystem(carrier: network)) } }
    near = try LinkNode("a", a.link(), prepare: attach)
    far = try LinkNode("b", b.link(), prepare: attach)
    (system, farSystem) = systems.withLock { ($0[0], $0[1]) }
    library = Library(actorSystem: farSystem, started: started, gate: gate)
    near.network.setPeers([far.name: far.address])
    far.network.learn(near.name, at: near.address)
    _ = try await near.log.up("b")
  }

  func stop() async throws {
    await near.stop()
    await far.stop()
    #expect(try await library.size >= 0)
  }
}

private func outcome(_ body: () async throws -> Void) async -> MeshError.Code? {
  do {
    try await body()
    return nil
  } catch {
    return (error as? MeshError)?.code ?? .internal
  }
}

@Suite("Actor calls under load", .timeLimit(.minutes(2))) struct ActorLoadTests {
  @Test("10,000 calls at the same time over one link are all answered, each with its own answer") func many() async throws {
    let nodes = try await LinkedNodes()
    let proxy = try nodes.proxy
    let count = 10_000
    let sum = try await withThrowingTaskGroup(of: Int.self) { group in
      for number in 0..<count { group.addTask { try await proxy.add(number, 1) - number } }
      return try await group.reduce(0, +)
    }
    #expect(sum == count)
    #expect(nodes.farSystem.statistics.callsServed == UInt64(count))
    #expect(nodes.farSystem.statistics.lostReplies == 0)
    let link = try #require(await nodes.near.network.statistics().first)
    #expect(link.queuedBytes == 0 && link.callsInFlight == 0)
    try await nodes.stop()
  }

  @Test("10,000 calls that nobody answers end at their deadlines, and the link goes on") func deadlines() async throws {
    let nodes = try await LinkedNodes()
    let proxy = try nodes.proxy
    let codes = await withTaskGroup(of: MeshError.Code?.self) { group in
      for _ in 0..<10_000 {
        group.addTask {
          await outcome { try await RemoteCall.with(timeout: .milliseconds(100)) { try await proxy.watch() } }
        }
      }
      return await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }
    #expect(codes == [.timeout: 10_000])
    await nodes.gate.open()
    #expect(try await proxy.add(20, 22) == 42)
    try await nodes.stop()
  }

  @Test("a caller that floods is refused by name, and what it has under way is answered") func flood() async throws {
    let (near, far) = try PairedCarrier.pair()
    let (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    let gate = Gate()
    let library = Library(actorSystem: b, gate: gate)
    let proxy = try Library.on(b.node, using: a)
    let extra = 100
    let held = CallLimits.mailboxPerCallerMax
    let codes = await withTaskGroup(of: MeshError.Code?.self) { group in
      // As many as run at once, as many as wait, and more.
      for _ in 0..<(CallLimits.concurrentMax + held + extra) { group.addTask { await outcome { try await proxy.watch() } } }
      while b.statistics.callsRefused < UInt64(extra) { try? await Task.sleep(for: .milliseconds(1)) }
      await gate.open()
      return await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }
    #expect(codes == [.overloaded: extra, nil: CallLimits.concurrentMax + held])
    #expect(try await library.noted() == [])
  }

  @Test("requests that wait are bounded in bytes, for each caller") func bytes() async throws {
    let (near, far) = try PairedCarrier.pair()
    let (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    let (started, gate) = (Gate(), Gate())
    let library = Library(actorSystem: b, started: started, gate: gate)
    let proxy = try Library.on(b.node, using: a)
    let holder = Task { try await proxy.hold() }
    await started.wait()
    let book = Book(title: "", format: .audio, isbn: nil, ratings: [:], cover: [UInt8](repeating: 1, count: 1 << 20))
    let fitting = CallLimits.mailboxBytesPerCallerMax >> 20
    let codes = await withTaskGroup(of: MeshError.Code?.self) { group in
      for _ in 0..<(fitting + 4) { group.addTask { await outcome { _ = try await proxy.echo(book) } } }
      while b.statistics.callsRefused < 5 { try? await Task.sleep(for: .milliseconds(1)) }
      await gate.open()
      return await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }
    // With its head one request more than a sixteenth of the limit.
    #expect(codes == [.overloaded: 5, nil: fitting - 1])
    try await holder.value
    #expect(try await library.noted() == [])
  }

  @Test("a certificate is renewed again and again while calls run, and none of them fails") func rotation() async throws {
    let nodes = try await LinkedNodes()
    let proxy = try nodes.proxy
    let over = Gate()
    try await withThrowingTaskGroup(of: Int.self) { group in
      for caller in 0..<8 {
        group.addTask {
          var calls = 0
          while await !over.isOpen {
            guard try await proxy.add(caller, calls) == caller + calls else { throw MeshError(.internal, "a wrong answer") }
            calls += 1
          }
          return calls
        }
      }
      for _ in 0..<4 {
        let before = nodes.near.network.link(to: nodes.far.name)
        try nodes.near.network.update(nodes.a.link())
        try await eventually { nodes.near.network.link(to: nodes.far.name) != before }
      }
      await over.open()
      for try await calls in group { #expect(calls > 0) }
    }
    #expect(!nodes.near.log.all.contains { if case .down = $0 { true } else { false } })
    try await nodes.stop()
  }

  @Test("to cancel one call leaves those that wait behind it alone") func cancellation() async throws {
    let (near, far) = try PairedCarrier.pair()
    let (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    let (started, gate) = (Gate(), Gate())
    let library = Library(actorSystem: b, started: started, gate: gate)
    let proxy = try Library.on(b.node, using: a)
    let first = Task { try await proxy.hold() }
    await started.wait()
    let behind = (0..<5).map { _ in Task { try await proxy.hold() } }
    try await eventually { near.sent.count { $0.kind == .request } == 6 }
    first.cancel()
    #expect(await outcome { try await first.value } == .cancelled)
    for call in behind { try await call.value }
    #expect(try await library.noted() == [])
  }

  @Test("a call is told with its trace on the node that serves it") func trace() async throws {
    let (near, far) = try PairedCarrier.pair()
    let (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    let calls = Mutex<[TracedCall]>([])
    b.onTracedCall { call in calls.withLock { $0.append(call) } }
    let library = Library(actorSystem: b)
    let proxy = try Library.on(b.node, using: a)
    _ = try await proxy.add(1, 2)
    let trace = CallTrace.begun()
    await RemoteCall.$trace.withValue(trace) {
      _ = try? await proxy.add(1, 2)
      try? await proxy.fail(with: "no")
    }
    try await eventually { calls.withLock { $0.count } == 2 }
    let told = calls.withLock { $0 }
    #expect(told.map(\.trace) == [trace, trace])
    #expect(told.map(\.failed) == [false, true])
    #expect(told.allSatisfy { $0.caller == a.node && $0.actor == Library.name })
    let text = CallTrace(traceHigh: 1, traceLow: 0xABC, span: .max).traceparent
    #expect(text == "00-00000000000000010000000000000abc-ffffffffffffffff-01")
    #expect(try await library.noted() == [])
  }

  @Test("pauses between attempts to connect double up to two seconds") func redial() {
    let delays = [1, 2, 3, 4, 5, 6, 7, 100, .max].map { LinkDriver.redialDelay(failures: $0).inMilliseconds }
    #expect(delays == [50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000])
  }

  @Test("between an urgent frame and its write at most one frame of a bulk transfer is written") func urgent() throws {
    let outbox = Outbox(id: LinkID(1), node: try NodeName("b")) { _ in }
    let megabytes = 32
    #expect(outbox.send(Frame(kind: .catchUp, lane: .bulk, body: [UInt8](repeating: 7, count: megabytes << 20))) == .queued)
    var batch: [UInt8] = []
    var bulk = 0
    var urgent = 0
    var isAwaited = false
    while true {
      batch.removeAll()
      outbox.take(into: &batch)
      if batch.isEmpty { break }
      // The frame below came when the batch before had been taken, and that one was a frame at most.
      #expect(batch.count <= LinkLimits.fragmentBytesMax + FrameHeader.byteCount * 2 + 1)
      if isAwaited { #expect(batch[4] == FrameKind.raft.rawValue) }
      bulk += batch.count
      isAwaited = urgent < 1_000
      guard isAwaited else { continue }
      #expect(outbox.send(Frame(kind: .raft, lane: .urgent, body: [1])) == .queued)
      urgent += 1
    }
    #expect(urgent == 1_000)
    #expect(bulk > megabytes << 20)
  }
}
