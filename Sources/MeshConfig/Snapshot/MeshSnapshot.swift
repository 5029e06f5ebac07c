import Primitives

/// Everything a proxy needs to decide requests, compiled from the configuration at one revision and the registry.
///
/// Immutable and shared by all workers; a request keeps the snapshot it started with. Cross-references are indices
/// into the arrays here, so following one costs no reference counting beyond the snapshot's own.
public final class MeshSnapshot: Sendable {
  /// The configuration revision this was compiled from; 0 before any configuration.
  public let revision: UInt64
  /// Counts registry states on this node; two snapshots with the same revision may differ in it.
  public let registryVersion: UInt64
  public let settings: MeshSettings
  /// Sorted by host name, then namespace.
  public let services: [Service]
  /// Destinations of routes: service × port × subset, and pass-through. Index = `ClusterIndex`.
  public let clusters: ClusterTable
  /// Every workload of the mesh that this node knows, for telemetry and peer facts. Index = `WorkloadIndex`.
  public let workloads: WorkloadTable
  /// What each local workload may call, and by which rules; `LocalWorkload.outbound` is the index.
  public let outbound: [RouteTable]
  /// What each local workload may open connections to; the same indices as `outbound`.
  public let tcp: [TCPRouteTable]
  /// Workloads of this node, gateway workloads included.
  public let localWorkloads: [LocalWorkload]
  /// How ports of local workloads are called, where it is said; `LocalWorkload.inbound` has the indices.
  public let inbound: [Cluster]
  /// Ports this node opens as a gateway, sorted by port.
  public let gateways: [GatewayListener]
  /// What differs from the snapshot that was compiled before this one; nil: anything may.
  public let changes: SnapshotChanges?

  public convenience init(
    revision: UInt64, registryVersion: UInt64, settings: MeshSettings, services: [Service], clusters: [Cluster],
    workloads: [WorkloadFacts], outbound: [RouteTable], localWorkloads: [LocalWorkload], gateways: [GatewayListener],
    tcp: [TCPRouteTable] = [], inbound: [Cluster] = []
  ) {
    self.init(
      revision: revision, registryVersion: registryVersion, settings: settings, services: services,
      clusters: ClusterTable(clusters), workloads: WorkloadTable(workloads), outbound: outbound, localWorkloads: localWorkloads,
      gateways: gateways, tcp: tcp, inbound: inbound, changes: nil)
  }

  init(
    revision: UInt64, registryVersion: UInt64, settings: MeshSettings, services: [Service], clusters: ClusterTable,
    workloads: WorkloadTable, outbound: [RouteTable], localWorkloads: [LocalWorkload], gateways: [GatewayListener],
    tcp: [TCPRouteTable], inbound: [Cluster] = [], changes: SnapshotChanges?
  ) {
    self.revision = revision
    self.registryVersion = registryVersion
    self.settings = settings
    self.services = services
    self.clusters = clusters
    self.workloads = workloads
    self.outbound = outbound
    self.tcp = tcp
    self.localWorkloads = localWorkloads
    self.inbound = inbound
    // In front of every gateway stands something that begins connections with a PROXY header (`gatewayTopology`).
    self.gateways =
      settings.proxy.expectsProxyProtocol
      ? gateways.map { listener in
        var listener = listener
        listener.expectsProxyProtocol = true
        return listener
      } : gateways
    self.changes = changes
  }
}

/// How a snapshot differs from the one its compiler made before, for those who keep state beside it.
///
/// Holds only for a reader who has the snapshot numbered `number - 1` of the same compiler.
public struct SnapshotChanges: Sendable, Hashable {
  /// Tells compilers apart, so that numbers of different ones are never taken for a sequence.
  public let compiler: UInt64
  /// Counts the snapshots of the compiler.
  public let number: UInt64
  /// Clusters that are new at their index or have other content, sorted. All others are the same values at the same indices.
  public let clusters: [ClusterIndex]
  /// Whether routes, services, gateways and local workloads are as they were: only endpoints and workloads differ.
  public let onlyEndpoints: Bool

  /// Whether whoever has `other` need only look at what is listed here.
  public func follows(_ other: SnapshotChanges?) -> Bool {
    guard let other else { return false }
    return other.compiler == compiler && other.number &+ 1 == number
  }
}

public typealias ClusterIndex = Int
public typealias WorkloadIndex = Int

/// `region/zone/subzone`; empty parts match anything less specific.
public struct Locality: Sendable, Hashable, Comparable, CustomStringConvertible {
  public var region: String
  public var zone: String
  public var subzone: String

  public init(parsing text: String) {
    let parts = text.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
    region = parts.first ?? ""
    zone = parts.count > 1 ? parts[1] : ""
    subzone = parts.count > 2 ? parts[2] : ""
  }

  public var description: String { "\(region)/\(zone)/\(subzone)" }
  public static func < (a: Locality, b: Locality) -> Bool { a.description < b.description }
}

// MARK: - Services, clusters, endpoints

/// A name with ports that workloads stand behind.
public struct Service: Sendable, Hashable {
  /// Fully qualified, lower case: `reviews.default.svc.cluster.local`.
  public var host: String
  /// Short name: `reviews`.
  public var name: String
  public var namespace: String
  public var origin: Origin
  public var ports: [Port]
  /// Virtual addresses, when allocated or written.
  public var addresses: [String]
  /// Blocks of addresses that stand for it: connections meant for one of them are its own.
  public var blocks: [AddressBlock] = []
  public var isExternal: Bool
  /// Whether it gets a virtual address when none is written.
  public var allocatesAddress = true

  public enum Origin: Sendable, Hashable {
    case kubernetesService, serviceEntry
    /// Implied by `run --service` without a Service object.
    case registration
  }
  public struct Port: Sendable, Hashable {
    public var number: UInt16
    public var name: String
    public var `protocol`: PortProtocol
    public init(number: UInt16, name: String, protocol: PortProtocol) {
      self.number = number
      self.name = name
      self.protocol = `protocol`
    }
  }
  public init(
    host: String, name: String, namespace: String, origin: Origin, ports: [Port], addresses: [String] = [],
    isExternal: Bool = false
  ) {
    self.host = host
    self.name = name
    self.namespace = namespace
    self.origin = origin
    self.ports = ports
    self.addresses = addresses
    self.isExternal = isExternal
  }
}

/// One destination of routes: service × port × subset, with the traffic policy in force.
public struct Cluster: Sendable {
  /// Envoy's spelling: `outbound|9080|v1|reviews.default.svc.cluster.local`, or `PassthroughCluster`.
  public var name: String
  /// Index into `services`; nil for pass-through.
  public var service: Int?
  public var host: String
  public var port: UInt16
  public var subset: String?
  public var `protocol`: PortProtocol
  public var discovery: Discovery
  /// Sorted by endpoint key. Empty → 503 UH.
  public var endpoints: [Endpoint]
  public var loadBalancer: LoadBalancerPolicy
  public var connectionPool: ConnectionPoolPolicy
  public var outlierDetection: OutlierPolicy?
  public var tls: UpstreamTLS
  /// The DestinationRule in force, `namespace/name`, for people.
  public var destinationRule: String?
  /// Connections begin with a PROXY header.
  public var proxyProtocol: ProxyProtocolVersion?

  public enum Discovery: Sendable, Hashable {
    /// Endpoints are the ones listed.
    case listed
    /// Each address that a name of an endpoint has is an endpoint; a name that is not resolved yet stands for all of its own
    /// (Envoy's STRICT_DNS).
    case dns
    /// `endpoints[].address` is a name: new connections go to the first address of its latest answer (LOGICAL_DNS).
    case logicalDNS
    /// The request's own host and port (`PassthroughCluster`, ServiceEntry resolution NONE).
    case originalDestination
  }

  public init(
    name: String, service: Int?, host: String, port: UInt16, subset: String?, protocol: PortProtocol, discovery: Discovery,
    endpoints: [Endpoint], loadBalancer: LoadBalancerPolicy, connectionPool: ConnectionPoolPolicy,
    outlierDetection: OutlierPolicy?, tls: UpstreamTLS, destinationRule: String?
  ) {
    self.name = name
    self.service = service
    self.host = host
    self.port = port
    self.subset = subset
    self.protocol = `protocol`
    self.discovery = discovery
    self.endpoints = endpoints
    self.loadBalancer = loadBalancer
    self.connectionPool = connectionPool
    self.outlierDetection = outlierDetection
    self.tls = tls
    self.destinationRule = destinationRule
  }
}

/// Workload × port (or an external address), as one cluster uses it.
public struct Endpoint: Sendable, Hashable {
  /// What is the same in every cluster: kept once.
  public private(set) var place: Place
  private var priorityLevel: UInt16
  public var weight: UInt32
  /// Share of the endpoint's locality when localities share by weight (`distribute`); 0 when they do not.
  public var localityShare: UInt32 = 0
  public var health: EndpointHealth

  /// 0 is nearest (Istio, locality load balancing); all 0 without outlier detection.
  public var priority: Int {
    get { Int(priorityLevel) }
    set { priorityLevel = UInt16(clamping: newValue) }
  }
  public var key: UInt64 { place.key }
  public var address: String { place.address }
  public var port: UInt16 { place.port }
  public var workload: WorkloadIndex? {
    get { place.workload }
    set {
      place = Place(
        key: key, address: address, port: port, workload: newValue, isLocal: isLocal, mesh: mesh, locality: locality)
    }
  }
  public var isLocal: Bool { place.isLocal }
  public var mesh: MeshRoute? { place.mesh }
  public var locality: Locality { place.locality }

  /// Where an endpoint is and who it is.
  public final class Place: Sendable, Hashable {
    /// Stable over snapshots and nodes: a hash of node, workload, namespace and port, or of the external address.
    public let key: UInt64
    /// Where the application listens (reachable directly when `isLocal` or external).
    public let address: String
    public let port: UInt16
    /// Index into `MeshSnapshot.workloads`; nil for external endpoints.
    public let workload: WorkloadIndex?
    /// On the node that compiled this snapshot: the hop is taken in process.
    public let isLocal: Bool
    /// For mesh endpoints: the owning node's mesh port, and the server name that selects the workload there,
    /// `<port>.<workload>.<namespace>.workload.mesh`.
    public let mesh: MeshRoute?
    public let locality: Locality

    public init(
      key: UInt64, address: String, port: UInt16, workload: WorkloadIndex?, isLocal: Bool, mesh: MeshRoute?, locality: Locality
    ) {
      self.key = key
      self.address = address
      self.port = port
      self.workload = workload
      self.isLocal = isLocal
      self.mesh = mesh
      self.locality = locality
    }

    public static func == (a: Place, b: Place) -> Bool {
      a === b
        || a.key == b.key && a.address == b.address && a.port == b.port && a.workload == b.workload && a.isLocal == b.isLocal
          && a.mesh == b.mesh && a.locality == b.locality
    }
    public func hash(into hasher: inout Hasher) {
      hasher.combine(key)
      hasher.combine(address)
    }
  }

  public struct MeshRoute: Sendable, Hashable {
    public var address: String
    public var port: UInt16
    public var serverName: String
    /// What the server's certificate must say.
    public var identity: SPIFFEID
    public init(address: String, port: UInt16, serverName: String, identity: SPIFFEID) {
      self.address = address
      self.port = port
      self.serverName = serverName
      self.identity = identity
    }
  }

  public init(_ place: Place, priority: Int = 0, weight: UInt32, health: EndpointHealth) {
    self.place = place
    priorityLevel = UInt16(clamping: priority)
    self.weight = weight
    self.health = health
  }

  public init(
    key: UInt64, address: String, port: UInt16, workload: WorkloadIndex?, isLocal: Bool, mesh: MeshRoute?, locality: Locality,
    priority: Int, weight: UInt32, health: EndpointHealth
  ) {
    let place = Place(
      key: key, address: address, port: port, workload: workload, isLocal: isLocal, mesh: mesh, locality: locality)
    self.init(place, priority: priority, weight: weight, health: health)
  }
}

/// A workload of the compiling node: where inbound requests end and outbound ones start.
public struct LocalWorkload: Sendable, Hashable {
  /// Index into `MeshSnapshot.workloads`.
  public var workload: WorkloadIndex
  public var identity: SPIFFEID
  public var address: String
  public var ports: [WorkloadRecord.Port]
  /// The service that each port stands behind, in the order of `ports`: an index into `MeshSnapshot.services`.
  public var services: [Int?]
  /// The port of that service, in the same order.
  public var servicePorts: [UInt16?] = []
  /// How each port is called, in the same order: an index into `MeshSnapshot.inbound`; nil, or nothing here: as it was registered.
  public var inbound: [Int?] = []
  /// Index into `MeshSnapshot.outbound`.
  public var outbound: Int
  /// Port of its explicit outbound listener; nil when it has none.
  public var outboundPort: UInt16?
  public var isGateway: Bool
  public var health: EndpointHealth
  /// Of requests to it; of a gateway, of requests through it.
  public var rateLimit: LocalRateLimit?
  /// Further ports that its Sidecar opens.
  public var listeners: [WorkloadListener] = []

  public init(
    workload: WorkloadIndex, identity: SPIFFEID, address: String, ports: [WorkloadRecord.Port], services: [Int?] = [],
    outbound: Int, outboundPort: UInt16?, isGateway: Bool, health: EndpointHealth
  ) {
    self.services = services
    self.workload = workload
    self.identity = identity
    self.address = address
    self.ports = ports
    self.outbound = outbound
    self.outboundPort = outboundPort
    self.isGateway = isGateway
    self.health = health
  }
}
