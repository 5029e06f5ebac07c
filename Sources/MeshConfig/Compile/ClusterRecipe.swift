import Primitives

/// Everything that a cluster is compiled from: nothing in it changes, so it does not matter when that is done, nor where.
struct ClusterRecipe: Sendable {
  let key: ClusterPool.Key
  let entry: ServiceCatalog.Entry
  let rule: RuleIndex.Merged?
  /// The first client that asked; only its labels matter, where the key has them.
  let client: ClientScope
  /// Index into the snapshot's services.
  let service: Int?
  /// The workloads behind the service.
  let members: [WorkloadBook.Entry]
  let addresses: WrittenAddresses
  let compiler: ClusterCompiler

  var name: String { ClusterPool.name(host: entry.service.host, port: key.port, subset: key.subset) }

  func moved(to service: Int?) -> ClusterRecipe {
    ClusterRecipe(
      key: key, entry: entry, rule: rule, client: client, service: service, members: members, addresses: addresses,
      compiler: compiler)
  }

  /// Compiled with the snapshot although nobody calls it: certificates for TLS that originates here are read when a snapshot is
  /// taken into service, and who starts slowly has to be seen when it comes.
  var cannotWait: Bool {
    if key.backendTLS != nil { return true }
    guard let rule else { return false }
    let blocks = TrafficPolicyCompiler.blocks(rule, subset: key.subset.flatMap { rule.subset($0) }, port: key.port)
    return blocks.tls?.mode == .simple || blocks.tls?.mode == .mutual || blocks.loadBalancer?.warmup != nil
  }

  func cluster() -> Cluster { compiler.cluster(self) }
}

/// Compiles clusters (Istio, DestinationRule); the same for all of them.
final class ClusterCompiler: Sendable {
  private let settings: MeshSettings
  private let policies: TrafficPolicyCompiler

  init(settings: MeshSettings) {
    self.settings = settings
    policies = TrafficPolicyCompiler(settings: settings)
  }

  /// `PassthroughCluster`: the request's own destination.
  var passthrough: Cluster {
    Cluster(
      name: "PassthroughCluster", service: nil, host: "", port: 0, subset: nil, protocol: .auto,
      discovery: .originalDestination, endpoints: [], loadBalancer: LoadBalancerPolicy(algorithm: .passthrough),
      connectionPool: policies.connectionPool(nil), outlierDetection: nil, tls: .disabled, destinationRule: nil)
  }

  func cluster(_ recipe: ClusterRecipe) -> Cluster {
    let entry = recipe.entry
    let port = entry.service.ports.firstIndex { $0.number == recipe.key.port } ?? 0
    let servicePort = entry.service.ports[port]
    let subset = recipe.key.subset.flatMap { recipe.rule?.subset($0) }
    let blocks = TrafficPolicyCompiler.blocks(recipe.rule, subset: subset, port: servicePort.number)
    let endpoints = EndpointCompiler(
      members: recipe.members, addresses: recipe.addresses, trustDomain: settings.trustDomain)
    var members = endpoints.endpoints(of: entry, port: port)
    if let subset { members = members.filter { Labels.match(subset.labels, $0.labels) } }
    let outlier = policies.outlierDetection(blocks.outlierDetection)
    let locality = LocalityPriority(
      client: settings.localLocality, clientLabels: recipe.client.labels,
      setting: blocks.loadBalancer?.locality ?? (entry.distribution == nil ? settings.locality : nil),
      prefersSameNode: entry.distribution == .sameNode)
    var cluster = Cluster(
      name: recipe.name, service: recipe.service, host: entry.service.host, port: servicePort.number, subset: subset?.name,
      protocol: servicePort.protocol, discovery: EndpointCompiler.discovery(of: entry),
      endpoints: locality.apply(
        to: members, failsOver: outlier != nil || entry.distribution != nil && blocks.loadBalancer?.locality == nil),
      loadBalancer: policies.loadBalancer(blocks.loadBalancer, isSticky: entry.isSticky),
      connectionPool: policies.connectionPool(
        blocks.connectionPool, budget: subset?.trafficPolicy?.retryBudget ?? recipe.rule?.trafficPolicy?.retryBudget),
      outlierDetection: outlier,
      tls: recipe.key.backendTLS ?? policies.tls(blocks.tls, entryNames: entry.subjectAltNames),
      destinationRule: recipe.rule?.name)
    cluster.proxyProtocol = subset?.trafficPolicy?.proxyProtocol ?? recipe.rule?.trafficPolicy?.proxyProtocol
    return cluster
  }
}
