import Primitives
import Testing

@testable import MeshConfig

/// Istio's MeshConfig, as the ConfigMap `istio` in `istio-system` carries it.
@Suite struct MeshConfigurationTests {
  private static let services =
    Fixture.object("Service", "web", spec: "ports: [{port: 80, name: http}]")
    + Fixture.object("Service", "far", namespace: "other", spec: "ports: [{port: 80, name: http}]")

  private static func configMap(_ mesh: String, name: String = "istio", namespace: String = "istio-system") -> String {
    let lines = mesh.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }.joined(separator: "\n")
    return
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \(name), namespace: \(namespace)}\ndata:\n  mesh: |-\n\(lines)\n---\n"
  }

  private func compile(_ mesh: String, _ more: String = "") throws -> (snapshot: MeshSnapshot, findings: [Finding]) {
    try Fixture.compile(
      Self.services + Self.configMap(mesh) + more,
      [Fixture.workload("client"), Fixture.workload("web", node: "n2", port: 80, locality: "elsewhere/a/1")])
  }
  private func findings(_ mesh: String) -> [Finding] { Fixture.changeSet(Self.configMap(mesh)).findings }
  private static let web = "outbound|80||web.default.svc.cluster.local"

  @Test func `what an Istio installation writes is accepted`() {
    let mesh = """
      accessLogFile: /dev/stdout
      defaultConfig:
        discoveryAddress: istiod.istio-system.svc:15012
        proxyMetadata: {}
        image: {imageType: distroless}
      defaultProviders:
        metrics: [prometheus]
      enablePrometheusMerge: true
      extensionProviders:
      - envoyOtelAls: {port: 4317, service: otel.example.com}
        name: otel
      rootNamespace: istio-system
      trustDomain: cluster.local
      """
    #expect(findings(mesh).filter { $0.severity == .error } == [])
  }

  @Test(arguments: [
    ("outboundTraficPolicy: {mode: ALLOW_ANY}", "unknown field"), ("connectTimeout: 10", "string"),
    ("pathNormalization: {normalization: BAS}", "BASE"), ("extensionProviders: [{name: a}]", "exactly one"),
    ("extensionProviders: [{name: a, prometheus: {}}, {name: a, prometheus: {}}]", "twice"),
    ("defaultHttpRetryPolicy: {attempts: 1, retryOn: sometimes}", "retry condition"), ("[", "line "),
    ("defaultServiceExportTo: ['*', a]", "together"),
  ])
  func `mistakes are errors that name the field`(mesh: String, expected: String) {
    let errors = findings(mesh).filter { $0.severity == .error }
    #expect(errors.contains { "\($0)".contains(expected) && $0.path.hasPrefix("data.mesh") }, "\(errors)")
  }

  @Test func `another ConfigMap is plain data`() {
    let text = Self.configMap("nonsense: [", name: "other") + Self.configMap("nonsense: [", namespace: "default")
    #expect(Fixture.changeSet(text).findings.filter { $0.severity == .error } == [])
  }

  @Test func `the outbound policy, the connect timeout and the retries are the mesh's`() throws {
    let snapshot = try compile(
      """
      outboundTrafficPolicy: {mode: REGISTRY_ONLY}
      connectTimeout: 3s
      defaultHttpRetryPolicy: {attempts: 7, retryOn: '503'}
      defaultInboundHttpRetryPolicy: {attempts: 0}
      tcpKeepalive: {time: 20s}
      """
    ).snapshot
    #expect(snapshot.outbound[0].fallback == .blackHole)
    let web = try #require(snapshot.cluster(Self.web))
    #expect(web.connectionPool.connectTimeout == .seconds(3) && web.connectionPool.keepAlive?.time == .seconds(20))
    let retry = try #require(snapshot.routes("web", 80).first?.retry)
    #expect(retry.attempts == 7 && retry.statusCodes == [503])
    #expect(snapshot.settings.inboundRetry.attempts == 0)
  }

  @Test func `a written policy comes before the mesh's, block by block`() throws {
    let mesh = """
      defaultTrafficPolicy:
        connectionPool: {tcp: {maxConnections: 5}}
        outlierDetection: {consecutive5xxErrors: 2}
      """
    let rule = Fixture.object(
      "DestinationRule", "web", spec: "host: web\ntrafficPolicy: {outlierDetection: {consecutive5xxErrors: 9}}")
    let plain = try #require(try compile(mesh).snapshot.cluster(Self.web))
    #expect(plain.connectionPool.maxConnections == 5 && plain.outlierDetection?.consecutive5xx == 2)
    let ruled = try #require(try compile(mesh, rule).snapshot.cluster(Self.web))
    #expect(ruled.connectionPool.maxConnections == 5 && ruled.outlierDetection?.consecutive5xx == 9)
  }

  @Test func `default exports hide what says nothing of it`() throws {
    let open = try compile("").snapshot
    #expect(!open.routes("far.other.svc.cluster.local", 80).isEmpty)
    let closed = try compile("defaultServiceExportTo: ['.']").snapshot
    #expect(closed.routes("far.other.svc.cluster.local", 80).isEmpty && !closed.routes("web", 80).isEmpty)
  }

  @Test func `without auto mTLS endpoints of the mesh are called in plaintext`() throws {
    #expect(try compile("").snapshot.cluster(Self.web)?.tls == .automatic)
    #expect(try compile("enableAutoMtls: false").snapshot.cluster(Self.web)?.tls == .disabled)
  }

  @Test func `the mesh can call declared HTTP ports by HTTP/2, and a rule can say no`() throws {
    let mesh = "h2UpgradePolicy: UPGRADE"
    #expect(try compile(mesh).snapshot.cluster(Self.web)?.connectionPool.http2 == .always)
    let rule = Fixture.object(
      "DestinationRule", "web", spec: "host: web\ntrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}")
    #expect(try compile(mesh, rule).snapshot.cluster(Self.web)?.connectionPool.http2 == .byPort)
  }

  @Test func `localities are the mesh's to switch off`() throws {
    let rule = Fixture.object("DestinationRule", "web", spec: "host: web\ntrafficPolicy: {outlierDetection: {}}")
    let near = try Fixture.workload("web", "near", node: "n3", port: 80)
    func priorities(_ mesh: String) throws -> Set<Int> {
      let text = Self.services + Self.configMap(mesh) + rule
      let far = try Fixture.workload("web", node: "n2", port: 80, locality: "elsewhere/a/1")
      let snapshot = try Fixture.compile(text, [Fixture.workload("client"), near, far]).snapshot
      return Set(snapshot.cluster(Self.web)?.endpoints.map(\.priority) ?? [])
    }
    #expect(try priorities("") == [0, 1])
    #expect(try priorities("localityLbSetting: {enabled: false}") == [0])
  }

  @Test func `what proxies write and believe is told to them`() throws {
    let settings = try compile(
      """
      pathNormalization: {normalization: MERGE_SLASHES}
      accessLogFile: /dev/stdout
      accessLogEncoding: JSON
      defaultConfig:
        gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: ALWAYS_FORWARD_ONLY, proxyProtocol: {}}
        proxyHeaders: {server: {value: ours}, requestId: {disabled: true}, attemptCount: {disabled: true}, forwardedClientCert: SANITIZE}
      """
    ).snapshot.settings
    #expect(settings.pathNormalization == .mergeSlashes && settings.accessLog?.isJSON == true)
    #expect(settings.proxy.trustedProxies == 2 && settings.proxy.expectsProxyProtocol)
    #expect(settings.proxy.headers.server == "ours" && settings.proxy.headers.leavesOutRequestID)
    #expect(
      settings.proxy.headers.clientCertificate == .sanitize && settings.proxy.gatewayClientCertificate == .alwaysForwardOnly)
  }

  @Test func `a file provider that logs by default is the access log`() throws {
    let mesh = """
      extensionProviders:
      - name: file
        envoyFileAccessLog: {path: /var/log/mesh.log, logFormat: {text: '%RESPONSE_CODE%'}}
      defaultProviders: {accessLogging: [file]}
      """
    let log = try compile(mesh).snapshot.settings.accessLog
    #expect(log?.file == "/var/log/mesh.log" && log?.format == "%RESPONSE_CODE%")
  }

  @Test func `a different trust domain is not taken, and that is said`() throws {
    let (snapshot, findings) = try compile("trustDomain: example.org")
    #expect(snapshot.settings.trustDomain == "cluster.local")
    #expect(findings.contains { $0.reason.contains("example.org") })
  }

  @Test(arguments: [
    "trustDomainAliases: [a]", "meshMTLS: {minProtocolVersion: TLSV1_3}", "enableTracing: true", "discoverySelectors: []",
    "caCertificates: []", "inboundTrafficPolicy: {mode: LOCALHOST}", "protocolDetectionTimeout: 5s",
    "tlsDefaults: {ecdhCurves: [P-256]}", "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a}}",
    "defaultConfig: {tracing: {sampling: 1}}", "defaultConfig: {terminationDrainDuration: 5s}",
    "extensionProviders: [{name: z, zipkin: {service: a, port: 1}}]",
  ])
  func `what nothing acts on is said`(mesh: String) {
    #expect(findings(mesh).contains { $0.code == "MESH0001" })
  }

  @Test func `a change of it changes everything, and its removal changes it back`() throws {
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    let objects = Fixture.stored(Self.services)
    let configured =
      objects + [StoredObject(try #require(Fixture.changeSet(Self.configMap("connectTimeout: 1s")).objects.first), created: 9)]
    func timeout(_ state: [StoredObject]) throws -> (Duration?, SnapshotChanges?) {
      compiler.replace(objects: state)
      compiler.replace(workloads: [try Fixture.workload("client"), try Fixture.workload("web", node: "n2", port: 80)])
      let snapshot = compiler.compile(revision: 1, registryVersion: 1).snapshot
      return (snapshot.cluster(Self.web)?.connectionPool.connectTimeout, snapshot.changes)
    }
    let first = try timeout(objects)
    let second = try timeout(configured)
    let third = try timeout(objects)
    #expect(first.0 == .seconds(10) && second.0 == .seconds(1) && third.0 == .seconds(10))
    #expect(second.1?.follows(first.1) == false && third.1?.follows(second.1) == false)
  }
}
