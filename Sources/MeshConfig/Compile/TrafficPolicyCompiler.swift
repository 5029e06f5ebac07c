import Primitives

/// Turns the blocks of a DestinationRule that apply to one port and subset into policies (Istio, DestinationRule).
struct TrafficPolicyCompiler {
  let settings: MeshSettings

  /// The blocks in force: subset's port, subset over destination's port, destination's port, destination.
  static func blocks(_ rule: RuleIndex.Merged?, subset: DestinationRule.Subset?, port: UInt16) -> DestinationRule.Blocks {
    let base = atPort(rule?.trafficPolicy, port)
    guard let policy = subset?.trafficPolicy else { return base ?? .none }
    if let own = policy.portLevelSettings.first(where: { $0.port == port }) { return own.blocks }
    return DestinationRule.Blocks(
      loadBalancer: policy.blocks.loadBalancer ?? base?.loadBalancer,
      connectionPool: policy.blocks.connectionPool ?? base?.connectionPool,
      outlierDetection: policy.blocks.outlierDetection ?? base?.outlierDetection, tls: policy.blocks.tls ?? base?.tls)
  }

  /// A port's settings replace the destination's as a whole; absent blocks are not inherited.
  private static func atPort(_ policy: DestinationRule.TrafficPolicy?, _ port: UInt16) -> DestinationRule.Blocks? {
    policy?.portLevelSettings.first { $0.port == port }?.blocks ?? policy?.blocks
  }

  /// - Parameter isSticky: the service wants each client to stay with one endpoint, unless a rule says how to choose.
  func loadBalancer(_ written: DestinationRule.LoadBalancer?, isSticky: Bool = false) -> LoadBalancerPolicy {
    var policy = LoadBalancerPolicy(algorithm: .leastRequest, warmup: written?.warmup)
    if isSticky, written?.simple == nil, written?.consistentHash == nil {
      policy.algorithm = .consistentHash(.sourceAddress, .ring(minimumSize: 1024))
      return policy
    }
    switch written?.simple {
    case .random: policy.algorithm = .random
    case .roundRobin: policy.algorithm = .roundRobin
    case .passthrough: policy.algorithm = .passthrough
    case .leastRequest, .leastConnections, .unspecified, nil: break
    }
    guard let hash = written?.consistentHash, let key = hash.key else { return policy }
    let compiled: LoadBalancerPolicy.HashKey
    switch key {
    case .header(let name): compiled = .header(Array(name.lowercased().utf8))
    case .cookie(let name, let path, let ttl, let attributes):
      compiled = .cookie(name: Array(name.utf8), path: path, ttl: ttl, attributes: attributes)
    case .sourceAddress: compiled = .sourceAddress
    case .queryParameter(let name): compiled = .queryParameter(Array(name.utf8))
    }
    policy.algorithm = .consistentHash(compiled, hash.table)
    return policy
  }

  func connectionPool(
    _ own: DestinationRule.ConnectionPool?, budget: DestinationRule.RetryBudget? = nil
  ) -> ConnectionPoolPolicy {
    let written = own ?? settings.trafficPolicy?.connectionPool
    // Istio hands only positive limits on; zero leaves the default.
    func limit(_ value: Int?) -> Int? { value.flatMap { $0 > 0 ? $0 : nil } }
    var policy = ConnectionPoolPolicy(
      maxConnections: limit(written?.maxConnections), connectTimeout: written?.connectTimeout ?? settings.connectTimeout,
      maxPendingRequests: limit(written?.http1MaxPendingRequests), maxRequests: limit(written?.http2MaxRequests),
      maxRequestsPerConnection: limit(written?.maxRequestsPerConnection), maxRetries: limit(written?.maxRetries),
      idleTimeout: written?.httpIdleTimeout ?? written?.tcpIdleTimeout ?? .seconds(3600))
    policy.tcpIdleTimeout = written?.tcpIdleTimeout ?? policy.tcpIdleTimeout
    policy.maxConnectionDuration = written?.maxConnectionDuration
    policy.keepAlive = written?.keepAlive ?? settings.keepAlive
    policy.maxConcurrentStreams = limit(written?.maxConcurrentStreams)
    policy.http2KeepAlive = written?.http2KeepAlive
    if written?.upgradesHTTP1 ?? settings.upgradesHTTP1 { policy.http2 = .always }
    if written?.useClientProtocol == true { policy.http2 = .likeClient }
    policy.retryBudget = budget.map {
      ConnectionPoolPolicy.RetryBudget(
        percent: $0.percent, minConcurrency: $0.minRetryConcurrency, interval: $0.interval)
    }
    return policy
  }

  func outlierDetection(_ own: DestinationRule.OutlierDetection?) -> OutlierPolicy? {
    guard let written = own ?? settings.trafficPolicy?.outlierDetection else { return nil }
    func count(_ value: Int?) -> Int? { value.flatMap { $0 > 0 ? $0 : nil } }
    var policy = OutlierPolicy(
      consecutive5xx: count(written.consecutive5xxErrors ?? 5),
      consecutiveGatewayErrors: count(written.consecutiveGatewayErrors),
      consecutiveLocalOriginFailures: written.splitExternalLocalOriginErrors
        ? count(written.consecutiveLocalOriginFailures ?? 5) : nil,
      interval: written.interval ?? .seconds(10), baseEjectionTime: written.baseEjectionTime ?? .seconds(30),
      maxEjectionPercent: written.maxEjectionPercent ?? 10, minHealthPercent: written.minHealthPercent ?? 0)
    policy.errorCodes = written.errorCodes
    return policy
  }

  func tls(_ written: DestinationRule.ClientTLS?, entryNames: [String]) -> UpstreamTLS {
    guard let written else { return settings.usesAutoMTLS ? .automatic : .disabled }
    let names = written.subjectAltNames.isEmpty ? entryNames : written.subjectAltNames
    switch written.mode {
    case .disable: return .disabled
    case .istioMutual: return .istioMutual
    case .simple:
      return .simple(
        serverName: written.sni, subjectAltNames: names, caCertificates: written.caCertificates ?? written.missingFile,
        insecureSkipVerify: written.insecureSkipVerify, revocations: written.revocations)
    case .mutual:
      return .mutual(
        serverName: written.sni, subjectAltNames: names, caCertificates: written.caCertificates,
        clientCertificate: written.clientCertificate ?? written.missingFile ?? "",
        privateKey: written.privateKey ?? written.missingFile ?? "", insecureSkipVerify: written.insecureSkipVerify,
        revocations: written.revocations)
    }
  }
}

extension DestinationRule.Blocks {
  fileprivate static let none = DestinationRule.Blocks(loadBalancer: nil, connectionPool: nil, outlierDetection: nil, tls: nil)
}

extension DestinationRule.ClientTLS {
  /// A file that cannot exist stands for a credential we have no source for: connections fail closed (Istio, DestinationRule).
  fileprivate var missingFile: String? { credentialName.map { "credential:\($0)" } }
}
