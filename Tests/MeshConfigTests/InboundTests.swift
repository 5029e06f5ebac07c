import Testing

@testable import MeshConfig

/// How the applications of a node are called (Istio, Sidecar `ingress` and `inboundConnectionPool`).
@Suite struct InboundTests {
  private static let service = Fixture.object("Service", "web", spec: "ports: [{port: 80, name: http, targetPort: 9080}]")

  private func inbound(_ text: String) throws -> (address: String, limit: Int?)? {
    let snapshot = try Fixture.compile(Self.service + text, [Fixture.workload("web")]).snapshot
    let local = snapshot.localWorkloads[0]
    guard let index = local.inbound.first ?? nil else { return nil }
    let cluster = snapshot.inbound[index]
    let endpoint = cluster.endpoints[0]
    return ("\(endpoint.address):\(endpoint.port)", cluster.connectionPool.maxConnections)
  }
  private static func pool(_ limit: Int) -> String { "connectionPool: {tcp: {maxConnections: \(limit)}}" }

  @Test func `without anything said the application is called where it was registered`() throws {
    #expect(try inbound("") == nil)
    #expect(try inbound(Fixture.object("Sidecar", "s", spec: "egress: [{hosts: ['*/*']}]")) == nil)
  }

  @Test(arguments: [
    ("127.0.0.1:8080", "127.0.0.1:8080"), ("0.0.0.0:8080", "10.0.0.1:8080"), ("'[::1]:8080'", "::1:8080"),
  ])
  func `defaultEndpoint says where the application listens`(written: String, expected: String) throws {
    let spec = "ingress: [{port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: \(written)}]"
    #expect(try inbound(Fixture.object("Sidecar", "s", spec: spec))?.address == expected)
  }

  @Test func `limits are of the ingress port, else the Sidecar's, else the rule's port, else the rule's`() throws {
    let whole = Fixture.object("DestinationRule", "r", spec: "host: web\ntrafficPolicy: {\(Self.pool(1))}")
    let port = Fixture.object(
      "DestinationRule", "r",
      spec: "host: web\ntrafficPolicy: {\(Self.pool(1)), portLevelSettings: [{port: {number: 80}, \(Self.pool(2))}]}")
    let top = "inbound" + "ConnectionPool: {tcp: {maxConnections: 3}}"
    let ingress = "ingress: [{port: {number: 9080, protocol: HTTP, name: http}, \(Self.pool(4))}]"
    #expect(try inbound(whole)?.limit == 1)
    #expect(try inbound(port)?.limit == 2)
    #expect(try inbound(port + Fixture.object("Sidecar", "s", spec: top))?.limit == 3)
    #expect(try inbound(port + Fixture.object("Sidecar", "s", spec: "\(top)\n\(ingress)"))?.limit == 4)
    #expect(try inbound(port)?.address == "10.0.0.1:9080")
  }
}

/// TCPRoutes and TLSRoutes whose parent is a Service (Gateway API, GAMMA).
@Suite struct MeshConnectionRouteTests {
  private static let services =
    Fixture.object("Service", "db", spec: "ports: [{port: 3306, name: tcp}, {port: 443, name: tls}, {port: 80, name: http}]")
    + Fixture.object("Service", "old", spec: "ports: [{port: 3306, name: tcp}, {port: 443, name: tls}]")
    + Fixture.object("Service", "new", spec: "ports: [{port: 3306, name: tcp}]")

  private static func route(_ kind: String, _ name: String, _ spec: String, namespace: String = "default") -> String {
    let parent = "parentRefs: [{group: '', kind: Service, name: db, namespace: default}]"
    return
      "{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: \(kind), metadata: {name: \(name), namespace: \(namespace)}, spec: {\(parent), \(spec)}}\n---\n"
  }
  private func table(_ text: String, namespace: String = "default") throws -> TCPRouteTable {
    try #require(
      try Fixture.compile(Self.services + text, [Fixture.workload("client", namespace: namespace)]).snapshot.tcp.first)
  }
  private func service(_ table: TCPRouteTable, _ port: UInt16) throws -> TCPService {
    let found = try #require(table.port(port))
    return try #require(found.services.first { $0.host == "db.default.svc.cluster.local" })
  }
  private func names(_ route: TCPRoute?) -> [String] {
    route?.destinations.map { "\($0.clusterName)=\($0.weight)\($0.cluster == nil ? "!" : "")" } ?? []
  }

  @Test func `a TCPRoute splits the connections of its Service`() throws {
    let backends = "rules: [{backendRefs: [{name: old, port: 3306, weight: 9}, {name: new, port: 3306, weight: 1}]}]"
    let table = try table(Self.route("TCPRoute", "split", backends))
    #expect(
      names(try service(table, 3306).routes.first)
        == ["outbound|3306||old.default.svc.cluster.local=9", "outbound|3306||new.default.svc.cluster.local=1"])
  }

  @Test func `the oldest TCPRoute has the connections, and a client's own comes before the service's`() throws {
    let first = Self.route("TCPRoute", "first", "rules: [{backendRefs: [{name: old, port: 3306}]}]")
    let second = Self.route("TCPRoute", "second", "rules: [{backendRefs: [{name: new, port: 3306}]}]")
    #expect(
      names(try service(try table(first + second), 3306).routes.first) == ["outbound|3306||old.default.svc.cluster.local=1"])
    let own = Self.route(
      "TCPRoute", "own", "rules: [{backendRefs: [{name: nobody, port: 3306}]}]", namespace: "other")
    let seen = try table(first + own, namespace: "other")
    #expect(names(try service(seen, 3306).routes.first) == ["nobody=1!"])
  }

  @Test func `a TCPRoute whose weights are all zero refuses`() throws {
    let table = try table(Self.route("TCPRoute", "none", "rules: [{backendRefs: [{name: old, port: 3306, weight: 0}]}]"))
    #expect(try service(table, 3306).routes.first?.destinations.allSatisfy { $0.cluster == nil } == true)
  }

  @Test func `a TLSRoute goes by server name, and other names to the service itself`() throws {
    let text = Self.route("TLSRoute", "sni", "hostnames: [a.com, '*.b.com'], rules: [{backendRefs: [{name: old, port: 443}]}]")
    let service = try service(try table(text), 443)
    #expect(service.serverNames.map(\.pattern.text) == ["a.com", "*.b.com"])
    #expect(names(service.serverNames.first?.route) == ["outbound|443||old.default.svc.cluster.local=1"])
    #expect(names(service.routes.last) == ["outbound|443||db.default.svc.cluster.local=1"])
  }

  @Test func `a port that is declared HTTP keeps its own routes`() throws {
    let text = Self.route("TCPRoute", "tcp", "rules: [{backendRefs: [{name: old, port: 3306}]}]")
    #expect(try service(try table(text), 80).routes.count == 1)
  }
}

/// Smaller fields, each with what it does.
@Suite struct FieldTests {
  private func cluster(_ policy: String, service: String = "ports: [{port: 80, name: http}]") throws -> Cluster {
    let text =
      Fixture.object("Service", "web", spec: service)
      + (policy.isEmpty ? "" : Fixture.object("DestinationRule", "r", spec: "host: web\ntrafficPolicy: {\(policy)}"))
    let near = try Fixture.workload("web", "near", node: "n1", port: 80)
    let far = try Fixture.workload("web", "far", node: "n2", port: 80, locality: "elsewhere/a/1")
    let snapshot = try Fixture.compile(text, [Fixture.workload("client"), near, far]).snapshot
    return try #require(snapshot.cluster("outbound|80||web.default.svc.cluster.local"))
  }

  @Test func `outlierDetectionHttpErrorCodes says which statuses count`() throws {
    let policy = try cluster("outlierDetection: {outlierDetectionHttpErrorCodes: [503, 429]}").outlierDetection
    #expect(policy?.errorCodes == [429, 503])
  }

  @Test func `a cookie's attributes are kept`() throws {
    let hash = "consistentHash: {httpCookie: {name: c, ttl: 5s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]}}"
    guard
      case .consistentHash(.cookie(_, _, _, let attributes), _) = try cluster("loadBalancer: {\(hash)}").loadBalancer.algorithm
    else {
      Issue.record("no cookie")
      return
    }
    #expect(attributes == ["SameSite=Strict", "Secure"])
  }

  @Test func `cipher suites that do not exist or stand twice are named`() {
    let tls = "{mode: SIMPLE, credentialName: c, cipherSuites: [NONSENSE, AES128-SHA, AES128-SHA]}"
    let server = "servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: \(tls)}]"
    let found = Fixture.changeSet(Fixture.object("Gateway", "gw", spec: "selector: {app: edge}\n\(server)")).findings
    #expect(found.map(\.severity) == [.warning, .warning] && found.allSatisfy { $0.path.contains("cipherSuites") })
  }

  @Test func `useClientProtocol keeps what the client spoke`() throws {
    #expect(try cluster("connectionPool: {http: {useClientProtocol: true}}").connectionPool.http2 == .likeClient)
    #expect(try cluster("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}").connectionPool.http2 == .always)
    #expect(try cluster("connectionPool: {http: {maxRetries: 2}}").connectionPool.http2 == .byPort)
  }

  @Test(arguments: ["PreferClose", "PreferSameZone", "PreferSameNode"])
  func `a Service may ask for near endpoints without outlier detection`(distribution: String) throws {
    #expect(try cluster("").endpoints.allSatisfy { $0.priority == 0 })
    let spec = "ports: [{port: 80, name: http}]\ntrafficDistribution: \(distribution)"
    let endpoints = try cluster("", service: spec).endpoints
    #expect(Set(endpoints.filter(\.isLocal).map(\.priority)) == [0])
    #expect(Set(endpoints.filter { !$0.isLocal }.map(\.priority)) == [1])
  }

  @Test func `a claim is never there while tokens are not verified`() throws {
    let gateway = Fixture.object(
      "Gateway", "gw",
      spec: "selector: {app: edge}\nservers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]")
    let rules = """
      hosts: [a.com]
      gateways: [gw]
      http:
      - {name: admin, match: [{headers: {'@request.auth.claims.group': {exact: admin}}}], route: [{destination: {host: web}}]}
      - {name: guest, match: [{uri: {prefix: /x}, withoutHeaders: {'@request.auth.claims.group': {exact: admin}}}], \
      route: [{destination: {host: web}}]}
      """
    let text =
      Fixture.object("Service", "web", spec: "ports: [{port: 80, name: http}]") + gateway
      + Fixture.object("VirtualService", "v", spec: rules)
    let edge = try Fixture.workload(nil, "edge", labels: ["app": "edge"], isGateway: true)
    let snapshot = try Fixture.compile(text, [edge]).snapshot
    #expect(snapshot.gateways.first?.table.routes("a.com", 8080).map(\.name) == ["guest"])
    #expect(Fixture.changeSet(text).findings.count { $0.code == "MESH0001" } == 2)
  }
}

/// `credentialName` in DestinationRules.
@Suite struct CredentialTests {
  private static let secret = """
    {apiVersion: v1, kind: Secret, metadata: {name: out, namespace: default}, type: Opaque, \
    stringData: {ca.crt: CA, tls.crt: CHAIN, tls.key: KEY}}
    ---

    """
  private func tls(_ mode: String, selector: String = "workloadSelector: {matchLabels: {app: client}}", _ secrets: String)
    throws
    -> UpstreamTLS?
  {
    let text =
      Fixture.object("Service", "web", spec: "ports: [{port: 443, name: https}]")
      + Fixture.object(
        "DestinationRule", "r",
        spec: "host: web\n\(selector)\ntrafficPolicy: {tls: {mode: \(mode), credentialName: out, sni: a.com}}")
      + secrets
    let snapshot = try Fixture.compile(text, [Fixture.workload("client")]).snapshot
    return snapshot.cluster("outbound|443||web.default.svc.cluster.local")?.tls
  }

  @Test func `a rule that is for the workload takes the Secret of its namespace`() throws {
    #expect(
      try tls("MUTUAL", Self.secret)
        == .mutual(
          serverName: "a.com", subjectAltNames: [], caCertificates: "CA", clientCertificate: "CHAIN", privateKey: "KEY",
          insecureSkipVerify: false))
    #expect(try tls("SIMPLE", Self.secret) == Self.simple("CA"))
  }

  @Test func `without the Secret, or for everybody, connections fail`() throws {
    #expect(try tls("SIMPLE", "") == Self.simple("credential:out"))
    #expect(try tls("SIMPLE", selector: "", Self.secret) == Self.simple("credential:out"))
  }

  private static func simple(_ authorities: String) -> UpstreamTLS {
    .simple(serverName: "a.com", subjectAltNames: [], caCertificates: authorities, insecureSkipVerify: false)
  }
}
