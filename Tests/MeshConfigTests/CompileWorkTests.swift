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

  private func apply(_ text: String, to compiler: inout SnapshotCompiler) -> MeshSnapshot {
    for object in Fixture.stored(text) { compiler.put(object) }
    return compiler.compile(revision: 3, registryVersion: 1).snapshot
  }

  /// A change, and the most that it may take: destinations built, virtual hosts made, questions asked.
  struct Step: CustomTestStringConvertible {
    let testDescription: String
    let text: String
    let clusters: Int
    let hosts: Int
    let asked: Int

    init(_ what: String, _ text: String, clusters: Int, hosts: Int, asked: Int) {
      testDescription = what
      self.text = text
      self.clusters = clusters
      self.hosts = hosts
      self.asked = asked
    }
  }

  private static func rule(_ host: String, _ namespace: String = "default", subsets: Int) -> String {
    Fixture.object(
      "DestinationRule", "d", namespace: namespace,
      spec: "host: '\(host)'\ntrafficPolicy: {connectionPool: {http: {maxRetries: \(subsets)}}}\nsubsets: ["
        + (0..<subsets).map { "{name: v\($0), labels: {version: v\($0)}}" }.joined(separator: ", ") + "]")
  }

  private static func service(_ name: String, _ selected: String, port: UInt16) -> String {
    Fixture.object(
      "Service", name, spec: "selector: {app: \(selected)}\nports: [{name: http, port: \(port), targetPort: 9080}]")
  }

  static let steps = [
    Step("a first DestinationRule for a host", rule("s3", subsets: 0), clusters: 1, hosts: 0, asked: 12),
    Step("its first subset", rule("s3", subsets: 1), clusters: 2, hosts: 0, asked: 12),
    Step("its host is another", rule("s4", subsets: 1), clusters: 3, hosts: 0, asked: 24),
    Step("a rule for nobody's wildcard", rule("*.example.com", subsets: 2), clusters: 2, hosts: 0, asked: 12),
    Step(
      "a rule of a namespace that nobody calls from", rule("s3.default.svc.cluster.local", "far", subsets: 2), clusters: 0,
      hosts: 0, asked: 12),
    Step("a Service selects others", service("s3", "s4", port: 80), clusters: 1, hosts: 0, asked: 12),
    Step("a Service has another port", service("s3", "s4", port: 81), clusters: 1, hosts: 1, asked: 16),
    Step("a Service comes", service("new", "s4", port: 80), clusters: 1, hosts: 1, asked: 8),
    Step(
      "endpoints are written for a Service",
      "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s3, namespace: default}\n"
        + "subsets: [{addresses: [{ip: 10.7.0.1}], ports: [{name: http, port: 80}]}]\n", clusters: 1, hosts: 0, asked: 12),
    Step(
      "a ServiceEntry for a wildcard comes",
      Fixture.object("ServiceEntry", "e", spec: "hosts: ['*.example.com']\nports: [{number: 80, name: http, protocol: HTTP}]"),
      clusters: 1, hosts: 1, asked: 8),
    Step(
      "a VirtualService for a wildcard comes",
      Fixture.object("VirtualService", "w", spec: "hosts: ['*.example.com']\nhttp: [{route: [{destination: {host: s3}}]}]"),
      clusters: 0, hosts: 1, asked: 8),
    Step(
      "a VirtualService for a gateway comes",
      Fixture.object(
        "VirtualService", "g", spec: "hosts: [s3.example.com]\ngateways: [edge]\nhttp: [{route: [{destination: {host: s3}}]}]"),
      clusters: 0, hosts: 1, asked: 4),
    Step("a Gateway has another host", gateway("s2.example.com"), clusters: 0, hosts: 0, asked: 0),
    Step(
      "a Sidecar of a namespace that nobody calls from",
      Fixture.object("Sidecar", "far", namespace: "far", spec: "egress: [{hosts: ['./*']}]"), clusters: 0, hosts: 0, asked: 0),
    Step(
      "a Sidecar shows three hosts",
      Fixture.object(
        "Sidecar", "own",
        spec:
          "egress: [{hosts: ['./s1.default.svc.cluster.local', './s2.default.svc.cluster.local', './s3.default.svc.cluster.local']}]"
      ), clusters: 0, hosts: 0, asked: 0),
  ]

  private static func gateway(_ host: String) -> String {
    Fixture.object(
      "Gateway", "edge",
      spec:
        "selector: {istio: ingressgateway}\nservers:\n- port: {number: 8080, name: http, protocol: HTTP}\n  hosts: ['*', '\(host)']"
    )
  }

  @Test(arguments: steps) func `what a change takes does not grow with the mesh`(step: Step) throws {
    for services in [6, 200] {
      var compiler = try mesh(services: services)
      // What the change is of, where it changes something.
      _ = apply(Self.gateway("s1.example.com"), to: &compiler)
      if step.testDescription.hasPrefix("its ") { _ = apply(Self.rule("s3", subsets: 0), to: &compiler) }
      _ = apply(step.text, to: &compiler)
      let work = compiler.work
      #expect(work.clustersBuilt <= step.clusters && work.hostsCompiled <= step.hosts, "\(services): \(work)")
      #expect(work.destinationsAsked <= step.asked, "\(services): \(work)")
    }
  }

  @Test func `a Sidecar that changes has the hosts compiled that it shows now and did not, for whom it selects`() throws {
    var compiler = try mesh(services: 100)
    func sidecar(_ shown: [String]) -> String {
      Fixture.object(
        "Sidecar", "own",
        spec: "egress: [{hosts: [\(shown.map { "'./\($0).default.svc.cluster.local'" }.joined(separator: ", "))]}]")
    }
    _ = apply(sidecar(["s1", "s2"]), to: &compiler)
    let snapshot = apply(sidecar(["s2", "s3"]), to: &compiler)
    #expect(compiler.work.hostsCompiled <= 1 && compiler.work.clustersBuilt == 0, "\(compiler.work)")
    #expect(compiler.work.destinationsAsked <= 8, "\(compiler.work)")
    let seen = snapshot.outbound.map { $0.ports.flatMap(\.virtualHosts).count }
    #expect(seen.sorted() == [2, 100])
  }

  @Test func `clients that are told apart anew share what they had`() throws {
    var compiler = try mesh(services: 50)
    let first = compiler.compile(revision: 2, registryVersion: 1).snapshot
    #expect(first.routes("s3.default.svc.cluster.local", 80).count == 1)
    _ = apply(
      Fixture.object("Sidecar", "some", spec: "workloadSelector: {labels: {tier: front}}\negress: [{hosts: ['./*']}]"),
      to: &compiler)
    #expect(compiler.work.hostsCompiled == 0 && compiler.work.clustersBuilt == 0, "\(compiler.work)")
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
