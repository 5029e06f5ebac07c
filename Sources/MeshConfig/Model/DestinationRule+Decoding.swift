extension DestinationRule: FieldDecodable {
  init(_ fields: inout Fields) {
    host = fields.requiredString("host")
    trafficPolicy = fields.object("trafficPolicy")
    subsets = fields.list("subsets")
    exportTo = fields.strings("exportTo")
    workloadSelector = (fields.object("workloadSelector") as LabelSelector?)?.labels
  }
}

extension DestinationRule.Subset: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    labels = fields.stringMap("labels")
    trafficPolicy = fields.object("trafficPolicy")
    if !name.isEmpty && !NameForm.isLabel(name.lowercased()) {
      fields.error("name", "'\(name.prefix(80))' is not a subset name: use letters, digits and '-'")
    }
  }
}

extension DestinationRule.TrafficPolicy: FieldDecodable {
  init(_ fields: inout Fields) {
    blocks = DestinationRule.Blocks(shared: &fields)
    portLevelSettings = fields.list("portLevelSettings")
    retryBudget = fields.object("retryBudget")
    let tunnel: Tunnel? = fields.object("tunnel")
    let proxyProtocol: ProxyProtocol? = fields.object("proxyProtocol")
    if tunnel != nil && proxyProtocol != nil { fields.error("tunnel", "tunnel and proxyProtocol exclude each other") }
    if tunnel != nil { fields.report.notEnforced(fields.path / "tunnel", "connections are not tunnelled") }
    self.proxyProtocol = proxyProtocol.map { $0.version ?? .v1 }
    let others = portLevelSettings.isEmpty && retryBudget == nil && tunnel == nil && proxyProtocol == nil
    if blocks.isEmpty && others && !fields.report.hasErrors {
      fields.error("", "the traffic policy is empty", hint: "leave it out")
    }
  }

  private struct Tunnel: FieldDecodable {
    init(_ fields: inout Fields) {
      let name = fields.string("protocol") ?? "CONNECT"
      if name != "CONNECT" && name != "POST" { fields.error("protocol", "must be CONNECT or POST") }
      let host = fields.requiredString("targetHost")
      if !host.isEmpty && !NameForm.isHost(host) && !AddressForm.isAddress(host) {
        fields.error("targetHost", "must be a host name or an IP address")
      }
      _ = fields.requiredPort("targetPort")
    }
  }

  private struct ProxyProtocol: FieldDecodable {
    var version: ProxyProtocolVersion?
    init(_ fields: inout Fields) { version = fields.name("version") }
  }
}

extension DestinationRule.RetryBudget: FieldDecodable {
  init(_ fields: inout Fields) {
    percent = fields.number("percent", in: 0...100) ?? 20
    minRetryConcurrency = fields.int("minRetryConcurrency", in: 0...Int(UInt32.max)) ?? 3
    interval = fields.duration("budgetInterval", min: .zero).flatMap { $0 > .zero ? $0 : nil }
  }
}

extension DestinationRule.Blocks {
  fileprivate init(shared fields: inout Fields) {
    loadBalancer = fields.object("loadBalancer")
    connectionPool = fields.object("connectionPool")
    outlierDetection = fields.object("outlierDetection")
    tls = fields.object("tls")
  }
}

extension DestinationRule.PortPolicy: FieldDecodable {
  init(_ fields: inout Fields) {
    port = (fields.required("port") as PortSelector?)?.number ?? 0
    blocks = DestinationRule.Blocks(shared: &fields)
    if blocks.isEmpty && !fields.report.hasErrors {
      fields.error("", "the port policy is empty", hint: "write loadBalancer, connectionPool, outlierDetection or tls")
    }
  }
}

extension DestinationRule.LoadBalancer: FieldDecodable {
  init(_ fields: inout Fields) {
    simple = fields.name("simple")
    consistentHash = fields.object("consistentHash")
    locality = fields.object("localityLbSetting")
    let warmupBlock: Warmup? = fields.object("warmup")
    let older = fields.duration("warmupDurationSecs")
    warmup = warmupBlock?.policy ?? older.map { LoadBalancerPolicy.Warmup(duration: $0) }
    if older != nil { fields.report.deprecated(fields.path / "warmupDurationSecs", use: "warmup.duration") }
    if older != nil && warmupBlock != nil {
      fields.error("warmupDurationSecs", "warmup and warmupDurationSecs exclude each other")
    }
    let choices = [simple != nil, consistentHash != nil, fields.has("backendUtilization")]
    if choices.count(where: { $0 }) > 1 {
      fields.error("", "more than one of simple, consistentHash and backendUtilization")
    }
    if (fields.object("backendUtilization") as BackendUtilization?) != nil {
      fields.report.notEnforced(fields.path / "backendUtilization", "LEAST_REQUEST applies instead")
    }
    if (fields.object("zoneAwareLbSetting") as ZoneAwareness?) != nil {
      fields.report.notEnforced(fields.path / "zoneAwareLbSetting", "zones do not change the choice")
      if locality != nil { fields.error("zoneAwareLbSetting", "zoneAwareLbSetting and localityLbSetting exclude each other") }
    }
    if simple == .leastConnections { fields.report.deprecated(fields.path / "simple", use: "LEAST_REQUEST") }
  }

  /// Checked and kept.
  private struct BackendUtilization: FieldDecodable {
    init(_ fields: inout Fields) {
      _ = fields.int("errorUtilizationPenaltyPercent", in: 0...Int(UInt32.max))
      _ = fields.strings("metricNamesForComputingUtilization")
      for name in ["weightExpirationPeriod", "weightStabilizationPeriod", "weightUpdatePeriod"] {
        _ = fields.duration(name, min: .zero)
      }
    }
  }

  /// Checked and kept.
  private struct ZoneAwareness: FieldDecodable {
    init(_ fields: inout Fields) {
      _ = fields.bool("enabled")
      _ = fields.list("failover") as [DestinationRule.LocalitySetting.Failover]
      _ = fields.strings("failoverPriority")
      _ = fields.int("minClusterSize", in: 1...Int(UInt32.max))
    }
  }

  private struct Warmup: FieldDecodable {
    var policy: LoadBalancerPolicy.Warmup?
    init(_ fields: inout Fields) {
      if !fields.has("duration") { fields.error("duration", "required") }
      let duration = fields.duration("duration")
      let minimum = fields.number("minimumPercent", in: 0...100)
      let aggression = fields.number("aggression", in: 0...1_000_000)
      if aggression == 0 { fields.error("aggression", "must be above 0") }
      policy = duration.map {
        LoadBalancerPolicy.Warmup(duration: $0, minimumPercent: minimum ?? 10, aggression: aggression ?? 1)
      }
    }
  }
}

extension DestinationRule.ConsistentHash: FieldDecodable {
  init(_ fields: inout Fields) {
    let header = fields.string("httpHeaderName")
    let cookie: Cookie? = fields.object("httpCookie")
    let sourceAddress = fields.bool("useSourceIp") ?? false
    let query = fields.string("httpQueryParameterName")
    let ring: Ring? = fields.object("ringHash")
    let maglev: Maglev? = fields.object("maglev")
    let older = fields.int("minimumRingSize", in: 0...8_388_608)
    table =
      maglev.map { .maglev(size: $0.tableSize) } ?? .ring(minimumSize: max(1, ring?.minimumRingSize ?? older ?? 1024))
    if older != nil { fields.report.deprecated(fields.path / "minimumRingSize", use: "ringHash.minimumRingSize") }
    if older != nil && ring != nil { fields.error("minimumRingSize", "minimumRingSize and ringHash exclude each other") }
    if ring != nil && maglev != nil { fields.error("maglev", "ringHash and maglev exclude each other") }
    let written = [header != nil, cookie != nil, sourceAddress, query != nil].count { $0 }
    if written > 1 { fields.error("", "more than one hash key") }
    if written == 0 && !fields.report.hasErrors {
      fields.error("", "no hash key", hint: "write httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName")
    }
    if let header {
      key = .header(header)
      if !NameForm.isFieldName(header) { fields.error("httpHeaderName", "not a header name") }
    } else if let cookie {
      key = .cookie(name: cookie.name, path: cookie.path, ttl: cookie.ttl, attributes: cookie.attributes)
    } else if sourceAddress {
      key = .sourceAddress
    } else if let query {
      key = .queryParameter(query)
      if query.isEmpty { fields.error("httpQueryParameterName", "must not be empty") }
    }
  }

  private struct Ring: FieldDecodable {
    var minimumRingSize: Int?
    /// Envoy's largest ring.
    init(_ fields: inout Fields) { minimumRingSize = fields.int("minimumRingSize", in: 0...8_388_608) }
  }

  private struct Maglev: FieldDecodable {
    /// Envoy's default.
    var tableSize = 65_537
    init(_ fields: inout Fields) {
      guard let size = fields.int("tableSize", in: 0...Int(UInt32.max)) else { return }
      tableSize = size
      if size >= 5_000_011 { fields.error("tableSize", "must be below 5000011") }
      if size < 5_000_011 && !Self.isPrime(size) { fields.error("tableSize", "\(size) is not a prime number") }
    }

    private static func isPrime(_ number: Int) -> Bool {
      guard number >= 2 else { return false }
      var divisor = 2
      while divisor * divisor <= number {
        if number % divisor == 0 { return false }
        divisor += 1
      }
      return true
    }
  }

  private struct Cookie: FieldDecodable {
    var name: String
    var path: String
    var ttl: Duration?
    var attributes: [String]
    init(_ fields: inout Fields) {
      name = fields.requiredString("name")
      path = fields.string("path") ?? ""
      ttl = fields.duration("ttl", min: .zero)
      let written: [Attribute] = fields.list("attributes")
      if Set(written.map { $0.name.lowercased() }).count < written.count {
        fields.error("attributes", "an attribute stands twice")
      }
      attributes = written.map(\.text)
    }
  }

  private struct Attribute: FieldDecodable {
    var name: String
    /// `name` or `name=value`.
    var text: String
    init(_ fields: inout Fields) {
      name = fields.requiredString("name")
      let value = fields.text("value")
      let text = value.map { [name] in "\(name)=\($0)" } ?? name
      self.text = text
      if text.utf8.contains(where: { $0 < 0x20 || $0 == 0x3B || $0 == 0x2C || $0 >= 0x7F }) {
        fields.error("name", "an attribute has no ';', ',' or control characters")
      }
    }
  }
}

extension DestinationRule.LocalitySetting: FieldDecodable {
  init(_ fields: inout Fields) {
    enabled = fields.bool("enabled")
    distribute = fields.list("distribute")
    failover = fields.list("failover")
    failoverPriority = fields.strings("failoverPriority")
    if !distribute.isEmpty && !failover.isEmpty { fields.error("failover", "distribute and failover exclude each other") }
    let topology = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"]
    for label in failoverPriority where !failover.isEmpty && topology.contains(label) {
      fields.error("failoverPriority", "failover and the label \(label) exclude each other")
    }
    if let problem = LocalityForm.problem(of: distribute.map(\.from)) { fields.error("distribute", problem) }
  }
}

extension DestinationRule.LocalitySetting.Distribution: FieldDecodable {
  init(_ fields: inout Fields) {
    from = fields.requiredString("from")
    to = fields.intMap("to", in: 1...100)
    if to.isEmpty || to.reduce(0, { $0 + $1.value }) != 100 { fields.error("to", "the weights must add up to 100") }
    if let problem = LocalityForm.problem(of: to.map(\.key).sorted(by: LocalityForm.isNarrower)) { fields.error("to", problem) }
  }
}

extension DestinationRule.LocalitySetting.Failover: FieldDecodable {
  init(_ fields: inout Fields) {
    from = fields.requiredString("from")
    to = fields.requiredString("to")
    if from == to && !from.isEmpty { fields.error("to", "a region cannot fail over to itself") }
    for name in ["from", "to"] where (name == "from" ? from : to).utf8.contains(where: { $0 == 0x2F || $0 == 0x2A }) {
      fields.error(name, "must name a region only")
    }
  }
}

extension DestinationRule.ConnectionPool: FieldDecodable {
  init(_ fields: inout Fields) {
    let tcp: TCP? = fields.object("tcp")
    let http: HTTP? = fields.object("http")
    maxConnections = tcp?.maxConnections
    connectTimeout = tcp?.connectTimeout
    tcpIdleTimeout = tcp?.idleTimeout
    maxConnectionDuration = tcp?.maxConnectionDuration
    keepAlive = tcp?.keepAlive
    http1MaxPendingRequests = http?.maxPendingRequests
    http2MaxRequests = http?.maxRequests
    maxRequestsPerConnection = http?.maxRequestsPerConnection
    maxRetries = http?.maxRetries
    httpIdleTimeout = http?.idleTimeout
    upgradesHTTP1 = http?.upgradePolicy.flatMap { $0 == .byDefault ? nil : $0 == .upgrade }
    useClientProtocol = http?.useClientProtocol ?? false
    maxConcurrentStreams = http?.maxConcurrentStreams
    http2KeepAlive = http?.keepAlive
    if tcp == nil && http == nil && !fields.report.hasErrors {
      fields.error("", "the connection pool is empty", hint: "write tcp or http")
    }
  }

  private struct TCP: FieldDecodable {
    var maxConnections: Int?
    var connectTimeout: Duration?
    var idleTimeout: Duration?
    var maxConnectionDuration: Duration?
    var keepAlive: TCPKeepAlive?
    init(_ fields: inout Fields) {
      maxConnections = fields.count32("maxConnections")
      connectTimeout = fields.duration("connectTimeout")
      idleTimeout = fields.duration("idleTimeout", min: .zero)
      maxConnectionDuration = fields.duration("maxConnectionDuration")
      keepAlive = (fields.object("tcpKeepalive") as KeepAliveFields?)?.policy
    }
  }

  private struct HTTP: FieldDecodable {
    enum UpgradePolicy: String, CaseIterable {
      case byDefault = "DEFAULT"
      case never = "DO_NOT_UPGRADE"
      case upgrade = "UPGRADE"
    }
    var maxPendingRequests: Int?
    var maxRequests: Int?
    var maxRequestsPerConnection: Int?
    var maxRetries: Int?
    var idleTimeout: Duration?
    var upgradePolicy: UpgradePolicy?
    var useClientProtocol: Bool
    var maxConcurrentStreams: Int?
    var keepAlive: HTTP2KeepAlive?

    init(_ fields: inout Fields) {
      maxPendingRequests = fields.count32("http1MaxPendingRequests")
      maxRequests = fields.count32("http2MaxRequests")
      maxRequestsPerConnection = fields.count32("maxRequestsPerConnection")
      maxRetries = fields.count32("maxRetries")
      idleTimeout = fields.duration("idleTimeout")
      upgradePolicy = fields.name("h2UpgradePolicy")
      useClientProtocol = fields.bool("useClientProtocol") ?? false
      maxConcurrentStreams = fields.count32("maxConcurrentStreams")
      keepAlive = (fields.object("http2KeepAlive") as HTTP2KeepAliveFields?)?.policy
      if upgradePolicy == .upgrade && useClientProtocol {
        fields.error("useClientProtocol", "h2UpgradePolicy UPGRADE and useClientProtocol exclude each other")
      }
    }
  }

  private struct HTTP2KeepAliveFields: FieldDecodable {
    var policy: HTTP2KeepAlive?
    init(_ fields: inout Fields) {
      for name in ["interval", "timeout"] where !fields.has(name) { fields.error(name, "required") }
      let written = (fields.duration("interval"), fields.duration("timeout"))
      guard let interval = written.0, let timeout = written.1 else { return }
      policy = HTTP2KeepAlive(interval: interval, timeout: timeout)
    }
  }
}

/// `tcpKeepalive`, of a DestinationRule or of the mesh.
struct KeepAliveFields: FieldDecodable {
  var policy = TCPKeepAlive()
  init(_ fields: inout Fields) {
    policy.probes = fields.int("probes", in: 0...Int(UInt32.max))
    policy.time = fields.duration("time")
    policy.interval = fields.duration("interval")
  }
}

extension Fields {
  /// A limit: a non-negative 32-bit number.
  mutating func count32(_ name: String) -> Int? { int(name, in: 0...Int(Int32.max)) }
}

extension DestinationRule.OutlierDetection: FieldDecodable {
  init(_ fields: inout Fields) {
    consecutive5xxErrors = fields.int("consecutive5xxErrors", in: 0...Int(UInt32.max))
    consecutiveGatewayErrors = fields.int("consecutiveGatewayErrors", in: 0...Int(UInt32.max))
    splitExternalLocalOriginErrors = fields.bool("splitExternalLocalOriginErrors") ?? false
    consecutiveLocalOriginFailures = fields.int("consecutiveLocalOriginFailures", in: 0...Int(UInt32.max))
    interval = fields.duration("interval")
    baseEjectionTime = fields.duration("baseEjectionTime")
    maxEjectionPercent = fields.int("maxEjectionPercent", in: 0...100)
    minHealthPercent = fields.int("minHealthPercent", in: 0...100)
    if fields.count32("consecutiveErrors") != nil {
      fields.report.deprecated(
        fields.path / "consecutiveErrors", use: "consecutive5xxErrors or consecutiveGatewayErrors; this one is not looked at")
    }
    errorCodes = fields.ints("outlierDetectionHttpErrorCodes", in: 100...599).map { UInt16($0) }.sorted()
    if consecutiveLocalOriginFailures ?? 0 > 0 && !splitExternalLocalOriginErrors {
      fields.error(
        "consecutiveLocalOriginFailures", "needs splitExternalLocalOriginErrors",
        hint: "set splitExternalLocalOriginErrors: true")
    }
  }
}

extension DestinationRule.ClientTLS: FieldDecodable {
  init(_ fields: inout Fields) {
    let written: Mode? = fields.name("mode")
    mode = written ?? .disable
    clientCertificate = fields.text("clientCertificate")
    privateKey = fields.text("privateKey")
    caCertificates = fields.text("caCertificates")
    credentialName = fields.text("credentialName")
    subjectAltNames = fields.strings("subjectAltNames")
    sni = fields.text("sni")
    insecureSkipVerify = fields.bool("insecureSkipVerify") ?? false
    revocations = fields.text("caCrl")
    checkCertificates(&fields)
  }

  private func checkCertificates(_ fields: inout Fields) {
    let files = [clientCertificate, privateKey, caCertificates].contains { $0 != nil }
    switch mode {
    case .mutual:
      if credentialName != nil && (files || revocations != nil) {
        fields.error("credentialName", "credentialName and certificate files exclude each other")
      } else if credentialName == nil && (clientCertificate == nil || privateKey == nil) {
        fields.error(
          clientCertificate == nil ? "clientCertificate" : "privateKey", "required for mode MUTUAL",
          hint: "write clientCertificate and privateKey, or credentialName")
      }
    case .istioMutual:
      if files || credentialName != nil {
        fields.error("mode", "ISTIO_MUTUAL uses the workload's identity; certificate fields are not allowed with it")
      }
    case .simple:
      if credentialName != nil && (files || revocations != nil) {
        fields.error("credentialName", "credentialName and certificate files exclude each other")
      }
    case .disable: break
    }
    if insecureSkipVerify, mode == .simple || mode == .mutual {
      let verifies = caCertificates != nil || !subjectAltNames.isEmpty || mode == .simple && credentialName != nil
      if verifies {
        fields.error(
          "insecureSkipVerify", "excludes caCertificates, subjectAltNames\(mode == .simple ? " and credentialName" : "")")
      }
    }
    if insecureSkipVerify {
      fields.report.warning(fields.path / "insecureSkipVerify", "the server is not verified at all: anyone can pose as it")
    } else if (mode == .simple || mode == .mutual) && caCertificates == nil && credentialName == nil {
      fields.report.warning(
        fields.path, "no caCertificates: the server is verified against the system's trust store",
        code: Finding.Code.noVerificationAtDestination)
    }
  }
}

extension Fields {
  /// A string; empty counts as absent.
  mutating func text(_ name: String) -> String? { string(name).flatMap { $0.isEmpty ? nil : $0 } }
}
