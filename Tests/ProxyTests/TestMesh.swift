import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// A small mesh on loopback: a client workload with an outbound port, and services as the test describes them.
struct TestMesh {
  var endpoints: [Endpoint] = []
  var routes: [Route]?
  var clusters: [Cluster]?
  var workloads = [TestMesh.facts("client", "default", "client")]
  var retry: RetryPolicy? = .istioDefault
  var connectionPool = ConnectionPoolPolicy(connectTimeout: .seconds(2))
  var revision: UInt64 = 1
  var gateway: GatewayListener?
  var gateways: [GatewayListener] = []
  var tcp: [TCPRouteTable] = []
  var locals: [LocalWorkload]?
  var fallback = RouteTable.Fallback.notFound
  var gatewayClientCertificate: ForwardedClientCertificate?
  /// What else the mesh's configuration says.
  var configure: @Sendable (inout MeshSettings) -> Void = { _ in }

  static let client = ProxyListener.Kind.outbound(workload: "default/client@n1")

  static func facts(_ name: String, _ namespace: String, _ account: String, node: String = "n1") -> WorkloadFacts {
    WorkloadFacts(
      name: name, namespace: namespace, node: label(node), serviceAccount: account,
      principal: "spiffe://cluster.local/ns/\(namespace)/sa/\(account)", app: name, version: "v1", canonicalService: name,
      canonicalRevision: "v1", labels: [:])
  }

  static func label(_ text: String) -> DNSLabel {
    guard let label = try? DNSLabel(text) else { fatalError("\(text) is no label") }
    return label
  }

  static func identity(_ account: String) -> SPIFFEID {
    guard let id = try? SPIFFEID.workload(trustDomain: "cluster.local", namespace: "default", serviceAccount: account) else {
      fatalError("\(account) is no account")
    }
    return id
  }

  static func endpoint(
    _ port: UInt16, key: UInt64 = 1, mesh: Endpoint.MeshRoute? = nil, isLocal: Bool = false, workload: Int? = nil
  )
    -> Endpoint
  {
    Endpoint(
      key: key, address: "127.0.0.1", port: port, workload: workload, isLocal: isLocal, mesh: mesh,
      locality: Locality(parsing: ""), priority: 0, weight: 1, health: .healthy)
  }

  func cluster(_ name: String = "reviews", endpoints: [Endpoint]? = nil) -> Cluster {
    Cluster(
      name: "outbound|80||\(name).default.svc.cluster.local", service: 0, host: "\(name).default.svc.cluster.local", port: 80,
      subset: nil, protocol: .http, discovery: .listed, endpoints: endpoints ?? self.endpoints,
      loadBalancer: LoadBalancerPolicy(), connectionPool: connectionPool, outlierDetection: nil, tls: .automatic,
      destinationRule: nil)
  }

  static func forward(_ clusters: (ClusterIndex?, UInt32)...) -> RouteAction {
    .forward(clusters.map { WeightedDestination(cluster: $0.0, clusterName: "c", weight: $0.1) })
  }

  static func route(_ action: RouteAction = forward((0, 1)), matches: [RouteMatch] = [], retry: RetryPolicy? = .istioDefault)
    -> Route
  {
    Route(name: "default", origin: nil, matches: matches, action: action, retry: retry)
  }

  func table(port: UInt16 = 80) -> RouteTable {
    let host = VirtualHost(
      name: "reviews:80", domains: ["reviews"], routes: routes ?? [Self.route(retry: retry)])
    return RouteTable(
      ports: [
        RouteTable.PortTable(
          port: port, virtualHosts: [host],
          exact: ByteTable([(Array("reviews".utf8), 0)]), wildcards: [])
      ], fallback: fallback)
  }

  var snapshot: MeshSnapshot {
    var settings = MeshSettings(
      cluster: "test", trustDomain: "cluster.local", localNode: Self.label("n1"), localAddress: "127.0.0.1",
      localLocality: Locality(parsing: ""))
    settings.proxy.gatewayClientCertificate = gatewayClientCertificate
    configure(&settings)
    let client = LocalWorkload(
      workload: 0, identity: Self.identity("client"), address: "127.0.0.1", ports: [], outbound: 0, outboundPort: nil,
      isGateway: gateway != nil || !gateways.isEmpty, health: .healthy)
    return MeshSnapshot(
      revision: revision, registryVersion: 1, settings: settings,
      services: [
        Service(
          host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default", origin: .kubernetesService,
          ports: [Service.Port(number: 80, name: "http", protocol: .http)])
      ], clusters: clusters ?? [cluster()], workloads: workloads, outbound: [table()], localWorkloads: locals ?? [client],
      gateways: gateway.map { [$0] } ?? gateways, tcp: tcp)
  }

  func state(_ options: ProxyOptions = ProxyOptions()) -> ProxyState {
    let kind = gateway.map { ProxyListener.Kind.gateway(port: $0.port) } ?? Self.client
    return ProxyState(
      snapshot: snapshot, listeners: [ProxyListener(kind, on: .ip(.loopback, port: 0))], options: options)
  }

  /// Starts a proxy over this mesh, gives its port to `body` on a blocking thread, and stops it.
  func run<Result: Sendable>(
    _ options: ProxyOptions = ProxyOptions(), workers: Int = 1, _ body: @escaping @Sendable (UInt16) -> Result
  ) async throws -> (Result, ProxyStatistics) {
    let state = state(options)
    let runtime = try ProxyRuntime(workers: workers, serving: state, seed: 7)
    let published = await runtime.publish(state)
    #expect(published.failures.isEmpty)
    let port = published.listeners.first?.address?.port ?? 0
    let result = await blocking { body(port) }
    let statistics = await runtime.statistics()
    await runtime.stop()
    return (result, statistics)
  }
}

extension MeshTestStatistics {
  static func total(_ statistics: ProxyStatistics, _ name: String) -> Double {
    var sum = 0.0
    for family in statistics.metrics where family.name == name {
      for series in family.series { if case .number(let value) = series.value { sum += value } }
    }
    return sum
  }
}
enum MeshTestStatistics {}
