import HTTPCodec
import MeshConfig
import Primitives
import Synchronization
import Traffic
import Transport

/// Everything the data plane shall be: workers compare it with what they are and change the difference.
public struct ProxyState: Sendable {
  public var snapshot: MeshSnapshot
  public var listeners: [ProxyListener]
  public var identities: ProxyIdentities
  public var options: ProxyOptions

  public init(
    snapshot: MeshSnapshot, listeners: [ProxyListener] = [], identities: ProxyIdentities = ProxyIdentities(),
    options: ProxyOptions = ProxyOptions()
  ) {
    self.snapshot = snapshot
    self.listeners = listeners
    self.identities = identities
    self.options = options
  }
}

/// One address the proxy serves, and what connections there are.
public struct ProxyListener: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    /// The explicit outbound port of one local workload, by `WorkloadFacts.key`: the source identity is certain.
    case outbound(workload: String)
    /// A port or Unix socket of this node's gateway workload, as `GatewayListener.place` names it.
    case gateway(port: UInt16, bind: String? = nil)
    /// The mesh port: mTLS, the destination workload chosen by server name.
    case meshInbound
    /// A port of one local workload whose connections are for a host and port of the mesh, whatever they speak.
    case forward(workload: String, host: String, port: UInt16)
    /// A port that a Sidecar opens for one local workload (`LocalWorkload.listeners`).
    case sidecar(workload: String, bind: String, port: UInt16)
  }
  public var kind: Kind
  /// Port 0 lets the kernel choose; the result tells.
  public var address: SocketAddress

  public init(_ kind: Kind, on address: SocketAddress) {
    self.kind = kind
    self.address = address
  }
}

/// What became of one wanted listener.
public struct ListenerStatus: Sendable, Hashable {
  public var listener: ProxyListener
  /// Where it listens, with the port the kernel chose; nil when it could not be opened.
  public var address: SocketAddress?
  /// Why it could not be opened; tried again with the next state.
  public var error: SystemError?
}

/// What `publish` came to: every worker serves the state, but for the listeners that say otherwise.
public struct PublishResult: Sendable, Hashable {
  public var revision: UInt64
  public var registryVersion: UInt64
  public var listeners: [ListenerStatus]

  public var failures: [ListenerStatus] { listeners.filter { $0.error != nil } }
  /// The address of the first open listener of a kind.
  public func address(of kind: ProxyListener.Kind) -> SocketAddress? {
    listeners.first { $0.listener.kind == kind && $0.address != nil }?.address
  }
}

/// The state with its lookups made ready; built once, shared by all workers.
final class ServingState: Sendable {
  let snapshot: MeshSnapshot
  let tls: TLSMaterial
  let options: ProxyOptions
  /// What the workers share of each cluster.
  let loads: LoadTable
  /// The same of ports of local workloads that have limits, parallel to `snapshot.inbound`.
  let inboundLoads: LoadTable
  /// How servers outside the mesh are called by TLS.
  private let upstreamTLS: Set<UpstreamTLS>
  /// Of each local workload that has one, parallel to `snapshot.localWorkloads`.
  let rateLimits: [SharedTokenBucket?]
  /// Requests under way to each local workload, parallel to `snapshot.localWorkloads`.
  let activity: [WorkloadActivity]
  /// Counts published states; what workers cache by index is valid for one number.
  let generation: UInt64
  /// A number for each local workload, by index into `snapshot.localWorkloads`, that stays the same over states and changes
  /// with its identity: connections to other nodes are shared by it.
  let sourceNumbers: [Int32]
  /// How requests of each local workload name it to other nodes, by index into `snapshot.localWorkloads`.
  let sourceLines: [HeaderLine?]
  /// Index into `snapshot.localWorkloads` by `WorkloadFacts.key`.
  private let localByKey: ByteTable<Int>
  /// Where a server name of the mesh port leads.
  private let inboundByName: ByteTable<InboundTarget>
  /// Index into `snapshot.localWorkloads` by index into `snapshot.workloads`.
  private let localByWorkload: [WorkloadIndex: Int]

  /// - Parameter old: the state before this one; what is counted of things that stay goes on.
  init(_ state: ProxyState, generation: UInt64, after old: ServingState? = nil, now: Instant = EventLoop.monotonicNow()) {
    snapshot = state.snapshot
    let isNext = old.map { state.snapshot.changes?.follows($0.snapshot.changes) ?? false } ?? false
    let changed = isNext ? state.snapshot.changes?.clusters : nil
    loads = LoadTable(state.snapshot.clusters, after: old?.loads, changed: changed, now: now)
    upstreamTLS = Self.upstreamTLS(state.snapshot, after: old, changed: changed)
    inboundLoads = LoadTable(state.snapshot.inbound, after: old?.inboundLoads, now: now)
    let before = state.snapshot.localWorkloads.map { local in
      state.snapshot.workloads.indices.contains(local.workload)
        ? old?.localWorkload(key: state.snapshot.workloads[local.workload].key) : nil
    }
    activity = before.map { $0.flatMap { old?.activity[$0] } ?? WorkloadActivity() }
    rateLimits = zip(before, state.snapshot.localWorkloads).map { before, local in
      guard let limit = local.rateLimit else { return nil }
      let known = before.flatMap { old?.rateLimits[$0] }
      return known?.policy == limit ? known : SharedTokenBucket(limit)
    }
    options = state.options
    self.generation = generation
    sourceLines = state.snapshot.localWorkloads.map { local in
      guard state.snapshot.workloads.indices.contains(local.workload) else { return nil }
      return HeaderLine(Names.meshSource, Array(state.snapshot.workloads[local.workload].key.utf8))
    }
    var local: [(key: [UInt8], value: Int)] = []
    var inbound: [(key: [UInt8], value: InboundTarget)] = []
    var byWorkload: [WorkloadIndex: Int] = [:]
    for (index, workload) in snapshot.localWorkloads.enumerated() {
      guard snapshot.workloads.indices.contains(workload.workload) else { continue }
      let facts = snapshot.workloads[workload.workload]
      local.append((Array(facts.key.utf8), index))
      byWorkload[workload.workload] = index
      for (position, port) in workload.ports.enumerated() {
        let service = workload.services.indices.contains(position) ? workload.services[position] : nil
        let name = "\(port.port).\(facts.name).\(facts.namespace).workload.mesh"
        inbound.append(
          (
            Array(name.utf8),
            InboundTarget(
              localWorkload: index, port: port.port, service: service, protocol: port.protocol,
              endpoint: UpstreamKey.endpoint(workload.address, port.port),
              cluster: workload.inbound.indices.contains(position) ? workload.inbound[position] : nil)
          ))
      }
    }
    sourceNumbers = snapshot.localWorkloads.map { SourceNumbers.number($0, in: state.snapshot) }
    localByKey = ByteTable(local)
    inboundByName = ByteTable(inbound)
    tls = TLSMaterial(
      state.snapshot, state.identities, inboundNames: inbound.map { ($0.key, $0.value.localWorkload) },
      upstream: upstreamTLS, after: old?.tls)
    localByWorkload = byWorkload
  }

  private static func upstreamTLS(
    _ snapshot: MeshSnapshot, after old: ServingState?, changed: [ClusterIndex]?
  ) -> Set<UpstreamTLS> {
    if let old, let changed, snapshot.clusters.count >= old.snapshot.clusters.count {
      func originates(_ clusters: ClusterTable) -> Bool {
        changed.contains { $0 < clusters.count && clusters.ifInUse($0)?.tls.originates == true }
      }
      if !originates(snapshot.clusters) && !originates(old.snapshot.clusters) { return old.upstreamTLS }
    }
    // Clusters with TLS of their own are compiled with the snapshot.
    return Set(snapshot.clusters.indices.lazy.compactMap { snapshot.clusters.ifInUse($0)?.tls }.filter(\.originates))
  }

  func localWorkload(key: String) -> Int? { localByKey[Array(key.utf8)] }
  func localWorkload(of workload: WorkloadIndex) -> Int? { localByWorkload[workload] }
  /// The server name of a port of a local workload.
  func inboundName(of target: InboundTarget) -> [UInt8] {
    guard snapshot.localWorkloads.indices.contains(target.localWorkload) else { return [] }
    let index = snapshot.localWorkloads[target.localWorkload].workload
    guard snapshot.workloads.indices.contains(index) else { return [] }
    let facts = snapshot.workloads[index]
    return Array("\(target.port).\(facts.name).\(facts.namespace).workload.mesh".utf8)
  }

  func inboundTarget(serverName: [UInt8]) -> InboundTarget? { inboundByName[serverName] }

  /// Where a port leads that a Sidecar opens for others to reach the workload; nil when it is none, or gone.
  func ownTarget(of port: ListeningPort) -> InboundTarget? {
    guard let listener = port.own, snapshot.localWorkloads.indices.contains(port.localWorkload) else { return nil }
    return ownTarget(of: listener, localWorkload: port.localWorkload)
  }

  func ownTarget(of listener: WorkloadListener, localWorkload: Int) -> InboundTarget? {
    guard case .inbound(let speaks, let cluster, _) = listener.role, snapshot.inbound.indices.contains(cluster),
      let endpoint = snapshot.inbound[cluster].endpoints.first
    else { return nil }
    return InboundTarget(
      localWorkload: localWorkload, port: listener.port, service: snapshot.inbound[cluster].service, protocol: speaks,
      endpoint: UpstreamKey.endpoint(endpoint.address, endpoint.port), cluster: cluster)
  }
}

/// Requests that a workload of this node has to answer, and opaque connections that it has, counted by all workers.
final class WorkloadActivity: Sendable {
  private let requests = Atomic<Int>(0)
  func began() { requests.wrappingAdd(1, ordering: .relaxed) }
  func ended() { requests.wrappingSubtract(1, ordering: .relaxed) }
  var count: Int { requests.load(ordering: .relaxed) }
}

/// A port of a workload on this node.
struct InboundTarget: Sendable, Hashable {
  /// Index into `MeshSnapshot.localWorkloads`.
  var localWorkload: Int
  var port: UInt16
  /// The service it stands behind, an index into `MeshSnapshot.services`; nil when no service names it.
  var service: Int?
  var `protocol`: PortProtocol
  /// What its connections are shared by.
  var endpoint: UInt64
  /// Where it is and within which limits it is called, an index into `MeshSnapshot.inbound`; nil: as it was registered.
  var cluster: Int?
}

extension MeshSnapshot {
  /// Where the application behind a port listens.
  func application(_ target: InboundTarget) -> (host: String, port: UInt16) {
    if let index = target.cluster, inbound.indices.contains(index), let endpoint = inbound[index].endpoints.first {
      return (endpoint.address, endpoint.port)
    }
    return (localWorkloads[target.localWorkload].address, target.port)
  }
}

extension ServingState {
  /// Where the application behind an endpoint of this node listens, when a Sidecar says another place than was registered.
  func application(of endpoint: Endpoint) -> (host: String, port: UInt16)? {
    guard endpoint.isLocal, !snapshot.inbound.isEmpty, let local = endpoint.workload.flatMap({ localWorkload(of: $0) }),
      let position = snapshot.localWorkloads[local].ports.firstIndex(where: { $0.port == endpoint.port }),
      snapshot.localWorkloads[local].inbound.indices.contains(position),
      let index = snapshot.localWorkloads[local].inbound[position], let place = snapshot.inbound[index].endpoints.first
    else { return nil }
    return (place.address, place.port)
  }
}
