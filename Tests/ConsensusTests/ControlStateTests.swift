import Consensus
import Primitives
import Testing

/// A control state fed with commands as log entries.
struct ControlBench {
  var state = ControlState()

  mutating func apply(_ command: Command) throws -> Outcome? {
    let index = state.applied.index.next
    return try state.apply(LogEntry(index: index, term: Term(1), payload: .command(command.encoded()))).outcome
  }

  /// Gives every role its first epoch.
  mutating func assignRoles() throws {
    for role in Role.allCases { _ = try apply(grant(role, "n1", 1)) }
  }
}

func grant(_ role: Role, _ holder: String, _ epoch: UInt64) -> Command {
  .assignRole(RoleGrant(role: role, holder: name(holder), epoch: RoleEpoch(epoch), at: 1_700_000_000_000, reason: "test"))
}

func key(_ text: String) -> ObjectKey {
  ObjectKey(group: "networking.istio.io", kind: "VirtualService", namespace: "default", name: text)
}

func change(
  _ puts: [String: String] = [:], deletes: [String] = [], expected: UInt64? = nil, request: UInt64, epoch: UInt64 = 1
) -> Command {
  let puts = puts.sorted { $0.key < $1.key }.map { ObjectPut(key: key($0.key), bytes: Array($0.value.utf8)) }
  return .configuration(
    ChangeSet(
      puts: puts, deletes: deletes.map(key), expectedRevision: expected.map { LogIndex($0) },
      requestID: RequestID(high: 1, low: request), epoch: RoleEpoch(epoch), author: "test"))
}

struct ControlStateTests {
  private func ready() throws -> ControlBench {
    var bench = ControlBench()
    try bench.assignRoles()
    return bench
  }

  @Test func `an update keeps the creation index, delete and create give a new one`() throws {
    var bench = try ready()
    #expect(try bench.apply(change(["a": "1"], request: 1)) == .applied(revision: LogIndex(4)))
    #expect(try bench.apply(change(["a": "2"], request: 2)) == .applied(revision: LogIndex(5)))
    #expect(bench.state.objects[key("a")] == StoredObject(bytes: Array("2".utf8), created: LogIndex(4), version: LogIndex(5)))
    _ = try bench.apply(change(deletes: ["a"], request: 3))
    _ = try bench.apply(change(["a": "2"], request: 4))
    #expect(bench.state.objects[key("a")]?.created == LogIndex(7))
    #expect(bench.state.revision == LogIndex(7))
  }

  @Test func `a write that changes nothing makes no revision`() throws {
    var bench = try ready()
    _ = try bench.apply(change(["a": "1"], request: 1))
    #expect(try bench.apply(change(["a": "1"], deletes: ["b"], request: 2)) == .unchanged(revision: LogIndex(4)))
    #expect(bench.state.revision == LogIndex(4))
  }

  @Test func `a repeated request is answered with the first outcome`() throws {
    var bench = try ready()
    let first = try bench.apply(change(["a": "1"], request: 1))
    _ = try bench.apply(change(["a": "2"], request: 2))
    #expect(try bench.apply(change(["a": "1"], request: 1)) == first)
    #expect(bench.state.objects[key("a")]?.bytes == Array("2".utf8), "it is not written again")
  }

  @Test func `a change for another revision is a conflict`() throws {
    var bench = try ready()
    _ = try bench.apply(change(["a": "1"], request: 1))
    #expect(try bench.apply(change(["a": "2"], expected: 3, request: 2)) == .conflict(revision: LogIndex(4)))
    #expect(try bench.apply(change(["a": "2"], expected: 4, request: 3)) == .applied(revision: LogIndex(6)))
  }

  @Test func `an act under an older epoch is refused and may come again under the new one`() throws {
    var bench = try ready()
    #expect(try bench.apply(grant(.configuration, "n2", 2)) == .applied(revision: .zero))
    #expect(try bench.apply(change(["a": "1"], request: 1, epoch: 1)) == .staleEpoch(current: RoleEpoch(2)))
    #expect(try bench.apply(change(["a": "1"], request: 1, epoch: 2)) == .applied(revision: LogIndex(6)))
  }

  @Test func `an assignment has to be the next epoch`() throws {
    var bench = try ready()
    #expect(try bench.apply(grant(.discovery, "n2", 1)) == .staleEpoch(current: RoleEpoch(1)))
    #expect(try bench.apply(grant(.discovery, "n2", 3)) == .staleEpoch(current: RoleEpoch(1)))
    #expect(try bench.apply(.releaseRole(.discovery, RoleEpoch(1))) == .applied(revision: .zero))
    #expect(bench.state.roles[.discovery].holder == nil)
    #expect(try bench.apply(grant(.discovery, "n2", 2)) == .applied(revision: .zero))
  }

  @Test func `a change set that passes a limit or names a key twice changes nothing`() throws {
    var bench = try ready()
    let big = ObjectPut(key: key("big"), bytes: [UInt8](repeating: 7, count: ConsensusLimits.objectBytesMax + 1))
    let small = ObjectPut(key: key("small"), bytes: [1])
    func set(_ puts: [ObjectPut], _ deletes: [ObjectKey], _ request: UInt64) -> Command {
      .configuration(
        ChangeSet(
          puts: puts, deletes: deletes, requestID: RequestID(high: 2, low: request), epoch: RoleEpoch(1), author: "test"))
    }
    #expect(try bench.apply(set([small, big], [], 1)) == .limit(.objectBytes))
    #expect(try bench.apply(set([small, small], [], 2)) == .invalid(.duplicateKey))
    #expect(try bench.apply(set([small], [key("small")], 3)) == .invalid(.duplicateKey))
    #expect(bench.state.objects.isEmpty)
  }

  @Test func `addresses are allocated once, inside 240 240, and never twice`() throws {
    var bench = try ready()
    let proposed = bench.state.freeAddresses(for: ["reviews.default.svc.cluster.local", "ratings.default.svc.cluster.local"])
    #expect(try bench.apply(.allocateAddresses(proposed, epoch: RoleEpoch(1))) == .applied(revision: .zero))
    #expect(Set(bench.state.addresses.values).count == 2)
    #expect(bench.state.addresses.values.allSatisfy { $0.description.hasPrefix("240.240.") })
    let taken = try #require(proposed.first?.address)
    let thief = AddressAllocation(host: "other.local", address: taken)
    #expect(try bench.apply(.allocateAddresses([thief], epoch: RoleEpoch(1))) == .invalid(.addressTaken))
    #expect(try bench.apply(.allocateAddresses([thief], epoch: RoleEpoch(0))) == .staleEpoch(current: RoleEpoch(1)))
    #expect(bench.state.freeAddresses(for: ["reviews.default.svc.cluster.local"]).isEmpty)
  }

  @Test func `a node has one authority, and two during a rotation`() throws {
    var bench = ControlBench()
    for certificate in 1...2 {
      #expect(
        try bench.apply(.addTrustAnchor(node: name("n1"), certificate: [UInt8(certificate)])) == .applied(revision: .zero))
    }
    #expect(try bench.apply(.addTrustAnchor(node: name("n1"), certificate: [3])) == .limit(.trustAnchors))
    #expect(try bench.apply(.addTrustAnchor(node: name("n2"), certificate: [4])) == .applied(revision: .zero))
  }

  @Test func `the trust bundle is versioned and holds a certificate once`() throws {
    var bench = try ready()
    _ = try bench.apply(.addTrustAnchor(node: name("n2"), certificate: [2]))
    _ = try bench.apply(.addTrustAnchor(node: name("n1"), certificate: [1]))
    #expect(try bench.apply(.addTrustAnchor(node: name("n1"), certificate: [1])) == .unchanged(revision: .zero))
    #expect(bench.state.trust.anchors.map(\.node) == [name("n1"), name("n2")])
    #expect(bench.state.trust.version == LogIndex(5))
    let fingerprint = bench.state.trust.anchors[0].fingerprint
    _ = try bench.apply(.removeTrustAnchor(fingerprint: fingerprint, epoch: RoleEpoch(1)))
    #expect(bench.state.trust.anchors.map(\.node) == [name("n2")])
    #expect(bench.state.trust.version == LogIndex(7))
  }

  @Test func `a snapshot restores an equal state, and equal states have equal bytes`() throws {
    var generator = SeededGenerator(seed: 5)
    var (a, b) = (try ready(), try ready())
    for step in UInt64(0)..<200 {
      let command = randomCommand(step, &generator)
      #expect(try a.apply(command) == b.apply(command))
      if step % 50 == 20 { b.state = try ControlState(restoring: b.state.snapshot()) }
    }
    #expect(a.state == b.state)
    #expect(a.state.snapshot() == b.state.snapshot())
    #expect(a.state.history == b.state.history)
  }

  private func randomCommand(_ step: UInt64, _ generator: inout SeededGenerator) -> Command {
    let letter = String(UnicodeScalar(UInt8(0x61 + generator.below(12))))
    switch generator.below(7) {
    case 0: return change(deletes: [letter], request: step)
    case 1: return .addTrustAnchor(node: name("n\(step)"), certificate: [UInt8(step & 0xFF), 3])
    case 2:
      return .admitNode(AdmittedNode(name: name("n\(step % 9)"), address: "127.0.0.1", locality: "a/b/c", canIssue: true))
    case 3: return .forgetNode(name("n\(step % 9)"))
    case 4:
      guard let address = ServiceAddress(host: UInt16(1 + generator.below(300))) else { return .noop }
      return .allocateAddresses([AddressAllocation(host: "\(letter).local", address: address)], epoch: RoleEpoch(1))
    default: return change([letter: "\(step)"], request: step)
    }
  }

  @Test func `any damaged byte of a snapshot is found`() throws {
    var bench = try ready()
    _ = try bench.apply(change(["a": "1"], request: 1))
    let bytes = bench.state.snapshot()
    for at in bytes.indices {
      var damaged = bytes
      damaged[at] ^= 0x40
      #expect(throws: ControlStateError.self) { try ControlState(restoring: damaged) }
    }
    for length in [0, 1, 31, 32, 33, bytes.count - 1] {
      #expect(throws: ControlStateError.self) { try ControlState(restoring: Array(bytes.prefix(length))) }
    }
  }

  @Test func `an entry that does not decode stops the state and is not skipped`() throws {
    var bench = try ready()
    let before = bench.state
    let bad = LogEntry(index: LogIndex(4), term: Term(1), payload: .command([1, 99]))
    #expect(throws: ControlStateError.undecodable(bad.position, .malformed)) { try bench.state.apply(bad) }
    #expect(bench.state == before)
    let later = LogEntry(index: LogIndex(5), term: Term(1), payload: .noop)
    #expect(throws: ControlStateError.gap(expected: LogIndex(4), found: LogIndex(5))) { try bench.state.apply(later) }
  }

  @Test func `random bytes never trap as a command`() {
    var generator = SeededGenerator(seed: 6)
    let good = [
      change(["a": "1"], deletes: ["b"], expected: 3, request: 9).encoded(), grant(.discovery, "n1", 4).encoded(),
      Command.addTrustAnchor(node: name("n1"), certificate: [1, 2]).encoded(),
      Command.freeAddresses(["a.b"], epoch: RoleEpoch(1)).encoded(), Command.forgetNode(name("n3")).encoded(),
    ]
    for bytes in good { #expect((try? Command(decoding: bytes))?.encoded() == bytes) }
    for round in 0..<4000 {
      var bytes = good[round % good.count]
      bytes[generator.index(below: bytes.count)] = UInt8(truncatingIfNeeded: generator.next())
      if round % 4 == 0 { bytes.removeLast(generator.index(below: bytes.count)) }
      if let command = try? Command(decoding: bytes) { #expect(command.encoded() == bytes) }
    }
  }
}
