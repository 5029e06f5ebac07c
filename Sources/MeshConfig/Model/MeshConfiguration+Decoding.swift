import Primitives
import Telemetry

extension MeshConfiguration: FieldDecodable {
  init(_ fields: inout Fields) {
    trustDomain = fields.text("trustDomain")
    trustDomainAliases = fields.strings("trustDomainAliases")
    rootNamespace = fields.text("rootNamespace")
    usesAutoMTLS = fields.bool("enableAutoMtls")
    outboundPolicy = (fields.object("outboundTrafficPolicy") as Outbound?)?.mode
    connectTimeout = fields.duration("connectTimeout")
    keepAlive = (fields.object("tcpKeepalive") as KeepAliveFields?)?.policy
    upgradesHTTP1 = (fields.name("h2UpgradePolicy") as UpgradePolicy?).map { $0 == .upgrade }
    protocolDetectionTimeout = fields.duration("protocolDetectionTimeout", min: .zero).flatMap { $0 > .zero ? $0 : nil }
    dnsRefreshRate = fields.duration("dnsRefreshRate")
    callsLocalhost = (fields.object("inboundTrafficPolicy") as Inbound?)?.mode == .localhost
    pathNormalization = (fields.object("pathNormalization") as Normalization?)?.mode
    httpRetry = fields.object("defaultHttpRetryPolicy")
    inboundRetry = fields.object("defaultInboundHttpRetryPolicy")
    trafficPolicy = (fields.object("defaultTrafficPolicy") as TrafficPolicy?)?.blocks
    locality = fields.object("localityLbSetting")
    serviceExportTo = fields.strings("defaultServiceExportTo")
    virtualServiceExportTo = fields.strings("defaultVirtualServiceExportTo")
    destinationRuleExportTo = fields.strings("defaultDestinationRuleExportTo")
    discoverySelectors = fields.list("discoverySelectors")
    tlsDefaults = fields.object("tlsDefaults") ?? TLSDefaults()
    meshCurves = (fields.object("meshMTLS") as MeshTLS?)?.curves ?? []
    let authorities: [CertificateData] = fields.list("caCertificates")
    caCertificates = authorities.compactMap(\.authority)
    let bundles = caCertificates.bundleURLs.count
    if bundles > ConfigLimits.trustBundleURLsMax {
      fields.error("caCertificates", "\(bundles) SPIFFE bundles; at most \(ConfigLimits.trustBundleURLsMax) are fetched")
    }
    let providers: [ExtensionProvider] = fields.list("extensionProviders")
    let defaults: DefaultProviders? = fields.object("defaultProviders")
    accessLog = AccessLog(&fields, providers: providers, byDefault: defaults?.accessLogging ?? [])
    proxy = fields.object("defaultConfig") ?? .none
    check(&fields)
    checkProviders(providers, &fields)
    noteOthers(&fields)
  }

  private mutating func check(_ fields: inout Fields) {
    for (name, retry) in [("defaultHttpRetryPolicy", httpRetry), ("defaultInboundHttpRetryPolicy", inboundRetry)] {
      if let retry { RetryWords.check(retry, at: fields.path / name, into: &fields.report) }
    }
    let exports = [
      ("defaultServiceExportTo", serviceExportTo), ("defaultVirtualServiceExportTo", virtualServiceExportTo),
      ("defaultDestinationRuleExportTo", destinationRuleExportTo),
    ]
    for (name, list) in exports {
      if list.count > 1 && (list.contains("*") || list.contains("~")) {
        fields.error(name, "cannot have '*' or '~' together with other entries")
      }
    }
    if let rootNamespace, !NameForm.isLabel(rootNamespace) { fields.error("rootNamespace", "not a namespace") }
    for (index, alias) in trustDomainAliases.enumerated() {
      do throws(NameError) { try SPIFFEID.checkTrustDomain(alias.utf8) } catch {
        fields.report.error((fields.path / "trustDomainAliases")[index], "not a trust domain: \(error.description)")
      }
    }
  }

  private func checkProviders(_ providers: [ExtensionProvider], _ fields: inout Fields) {
    let path = fields.path / "extensionProviders"
    for (index, provider) in providers.enumerated() {
      if providers[..<index].contains(where: { $0.name == provider.name }) {
        fields.report.error(path[index] / "name", "'\(provider.name.prefix(80))' stands twice")
      }
      if provider.kind != ExtensionProvider.fileAccessLog && provider.kind != "prometheus" {
        fields.report.notEnforced(path[index], "nothing is sent to a provider of this kind yet")
      }
    }
  }

  /// Fields that exist and that nothing here acts on, with what becomes of what they ask for.
  private mutating func noteOthers(_ fields: inout Fields) {
    for (name, consequence) in Self.unread where fields.has(name) {
      fields.report.notEnforced(fields.path / name, consequence)
    }
    if fields.bool("enablePrometheusMerge") == false {
      fields.report.notEnforced(fields.path / "enablePrometheusMerge", "applications' metrics are never merged")
    }
    // Without effect where there is one cluster, no injection and no discovery server.
    fields.ignore(
      "proxyListenPort", "proxyInboundListenPort", "proxyHttpPort", "ingressClass", "ingressService", "ingressControllerMode",
      "ingressSelector", "serviceSettings", "configSources", "enableEnvoyAccessLogService", "disableEnvoyListenerLog",
      "verifyCertificateAtClient", "thriftConfig", "hboneIdleTimeout")
  }

  private static let unread: [(name: String, consequence: String)] = [
    ("certificates", "nodes issue their own"), ("ca", "nodes issue their own certificates"),
    ("enableTracing", "no spans are sent yet"),
    ("inboundClusterStatName", "clusters have their own names"), ("outboundClusterStatName", "clusters have their own names"),
  ]

  private struct Outbound: FieldDecodable {
    let mode: Sidecar.OutboundPolicy?
    init(_ fields: inout Fields) {
      mode = fields.name("mode")
      if fields.has("egressProxy") {
        fields.report.notEnforced(fields.path / "egressProxy", "requests go to their own destination")
      }
    }
  }
  private struct Inbound: FieldDecodable {
    enum Mode: String, CaseIterable {
      case passthrough = "PASSTHROUGH"
      case localhost = "LOCALHOST"
    }
    let mode: Mode?
    init(_ fields: inout Fields) { mode = fields.name("mode") }
  }
  private enum UpgradePolicy: String, CaseIterable {
    case never = "DO_NOT_UPGRADE"
    case upgrade = "UPGRADE"
  }
  private struct Normalization: FieldDecodable {
    let mode: PathNormalizationMode?
    init(_ fields: inout Fields) { mode = fields.name("normalization") }
  }
  private struct TrafficPolicy: FieldDecodable {
    let blocks: DestinationRule.Blocks
    init(_ fields: inout Fields) {
      blocks = DestinationRule.Blocks(
        loadBalancer: nil, connectionPool: fields.object("connectionPool"),
        outlierDetection: fields.object("outlierDetection"), tls: nil)
    }
  }
  /// Between workloads there is TLS 1.3 only, whose cipher suites are not configured (Envoy, `cipher_suites`): that is at
  /// least what any `minProtocolVersion` asks for.
  private struct MeshTLS: FieldDecodable {
    let curves: [String]
    init(_ fields: inout Fields) {
      curves = fields.strings("ecdhCurves")
      _ = fields.name("minProtocolVersion") as Gateway.TLS.Version?
      fields.ignore("cipherSuites")
    }
  }
  private struct CertificateData: FieldDecodable {
    let authority: Authority?
    init(_ fields: inout Fields) {
      let (pem, url) = (fields.text("pem"), fields.text("spiffeBundleUrl"))
      let domains = fields.strings("trustDomains")
      let source = pem.map { Authority.Source.pem($0) } ?? url.flatMap { Self.bundle(at: $0, &fields) }
      authority = source.map { Authority(source: $0, trustDomains: domains) }
      // Names of Kubernetes' own signers, whose authority this is: trusted as any other (Istio, `CertificateData`).
      fields.ignore("certSigners")
      if pem != nil && url != nil { fields.error("", "pem and spiffeBundleUrl exclude each other") }
      if let pem, !pem.hasPrefix("-----BEGIN CERTIFICATE-----") { fields.error("pem", "not a certificate in PEM") }
    }

    /// Istio takes an address without a scheme for one of https, too.
    private static func bundle(at text: String, _ fields: inout Fields) -> Authority.Source? {
      let url = text.contains("://") ? text : HTTPSURL.scheme + text
      do throws(NameError) { return .bundle(try HTTPSURL(parsing: url)) } catch {
        let hint = "whom workloads trust is asked of a server that proves its name: only https will do"
        fields.error("spiffeBundleUrl", error.description, hint: text.hasPrefix("http://") ? hint : nil)
        return nil
      }
    }
  }
  private struct DefaultProviders: FieldDecodable {
    let accessLogging: [String]
    init(_ fields: inout Fields) {
      accessLogging = fields.strings("accessLogging")
      for name in ["tracing", "metrics"] {
        let providers = fields.strings(name)
        if !providers.isEmpty && providers != ["prometheus"] {
          fields.report.notEnforced(fields.path / name, "nothing is sent to these providers yet")
        }
      }
    }
  }
}

extension [MeshConfiguration.Authority] {
  /// Where the SPIFFE bundles among them are, each once.
  public var bundleURLs: [HTTPSURL] {
    let urls = compactMap { authority -> HTTPSURL? in
      if case .bundle(let url) = authority.source { url } else { nil }
    }
    return Set(urls).sorted()
  }
}

extension MeshConfiguration.TLSDefaults: FieldDecodable {
  init(_ fields: inout Fields) {
    cipherSuites = fields.strings("cipherSuites")
    curves = fields.strings("ecdhCurves")
    needsTLS13 = (fields.name("minProtocolVersion") as Gateway.TLS.Version?) == .tls13
  }
}

/// A backend for policies and telemetry. Only its name and kind are read, and where a file access log goes.
struct ExtensionProvider: FieldDecodable {
  static let fileAccessLog = "envoyFileAccessLog"
  private static let kinds = [
    "envoyExtAuthzHttp", "envoyExtAuthzGrpc", "zipkin", "lightstep", "datadog", "stackdriver", "opencensus", "skywalking",
    "opentelemetry", "prometheus", fileAccessLog, "envoyHttpAls", "envoyTcpAls", "envoyOtelAls", "sds",
  ]
  let name: String
  let kind: String
  let fileLog: FileLog?

  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    var written: [String] = []
    for kind in Self.kinds where fields.has(kind) { written.append(kind) }
    kind = written.first ?? ""
    fileLog = fields.object(Self.fileAccessLog)
    if written.count != 1 && !fields.report.hasErrors {
      fields.error("", "a provider has exactly one of \(Self.kinds.joined(separator: ", "))")
    }
  }

  struct FileLog: FieldDecodable {
    let path: String
    let format: AccessLogFormat
    init(_ fields: inout Fields) {
      path = fields.requiredString("path")
      var format = (fields.object("logFormat") as LogFormat?)?.format ?? .text
      format.omitsMissing = fields.bool("omitEmptyValues") ?? false
      self.format = format
      fields.ignore("filterStateObjectsToLog")
    }
  }
  struct LogFormat: FieldDecodable {
    let format: AccessLogFormat?
    init(_ fields: inout Fields) {
      let text = fields.text("text")
      let labels = fields.entries(of: "labels")
      if text != nil && labels != nil { fields.error("", "text and labels exclude each other") }
      format =
        labels.flatMap { entries in
          fields.logFormat("labels") { () throws(AccessLogFormatError) in
            try AccessLogFormat(labels: entries.map(AccessLogLabel.Entry.init))
          }
        }
        ?? text.flatMap { text in
          fields.logFormat("text") { () throws(AccessLogFormatError) in try AccessLogFormat(text: text) }
        }
    }
  }
}

extension AccessLogLabel {
  init(_ node: YAMLNode) {
    self =
      switch node.value {
      case .null: .constant("null")
      case .bool(let value): .constant(value ? "true" : "false")
      case .int(let value): .constant("\(value)")
      case .double(let value): value.isFinite ? .constant("\(value)") : .constant("null")
      case .string(let text): .text(text)
      case .sequence(let nodes): .list(nodes.map { AccessLogLabel($0) })
      case .mapping(let entries): .object(entries.map(AccessLogLabel.Entry.init))
      }
  }
}

extension AccessLogLabel.Entry {
  init(_ entry: YAMLEntry) { self.init(key: entry.key, value: AccessLogLabel(entry.value)) }
}

extension Fields {
  /// A format that is written in a field; what it asks for in vain is said there.
  fileprivate mutating func logFormat(
    _ name: String, _ make: () throws(AccessLogFormatError) -> AccessLogFormat
  ) -> AccessLogFormat? {
    do throws(AccessLogFormatError) {
      let format = try make()
      for problem in format.problems { report.errorUnlessStored(path / name, problem.description, hint: problem.hint) }
      for absent in format.absent {
        report.notEnforced(path / name, "'%\(absent.prefix(80))%' has no value here: it is written as - or null")
      }
      return format
    } catch {
      self.error(name, error.description)
      return nil
    }
  }
}

extension MeshConfiguration.AccessLog {
  /// `accessLogFile`, or else the file that a provider used by default writes to.
  fileprivate init(_ fields: inout Fields, providers: [ExtensionProvider], byDefault names: [String]) {
    enum Encoding: String, CaseIterable {
      case text = "TEXT"
      case json = "JSON"
    }
    file = fields.string("accessLogFile")
    let isJSON = (fields.name("accessLogEncoding") as Encoding?) == .json
    format = isJSON ? .json : .text
    if let text = fields.text("accessLogFormat") {
      let own = fields.logFormat("accessLogFormat") { () throws(AccessLogFormatError) in
        isJSON ? try Self.labels(text) : try AccessLogFormat(text: text)
      }
      format = own ?? format
    }
    guard file?.isEmpty ?? true else { return }
    var logs: [Self] = []
    for name in names {
      if let log = providers.first(where: { $0.name == name })?.fileLog {
        logs.append(Self(file: log.path, format: log.format))
      } else if name == "envoy" {
        logs.append(Self(file: "/dev/stdout", format: format))
      } else {
        fields.report.notEnforced(fields.path / "defaultProviders", "'\(name.prefix(80))' writes no file")
      }
    }
    guard let first = logs.first else { return }
    self = first
    others = Array(logs.dropFirst())
  }

  /// `accessLogFormat` of lines in JSON is itself an object in JSON.
  private static func labels(_ text: String) throws(AccessLogFormatError) -> AccessLogFormat {
    guard case .mapping(let entries)? = YAMLParser.parse(Array(text.utf8)).documents.first?.value else {
      throw AccessLogFormatError(description: "with accessLogEncoding JSON, an object in JSON is expected")
    }
    return try AccessLogFormat(labels: entries.map(AccessLogLabel.Entry.init))
  }
}

extension MeshConfiguration.ProxyDefaults: FieldDecodable {
  static let none = Self(
    trustedProxies: nil, gatewayClientCertificate: nil, expectsProxyProtocol: false, headers: .none, terminationDrain: nil,
    drain: nil)

  init(_ fields: inout Fields) {
    let topology: Topology? = fields.object("gatewayTopology")
    trustedProxies = topology?.trustedProxies
    gatewayClientCertificate = topology?.clientCertificate
    expectsProxyProtocol = topology?.expectsProxyProtocol ?? false
    headers = fields.object("proxyHeaders") ?? .none
    terminationDrain = fields.duration("terminationDrainDuration", min: .zero)
    drain = fields.duration("drainDuration", min: .zero)
    if fields.has("tracing") { fields.report.notEnforced(fields.path / "tracing", "no spans are sent yet") }
    // It adds Envoy's own statistics to Istio's standard metrics. There is no Envoy here: all there is, is always shown.
    _ = fields.object("proxyStatsMatcher") as StatsMatcher?
    if fields.has("concurrency") {
      fields.report.notEnforced(fields.path / "concurrency", "`start --workers` says how many threads serve")
    }
    // Of Envoy's own process, of its injection into pods, and of the control plane, none of which there is. Commands are
    // never started before their proxy, and listeners that go are drained.
    fields.ignore(
      "configPath", "binaryPath", "serviceCluster", "tracingServiceName", "discoveryAddress",
      "discoveryRefreshDelay", "zipkinAddress", "statsdUdpAddress", "envoyMetricsServiceAddress", "proxyAdminPort",
      "availabilityZone", "controlPlaneAuthPolicy", "customConfigFile", "statNameLength", "proxyBootstrapTemplatePath",
      "interceptionMode", "sds", "envoyAccessLogService", "envoyMetricsService", "proxyMetadata", "runtimeValues", "statusPort",
      "extraStatTags", "meshId", "readinessProbe", "holdApplicationUntilProxyStarts", "caCertificatesPem", "image",
      "privateKeyProvider", "fileFlushInterval", "fileFlushMinSizeKb", "statsCompression", "statsEvictionInterval",
      "proxyHttpPort")
  }

  private struct StatsMatcher: FieldDecodable {
    init(_ fields: inout Fields) {
      for name in ["inclusionPrefixes", "inclusionSuffixes"] { _ = fields.strings(name) }
      for (index, pattern) in fields.strings("inclusionRegexps").enumerated() {
        do throws(PatternError) { _ = try Pattern(pattern) } catch {
          fields.report.error((fields.path / "inclusionRegexps")[index], error.reason)
        }
      }
    }
  }

  private struct Topology: FieldDecodable {
    let trustedProxies: Int?
    let clientCertificate: ForwardedClientCertificate?
    let expectsProxyProtocol: Bool
    init(_ fields: inout Fields) {
      trustedProxies = fields.int("numTrustedProxies", in: 0...100)
      clientCertificate = fields.name("forwardClientCertDetails")
      expectsProxyProtocol = fields.has("proxyProtocol")
    }
  }
}

extension MeshConfiguration.ProxyDefaults.Headers: FieldDecodable {
  static let none = Self(
    server: nil, keepsServer: false, leavesOutRequestID: false, leavesOutAttemptCount: false, leavesOutDebug: false,
    clientCertificate: nil)

  init(_ fields: inout Fields) {
    let server: Switch? = fields.object("server")
    self.server = server?.value
    keepsServer = server?.isDisabled ?? false
    leavesOutRequestID = (fields.object("requestId") as Switch?)?.isDisabled ?? false
    leavesOutAttemptCount = (fields.object("attemptCount") as Switch?)?.isDisabled ?? false
    leavesOutDebug = (fields.object("envoyDebugHeaders") as Switch?)?.isDisabled ?? false
    clientCertificate = fields.name("forwardedClientCert")
    certificateDetails = fields.object("setCurrentClientCertDetails") ?? .init()
    preservesCase = fields.bool("preserveHttp1HeaderCase") ?? false
    // Workloads tell each other who they are by certificate; there are no such headers to leave out.
    fields.ignore("metadataExchangeHeaders")
    tellsHost = (fields.object("xForwardedHost") as Toggle?)?.isEnabled ?? false
    tellsPort = (fields.object("xForwardedPort") as Toggle?)?.isEnabled ?? false
  }

  private struct Switch: FieldDecodable {
    let isDisabled: Bool
    let value: String?
    init(_ fields: inout Fields) {
      isDisabled = fields.bool("disabled") ?? false
      value = fields.text("value")
      if let value, HeaderValueForm.hasControls(value) { fields.error("value", "the value has control characters") }
    }
  }
  private struct Toggle: FieldDecodable {
    let isEnabled: Bool
    init(_ fields: inout Fields) { isEnabled = fields.bool("enabled") ?? false }
  }
}

extension MeshConfiguration.ProxyDefaults.CertificateDetails: FieldDecodable {
  init(_ fields: inout Fields) {
    subject = fields.bool("subject") ?? true
    dns = fields.bool("dns") ?? true
    uri = fields.bool("uri") ?? true
    certificate = fields.bool("cert")
    chain = fields.bool("chain") ?? false
  }
}
