import Primitives
import Testing

@testable import MeshConfig

/// What a change costs, in counts that do not depend on the machine: it must not grow with the mesh.
@Suite struct CompileWorkTests {
  private func mesh(services: Int) throws -> SnapshotCompiler {
    var compiler = SnapshotCompiler(settings: try Fixture.settings(), id: 1)
    var text = ""
    for index in 0..<services {
      text += Fixture.object(
        "Service", "s\(index)", spec: "selector: {app: s\(index)}\nports: [{name: http, port: 80, targetPort: 9080}]")
      text += rules(index, timeout: 1)
    }
    for object in Fixture.stored(text) { compiler.put(object) }
    for index in 0..<services {
      for replica in 0..<3 { compiler.put(try Fixture.workload("s\(index)", "v\(replica)", node: "n\(replica + 2)")) }
    }
    compiler.put(try Fixture.workload("s0", "here"))
    compiler.put(try Fixture.workload(nil, "gw", labels: ["istio": "ingressgateway"], isGateway: true))
    _ = compiler.compile(revision: 1, registryVersion: 1)
    return compiler
  }

  private func rules(_ index: Int, timeout: Int) -> String {
    Fixture.object(
      "VirtualService", "s\(index)",
      spec: "hosts: [s\(index)]\nhttp:\n- timeout: \(timeout)s\n  route: [{destination: {host: s\(index)}}]")
  }

  @Test(arguments: [5, 300]) func `a changed endpoint builds the destination that it is behind, and no route`(services: Int)
    throws
  {
    var compiler = try mesh(services: services)
    var workload = try Fixture.workload("s3", "v1", node: "n3")
    workload.health = .leaving
    compiler.put(workload)
    let (snapshot, _) = compiler.compile(revision: 1, registryVersion: 2)
    #expect(compiler.work == .of(clusters: 1))
    #expect(snapshot.changes?.clusters.count == 1 && snapshot.changes?.onlyEndpoints == true)
    #expect(snapshot.cluster("outbound|80||s3.default.svc.cluster.local")?.endpoints.count { $0.health == .leaving } == 1)
  }

  @Test(arguments: [5, 300]) func `a changed VirtualService compiles the hosts that it names, for each kind of client`(
    services: Int
  ) throws {
    var compiler = try mesh(services: services)
    compiler.put(StoredObject(Fixture.changeSet(rules(3, timeout: 9)).objects[0], created: 8))
    let (snapshot, _) = compiler.compile(revision: 2, registryVersion: 1)
    // The workload and the gateway are two kinds of client, which the rule does not tell apart.
    #expect(compiler.work.hostsCompiled == 1)
    #expect(compiler.work.clustersBuilt == 0)
    #expect(compiler.work.destinationsAsked <= 8)
    #expect(snapshot.changes?.clusters.isEmpty == true)
    #expect(snapshot.routes("s3.default.svc.cluster.local", 80).first?.timeout == .seconds(9))
    #expect(snapshot.routes("s2.default.svc.cluster.local", 80).first?.timeout == .seconds(1))
  }

  @Test func `clients that no rule tells apart for a host share what is compiled for it`() throws {
    var compiler = try mesh(services: 50)
    // A rule that asks for a label makes two kinds of clients of the workloads with and without it.
    let asking = Fixture.object(
      "VirtualService", "s7",
      spec: "hosts: [s7]\nhttp:\n- match: [{sourceLabels: {version: here}}]\n  route: [{destination: {host: s8}}]\n"
        + "- route: [{destination: {host: s7}}]")
    compiler.put(StoredObject(Fixture.changeSet(asking).objects[0], created: 16))
    compiler.put(try Fixture.workload("s1", "there"))
    let (snapshot, _) = compiler.compile(revision: 2, registryVersion: 1)
    #expect(snapshot.outbound.count == 3)
    // 50 hosts each for three clients, of which only s7 differs.
    #expect(compiler.work.hostsCompiled <= 53, "\(compiler.work)")
    let targets = snapshot.localWorkloads.map { snapshot.outbound[$0.outbound].routes("s7", 80).map(\.destinations) }
    #expect(Set(targets).count == 2)
  }

  @Test(arguments: [10, 10_000]) func `a wildcard host is found by its suffix, however many there are`(count: Int) {
    let index = SuffixIndex((0..<count).map { (suffix: Array(".team\($0).example.com".utf8), value: $0) })
    var lookups = 0
    #expect(index.value(for: Array("api.team7.example.com".utf8).span, lookups: &lookups) == 7)
    #expect(lookups <= 1)
    #expect(index.value(for: Array(".team7.example.com".utf8).span) == nil)
  }

  @Test func `the longest suffix wins, and only with something before it`() {
    let all: [(suffix: [UInt8], value: Int)] = [
      (Array(".a.example.com".utf8), 1), (Array(".example.com".utf8), 2), (Array("-x.example.com".utf8), 3), ([], 4),
    ]
    let index = SuffixIndex(all)
    for (host, value) in [("b.a.example.com", 1), ("a.example.com", 2), ("y-x.example.com", 3), ("example.com", 4), ("", 4)] {
      #expect(index.value(for: Array(host.utf8).span) == value, "\(host)")
    }
  }
}

extension CompileWork {
  static func of(clusters: Int = 0, hosts: Int = 0) -> CompileWork {
    var work = CompileWork()
    work.clustersBuilt = clusters
    work.hostsCompiled = hosts
    return work
  }
}
