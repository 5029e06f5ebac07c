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
    if let limit = fields.duration("protocolDetectionTimeout", min: .zero), limit > .zero {
      fields.report.notEnforced(
        fields.path / "protocolDetectionTimeout", "a server that may speak first is called without waiting for the client")
    }
    if fields.duration("dnsRefreshRate") != nil {
      fields.report.notEnforced(fields.path / "dnsRefreshRate", "names are looked up when their answers' lifetimes are over")
    }
    pathNormalization = (fields.object("pathNormalization") as Normalization?)?.mode
    httpRetry = fields.object("defaultHttpRetryPolicy")
    inboundRetry = fields.object("defaultInboundHttpRetryPolicy")
    trafficPolicy = (fields.object("defaultTrafficPolicy") as TrafficPolicy?)?.blocks
    locality = fields.object("localityLbSetting")
    serviceExportTo = fields.strings("defaultServiceExportTo")
    virtualServiceExportTo = fields.strings("defaultVirtualServiceExportTo")
    destinationRuleExportTo = fields.strings("defaultDestinationRuleExportTo")
    cipherSuites = (fields.object("tlsDefaults") as TLSDefaults?)?.cipherSuites ?? []
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
    if !trustDomainAliases.isEmpty {
      fields.report.notEnforced(fields.path / "trustDomainAliases", "no policy looks at principals yet")
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
    if (fields.object("inboundTrafficPolicy") as Inbound?)?.mode == .localhost {
      fields.report.notEnforced(fields.path / "inboundTrafficPolicy", "applications are called at the address they registered")
    }
    // Without effect where there is one cluster, no injection and no discovery server.
    fields.ignore(
      "proxyListenPort", "proxyInboundListenPort", "proxyHttpPort", "ingressClass", "ingressService", "ingressControllerMode",
      "ingressSelector", "serviceSettings", "configSources", "enableEnvoyAccessLogService", "disableEnvoyListenerLog",
      "verifyCertificateAtClient", "thriftConfig", "hboneIdleTimeout")
  }

  private static let unread: [(name: String, consequence: String)] = [
    ("discoverySelectors", "every namespace is looked at"),
    ("caCertificates", "nodes trust the authorities of their own trust bundle"),
    ("certificates", "nodes issue their own"), ("ca", "nodes issue their own certificates"),
    ("meshMTLS", "nodes speak TLS 1.3 with each other, with its own cipher suites"),
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
  private struct TLSDefaults: FieldDecodable {
    let cipherSuites: [String]
    init(_ fields: inout Fields) {
      cipherSuites = fields.strings("cipherSuites")
      if !fields.strings("ecdhCurves").isEmpty {
        fields.report.notEnforced(fields.path / "ecdhCurves", "the TLS library's own order of curves applies")
      }
      if let version = fields.name("minProtocolVersion") as Gateway.TLS.Version?, version != .automatic {
        fields.report.notEnforced(fields.path / "minProtocolVersion", "each Gateway server names its own; TLS 1.2 is the least")
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
    let format: LogFormat?
    init(_ fields: inout Fields) {
      path = fields.requiredString("path")
      format = fields.object("logFormat")
      fields.ignore("omitEmptyValues", "filterStateObjectsToLog")
    }
  }
  struct LogFormat: FieldDecodable {
    let text: String?
    let isJSON: Bool
    init(_ fields: inout Fields) {
      text = fields.text("text")
      isJSON = fields.has("labels")
      if isJSON { fields.report.notEnforced(fields.path / "labels", "Istio's own keys are written") }
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
    format = fields.text("accessLogFormat")
    isJSON = (fields.name("accessLogEncoding") as Encoding?) == .json
    if isJSON && format != nil {
      fields.report.notEnforced(fields.path / "accessLogFormat", "JSON lines have Istio's own keys")
    }
    guard file?.isEmpty ?? true, let name = names.first else { return }
    if let log = providers.first(where: { $0.name == name })?.fileLog {
      file = log.path
      format = log.format?.text
      isJSON = log.format?.isJSON ?? false
    } else if name == "envoy" {
      file = "/dev/stdout"
    } else {
      fields.report.notEnforced(fields.path / "defaultProviders", "'\(name.prefix(80))' writes no file")
    }
  }
}

extension MeshConfiguration.ProxyDefaults: FieldDecodable {
  static let none = Self(
    trustedProxies: nil, gatewayClientCertificate: nil, expectsProxyProtocol: false, headers: .none)

  init(_ fields: inout Fields) {
    let topology: Topology? = fields.object("gatewayTopology")
    trustedProxies = topology?.trustedProxies
    gatewayClientCertificate = topology?.clientCertificate
    expectsProxyProtocol = topology?.expectsProxyProtocol ?? false
    headers = fields.object("proxyHeaders") ?? .none
    for name in ["drainDuration", "terminationDrainDuration"] where fields.duration(name, min: .zero) != nil {
      fields.report.notEnforced(fields.path / name, "`start --drain` says how long requests may take to finish")
    }
    if fields.has("tracing") { fields.report.notEnforced(fields.path / "tracing", "no spans are sent yet") }
    if fields.has("proxyStatsMatcher") {
      fields.report.notEnforced(fields.path / "proxyStatsMatcher", "the standard metrics are always kept")
    }
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
    if fields.has("setCurrentClientCertDetails") {
      fields.report.notEnforced(
        fields.path / "setCurrentClientCertDetails", "x-forwarded-client-cert has By, Hash, Subject and URI")
    }
    if fields.bool("preserveHttp1HeaderCase") == true {
      fields.report.notEnforced(fields.path / "preserveHttp1HeaderCase", "names that cross nodes are in lower case")
    }
    // Workloads tell each other who they are by certificate; there are no such headers to leave out.
    fields.ignore("metadataExchangeHeaders")
    for name in ["xForwardedHost", "xForwardedPort"] where (fields.object(name) as Toggle?)?.isEnabled == true {
      fields.report.notEnforced(fields.path / name, "the header is not added")
    }
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
