import Testing

@testable import MeshConfig

/// Ports that a Sidecar opens, and which hosts each port carries (Istio, Sidecar).
@Suite struct SidecarListenerTests {
  private static let services =
    Fixture.object("Service", "a", spec: "ports: [{port: 80, name: http}, {port: 9080, name: http-more}]")
    + Fixture.object("Service", "b", spec: "ports: [{port: 80, name: http}]")
    + Fixture.object("Service", "db", spec: "ports: [{port: 5432, name: tcp-db}]")
    + Fixture.object("Service", "safe", spec: "ports: [{port: 443, name: tls}]")

  private func compile(_ spec: String, _ workloads: [WorkloadRecord]? = nil) throws -> (
    snapshot: MeshSnapshot, findings: [Finding]
  ) {
    let text = Self.services + Fixture.object("Sidecar", "s", spec: spec)
    let problems = Fixture.changeSet(text).findings.filter { $0.severity == .error || $0.code == "MESH0001" }
    #expect(problems.isEmpty)
    return try Fixture.compile(text, workloads ?? [Fixture.workload("client")])
  }
  private func egress(_ fields: String, hosts: String = "['./*']") throws -> [WorkloadListener] {
    try compile("egress: [{\(fields), hosts: \(hosts)}]").snapshot.localWorkloads.first?.listeners ?? []
  }
  private func reaches(_ snapshot: MeshSnapshot, _ table: Int, _ host: String, _ port: UInt16) -> Bool {
    !snapshot.outbound[table].routes(host, port).isEmpty
  }

  @Test func `a port of egress carries its own hosts alone, the last entry all other ports`() throws {
    let snapshot = try compile(
      """
      egress:
      - {port: {number: 80, protocol: HTTP, name: http}, hosts: ['./a.default.svc.cluster.local']}
      - {hosts: ['./a.default.svc.cluster.local', './b.default.svc.cluster.local', './db.default.svc.cluster.local']}
      """
    ).snapshot
    #expect(reaches(snapshot, 0, "a", 80) && !reaches(snapshot, 0, "b", 80))
    #expect(reaches(snapshot, 0, "a", 9080))
    #expect(snapshot.tcp[0].port(5432)?.services.count == 1)
    #expect(snapshot.localWorkloads[0].listeners.isEmpty)
  }

  @Test func `without an entry for all other ports nothing else is visible`() throws {
    let snapshot = try compile("egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['./*']}]").snapshot
    #expect(reaches(snapshot, 0, "a", 80) && reaches(snapshot, 0, "b", 80) && !reaches(snapshot, 0, "a", 9080))
    #expect(snapshot.tcp[0].port(5432) == nil)
  }

  @Test func `captureMode NONE opens the port on loopback, with a table of its own`() throws {
    let snapshot = try compile(
      """
      egress:
      - port: {number: 80, protocol: HTTP, name: http}
        captureMode: NONE
        hosts: ['./b.default.svc.cluster.local']
      - {hosts: ['./a.default.svc.cluster.local']}
      """
    ).snapshot
    let listener = try #require(snapshot.localWorkloads[0].listeners.first)
    let table = try #require(listener.table)
    #expect(listener == WorkloadListener(bind: "127.0.0.1", port: 80, role: .http(table: table)))
    #expect(reaches(snapshot, table, "b", 80) && !reaches(snapshot, table, "a", 80) && !reaches(snapshot, table, "a", 9080))
  }

  @Test(arguments: ["DEFAULT", "IPTABLES"])
  func `what would be captured needs a bind to have a port of its own`(mode: String) throws {
    let port = "port: {number: 80, protocol: HTTP, name: http}, captureMode: \(mode)"
    #expect(try egress(port).isEmpty)
    #expect(try egress("\(port), bind: 127.9.9.9").map(\.bind) == ["127.9.9.9"])
  }

  @Test func `a listener speaks what its port says`() throws {
    func role(_ number: Int, _ spoken: String, hosts: String = "['./*']") throws -> WorkloadListener.Role? {
      try egress("port: {number: \(number), protocol: \(spoken), name: p}, captureMode: NONE", hosts: hosts).first?.role
    }
    #expect(try role(8888, "HTTP_PROXY") == .proxy(table: 1))
    #expect(try role(80, "GRPC") == .http(table: 1))
    #expect(try role(5432, "TCP") == .tcp(table: 1, host: "db.default.svc.cluster.local"))
    #expect(try role(443, "TLS") == .tls(table: 1))
    // Nobody to connect to.
    #expect(try role(5432, "TCP", hosts: "['./a.default.svc.cluster.local']") == nil)
    let proxy = try compile(
      "egress: [{port: {number: 8888, protocol: HTTP_PROXY, name: p}, captureMode: NONE, hosts: ['./*']}]"
    ).snapshot
    #expect(reaches(proxy, 1, "a", 9080) && reaches(proxy, 1, "b", 80))
  }

  @Test func `a listener may be a Unix socket, for all ports`() throws {
    let spec = "egress: [{bind: 'unix:///run/mesh/out.sock', port: {number: 0, protocol: HTTP, name: p}, hosts: ['./*']}]"
    let snapshot = try compile(spec).snapshot
    #expect(snapshot.localWorkloads[0].listeners.map(\.bind) == ["unix:///run/mesh/out.sock"])
    #expect(snapshot.localWorkloads[0].listeners.map(\.role) == [.proxy(table: 1)])
    #expect(reaches(snapshot, 1, "a", 9080))
  }

  @Test func `two workloads cannot have one address, and the later one is told`() throws {
    let spec = "egress: [{port: {number: 80, protocol: HTTP, name: http}, captureMode: NONE, hosts: ['./*']}]"
    let workloads = [try Fixture.workload("one"), try Fixture.workload("two")]
    let (snapshot, findings) = try compile(spec, workloads)
    #expect(snapshot.localWorkloads.map(\.listeners.count) == [1, 0])
    #expect(findings.contains { $0.object == "workload default/two-v1@n1" && $0.reason.contains("default/one-v1@n1") })
  }

  @Test func `tables of listeners follow VirtualServices`() throws {
    let spec = "egress: [{port: {number: 80, protocol: HTTP, name: http}, captureMode: NONE, hosts: ['./*']}]"
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    compiler.replace(objects: Fixture.stored(Self.services + Fixture.object("Sidecar", "s", spec: spec)))
    compiler.replace(workloads: [try Fixture.workload("client")])
    _ = compiler.compile(revision: 1, registryVersion: 1)
    let rule = Fixture.object("VirtualService", "v", spec: "hosts: [a]\nhttp: [{route: [{destination: {host: b}}]}]")
    compiler.put(StoredObject(Fixture.stored(rule)[0].object, created: 90))
    let snapshot = compiler.compile(revision: 2, registryVersion: 1).snapshot
    let listener = try #require(snapshot.localWorkloads[0].listeners.first)
    let table = try #require(listener.table)
    #expect(
      snapshot.outbound[table].routes("a", 80).flatMap(\.destinations) == ["outbound|80||b.default.svc.cluster.local=1"])
    compiler.put(try Fixture.workload("other", node: "n2"))
    let next = compiler.compile(revision: 2, registryVersion: 2).snapshot
    #expect(next.localWorkloads[0].listeners == snapshot.localWorkloads[0].listeners)
  }

  @Test func `ingress with bind, NONE or tls opens a port that leads to the application`() throws {
    func ingress(_ fields: String) throws -> (listener: WorkloadListener?, snapshot: MeshSnapshot) {
      let snapshot = try compile("ingress: [{port: {number: 9443, protocol: HTTPS, name: in}, \(fields)}]").snapshot
      return (snapshot.localWorkloads[0].listeners.first, snapshot)
    }
    #expect(try ingress("defaultEndpoint: '127.0.0.1:9080'").listener == nil)
    let tls = "tls: {mode: SIMPLE, serverCertificate: /etc/c.pem, privateKey: /etc/k.pem}"
    let (listener, snapshot) = try ingress(
      "bind: 127.7.7.7, captureMode: NONE, defaultEndpoint: 'unix:///run/app.sock', \(tls)")
    guard case .inbound(.http, let cluster, let settings?) = listener?.role else {
      Issue.record("\(String(describing: listener))")
      return
    }
    #expect(listener?.bind == "127.7.7.7" && listener?.port == 9443)
    #expect(settings.sources == [.files(certificate: "/etc/c.pem", key: "/etc/k.pem")])
    #expect(snapshot.inbound[cluster].endpoints.map(\.address) == ["unix:///run/app.sock"])
    #expect(snapshot.inbound[cluster].name == "inbound|9443||")
    // Without a word about where, at the workload's own address.
    #expect(try ingress("captureMode: NONE, defaultEndpoint: '127.0.0.1:9080'").listener?.bind == "10.0.0.1")
  }
}
