import Primitives
import Telemetry
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
    ("defaultServiceExportTo: ['*', a]", "together"), ("trustDomainAliases: ['a b']", "not a trust domain"),
    ("caCertificates: [{pem: nonsense}]", "not a certificate"),
    ("caCertificates: [{spiffeBundleUrl: 'http://a.example'}]", "not an https URL"),
    ("caCertificates: [{spiffeBundleUrl: 'https://u:p@a.example'}]", "a user or a password"),
    ("caCertificates: [{pem: '-----BEGIN CERTIFICATE-----', spiffeBundleUrl: 'https://a'}]", "exclude each other"),
    (
      "caCertificates: [\((0...16).map { "{spiffeBundleUrl: 'https://a/\($0)'}" }.joined(separator: ", "))]",
      "17 SPIFFE bundles; at most 16"
    ),
    ("defaultConfig: {proxyStatsMatcher: {inclusionRegexps: ['(']}}", "RE2"),
    ("defaultConfig: {proxyStatsMatcher: {inclusionPrefix: [a]}}", "unknown field"),
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
    #expect(settings.pathNormalization == .mergeSlashes && settings.accessLog?.format == .json)
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
    let format = try AccessLogFormat(text: "%RESPONSE_CODE%")
    #expect(log?.file == "/var/log/mesh.log" && log?.format == format)
  }

  @Test func `every provider that is used by default has its log`() throws {
    let mesh = """
      extensionProviders:
      - name: a
        envoyFileAccessLog: {path: /var/log/a.log, omitEmptyValues: true}
      - name: b
        envoyFileAccessLog: {path: /var/log/b.log, logFormat: {text: '%RESPONSE_CODE%'}}
      defaultProviders: {accessLogging: [a, b, envoy]}
      """
    #expect(findings(mesh).isEmpty)
    let log = try #require(try compile(mesh).snapshot.settings.accessLog)
    #expect([log.file] + log.others.map(\.file) == ["/var/log/a.log", "/var/log/b.log", "/dev/stdout"])
    #expect([log.format.omitsMissing] + log.others.map(\.format.omitsMissing) == [true, false, false])
  }

  @Test func `labels of a provider are the keys of its lines`() throws {
    let mesh = """
      extensionProviders:
      - name: file
        envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {code: '%RESPONSE_CODE%', of: {who: 'by %REQ(x-user?user-agent):9%'}, n: 1}}}
      defaultProviders: {accessLogging: [file]}
      """
    let labels: [AccessLogLabel.Entry] = [
      .init(key: "code", value: .text("%RESPONSE_CODE%")),
      .init(key: "of", value: .object([.init(key: "who", value: .text("by %REQ(x-user?user-agent):9%"))])),
      .init(key: "n", value: .constant("1")),
    ]
    #expect(findings(mesh).isEmpty)
    let expected = try AccessLogFormat(labels: labels)
    #expect(try compile(mesh).snapshot.settings.accessLog?.format == expected)
    let json = "accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: '{\"code\": \"%RESPONSE_CODE%\"}'"
    let own = try AccessLogFormat(labels: [.init(key: "code", value: .text("%RESPONSE_CODE%"))])
    #expect(try compile(json).snapshot.settings.accessLog?.format == own)
  }

  @Test func `a log format is checked where it is written`() {
    func worst(_ format: String) -> Finding? {
      findings("accessLogFile: /dev/stdout\naccessLogFormat: '\(format)'").max { $0.severity < $1.severity }
    }
    #expect(worst("%REQ(AUTHORIZATION)%")?.severity == .error)
    #expect(worst("100%")?.severity == .error)
    #expect(worst("%NO_SUCH_THING%")?.severity == .error && worst("%NO_SUCH_THING%")?.reason.contains("NO_SUCH_THING") == true)
    #expect(worst("%RESPONSE_CODES%")?.hint == "did you mean 'RESPONSE_CODE'?")
    #expect(worst("%START_TIME(%Q)%")?.severity == .error && worst("%START_TIME(%Q)%")?.path == "data.mesh.accessLogFormat")
    #expect(worst("%CEL(a)%")?.code == "MESH0001" && worst("%CEL(a)%")?.severity == .warning)
    #expect(worst("%PROTOCOL%") == nil)
  }

  @Test func `TLS with others has the mesh's curves, suites and least version where a server says nothing`() throws {
    let mesh = "tlsDefaults: {ecdhCurves: [P-384], cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], minProtocolVersion: TLSV1_3}"
    func tls(_ more: String) throws -> ServerTLS? {
      let gateway = Fixture.object(
        "Gateway", "edge",
        spec: """
          selector: {istio: ingressgateway}
          servers:
          - port: {number: 443, name: https, protocol: HTTPS}
            hosts: ['*']
            tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k\(more)}
          """)
      let edge = try Fixture.workload("edge", labels: ["istio": "ingressgateway"], isGateway: true)
      let snapshot = try Fixture.compile(Self.services + Self.configMap(mesh) + gateway, [edge]).snapshot
      guard case .https(let settings)? = snapshot.gateways.first?.role else { return nil }
      return settings
    }
    let plain = try #require(try tls(""))
    #expect(plain.curves == ["P-384"] && plain.cipherSuites == ["ECDHE-RSA-AES256-GCM-SHA384"] && plain.minimum == .tls13)
    let own = try #require(try tls(", minProtocolVersion: TLSV1_2, ecdhCurves: [X25519], cipherSuites: [AES128-SHA]"))
    #expect(own.curves == ["X25519"] && own.cipherSuites == ["AES128-SHA"] && own.minimum == .tls12)
  }

  @Test func `applications are called on loopback where the mesh says so`() throws {
    func called(_ mesh: String) throws -> [String?] {
      let here = try Fixture.workload("web", port: 80)
      let snapshot = try Fixture.compile(
        Self.services + Self.configMap(mesh),
        [try Fixture.workload("client"), here, try Fixture.workload("web", node: "n2", port: 80)]
      ).snapshot
      let near = snapshot.cluster(Self.web)?.endpoints.first { $0.isLocal }?.address
      let far = snapshot.cluster(Self.web)?.endpoints.first { !$0.isLocal }?.address
      return [near, far, snapshot.inbound.first { $0.name == "inbound|80||" }?.endpoints.first?.address]
    }
    #expect(try called("") == ["10.0.0.1", "10.0.0.1", nil])
    #expect(try called("inboundTrafficPolicy: {mode: LOCALHOST}") == ["127.0.0.1", "10.0.0.1", "127.0.0.1"])
  }

  @Test func `what the mesh adds to the trust of its workloads`() throws {
    let pem = "-----BEGIN CERTIFICATE-----\\n"
    let mesh = """
      trustDomainAliases: [old.example]
      caCertificates:
      - pem: "\(pem)"
      - {pem: "\(pem)", trustDomains: [other]}
      - {spiffeBundleUrl: 'https://Spire.Example', trustDomains: [old.example]}
      - {spiffeBundleUrl: 'https://spire.example:443/'}
      meshMTLS: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256]}
      protocolDetectionTimeout: 3s
      dnsRefreshRate: 5s
      defaultConfig:
        terminationDrainDuration: 7s
        drainDuration: 8s
        proxyHeaders: {preserveHttp1HeaderCase: true, xForwardedHost: {enabled: true}, setCurrentClientCertDetails: {subject: false}}
      """
    let settings = try compile(mesh).snapshot.settings
    #expect(settings.workloadTLS.aliases == ["old.example"] && settings.workloadTLS.curves == ["P-256"])
    let authorities = settings.workloadTLS.authorities
    #expect(authorities.map(\.trustDomains) == [[], ["other"], ["old.example"], []])
    #expect(authorities.bundleURLs.map(\.description) == ["https://spire.example/"])
    #expect(settings.protocolDetectionTimeout == .seconds(3) && settings.dnsRefreshRate == .seconds(5))
    #expect(settings.proxy.terminationDrain == .seconds(7) && settings.proxy.drain == .seconds(8))
    #expect(settings.proxy.headers.tellsHost && !settings.proxy.headers.tellsPort)
    #expect(settings.proxy.headers.preservesCase && !MeshConfiguration.ProxyDefaults.Headers.none.preservesCase)
    #expect(!settings.proxy.headers.certificateDetails.subject && settings.proxy.headers.certificateDetails.uri)
    #expect(!findings(mesh).contains { $0.code == "MESH0001" })
  }

  @Test func `a different trust domain is not taken, and that is said`() throws {
    let (snapshot, findings) = try compile("trustDomain: example.org")
    #expect(snapshot.settings.trustDomain == "cluster.local")
    #expect(findings.contains { $0.reason.contains("example.org") })
  }

  @Test(arguments: [
    "enableTracing: true",
    "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a}}",
    "defaultConfig: {tracing: {sampling: 1}}",
    "extensionProviders: [{name: z, zipkin: {service: a, port: 1}}]",
  ])
  func `what nothing acts on is said`(mesh: String) {
    #expect(findings(mesh).contains { $0.code == "MESH0001" })
  }

  /// Every statistic that there is, is always shown: nothing is left to include.
  @Test func `statistics that are asked for in addition are there anyway`() {
    let mesh =
      "defaultConfig: {proxyStatsMatcher: {inclusionPrefixes: [istio_], inclusionSuffixes: [a], inclusionRegexps: ['.*']}}"
    #expect(findings(mesh).isEmpty)
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
