import Primitives
import Testing

@testable import MeshConfig

/// Istio, VirtualService `tcp[]` and `tls[]`, and Gateway servers other than plaintext HTTP.
@Suite struct TCPRouteTests {
  private static let database = """
    hosts: [mysqldb]
    tcp:
    - match:
      - port: 3306
        sourceLabels: {app: ratings, version: v2}
      route:
      - destination: {host: mysqldb, subset: v2}
    - match:
      - destinationSubnets: [10.1.0.0/16]
      route:
      - destination: {host: mysqldb, subset: v1}
    - route:
      - destination: {host: mysqldb, subset: v1}
        weight: 80
      - destination: {host: mysqldb, subset: v2}
        weight: 20
    """
  private static let subsets = """
    host: mysqldb
    trafficPolicy:
      proxyProtocol: {version: V2}
      connectionPool: {tcp: {idleTimeout: 5s, maxConnectionDuration: 60s, maxConnections: 7, tcpKeepalive: {time: 30s, probes: 4}}}
    subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
    """
  private static let service = """
    clusterIP: 10.1.2.3
    ports: [{name: mysql, port: 3306}, {name: http, port: 80}]
    selector: {app: mysqldb}
    """

  private func workloads() throws -> [WorkloadRecord] {
    try [
      Fixture.workload("ratings", "v2"), Fixture.workload("mysqldb", "v1", node: "n2", port: 3306),
      Fixture.workload("mysqldb", "v2", node: "n2", port: 3306),
    ]
  }

  private func compiled(_ text: String) throws -> MeshSnapshot { try Fixture.compile(text, workloads()).snapshot }

  private func mesh() throws -> MeshSnapshot {
    try compiled(
      Fixture.object("Service", "mysqldb", spec: Self.service)
        + Fixture.object("DestinationRule", "mysqldb", spec: Self.subsets)
        + Fixture.object("VirtualService", "mysqldb", spec: Self.database))
  }

  @Test(arguments: ["mysqldb", "mysqldb.default", "mysqldb.default.svc.cluster.local", "10.1.2.3"])
  func `a service is found by its names and its address`(name: String) throws {
    let snapshot = try mesh()
    let port = try #require(snapshot.tcp[0].port(3306))
    let index = try #require(port.hosts[Array(name.utf8)])
    #expect(port.services[index].protocol == .tcp)
    #expect(port.services[index].address == [10, 1, 2, 3])
  }

  @Test func `rules stand in their order, and the service itself is last`() throws {
    let snapshot = try mesh()
    let service = try #require(snapshot.tcp[0].port(3306)?.services.first)
    #expect(
      service.routes.map { $0.destinations.map { "\($0.clusterName.split(separator: "|")[2])=\($0.weight)" } } == [
        ["v2=1"], ["v1=1"], ["v1=80", "v2=20"], ["mysqldb.default.svc.cluster.local=1"],
      ])
    #expect(service.routes[0].origin?.description == "VirtualService default/mysqldb tcp[0]")
    #expect(service.routes[1].subnets == [AddressBlock("10.1.0.0/16")])
  }

  @Test func `a match on labels of another client does not stand`() throws {
    let text =
      Fixture.object("Service", "mysqldb", spec: Self.service)
      + Fixture.object("VirtualService", "mysqldb", spec: Self.database)
    let snapshot = try Fixture.compile(text, [Fixture.workload("ratings", "v1")] + workloads().dropFirst()).snapshot
    #expect(snapshot.tcp[0].port(3306)?.services.first?.routes.count == 3)
  }

  @Test func `HTTP ports keep their own rules`() throws {
    let routes = try mesh().tcp[0].port(80)?.services.first?.routes
    #expect(routes?.count == 1)
    #expect(routes?.first?.origin == nil)
  }

  @Test func `a cluster carries what connections are bounded by`() throws {
    let cluster = try #require(try mesh().cluster("outbound|3306|v1|mysqldb.default.svc.cluster.local"))
    #expect(cluster.proxyProtocol == .v2)
    #expect(cluster.connectionPool.tcpIdleTimeout == .seconds(5))
    #expect(cluster.connectionPool.maxConnectionDuration == .seconds(60))
    #expect(cluster.connectionPool.maxConnections == 7)
    #expect(cluster.connectionPool.keepAlive == TCPKeepAlive(time: .seconds(30), probes: 4))
  }

  @Test func `server names are looked for from the most specific to the least`() throws {
    let entry = """
      hosts: ["*.example.com", api.example.com]
      ports: [{number: 443, name: tls, protocol: TLS}]
      resolution: NONE
      """
    let rule = """
      hosts: ["*.example.com"]
      tls:
      - match: [{sniHosts: ["*.example.com"]}]
        route: [{destination: {host: wide}}]
      - match: [{sniHosts: [api.example.com, "*.eu.example.com"]}]
        route: [{destination: {host: api.example.com}}]
      """
    let snapshot = try compiled(
      Fixture.object("ServiceEntry", "outside", spec: entry) + Fixture.object("VirtualService", "outside", spec: rule))
    let port = try #require(snapshot.tcp[0].port(443))
    #expect(port.serverNames.map(\.pattern.text) == ["api.example.com", "*.eu.example.com", "*.example.com"])
    func first(_ name: String) -> String? { port.serverNames.first { $0.pattern.admits(Array(name.utf8)) }?.pattern.text }
    #expect(first("api.example.com") == "api.example.com")
    #expect(first("a.eu.example.com") == "*.eu.example.com")
    #expect(first("x.example.com") == "*.example.com")
    #expect(first("example.com") == nil)
    #expect(first("") == nil)
  }

  // MARK: Gateways

  private func gateway(_ servers: String, _ rules: String) throws -> (MeshSnapshot, [Finding]) {
    let text =
      Fixture.object("Gateway", "edge", spec: "selector: {istio: ingressgateway}\nservers:\n\(servers)")
      + Fixture.object("VirtualService", "inside", spec: rules)
    let edge = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    return try Fixture.compile(text, [edge] + workloads())
  }

  @Test func `a TLS server is a listener of its own, found by server name`() throws {
    let servers = """
      - port: {number: 443, name: https, protocol: HTTPS}
        hosts: [a.example.com]
        tls: {mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem, minProtocolVersion: TLSV1_3}
      - port: {number: 443, name: https-b, protocol: HTTPS}
        hosts: [b.example.com, a.example.com]
        tls: {mode: MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, subjectAltNames: [x]}
      - port: {number: 443, name: through, protocol: TLS}
        hosts: ["*.through.com"]
        tls: {mode: PASSTHROUGH}
      """
    let rules = """
      hosts: [a.example.com, b.example.com, "*.through.com"]
      gateways: [edge]
      http: [{route: [{destination: {host: ratings}}]}]
      tls:
      - match: [{port: 443, sniHosts: [db.through.com]}]
        route: [{destination: {host: mysqldb}}]
      """
    let (snapshot, findings) = try gateway(servers, rules)
    #expect(snapshot.gateways.map(\.server) == ["default/edge/https", "default/edge/https-b", "default/edge/through"])
    #expect(snapshot.gateways.map { $0.serverNames.map(\.text) } == [["a.example.com"], ["b.example.com"], ["*.through.com"]])
    guard case .https(let simple) = snapshot.gateways[0].role, case .https(let mutual) = snapshot.gateways[1].role,
      case .passthrough(let names) = snapshot.gateways[2].role
    else {
      Issue.record("\(snapshot.gateways.map(\.role))")
      return
    }
    #expect(simple.sources == [.files(certificate: "/c.pem", key: "/k.pem")])
    #expect(simple.minimum == .tls13)
    #expect(mutual.clientCertificate == .required)
    #expect(mutual.authorities == .file("/ca.pem"))
    #expect(mutual.subjectAltNames == ["x"])
    #expect(names.map(\.pattern.text) == ["db.through.com"])
    // A host of another server has no virtual host here.
    #expect(snapshot.gateways[0].table.routes("b.example.com", 443).isEmpty)
    #expect(snapshot.gateways[0].table.routes("a.example.com", 443).count == 1)
    #expect(findings.contains { $0.code == Finding.Code.conflictingGateways && $0.reason.contains("a.example.com") })
  }

  @Test func `a TCP server takes the first rule set with a fitting rule`() throws {
    let servers = "- port: {number: 3306, name: mysql, protocol: TCP}\n  hosts: [\"*\"]\n"
    let rules = """
      hosts: ["*"]
      gateways: [edge]
      tcp:
      - match: [{port: 9999}]
        route: [{destination: {host: ratings}}]
      - match: [{port: 3306}]
        route: [{destination: {host: mysqldb}}]
      """
    let (snapshot, _) = try gateway(servers, rules)
    guard case .tcp(let routes) = snapshot.gateways.first?.role else {
      Issue.record("no TCP")
      return
    }
    #expect(routes.map { $0.destinations.map(\.clusterName) } == [["outbound|3306||mysqldb.default.svc.cluster.local"]])
  }

  @Test func `AUTO_PASSTHROUGH is refused`() throws {
    let servers = """
      - port: {number: 15443, name: tls, protocol: TLS}
        hosts: ["*.local"]
        tls: {mode: AUTO_PASSTHROUGH}
      """
    let (snapshot, findings) = try gateway(servers, "hosts: [a]\ngateways: [edge]\nhttp: [{route: [{destination: {host: a}}]}]")
    #expect(snapshot.gateways.isEmpty)
    #expect(findings.contains { $0.reason.contains("AUTO_PASSTHROUGH is refused") })
  }

  @Test func `a missing Secret leaves a server that refuses`() throws {
    let servers = """
      - port: {number: 443, name: https, protocol: HTTPS}
        hosts: [a.com]
        tls: {mode: SIMPLE, credentialName: absent}
      """
    let (snapshot, findings) = try gateway(
      servers, "hosts: [a.com]\ngateways: [edge]\nhttp: [{route: [{destination: {host: a}}]}]")
    guard case .https(let tls) = snapshot.gateways.first?.role, case .missing = tls.sources.first else {
      Issue.record("no server")
      return
    }
    #expect(findings.contains { $0.reason.contains("handshakes on port 443 fail") })
  }

  @Test(
    arguments: [
      ("10.0.0.0/8", [10, 9, 8, 7], true), ("10.0.0.0/8", [11, 0, 0, 0], false), ("10.1.2.128/25", [10, 1, 2, 129], true),
      ("10.1.2.128/25", [10, 1, 2, 127], false), ("10.1.2.3", [10, 1, 2, 3], true), ("0.0.0.0/0", [1, 2, 3, 4], true),
      ("0.0.0.0/0", [], false),
    ] as [(String, [UInt8], Bool)])
  func `a block holds the addresses that share its bits`(block: String, address: [UInt8], expected: Bool) {
    #expect(AddressBlock(block)?.contains(address) == expected)
  }
}
