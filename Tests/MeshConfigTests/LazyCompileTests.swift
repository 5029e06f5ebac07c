import Dispatch
import Primitives
import Synchronization
import Testing

@testable import MeshConfig

/// What nobody has called is not compiled, and nobody can tell.
@Suite struct LazyCompileTests {
  private func objects(_ services: Int) -> String {
    var text = ""
    for index in 0..<services {
      text += Fixture.object(
        "Service", "s\(index)", spec: "selector: {app: s\(index)}\nports: [{name: http, port: 80, targetPort: 9080}]")
      text += Self.rules(index, timeout: 1)
    }
    return text
  }

  private static func rules(_ index: Int, timeout: Int) -> String {
    Fixture.object(
      "VirtualService", "s\(index)",
      spec: "hosts: [s\(index)]\nhttp:\n- timeout: \(timeout)s\n  route: [{destination: {host: s\(index)}}]")
  }

  private func compiler(_ services: Int) throws -> SnapshotCompiler {
    var compiler = SnapshotCompiler(settings: try Fixture.settings(), id: 1)
    for object in Fixture.stored(objects(services)) { compiler.put(object) }
    for index in 0..<services {
      for replica in 0..<3 { compiler.put(try Fixture.workload("s\(index)", "v\(replica)", node: "n\(replica + 2)")) }
    }
    compiler.put(try Fixture.workload("s0", "here"))
    return compiler
  }

  private func host(_ name: String, _ snapshot: MeshSnapshot) -> VirtualHost? {
    snapshot.outbound[0].ports.lazy.flatMap(\.virtualHosts).first { $0.name == "\(name).default.svc.cluster.local:80" }
  }

  private func cluster(_ name: String, _ snapshot: MeshSnapshot) -> Int? {
    snapshot.clusters.index(named: "outbound|80||\(name).default.svc.cluster.local", near: 0)
  }

  private func clustersInUse(_ snapshot: MeshSnapshot) -> Int {
    snapshot.clusters.indices.count { snapshot.clusters.ifInUse($0) != nil }
  }

  @Test func `compiling, printing and finding names call nobody`() throws {
    var compiler = try compiler(20)
    let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
    #expect(Rendering(snapshot).lines.count > 40)
    #expect(cluster("s7", snapshot) != nil)
    // All but the destination of what is not in the mesh.
    #expect(clustersInUse(snapshot) == 1)
    #expect(snapshot.outbound[0].ports.flatMap(\.virtualHosts).allSatisfy { !$0.isInUse })
  }

  @Test(arguments: 1...4) func `in whatever order and by however many threads it is called, it is what it always was`(
    seed: UInt64
  ) throws {
    let (expected, _) = MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: Fixture.stored(objects(40)),
      workloads: [try Fixture.workload("s0"), try Fixture.workload("s1", "v2", node: "n2")], settings: try Fixture.settings())
    let called = MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: Fixture.stored(objects(40)),
      workloads: [try Fixture.workload("s0"), try Fixture.workload("s1", "v2", node: "n2")], settings: try Fixture.settings()
    ).snapshot
    let made = Mutex<[Set<ObjectIdentifier>]>(Array(repeating: [], count: 1_000))
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      var draws = SeededGenerator(seed: seed &* 10 &+ UInt64(thread))
      var clusters = Array(called.clusters.indices)
      draws.shuffle(&clusters)
      for index in clusters { _ = called.clusters[index].endpoints }
      var hosts = Array(called.outbound[0].ports.flatMap(\.virtualHosts).enumerated())
      draws.shuffle(&hosts)
      for (index, host) in hosts {
        let routes = host.compiled
        made.withLock { _ = $0[index].insert(ObjectIdentifier(routes)) }
      }
    }
    #expect(made.withLock { $0.allSatisfy { $0.count <= 1 } })
    #expect(clustersInUse(called) == called.clusters.count && clustersInUse(expected) == 1)
    #expect(Rendering(called).lines == Rendering(expected).lines)
  }

  @Test func `what has been called is compiled again with the snapshot that changes it`() throws {
    var compiler = try compiler(20)
    let first = compiler.compile(revision: 1, registryVersion: 1).snapshot
    let index = try #require(cluster("s3", first))
    #expect(first.clusters[index].endpoints.count == 3)
    #expect(host("s3", first)?.compiled.routes.first?.timeout == .seconds(1))
    for service in [3, 4] {
      compiler.put(StoredObject(Fixture.changeSet(Self.rules(service, timeout: 9)).objects[0], created: 8))
      var leaving = try Fixture.workload("s\(service)", "v1", node: "n3")
      leaving.health = .leaving
      compiler.put(leaving)
    }
    let second = compiler.compile(revision: 2, registryVersion: 2).snapshot
    #expect(compiler.work.clustersBuilt == 2 && compiler.work.clustersWarmed == 1, "\(compiler.work)")
    #expect(compiler.work.hostsCompiled == 2 && compiler.work.hostsWarmed == 1, "\(compiler.work)")
    #expect(second.clusters.ifInUse(index)?.endpoints.contains { $0.health == .leaving } == true)
    #expect(host("s3", second)?.isInUse == true && host("s3", second)?.routes.first?.timeout == .seconds(9))
    let cold = try #require(cluster("s4", second))
    #expect(second.clusters.ifInUse(cold) == nil && host("s4", second)?.isInUse == false)
    #expect(second.clusters.glimpse(cold).endpoints.contains { $0.health == .leaving })
    #expect(second.clusters.ifInUse(cold) == nil)
    // Who still has the earlier snapshot finds in it what was so then.
    #expect(first.clusters[cold].endpoints.allSatisfy { $0.health == .healthy })
    #expect(host("s4", first)?.compiled.routes.first?.timeout == .seconds(1))
  }

  @Test func `a service that came before others keeps who was called in use`() throws {
    var compiler = try compiler(5)
    let first = compiler.compile(revision: 1, registryVersion: 1).snapshot
    let called = first.clusters[try #require(cluster("s3", first))].service
    compiler.put(
      StoredObject(
        Fixture.changeSet(Fixture.object("Service", "a", spec: "selector: {app: a}\nports: [{name: http, port: 80}]")).objects[
          0],
        created: 90))
    let second = compiler.compile(revision: 2, registryVersion: 1).snapshot
    let index = try #require(cluster("s3", second))
    #expect(second.clusters.ifInUse(index)?.service == called.map { $0 + 1 })
    #expect(clustersInUse(second) == 2 && compiler.work.clustersBuilt == 1)
  }

  @Test func `destinations with certificates of their own, and those that start slowly, do not wait for a call`() throws {
    let rule = Fixture.object(
      "DestinationRule", "s1", spec: "host: s1\ntrafficPolicy: {tls: {mode: SIMPLE, sni: example.com}}")
    let slow = Fixture.object(
      "DestinationRule", "s2", spec: "host: s2\ntrafficPolicy: {loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 10s}}}"
    )
    let snapshot = try Fixture.compile(objects(4) + rule + slow, [Fixture.workload("s0")]).snapshot
    for (name, isInUse) in [("s0", false), ("s1", true), ("s2", true), ("s3", false)] {
      #expect((snapshot.clusters.ifInUse(try #require(cluster(name, snapshot))) != nil) == isInUse, "\(name)")
    }
  }

  @Test func `a rule that leads nowhere is told although nobody has called it`() throws {
    let text =
      objects(2)
      + Fixture.object(
        "VirtualService", "broken", spec: "hosts: [elsewhere.example.com]\nhttp: [{route: [{destination: {host: nobody}}]}]")
    let (snapshot, findings) = try Fixture.compile(text, [Fixture.workload("s0")])
    #expect(findings.contains { $0.reason.contains("nobody.default.svc.cluster.local") }, "\(findings)")
    #expect(snapshot.outbound[0].ports.flatMap(\.virtualHosts).allSatisfy { !$0.isInUse })
  }
}
