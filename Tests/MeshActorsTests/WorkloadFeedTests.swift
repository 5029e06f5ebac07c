import Membership
import MeshConfig
import Primitives
import Testing

@testable import MeshActors

/// Changes of the registry as the compiler gets them, beside reading all of it anew.
@Suite struct WorkloadFeedTests {
  /// A registry of one node that follows two others.
  private struct Mesh {
    private(set) var registries: [Registry] = []
    private(set) var surroundings = WorkloadFeed.Surroundings()

    init() throws {
      for (index, name) in ["n1", "n2", "n3"].enumerated() {
        let node = try NodeName(name)
        registries.append(Registry(owner: node, incarnation: 1, seed: UInt64(index), at: .zero))
        surroundings.live.insert(node)
        surroundings.addresses[node] = "10.0.0.\(index + 1)"
        try publish(node: index, port: 15008)
      }
    }

    var followed: Registry { registries[0] }

    private mutating func change(_ index: Int, _ body: (inout Registry, inout [Registry.Effect]) throws -> Void) rethrows {
      var effects: [Registry.Effect] = []
      if index != 0 { registries[index].peersChanged([registries[0].owner], at: .zero) }
      try body(&registries[index], &effects)
      let rows = effects.flatMap { effect -> [SignedRow] in if case .send(.rows(let rows, _), _) = effect { rows } else { [] } }
      if index != 0 { _ = registries[0].merge(rows, verify: { _, _, _ in true }, at: .zero) }
    }

    mutating func publish(node index: Int, port: UInt16) throws {
      try change(index) { registry, effects in
        try registry.publish(
          node: NodeRow(certificates: [[1]], meshPort: port, revisionServed: registry.changeMark), sign: { _ in [1] },
          at: .zero,
          into: &effects)
      }
    }

    mutating func publish(_ name: String, on index: Int, health: WorkloadHealth) throws {
      let label = try DNSLabel(name)
      let row = WorkloadRow(
        name: label, namespace: try DNSLabel("default"), service: label, serviceAccount: label, labels: [],
        address: "10.1.0.1", ports: [.init(name: "http", servicePort: 80, port: 9080, appProtocol: "http")], health: health)
      try change(index) { registry, effects in
        try registry.publish(workload: row, sign: { _ in [1] }, at: .zero, into: &effects)
      }
    }

    mutating func withdraw(_ name: String, on index: Int) throws {
      let label = try DNSLabel(name)
      let namespace = try DNSLabel("default")
      try change(index) { registry, effects in
        _ = try registry.withdraw(
          namespace: namespace, name: label, deletedAtMilliseconds: 1, sign: { _ in [1] }, at: .zero, into: &effects)
      }
    }

    mutating func surround(_ body: (inout WorkloadFeed.Surroundings) -> Void) { body(&surroundings) }
  }

  /// Records by key, as the compiler would hold them.
  private struct Held {
    var records: [String: WorkloadRecord] = [:]
    /// Records that the latest change brought.
    var looked = 0

    mutating func take(_ change: WorkloadFeed.Change) {
      switch change {
      case .everything(let all):
        records = Dictionary(all.map { ($0.key, $0) }) { first, _ in first }
        looked = all.count
      case .some(let gone, let put):
        for key in gone { records[key] = nil }
        for record in put { records[record.key] = record }
        looked = gone.count + put.count
      }
    }
  }

  @Test func `a changed row costs one row, however many there are`() throws {
    var mesh = try Mesh()
    for number in 0..<300 { try mesh.publish("w\(number)", on: number % 3, health: .healthy) }
    var feed = WorkloadFeed(local: try NodeName("n1"))
    var held = Held()
    held.take(feed.change(to: mesh.followed, in: mesh.surroundings))
    #expect(held.looked == 300)
    try mesh.publish("w7", on: 1, health: .leaving)
    held.take(feed.change(to: mesh.followed, in: mesh.surroundings))
    #expect(held.looked == 1)
    #expect(held.records["default/w7@n2"]?.health == .leaving)
    // What every node writes after each change: the revision that it serves.
    for index in 0..<3 { try mesh.publish(node: index, port: 15008) }
    held.take(feed.change(to: mesh.followed, in: mesh.surroundings))
    #expect(held.looked == 0)
  }

  @Test func `a reader that lags too far reads everything`() throws {
    var mesh = try Mesh()
    try mesh.publish("a", on: 1, health: .healthy)
    var feed = WorkloadFeed(local: try NodeName("n1"))
    var held = Held()
    held.take(feed.change(to: mesh.followed, in: mesh.surroundings))
    for round in 0..<(2 * MembershipLimits.recentChangesMax) {
      try mesh.publish("b", on: 2, health: round % 2 == 0 ? .healthy : .unhealthy)
      // Those who keep up never fall back, however many pieces have gone.
      if round % 100 == 0 { held.take(feed.change(to: mesh.followed, in: mesh.surroundings)) }
    }
    #expect(held.looked == 1)
    for round in 0..<(2 * MembershipLimits.recentChangesMax) {
      try mesh.publish("b", on: 2, health: round % 2 == 0 ? .starting : .unhealthy)
    }
    held.take(feed.change(to: mesh.followed, in: mesh.surroundings))
    #expect(held.looked == 2)
    #expect(held.records["default/b@n3"]?.health == .unhealthy)
  }

  @Test(arguments: 1...5) func `following changes gives what reading everything gives`(seed: UInt64) throws {
    var draws = SeededGenerator(seed: seed)
    var mesh = try Mesh()
    let local = try NodeName("n1")
    var feed = WorkloadFeed(local: local)
    var held = Held()
    for step in 0..<200 {
      for _ in 0...draws.below(3) {
        let (index, name) = (Int(draws.below(3)), "w\(draws.below(12))")
        let node = mesh.registries[index].owner
        switch draws.below(8) {
        case 0: try mesh.withdraw(name, on: index)
        case 1: try mesh.publish(node: index, port: 15008 + UInt16(draws.below(2)))
        case 2: mesh.surround { if $0.live.remove(node) == nil { $0.live.insert(node) } }
        case 3: mesh.surround { $0.addresses[node] = "10.0.\(index).\(draws.below(2))" }
        case 4:
          let key = WorkloadKey(namespace: try DNSLabel("default"), name: try DNSLabel(name))
          mesh.surround { $0.outboundPorts[key] = draws.below(2) == 0 ? nil : 15_100 }
        default: try mesh.publish(name, on: index, health: draws.below(2) == 0 ? .healthy : .unhealthy)
        }
      }
      held.take(feed.change(to: mesh.followed, in: mesh.surroundings))
      var fresh = WorkloadFeed(local: local)
      var expected = Held()
      expected.take(fresh.change(to: mesh.followed, in: mesh.surroundings))
      #expect(held.records == expected.records, "seed \(seed), step \(step)")
    }
  }
}
