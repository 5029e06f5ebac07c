import Testing

@testable import MeshConfig

@Suite struct SidecarTests {
  private static let services =
    Fixture.object("Service", "a", spec: "ports: [{port: 80, name: http}]")
    + Fixture.object("Service", "b", spec: "ports: [{port: 80, name: http}]")
    + Fixture.object("Service", "c", namespace: "other", spec: "ports: [{port: 80, name: http}]")

  private func snapshot(_ text: String, labels: [String: String]? = nil) throws -> MeshSnapshot {
    try Fixture.compile(Self.services + text, [try Fixture.workload("client", labels: labels)]).snapshot
  }
  private func sees(_ snapshot: MeshSnapshot) -> [String] {
    ["a.default", "b.default", "c.other"].filter { !snapshot.routes("\($0).svc.cluster.local", 80).isEmpty }
  }

  @Test(arguments: [
    ("['./*']", ["a.default", "b.default"]), ("['*/*']", ["a.default", "b.default", "c.other"]),
    ("['other/*']", ["c.other"]), ("['./a.default.svc.cluster.local']", ["a.default"]), ("['~/*']", []),
    ("['*/*', '~other/*']", ["a.default", "b.default"]),
  ])
  func `only hosts under egress are visible`(hosts: String, expected: [String]) throws {
    #expect(sees(try snapshot(Fixture.object("Sidecar", "s", spec: "egress: [{hosts: \(hosts)}]"))) == expected)
  }

  @Test func `a selector comes before the namespace's, that before the mesh's`() throws {
    let own = Fixture.object("Sidecar", "own", spec: "egress: [{hosts: ['./a.default.svc.cluster.local']}]")
    let root = Fixture.object("Sidecar", "root", namespace: "istio-system", spec: "egress: [{hosts: ['~/*']}]")
    let selected = Fixture.object(
      "Sidecar", "selected", spec: "workloadSelector: {labels: {app: x}}\negress: [{hosts: ['other/*']}]")
    #expect(sees(try snapshot(root)) == [])
    #expect(sees(try snapshot(root + own)) == ["a.default"])
    #expect(sees(try snapshot(root + own + selected, labels: ["app": "x"])) == ["c.other"])
    #expect(sees(try snapshot(root + own + selected, labels: ["app": "y"])) == ["a.default"])
  }

  @Test func `a route to a host that is not visible leads nowhere`() throws {
    let rule = Fixture.object(
      "VirtualService", "v", spec: "hosts: [a]\nhttp: [{route: [{destination: {host: c.other.svc.cluster.local}}]}]")
    let sidecar = Fixture.object("Sidecar", "s", spec: "egress: [{hosts: ['./*']}]")
    let routes = try snapshot(rule + sidecar).routes("a.default.svc.cluster.local", 80)
    #expect(routes.flatMap(\.destinations) == ["outbound|80||c.other.svc.cluster.local=1!"])
  }

  @Test func `REGISTRY_ONLY closes what is not visible`() throws {
    let sidecar = Fixture.object("Sidecar", "s", spec: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    #expect(try snapshot(sidecar).outbound.first?.fallback == .blackHole)
  }
}

@Suite struct WrittenEndpointTests {
  private func addresses(_ text: String, _ cluster: String) throws -> [String] {
    let snapshot = try Fixture.compile(text, [try Fixture.workload("client")]).snapshot
    return (snapshot.cluster(cluster)?.endpoints ?? []).map { "\($0.address):\($0.port)" }.sorted()
  }

  @Test func `a WorkloadEntry stands behind the ServiceEntry that selects it`() throws {
    let text =
      Fixture.object(
        "ServiceEntry", "s",
        spec: """
          hosts: [vm.test]
          location: MESH_INTERNAL
          resolution: STATIC
          ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
          workloadSelector: {labels: {app: vm}}
          """)
      + Fixture.object("WorkloadEntry", "one", spec: "address: 10.1.1.1\nlabels: {app: vm}")
      + Fixture.object("WorkloadEntry", "two", spec: "address: 10.1.1.2\nlabels: {app: vm}\nports: {http: 9000}")
      + Fixture.object("WorkloadEntry", "else", spec: "address: 10.1.1.3\nlabels: {app: x}")
    #expect(try addresses(text, "outbound|80||vm.test") == ["10.1.1.1:8080", "10.1.1.2:9000"])
  }

  @Test func `Endpoints and EndpointSlices stand behind their Service`() throws {
    let text =
      Fixture.object("Service", "db", spec: "ports: [{port: 5432, name: db}]")
        + """
        apiVersion: v1
        kind: Endpoints
        metadata: {name: db, namespace: default}
        subsets: [{addresses: [{ip: 10.2.0.1}], ports: [{name: db, port: 15432}]}]
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: db-1, namespace: default, labels: {kubernetes.io/service-name: db}}
        addressType: IPv4
        ports: [{name: db, port: 25432}]
        endpoints: [{addresses: [10.2.0.2]}, {addresses: [10.2.0.3], conditions: {ready: false}}]
        """
    #expect(
      try addresses(text, "outbound|5432||db.default.svc.cluster.local") == [
        "10.2.0.1:15432", "10.2.0.2:25432", "10.2.0.3:25432",
      ])
  }
}
