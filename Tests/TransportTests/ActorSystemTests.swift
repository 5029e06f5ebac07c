import Primitives
import Synchronization
import Testing

@testable import Transport

/// Two systems whose carriers are connected in memory, with a library on `b`.
private struct Neighbours {
  let (near, far): (PairedCarrier, PairedCarrier)
  let (a, b): (SocketActorSystem, SocketActorSystem)
  let library: Library
  let proxy: Library
  let started = Gate()
  let gate = Gate()

  init() throws {
    (near, far) = try PairedCarrier.pair()
    (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    library = Library(actorSystem: b, started: started, gate: gate)
    proxy = try Library.on(b.node, using: a)
  }

  /// Sends a forged request from `a` and returns the error it is answered with.
  func forge(
    actor: String = Library.name, target: String, arguments: Int = 0, flags: UInt8 = 0, _ values: [UInt8] = [],
    call: UInt64 = 900
  ) async throws -> MeshError {
    far.deliver(Frame(kind: .route, lane: .calls, id: 77, body: Route(actor: actor, target: target).body))
    var head = ByteWriter()
    head.uint32(60_000)
    head.uint32(77)
    head.uint8(flags)
    head.uint8(UInt8(arguments))
    head.raw(values)
    far.deliver(Frame(kind: .request, lane: .calls, id: call, body: head.bytes))
    return try await error(call)
  }

  /// The error with which `b` answered a call.
  func error(_ call: UInt64) async throws -> MeshError {
    while true {
      if let reply = far.sent.last(where: { $0.kind == .reply && $0.id == call }) {
        #expect(reply.body.first == ReplyStatus.error.rawValue)
        var reader = ByteReader(reply.body[1...])
        return try MeshError(parsingReply: &reader)
      }
      try await Task.sleep(for: .milliseconds(1))
    }
  }

  /// The library still answers, on the same link.
  func expectAlive() async throws { #expect(try await proxy.add(20, 22) == 42) }
}

private func identifier(_ name: String) throws -> String {
  try #require(Library.targets.first { $0.signature.identifier.contains(name) }).signature.identifier
}

private func code(_ body: () async throws -> Void) async -> MeshError.Code? {
  do {
    try await body()
    return nil
  } catch {
    return (error as? MeshError)?.code
  }
}

@Suite("Actor calls") struct ActorSystemTests {
  @Test("the list of targets is what calls of the type produce") func targets() async throws {
    let recorded = try await Library.recordTargets { library in
      _ = try? await library.echo(Book(title: "", format: .audio, isbn: nil, ratings: [:], cover: []))
      _ = try? await library.add(1, 2)
      try? await library.note(1)
      _ = try? await library.noted()
      try? await library.fail(with: "")
      try? await library.break()
      try? await library.hold()
      try? await library.watch()
      _ = try? await library.caller()
      _ = try? await library.trace()
      _ = try? await library.remaining()
      _ = try? await library.secret()
      _ = try? await library.size
    }
    #expect(recorded == Library.targets.map(\.signature))
  }

  @Test("a value arrives as it was sent, both ways") func echo() async throws {
    let world = try Neighbours()
    let book = Book(
      title: "The Comedy of Errors", format: .paper(pages: 200), isbn: .max, ratings: ["n1": 4.5, "n2": -0.0],
      cover: [0, 255, 7])
    #expect(try await world.proxy.echo(book) == book)
    #expect(try await world.proxy.size == 0)
    #expect(try await world.proxy.add(.min, .max) == -1)
  }

  @Test("the callee sees the caller's node, trace and remaining time") func context() async throws {
    let world = try Neighbours()
    #expect(try await world.proxy.caller() == "a")
    #expect(try await world.library.caller() == nil)
    let span = try await RemoteCall.$trace.withValue(CallTrace(traceHigh: 1, traceLow: 2, span: 3)) {
      try await world.proxy.trace()
    }
    #expect(span == "3")
    let remaining = try await RemoteCall.with(timeout: .seconds(60)) { try await world.proxy.remaining() }
    #expect((30_000...60_000).contains(remaining))
    let absurd = try await RemoteCall.with(timeout: .seconds(1 << 40)) { try await world.proxy.remaining() }
    #expect(absurd <= 300_000)
  }

  @Test("calls of one caller start in the order in which they were made") func order() async throws {
    let world = try Neighbours()
    let count = 200
    // Frames in order, as one link carries them, without waiting for replies.
    world.far.deliver(
      Frame(kind: .route, lane: .calls, id: 5, body: Route(actor: Library.name, target: try identifier("note")).body))
    for number in 0..<count {
      var body = ByteWriter()
      body.uint32(60_000)
      body.uint32(5)
      body.uint8(0)
      body.uint8(1)
      body.uint8(ValueTag.unsigned)
      body.varint(UInt64(number))
      world.far.deliver(Frame(kind: .request, lane: .calls, id: 1_000 + UInt64(number), body: body.bytes))
    }
    var noted: [Int] = []
    while noted.count < count { noted = try await world.proxy.noted() }
    #expect(noted == Array(0..<count))
  }

  @Test("an error on the list keeps code and words; any other is internal with its type's name")
  func errors() async throws {
    let world = try Neighbours()
    await #expect(throws: MeshError(.conflict, "twice")) { try await world.proxy.fail(with: "twice") }
    await #expect(throws: MeshError(.internal, "Unlisted")) { try await world.proxy.break() }
  }

  @Test("a call past its deadline fails as timeout, and its callee is cancelled") func deadline() async throws {
    let world = try Neighbours()
    // A call that is late before it starts is dropped, so until one has started more are made.
    while await !world.started.isOpen {
      let result = await code { try await RemoteCall.with(timeout: .milliseconds(30)) { try await world.proxy.hold() } }
      #expect(result == .timeout)
    }
    await world.gate.wait()
    try await world.expectAlive()
    #expect(await code { try await RemoteCall.with(timeout: .zero) { try await world.proxy.hold() } } == .timeout)
  }

  @Test("a call whose deadline passed in the mailbox is answered and never runs") func expired() async throws {
    let world = try Neighbours()
    let holder = Task { try await world.proxy.hold() }
    await world.started.wait()
    let late = await code { try await RemoteCall.with(timeout: .milliseconds(20)) { try await world.proxy.note(1) } }
    #expect(late == .timeout)
    while !world.near.sent.contains(where: { $0.kind == .cancel }) { try await Task.sleep(for: .milliseconds(1)) }
    // Frames are delivered in order, so after this answer the callee knows.
    _ = try await world.forge(target: "$s4nonsense")
    await world.gate.open()
    try await holder.value
    #expect(try await world.proxy.noted() == [])
  }

  @Test("cancelling the caller's task cancels the task of the callee") func cancellation() async throws {
    let world = try Neighbours()
    let call = Task { try await world.proxy.hold() }
    await world.started.wait()
    call.cancel()
    #expect(await code { try await call.value } == .cancelled)
    // The gate is opened by the callee's cancellation handler alone.
    await world.gate.wait()
    try await world.expectAlive()
    world.far.deliver(Frame(kind: .cancel, lane: .calls, id: 123_456))
    try await world.expectAlive()
  }

  @Test("the end of a link fails every call in flight exactly once") func linkDeath() async throws {
    let world = try Neighbours()
    let codes = await withTaskGroup(of: MeshError.Code?.self) { group in
      for _ in 0..<100 { group.addTask { await code { try await world.proxy.hold() } } }
      await world.started.wait()
      while world.near.sent.count(where: { $0.kind == .request }) < 100 { try? await Task.sleep(for: .milliseconds(1)) }
      world.near.cut("cut")
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(codes == Array(repeating: .nodeUnreachable, count: 100))
    #expect(await code { try await world.proxy.hold() } == .nodeUnreachable)
  }

  @Test("a full mailbox is an error to the caller, and the others proceed") func overload() async throws {
    let world = try Neighbours()
    let extra = 20
    let codes = await withTaskGroup(of: MeshError.Code?.self) { group in
      group.addTask { await code { try await world.proxy.hold() } }
      await world.started.wait()
      for number in 0..<(CallLimits.mailboxPerCallerMax + extra) {
        group.addTask { await code { try await world.proxy.note(number) } }
      }
      while world.b.statistics.callsRefused < UInt64(extra) { try? await Task.sleep(for: .milliseconds(1)) }
      await world.gate.open()
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(codes.count { $0 == .overloaded } == extra)
    #expect(codes.count { $0 == nil } == CallLimits.mailboxPerCallerMax + 1)
  }

  @Test("a concurrent target does not hold back the calls behind it") func concurrent() async throws {
    let world = try Neighbours()
    async let watching: Void = world.proxy.watch()
    try await world.expectAlive()
    await world.gate.open()
    try await watching
  }

  @Test("a reply nobody waits for is ignored and counted") func lateReply() async throws {
    let world = try Neighbours()
    try await world.expectAlive()
    for id: UInt64 in [1, 998, 999] { world.near.deliver(Frame(kind: .reply, lane: .calls, id: id, body: [1])) }
    try await world.expectAlive()
    #expect(world.a.statistics.unexpectedReplies == 3)
  }

  @Test("an unknown node, and a refused send, fail at once") func unreachable() async throws {
    let world = try Neighbours()
    let nobody = try Library.on(try NodeName("nobody"), using: world.a)
    #expect(await code { _ = try await nobody.add(1, 1) } == .nodeUnreachable)
    world.near.answerSends(with: .queueFull)
    #expect(await code { _ = try await world.proxy.add(1, 1) } == .overloaded)
    world.near.answerSends(with: .queued)
    try await world.expectAlive()
  }

  @Test("after shutdown calls are refused as unavailable") func shutDown() async throws {
    let world = try Neighbours()
    world.b.shutDown()
    #expect(await code { _ = try await world.proxy.add(1, 1) } == .unavailable)
    world.a.shutDown()
    #expect(await code { _ = try await world.proxy.add(1, 1) } == .unavailable)
  }

  @Test("an actor that has ended is unknown") func ended() async throws {
    let (near, far) = try PairedCarrier.pair()
    let (a, b) = (SocketActorSystem(carrier: near), SocketActorSystem(carrier: far))
    do {
      let library = Library(actorSystem: b)
      #expect(try await library.noted() == [])
    }
    let proxy = try Library.on(b.node, using: a)
    #expect(await code { _ = try await proxy.add(1, 1) } == .unknownActor)
    #expect(throws: MeshError.self) { try Library.on(b.node, using: b) }
  }
}

@Suite("Hostile actor calls") struct HostileCallTests {
  @Test("a target of another type is refused before it runs, and the process lives") func foreignTarget() async throws {
    let world = try Neighbours()
    let recorded = try await Vault.recordTargets { _ = try? await $0.openUp(1) }
    let foreign = try #require(recorded.first).identifier
    #expect(foreign.contains("Vault"))
    let error = try await world.forge(target: foreign, arguments: 1, [ValueTag.smallNumber | 1])
    #expect(error.code == .unknownTarget)
    try await world.expectAlive()
  }

  @Test("unknown targets, actors and routes are refused by name") func unknown() async throws {
    let world = try Neighbours()
    #expect(try await world.forge(target: "$s4nonsense").code == .unknownTarget)
    try await world.expectAlive()
  }

  @Test("an unknown actor is refused") func unknownActor() async throws {
    let world = try Neighbours()
    #expect(try await world.forge(actor: "nobody", target: try identifier("add")).code == .unknownActor)
    try await world.expectAlive()
  }

  @Test("a route that was never announced is refused") func unknownRoute() async throws {
    let world = try Neighbours()
    world.far.deliver(Frame(kind: .request, lane: .calls, id: 5, body: [0, 0, 1, 0, 0, 0, 0, 9, 0, 0]))
    #expect(try await world.error(5).code == .unknownTarget)
    try await world.expectAlive()
  }

  @Test("a route number cannot be given another meaning") func rerouted() async throws {
    let world = try Neighbours()
    #expect(try await world.forge(target: "$s4nonsense", call: 1).code == .unknownTarget)
    #expect(try await world.forge(target: try identifier("noted"), call: 2).code == .unknownTarget)
    try await world.expectAlive()
  }

  @Test("a caller without the right is refused before arguments are read") func unauthorized() async throws {
    let world = try Neighbours()
    #expect(await code { _ = try await world.proxy.secret() } == .unauthorized)
    try await world.expectAlive()
  }

  @Test("generic substitutions are refused") func generics() async throws {
    let world = try Neighbours()
    let error = try await world.forge(target: try identifier("noted"), flags: RequestHead.genericsFlag)
    #expect(error.code == .invalid)
    try await world.expectAlive()
  }

  static let badArguments: [(String, Int, [UInt8])] = [
    ("too few", 1, [ValueTag.smallNumber]),
    ("too many", 3, [ValueTag.smallNumber, ValueTag.smallNumber, ValueTag.smallNumber]),
    ("none", 0, []),
    ("a string for a number", 2, [ValueTag.smallNumber, ValueTag.string, 1, 0x61]),
    ("fewer than announced", 2, [ValueTag.smallNumber]),
    ("trailing bytes", 2, [ValueTag.smallNumber, ValueTag.smallNumber, 0]),
    ("an unknown tag", 2, [ValueTag.smallNumber, 99]),
    ("a length of 4 GiB", 2, [ValueTag.smallNumber, ValueTag.string, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
    ("a length of 2^64-1", 2, [ValueTag.smallNumber, ValueTag.bytes] + [UInt8](repeating: 0xFF, count: 9) + [1]),
    ("a padded number", 2, [ValueTag.smallNumber, ValueTag.unsigned, 0x80, 0]),
    ("a number out of range", 2, [ValueTag.smallNumber, ValueTag.unsigned] + [UInt8](repeating: 0xFF, count: 9) + [1]),
    ("deep nesting", 2, [ValueTag.smallNumber] + [UInt8](repeating: ValueTag.array, count: 1_000)),
    ("invalid UTF-8", 2, [ValueTag.smallNumber, ValueTag.string, 2, 0xC3, 0x28]),
    ("an end without a beginning", 2, [ValueTag.smallNumber, ValueTag.end]),
    ("an unknown key", 2, [ValueTag.smallNumber, ValueTag.map, 7, 0]),
    ("more arguments than a call may have", 200, []),
  ]

  @Test("arguments that do not fit are refused by name", arguments: badArguments)
  func arguments(_ what: String, count: Int, values: [UInt8]) async throws {
    let world = try Neighbours()
    let error = try await world.forge(target: try identifier("add"), arguments: count, values)
    #expect(error.code == .badArguments, "\(what)")
    try await world.expectAlive()
  }

  @Test("a truncated head is refused") func truncated() async throws {
    let world = try Neighbours()
    for count in 0..<10 {
      let id = UInt64(100 + count)
      world.far.deliver(Frame(kind: .request, lane: .calls, id: id, body: [UInt8](repeating: 0, count: count)))
      let code = try await world.error(id).code
      #expect(code == (count < 10 ? .badArguments : .unknownTarget))
    }
    try await world.expectAlive()
  }

  @Test("a call number in use is refused, and the call that has it goes on") func duplicate() async throws {
    let world = try Neighbours()
    let call = Task { try await world.proxy.hold() }
    await world.started.wait()
    let id = try #require(world.near.sent.first { $0.kind == .request }?.id)
    let frame = try #require(world.near.sent.first { $0.kind == .request })
    world.far.deliver(frame)
    #expect(try await world.error(id).code == .invalid)
    await world.gate.open()
    _ = try? await call.value
    try await world.expectAlive()
  }
}
