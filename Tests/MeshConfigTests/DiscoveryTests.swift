import Primitives
import Testing

@testable import MeshConfig

/// Namespaces that the mesh does not see (Istio, MeshConfig `discoverySelectors`).
@Suite struct DiscoveryTests {
  private static func mesh(_ selectors: String) -> String {
    """
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: istio, namespace: istio-system}
    data:
      mesh: |-
        connectTimeout: 3s
        discoverySelectors: \(selectors)
    ---

    """
  }
  private static func namespace(_ name: String, _ labels: String) -> String {
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: \(name), labels: \(labels)}\n---\n"
  }
  private static let services = ["default", "shop", "lab"].map {
    Fixture.object("Service", "web", namespace: $0, spec: "selector: {app: web}\nports: [{port: 80, name: http}]")
  }.joined()
  private static let names = ["default", "lab", "shop"]

  private func compile(_ text: String, _ more: [WorkloadRecord] = []) throws -> (snapshot: MeshSnapshot, findings: [Finding]) {
    let clients = try Self.names.map { try Fixture.workload("web", namespace: $0, port: 80) }
    return try Fixture.compile(Self.services + text, clients + more)
  }
  private func seen(_ snapshot: MeshSnapshot) -> [String] {
    #expect(
      Set(snapshot.services.map(\.namespace)) == Set(snapshot.localWorkloads.map { snapshot.workloads[$0.workload].namespace }))
    return Set(snapshot.services.map(\.namespace)).sorted()
  }

  @Test(arguments: [
    ("[]", names), ("[{}]", names),
    ("[{matchLabels: {mesh: 'yes'}}]", ["shop"]),
    ("[{matchLabels: {mesh: 'yes', stage: dev}}]", []),
    ("[{matchLabels: {mesh: 'yes'}}, {matchLabels: {stage: dev}}]", ["lab", "shop"]),
    ("[{matchExpressions: [{key: mesh, operator: In, values: ['yes', 'no']}]}]", ["lab", "shop"]),
    ("[{matchExpressions: [{key: mesh, operator: NotIn, values: ['no']}]}]", ["default", "shop"]),
    ("[{matchExpressions: [{key: mesh, operator: Exists}]}]", ["lab", "shop"]),
    ("[{matchExpressions: [{key: mesh, operator: DoesNotExist}]}]", ["default"]),
    ("[{matchLabels: {mesh: 'yes'}, matchExpressions: [{key: stage, operator: Exists}]}]", []),
    // A namespace without an object has the label that Kubernetes gives it.
    ("[{matchLabels: {kubernetes.io/metadata.name: default}}]", ["default"]),
  ])
  func `a namespace is seen when any selector matches its labels`(selectors: String, expected: [String]) throws {
    let labelled = Self.namespace("shop", "{mesh: 'yes'}") + Self.namespace("lab", "{mesh: 'no', stage: dev}")
    let (snapshot, findings) = try compile(Self.mesh(selectors) + labelled)
    #expect(seen(snapshot) == expected)
    // The mesh's own configuration is read wherever it lies.
    #expect(snapshot.settings.connectTimeout == .seconds(3))
    let unseen = Set(findings.filter { $0.reason.hasPrefix("discoverySelectors") }.map(\.object))
    #expect(unseen == Set(Self.names.filter { !expected.contains($0) }.map { "Namespace \($0)" }))
    #expect(
      findings.allSatisfy { !$0.reason.hasPrefix("discoverySelectors") || $0.reason.contains("objects (1) and workloads (1)") })
  }

  @Test func `rules, entries and gateways of such a namespace have no effect, nor have those of the root namespace`() throws {
    let rules =
      Fixture.object("DestinationRule", "d", namespace: "istio-system", spec: "host: '*.default.svc.cluster.local'")
      + Fixture.object(
        "VirtualService", "v", namespace: "lab",
        spec: "hosts: [web.default.svc.cluster.local]\nhttp:\n- name: theirs\n  route: [{destination: {host: web}}]")
      + Fixture.object(
        "ServiceEntry", "e", namespace: "lab",
        spec: "hosts: [e.example.com]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: DNS")
    let web = "outbound|80||web.default.svc.cluster.local"
    let all = try compile(rules).snapshot
    #expect(all.cluster(web)?.destinationRule != nil && all.services.contains { $0.host == "e.example.com" })
    #expect(all.routes("web.default.svc.cluster.local", 80).map(\.name) == ["theirs"])
    let only = "[{matchLabels: {kubernetes.io/metadata.name: default}}]"
    let one = try compile(Self.mesh(only) + rules).snapshot
    #expect(one.cluster(web)?.destinationRule == nil && !one.services.contains { $0.host == "e.example.com" })
    #expect(one.routes("web.default.svc.cluster.local", 80).map(\.name) == ["default"])
  }

  @Test func `a label, and a selector, that come or go are followed`() throws {
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    compiler.replace(objects: Fixture.stored(Self.services + Self.mesh("[{matchLabels: {mesh: 'yes'}}]")))
    compiler.replace(workloads: try Self.names.map { try Fixture.workload("web", namespace: $0, port: 80) })
    func put(_ text: String) { for object in Fixture.stored(text) { compiler.put(object) } }
    func now() -> [String] { seen(compiler.compile(revision: 1, registryVersion: 1).snapshot) }
    #expect(now() == [])
    put(Self.namespace("lab", "{mesh: 'yes'}"))
    #expect(now() == ["lab"])
    put(Self.namespace("lab", "{mesh: 'no'}") + Self.namespace("shop", "{mesh: 'yes'}"))
    #expect(now() == ["shop"])
    compiler.remove(ObjectKey(kind: .namespace, namespace: "", name: "shop"))
    #expect(now() == [])
    put(Self.mesh("[{matchExpressions: [{key: mesh, operator: DoesNotExist}]}]"))
    #expect(now() == ["default", "shop"])
    compiler.remove(MeshConfiguration.key)
    #expect(now() == Self.names)
  }

  @Test func `what is deleted while it is hidden does not come back`() throws {
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    compiler.replace(objects: Fixture.stored(Self.services + Self.mesh("[{matchLabels: {mesh: 'yes'}}]")))
    let workload = try Fixture.workload("web", namespace: "lab", port: 80)
    compiler.put(workload)
    compiler.removeWorkload(workload.key)
    compiler.remove(ObjectKey(kind: .service, namespace: "lab", name: "web"))
    compiler.remove(MeshConfiguration.key)
    let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
    #expect(snapshot.services.map(\.namespace).sorted() == ["default", "shop"] && snapshot.workloads.isEmpty)
  }

  @Test func `mistakes in selectors are errors`() {
    for (selectors, reason) in [
      ("[{matchLabel: {a: b}}]", "unknown field"), ("[{matchExpressions: [{key: a, operator: Is}]}]", "'Is'"),
      ("[{matchExpressions: [{key: a, operator: In}]}]", "required for In"),
      ("[{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]", "must be empty"),
    ] {
      let findings = Fixture.changeSet(Self.mesh(selectors)).findings
      #expect(findings.contains { $0.severity == .error && $0.reason.contains(reason) }, "\(findings)")
    }
    #expect(Fixture.changeSet(Self.mesh("[{matchLabels: {a: b}}]")).findings.isEmpty)
  }

  @Test func `analyze names the objects that are not seen`() throws {
    var input = AnalysisInput()
    input.add(ConfigSource(name: "a.yaml", bytes: Array((Self.services + Self.mesh("[{matchLabels: {mesh: 'yes'}}]")).utf8)))
    input.add(ConfigSource(name: "b.yaml", bytes: Array(Self.namespace("shop", "{mesh: 'yes'}").utf8)))
    let analyzer = try #require(Analyzer.all.first { $0.name == "mesh.DiscoverySelectors" })
    let findings = analyzer.findings(in: input)
    #expect(findings.map(\.object) == ["Service default/web", "Service lab/web"])
    #expect(findings.allSatisfy { $0.code == "MESH0001" && $0.severity == .warning })
  }
}
