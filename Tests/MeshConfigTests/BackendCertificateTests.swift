import Testing

@testable import MeshConfig

/// A Gateway's `tls.backend.clientCertificateRef`: what it shows to backends that a BackendTLSPolicy has called by TLS.
@Suite struct BackendCertificateTests {
  private static func pem(_ label: String, _ body: String) -> String {
    "\"-----BEGIN \(label)-----\\n\(body)\\n-----END \(label)-----\\n\""
  }

  private static func secret(_ namespace: String, key: Bool = true) -> String {
    """
    apiVersion: v1
    kind: Secret
    metadata: {name: client, namespace: \(namespace)}
    type: kubernetes.io/tls
    stringData: {tls.crt: \(pem("CERTIFICATE", "AAAA")), tls.key: \(key ? pem("PRIVATE KEY", "BBBB") : "none")}
    ---

    """
  }

  private static let backends = """
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: default}
    spec: {ports: [{port: 443, name: https}, {port: 80, name: http}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: plain, namespace: default}
    spec: {ports: [{port: 80, name: http}]}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: ca, namespace: default}
    data: {ca.crt: \(pem("CERTIFICATE", "CCCC"))}
    ---
    apiVersion: gateway.networking.k8s.io/v1
    kind: BackendTLSPolicy
    metadata: {name: tls, namespace: default}
    spec:
      targetRefs: [{group: "", kind: Service, name: web, sectionName: https}]
      validation: {hostname: web.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
    ---

    """

  /// A Gateway with a route to each of the backends' ports.
  private static func gateway(_ name: String, port: Int = 80, tls: String = "", parents: String? = nil) -> String {
    let rules = [("web", 443), ("web", 80), ("plain", 80)].map { service, port in
      "{matches: [{path: {value: /\(service)\(port)}}], backendRefs: [{name: \(service), port: \(port)}]}"
    }
    return """
      apiVersion: gateway.networking.k8s.io/v1
      kind: Gateway
      metadata: {name: \(name), namespace: default}
      spec: {gatewayClassName: istio, listeners: [{name: l, port: \(port), protocol: HTTP, hostname: \(name).test}]\(tls)}
      ---
      apiVersion: gateway.networking.k8s.io/v1
      kind: HTTPRoute
      metadata: {name: to-\(name), namespace: default}
      spec: {parentRefs: [{name: \(name)}], rules: [\(rules.joined(separator: ", "))]}
      ---

      """
  }

  private static func reference(_ namespace: String? = nil, kind: String = "Secret") -> String {
    ", tls: {backend: {clientCertificateRef: {group: \"\", kind: \(kind), name: client\(namespace.map { ", namespace: \($0)" } ?? "")}}}"
  }

  /// How each backend's port is called through a Gateway.
  private static func called(_ snapshot: MeshSnapshot, _ name: String) throws -> [String: UpstreamTLS] {
    let table = try #require(snapshot.gateways.first).table
    var found: [String: UpstreamTLS] = [:]
    for route in table.routes("\(name).test", 80) {
      guard case .forward(let to) = route.action, let index = to.first?.cluster else { continue }
      found[snapshot.clusters[index].name] = snapshot.clusters[index].tls
    }
    return found
  }

  private func compile(_ text: String) throws -> MeshSnapshot {
    try Fixture.compile(text, [Fixture.workload(nil, namespace: "istio-system", isGateway: true)]).snapshot
  }

  private static let authority = "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n"
  private static let plain = UpstreamTLS.simple(
    serverName: "web.test", subjectAltNames: ["web.test"], caCertificates: authority, insecureSkipVerify: false)
  private static let shown = UpstreamTLS.mutual(
    serverName: "web.test", subjectAltNames: ["web.test"], caCertificates: authority,
    clientCertificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    privateKey: "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n", insecureSkipVerify: false)
  private static let secure = "outbound|443||web.default.svc.cluster.local"

  @Test func `each Gateway shows its own, to backends with a BackendTLSPolicy, and to no others`() throws {
    let text =
      Self.backends + Self.secret("default") + Self.gateway("bare") + Self.gateway("edge", tls: Self.reference())
    let snapshot = try compile(text)
    #expect(
      try Self.called(snapshot, "edge") == [
        Self.secure: Self.shown, "outbound|80||web.default.svc.cluster.local": .automatic,
        "outbound|80||plain.default.svc.cluster.local": .automatic,
      ])
    #expect(try Self.called(snapshot, "bare")[Self.secure] == Self.plain)
    #expect(!Fixture.changeSet(text).findings.contains { $0.code == "MESH0001" })
  }

  @Test func `a Secret of another namespace counts where a ReferenceGrant permits it`() throws {
    let grant = """
      apiVersion: gateway.networking.k8s.io/v1beta1
      kind: ReferenceGrant
      metadata: {name: g, namespace: vault}
      spec:
        from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}]
        to: [{group: "", kind: Secret, name: client}]
      ---

      """
    let text = Self.backends + Self.secret("vault") + Self.gateway("edge", tls: Self.reference("vault"))
    #expect(try Self.called(compile(text + grant), "edge")[Self.secure] == Self.shown)
    #expect(try Self.called(compile(text), "edge")[Self.secure] != Self.shown)
  }

  /// Without what the backend may ask for, connections fail; the rest of the Gateway is served.
  @Test(arguments: [
    ("", reference(), "InvalidClientCertificateRef"),
    (secret("default", key: false), reference(), "InvalidClientCertificateRef"),
    (secret("vault"), reference("vault"), "RefNotPermitted"),
    (secret("default"), reference(kind: "Service"), "InvalidClientCertificateRef"),
  ])
  func `a reference that leads nowhere is said, and its backends are not called`(
    secret: String, reference: String, reason: String
  ) throws {
    let text = Self.backends + secret + Self.gateway("edge", tls: reference)
    let snapshot = try compile(text)
    let called = try Self.called(snapshot, "edge")
    guard case .mutual(_, _, _, let certificate, let key, false, _)? = called[Self.secure] else {
      Issue.record("called as \(String(describing: called[Self.secure]))")
      return
    }
    #expect(!certificate.hasPrefix("-----") && !key.hasPrefix("-----"))
    #expect(called.count == 3)
    let status = GatewayAPI.Status(
      objects: Fixture.stored(text), services: snapshot.services, domain: "cluster.local", address: "127.0.0.1")
    let edge = ObjectKey(kind: .kubernetesGateway, namespace: "default", name: "edge")
    #expect("\(try #require(status.status(of: edge)))".contains(reason))
  }

  @Test func `a destination keeps its place while others change, and takes a new certificate`() throws {
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    let text = Self.backends + Self.secret("default") + Self.gateway("bare") + Self.gateway("edge", tls: Self.reference())
    let objects = Fixture.stored(text)
    compiler.replace(workloads: [try Fixture.workload(nil, namespace: "istio-system", isGateway: true)])
    compiler.replace(objects: objects)
    func place() throws -> (ClusterIndex, UpstreamTLS) {
      let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
      let route = try #require(snapshot.gateways.first?.table.routes("edge.test", 80).first { $0.name.hasSuffix(".0") })
      guard case .forward(let to) = route.action, let index = to.first?.cluster else { throw Missing() }
      return (index, snapshot.clusters[index].tls)
    }
    let first = try place()
    let rule = Fixture.object("DestinationRule", "r", spec: "host: plain\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}")
    compiler.put(StoredObject(try #require(Fixture.changeSet(rule).objects.first), created: 50))
    let second = try place()
    #expect(first.0 == second.0 && first.1 == Self.shown && second.1 == Self.shown)
    let other = Self.secret("default").replacing("AAAA", with: "DDDD")
    compiler.put(StoredObject(try #require(Fixture.changeSet(other).objects.first), created: 3))
    #expect(try place().1 != Self.shown)
  }

  private struct Missing: Error {}
}
