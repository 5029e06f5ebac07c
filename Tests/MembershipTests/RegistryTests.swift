import Membership
import Primitives
import Simulation
import Testing

@Suite struct RegistryTests {
  private typealias Cluster = MembershipCluster
  private static func workload(_ name: String) throws -> WorkloadRow {
    let label = try DNSLabel(name)
    return WorkloadRow(
      name: label, namespace: try DNSLabel("default"), service: label, serviceAccount: label,
      labels: [.init(key: "version", value: "v1"), .init(key: "app", value: name)], address: "10.1.0.1",
      ports: [.init(name: "http", servicePort: 80, port: 9080, appProtocol: "http")], health: .healthy)
  }

  /// A registry of `name` with its node row, and the rows it pushed.
  private static func owner(_ name: String, incarnation: UInt64 = 5, workloads: [String] = []) throws -> (Registry, [SignedRow])
  {
    let node = try NodeName(name)
    var registry = Registry(owner: node, incarnation: incarnation, seed: 1, at: .zero)
    registry.peersChanged([try NodeName("peer")], at: .zero)
    var effects: [Registry.Effect] = []
    try registry.publish(
      node: NodeRow(certificates: [Cluster.certificate(of: node)]), sign: Cluster.sign(as: node), at: .zero, into: &effects)
    for workload in workloads {
      try registry.publish(workload: Self.workload(workload), sign: Cluster.sign(as: node), at: .zero, into: &effects)
    }
    return (registry, rows(in: effects))
  }

  private static func rows(in effects: [Registry.Effect]) -> [SignedRow] {
    effects.flatMap { effect -> [SignedRow] in if case .send(.rows(let rows, _), _) = effect { rows } else { [] } }
  }

  private static func empty() throws -> Registry { Registry(owner: try NodeName("z"), incarnation: 1, seed: 2, at: .zero) }

  @Test func `rows are taken from their owner's signature, in any order of arrival`() throws {
    let (registry, rows) = try Self.owner("a", workloads: ["details", "reviews"])
    var other = try Self.empty()
    let result = other.merge(rows.reversed(), verify: Cluster.verify, at: .zero)
    #expect(result.accepted == 3 && result.rejected.isEmpty)
    #expect(other.digestHash == registry.digestHash)
    #expect(other.workloads(live: []).map(\.row.name.string) == ["details", "reviews"])
    #expect(other.workloads(live: []).allSatisfy { !$0.isReachable })
    #expect(other.workloads(live: [try NodeName("a")]).allSatisfy(\.isReachable))
    #expect(other.workloads(live: []).first?.row.labels.map(\.key) == ["app", "version"])
    let again = other.merge(rows, verify: Cluster.verify, at: .zero)
    #expect(again.accepted == 0 && again.changed.isEmpty && again.rejected.isEmpty)
  }

  @Test func `what was saved is restored, row by row and verified`() throws {
    let (registry, _) = try Self.owner("a", workloads: ["details", "reviews"])
    var other = try Self.empty()
    _ = other.merge(try Self.owner("a", workloads: ["details", "reviews"]).1, verify: Cluster.verify, at: .zero)
    var restarted = try Self.empty()
    try restarted.restore(other.saved(), verify: Cluster.verify, at: .zero)
    #expect(restarted.digestHash == registry.digestHash && restarted.digestHash == other.digestHash)
    #expect(restarted.workloads(live: []).map(\.row.name.string) == ["details", "reviews"])
    var distrustful = try Self.empty()
    try distrustful.restore(other.saved(), verify: { _, _, _ in false }, at: .zero)
    #expect(distrustful.rowCount == 0)
  }

  @Test(arguments: [(8, 1), (320, 10)])
  func `registries are compared as much more seldom as comparing costs`(owners: Int, factor: Int) throws {
    var registry = try Self.empty()
    for number in 0..<owners { _ = registry.merge(try Self.owner("o\(number)").1, verify: Cluster.verify, at: .zero) }
    registry.peersChanged([try NodeName("o1")], at: .zero)
    var effects: [Registry.Effect] = []
    var now = Instant.zero + .seconds(20)
    registry.tick(at: now, into: &effects)
    #expect(effects.contains { if case .send(.digest, _) = $0 { true } else { false } })
    now = now + registry.configuration.pullTimeout
    registry.tick(at: now, into: &effects)
    let base = registry.configuration.compareInterval * factor
    #expect(registry.nextDeadline - now >= base / 2 && registry.nextDeadline - now <= base * 5 / 4)
  }

  @Test func `a node's own rows are not saved, and bytes cut short restore what came before`() throws {
    let (registry, rows) = try Self.owner("a", workloads: ["details", "reviews"])
    var same = Registry(owner: try NodeName("a"), incarnation: 9, seed: 3, at: .zero)
    try same.restore(registry.saved(), verify: Cluster.verify, at: .zero)
    #expect(same.rowCount == 0)
    var other = try Self.empty()
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    let saved = other.saved()
    for count in saved.indices {
      var cut = try Self.empty()
      #expect(throws: ByteError.self) { try cut.restore(Array(saved.prefix(count)), verify: Cluster.verify, at: .zero) }
    }
  }

  @Test func `a row signed by another node is never accepted`() throws {
    var (_, rows) = try Self.owner("a", workloads: ["details"])
    var other = try Self.empty()
    _ = other.merge([rows.removeFirst()], verify: Cluster.verify, at: .zero)
    let forged = rows.map {
      SignedRow(payload: $0.payload, signature: Cluster.signature(of: $0.payload, key: Array("certificate of b".utf8)))
    }
    let result = other.merge(forged, verify: Cluster.verify, at: .zero)
    #expect(result.accepted == 0)
    #expect(
      result.rejected == [
        .signature(.workload(try NodeName("a"), namespace: try DNSLabel("default"), name: try DNSLabel("details")))
      ])
  }

  @Test func `a row whose owner's certificates are not known waits for the node row`() throws {
    let (_, rows) = try Self.owner("a", workloads: ["details"])
    var other = try Self.empty()
    let result = other.merge(Array(rows.dropFirst()), verify: Cluster.verify, at: .zero)
    #expect(result.accepted == 0 && result.rejected.count == 1)
    #expect(other.merge(rows, verify: Cluster.verify, at: .zero).accepted == 2)
  }

  @Test func `two rows of one version are reported as equivocation and the first one stays`() throws {
    let (_, first) = try Self.owner("a", workloads: ["details"])
    let (_, second) = try Self.owner("a", workloads: ["reviews"])
    let clash = Row(
      key: .workload(try NodeName("a"), namespace: try DNSLabel("default"), name: try DNSLabel("details")),
      version: RowVersion(incarnation: 5, sequence: 2), content: .tombstone(deletedAtMilliseconds: 3)
    ).payload()
    var other = try Self.empty()
    _ = other.merge(first, verify: Cluster.verify, at: .zero)
    let signed = SignedRow(payload: clash, signature: Cluster.sign(as: try NodeName("a"))(clash) ?? [])
    let result = other.merge([signed], verify: Cluster.verify, at: .zero)
    #expect(result.accepted == 0 && result.changed.isEmpty)
    #expect(result.rejected.count == 1)
    #expect(other.workloads(live: []).count == 1)
    #expect(second.count == 2)
  }

  @Test func `a forgotten owner's rows are taken again once the cluster has let it in`() throws {
    let (_, rows) = try Self.owner("a", incarnation: 9, workloads: ["details"])
    var other = try Self.empty()
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    var effects: [Registry.Effect] = []
    other.forget(try NodeName("a"), into: &effects)
    #expect(other.merge(rows, verify: Cluster.verify, at: .zero).accepted == 0, "old rows do not bring it back")
    let (_, reborn) = try Self.owner("a", incarnation: 5, workloads: ["details"])
    #expect(other.merge(reborn, verify: Cluster.verify, at: .zero).accepted == 0)
    other.readmit([try NodeName("a")])
    #expect(other.merge(reborn, verify: Cluster.verify, at: .zero).accepted == 2)
  }

  @Test func `a node that sees newer rows of its own goes on above them, when they truly are its own`() throws {
    let (earlier, rows) = try Self.owner("a", incarnation: 9)
    var (now, _) = try Self.owner("a", incarnation: 5)
    #expect(now.missing(comparedTo: earlier.digest).map(\.owner) == [try NodeName("a")], "it asks for them")
    let forged = rows.map { SignedRow(payload: $0.payload, signature: [1]) }
    #expect(now.merge(forged, verify: Cluster.verify, at: .zero).rejected.isEmpty)
    let version = RowVersion(incarnation: 9, sequence: 1)
    #expect(now.merge(rows, verify: Cluster.verify, at: .zero).rejected == [.ownRowAhead(version)])
    var effects: [Registry.Effect] = []
    try now.raiseIncarnation(to: 10, sign: Cluster.sign(as: try NodeName("a")), at: .zero, into: &effects)
    #expect(now.missing(comparedTo: earlier.digest).isEmpty)
  }

  @Test func `a withdrawn workload stays withdrawn when its old row comes back`() throws {
    let name = try NodeName("a")
    var (registry, rows) = try Self.owner("a", workloads: ["details"])
    var other = try Self.empty()
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    var effects: [Registry.Effect] = []
    try registry.withdraw(
      namespace: DNSLabel("default"), name: DNSLabel("details"), deletedAtMilliseconds: 9, sign: Cluster.sign(as: name),
      at: .zero,
      into: &effects)
    _ = other.merge(Self.rows(in: effects), verify: Cluster.verify, at: .zero)
    #expect(other.workloads(live: []).isEmpty)
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    #expect(other.workloads(live: []).isEmpty)
    effects = []
    try registry.compact(sign: Cluster.sign(as: name), at: .zero, into: &effects)
    _ = other.merge(Self.rows(in: effects), verify: Cluster.verify, at: .zero)
    #expect(other.rowCount == 1 && registry.rowCount == 1, "compaction forgets the tombstone")
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    #expect(other.workloads(live: []).isEmpty, "the floor outlives the tombstone")
    #expect(other.digestHash == registry.digestHash)
  }

  @Test func `a new incarnation voids the rows of the earlier life`() throws {
    let (_, old) = try Self.owner("a", workloads: ["details", "reviews"])
    let (_, new) = try Self.owner("a", incarnation: 6, workloads: ["reviews"])
    var other = try Self.empty()
    _ = other.merge(old, verify: Cluster.verify, at: .zero)
    _ = other.merge(new, verify: Cluster.verify, at: .zero)
    #expect(other.workloads(live: []).map(\.row.name.string) == ["reviews"])
  }

  @Test func `an owner's rows above its quota are refused`() throws {
    let name = try NodeName("a")
    var other = try Self.empty()
    let (_, rows) = try Self.owner("a")
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    var refused = 0
    for index in 1...(MembershipLimits.rowsPerOwnerMax + 5) {
      let row = Row(
        key: RowKey(owner: name, kind: RowKind(rawValue: 9), namespace: "x", name: "r\(index)"),
        version: RowVersion(incarnation: 5, sequence: UInt64(index + 1)), content: .opaque([1]))
      let payload = row.payload()
      let signed = SignedRow(payload: payload, signature: Cluster.sign(as: name)(payload) ?? [])
      refused += other.merge([signed], verify: Cluster.verify, at: .zero).rejected.count
    }
    #expect(refused == 6)
    #expect(other.rowCount == MembershipLimits.rowsPerOwnerMax)
  }

  @Test func `rows of an unknown kind are carried and shown to nobody`() throws {
    let name = try NodeName("a")
    var carrier = try Self.empty()
    let (_, rows) = try Self.owner("a")
    let payload = Row(
      key: RowKey(owner: name, kind: RowKind(rawValue: 77), namespace: "", name: "x"),
      version: RowVersion(incarnation: 5, sequence: 2), content: .opaque([1, 2, 3])
    ).payload()
    let signed = SignedRow(payload: payload, signature: Cluster.sign(as: name)(payload) ?? [])
    #expect(carrier.merge(rows + [signed], verify: Cluster.verify, at: .zero).accepted == 2)
    #expect(carrier.workloads(live: []).isEmpty)
    guard case .rows(let carried, _) = carrier.difference([.init(owner: name, after: .zero)]) else { return }
    #expect(carried.contains(signed))
  }

  @Test func `a quarantined row is hidden until its owner writes it anew`() throws {
    var other = try Self.empty()
    let (_, rows) = try Self.owner("a", workloads: ["details"])
    _ = other.merge(rows, verify: Cluster.verify, at: .zero)
    let placed = try #require(other.workloads(live: []).first)
    other.quarantine(.workload(placed.owner, namespace: placed.row.namespace, name: placed.row.name), at: placed.version)
    #expect(other.workloads(live: []).isEmpty)
  }

  @Test func `a large difference is sent in pages that can be resumed`() throws {
    let (registry, rows) = try Self.owner("a", workloads: (0..<600).map { "w\($0)" })
    #expect(rows.count == 601)
    var other = try Self.empty()
    var request: [RegistryMessage.OwnerRequest] = other.missing(comparedTo: registry.digest)
    var pages = 0
    while !request.isEmpty, pages < 20 {
      let message = registry.difference(request)
      let bytes = message.encoded()
      #expect(bytes.count <= RegistryMessage.bytesMax)
      guard case .rows(let page, let continuations) = try RegistryMessage(decoding: bytes) else { break }
      _ = other.merge(page, verify: Cluster.verify, at: .zero)
      request = continuations
      pages += 1
    }
    #expect(pages > 1 && other.digestHash == registry.digestHash)
  }

  @Test func `registries are equal after partitions, loss and restarts`() throws {
    for seed in Seeds.handful {
      var cluster = try MembershipCluster(size: 6, seed: seed, conditions: NetworkConditions(loss: 0.05))
      _ = try #require(cluster.run(within: .seconds(10)) { $0.finallyAllAgreeOnLife }, "seed \(seed)")
      for index in 0..<6 { cluster.publish(index, "w\(index)") }
      cluster.partition([[0, 1, 2], [3, 4, 5]])
      cluster.run(for: .seconds(5))
      for index in 0..<6 { cluster.publish(index, "late\(index)") }
      cluster.withdraw(1, "w1")
      cluster.withdraw(4, "w4")
      cluster.compact(4)
      cluster.restart(5)
      cluster.run(for: .seconds(5))
      #expect(!cluster.finallyRegistriesAreEqual, "the partition has an effect")
      cluster.heal()
      let took = cluster.run(within: .seconds(15)) { $0.finallyAllAgreeOnLife && $0.finallyRegistriesAreEqual }
      #expect(took != nil, "seed \(seed)")
      #expect(cluster.alwaysRowsAreTheirOwners, "seed \(seed)")
      // Two were withdrawn, and node 5 has forgotten its own.
      #expect(cluster.nodes[0].registry.workloads(live: []).count == 3 + 5, "seed \(seed)")
      let forgeries = cluster.nodes.flatMap(\.rowsRejected).filter { if case .signature = $0 { true } else { false } }
      #expect(forgeries.isEmpty, "seed \(seed)")
    }
  }
}
