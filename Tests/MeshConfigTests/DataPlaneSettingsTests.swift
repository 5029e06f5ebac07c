import Primitives
import Testing

@testable import MeshConfig

/// Settings that reach the data plane as they are written.
@Suite struct DataPlaneSettingsTests {
  private static let gateway = Fixture.object(
    "Gateway", "edge",
    spec: """
      selector: {istio: ingressgateway}
      servers:
      - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}
      - port: {number: 8443, name: https, protocol: HTTPS}
        hosts: ['a.example.com']
        tls:
          mode: MUTUAL
          serverCertificate: /tls.crt
          privateKey: /tls.key
          caCertificates: /ca.crt
          caCrl: /ca.crl
          ecdhCurves: [P-384, X25519]
      """)

  private func compile(_ text: String) throws -> (snapshot: MeshSnapshot, findings: [Finding]) {
    let edge = try Fixture.workload(nil, labels: ["istio": "ingressgateway"], isGateway: true)
    return try Fixture.compile(text, [edge])
  }

  @Test func `gatewayTopology proxyProtocol makes every gateway server expect a PROXY header`() throws {
    let mesh = """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: istio, namespace: istio-system}
      data:
        mesh: |
          defaultConfig:
            gatewayTopology:
              proxyProtocol: {}
      ---

      """
    #expect(try compile(Self.gateway).snapshot.gateways.map(\.expectsProxyProtocol) == [false, false])
    #expect(try compile(mesh + Self.gateway).snapshot.gateways.map(\.expectsProxyProtocol) == [true, true])
  }

  @Test func `caCrl and ecdhCurves of a gateway server`() throws {
    let (snapshot, _) = try compile(Self.gateway)
    guard case .https(let tls)? = snapshot.gateways.last?.role else {
      Issue.record("no TLS server")
      return
    }
    #expect(tls.revocations == .file("/ca.crl"))
    #expect(tls.curves == ["P-384", "X25519"])
    #expect(Fixture.changeSet(Self.gateway).findings.allSatisfy { !$0.reason.contains("revoked") })
  }

  @Test func `caCrl, maxConcurrentStreams and http2KeepAlive of a DestinationRule`() throws {
    let text =
      Fixture.object(
        "Service", "books", spec: "ports:\n- {name: http, port: 80}\nselector: {app: books}")
      + Fixture.object(
        "DestinationRule", "books",
        spec: """
          host: books
          trafficPolicy:
            tls: {mode: SIMPLE, caCertificates: /ca.crt, caCrl: /ca.crl}
            connectionPool:
              http: {maxConcurrentStreams: 7, http2KeepAlive: {interval: 30s, timeout: 5s}}
          """)
    let client = try Fixture.workload(nil)
    let (snapshot, findings) = try Fixture.compile(text, [client])
    let cluster = try #require(snapshot.cluster("outbound|80||books.default.svc.cluster.local"))
    #expect(
      cluster.tls
        == .simple(
          serverName: nil, subjectAltNames: [], caCertificates: "/ca.crt", insecureSkipVerify: false, revocations: "/ca.crl"))
    #expect(cluster.connectionPool.maxConcurrentStreams == 7)
    #expect(cluster.connectionPool.http2KeepAlive == HTTP2KeepAlive(interval: .seconds(30), timeout: .seconds(5)))
    #expect(findings.isEmpty, "\(findings)")
  }
}
