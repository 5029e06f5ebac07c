import Primitives

/// Builds each destination once, whoever routes to it: service × port × subset × the DestinationRule in force.
struct ClusterPool {
  /// `PassthroughCluster`: the request's own destination.
  static let passthrough: ClusterIndex = 0

  private(set) var clusters: [Cluster]
  private let catalog: ServiceCatalog
  private let rules: RuleIndex
  private let endpoints: EndpointCompiler
  private let policies: TrafficPolicyCompiler
  private var byKey: [Key: ClusterIndex] = [:]
  private var endpointsByPort: [PortKey: [EndpointCompiler.Labelled]] = [:]
  private var ruleByScope: [ScopeKey: RuleIndex.Merged?] = [:]

  private struct Key: Hashable {
    let service: Int
    let port: Int
    let subset: String?
    let rule: String?
    /// Only where priorities depend on the client's labels.
    let clientLabels: [String: String]?
  }
  private struct PortKey: Hashable {
    let service: Int
    let port: Int
  }
  private struct ScopeKey: Hashable {
    let service: Int
    let client: ClientScope
  }

  init(catalog: ServiceCatalog, rules: RuleIndex, endpoints: EndpointCompiler) {
    self.catalog = catalog
    self.rules = rules
    self.endpoints = endpoints
    policies = TrafficPolicyCompiler(settings: endpoints.settings)
    clusters = [
      Cluster(
        name: "PassthroughCluster", service: nil, host: "", port: 0, subset: nil, protocol: .auto,
        discovery: .originalDestination, endpoints: [], loadBalancer: LoadBalancerPolicy(algorithm: .passthrough),
        connectionPool: policies.connectionPool(nil), outlierDetection: nil, tls: .disabled, destinationRule: nil)
    ]
  }

  /// Envoy's spelling of a destination.
  static func name(host: String, port: UInt16, subset: String?) -> String { "outbound|\(port)|\(subset ?? "")|\(host)" }

  /// The destination for a client; nil when the subset is not defined by the rule in force.
  mutating func cluster(service: Int, port: Int, subset: String?, client: ClientScope) -> ClusterIndex? {
    let rule = rule(forService: service, client: client)
    let definition = subset.flatMap { rule?.subset($0) }
    if subset != nil && definition == nil { return nil }
    let usesLabels = rule?.usesClientLabels ?? false
    let key = Key(
      service: service, port: port, subset: subset, rule: rule?.name, clientLabels: usesLabels ? client.labels : nil)
    if let known = byKey[key] { return known }
    let index = clusters.count
    clusters.append(build(service, port, definition, rule, client))
    byKey[key] = index
    return index
  }

  /// Builds what a client may be sent to although no route names it: every port, and every subset of the rule in force.
  mutating func buildAll(service: Int, client: ClientScope) {
    let subsets = (rule(forService: service, client: client)?.subsets ?? []).map { Optional($0.name) }
    for port in catalog.entries[service].service.ports.indices {
      for subset in [nil] + subsets { _ = cluster(service: service, port: port, subset: subset, client: client) }
    }
  }

  mutating func rule(forService service: Int, client: ClientScope) -> RuleIndex.Merged? {
    let key = ScopeKey(service: service, client: client)
    if let known = ruleByScope[key] { return known }
    let target = catalog.entries[service].service
    let rule = rules.rule(forHost: target.host, serviceNamespace: target.namespace, client: client)
    ruleByScope[key] = .some(rule)
    return rule
  }

  private mutating func build(
    _ index: Int, _ port: Int, _ subset: DestinationRule.Subset?, _ rule: RuleIndex.Merged?, _ client: ClientScope
  ) -> Cluster {
    let entry = catalog.entries[index]
    let servicePort = entry.service.ports[port]
    let blocks = TrafficPolicyCompiler.blocks(rule, subset: subset, port: servicePort.number)
    var members = labelledEndpoints(index, port)
    if let subset { members = members.filter { Labels.match(subset.labels, $0.labels) } }
    let outlier = policies.outlierDetection(blocks.outlierDetection)
    let locality = LocalityPriority(
      client: endpoints.settings.localLocality, clientLabels: client.labels, setting: blocks.loadBalancer?.locality)
    let name = Self.name(host: entry.service.host, port: servicePort.number, subset: subset?.name)
    var cluster = Cluster(
      name: name, service: index, host: entry.service.host, port: servicePort.number, subset: subset?.name,
      protocol: servicePort.protocol, discovery: endpoints.discovery(of: entry),
      endpoints: outlier == nil ? members.map(\.endpoint) : locality.apply(to: members),
      loadBalancer: policies.loadBalancer(blocks.loadBalancer),
      connectionPool: policies.connectionPool(
        blocks.connectionPool, budget: subset?.trafficPolicy?.retryBudget ?? rule?.trafficPolicy?.retryBudget),
      outlierDetection: outlier, tls: policies.tls(blocks.tls, entryNames: entry.subjectAltNames), destinationRule: rule?.name)
    cluster.proxyProtocol = subset?.trafficPolicy?.proxyProtocol ?? rule?.trafficPolicy?.proxyProtocol
    return cluster
  }

  private mutating func labelledEndpoints(_ service: Int, _ port: Int) -> [EndpointCompiler.Labelled] {
    let key = PortKey(service: service, port: port)
    if let known = endpointsByPort[key] { return known }
    let found = endpoints.endpoints(of: catalog.entries[service], port: port)
    endpointsByPort[key] = found
    return found
  }
}

extension RuleIndex.Merged {
  /// Whether endpoint priorities are computed from the client's labels.
  fileprivate var usesClientLabels: Bool {
    let policies = [trafficPolicy] + subsets.map(\.trafficPolicy)
    return policies.contains { policy in
      let blocks = [policy?.blocks] + (policy?.portLevelSettings.map { Optional($0.blocks) } ?? [])
      return blocks.contains { !($0?.loadBalancer?.locality?.failoverPriority.isEmpty ?? true) }
    }
  }
}
