import Cluster
import Consensus
import Membership
import MeshConfig
import Primitives
import Proxy
import Transport

/// Keeps this node's data plane true to the cluster: compiles what is known into a snapshot and has the workers serve it.
public actor SnapshotKeeper {
  /// What the workers serve, and what came of it.
  public struct Serving: Sendable {
    public var snapshot: MeshSnapshot
    public var listeners: [ListenerStatus]
    /// What in the configuration has no effect on this node.
    public var findings: [Finding]
    /// Objects of the log that are not in force, each with the reason.
    public var notEnforced: [String]
  }

  /// How listeners are laid out on this node.
  public struct Layout: Sendable {
    public var settings: MeshSettings
    public var meshPort: UInt16
    public var options: ProxyOptions
    /// Options for a mesh whose own configuration says where requests are logged, and how.
    public var logging: @Sendable (MeshConfiguration.AccessLog, ProxyOptions) -> ProxyOptions

    public init(
      settings: MeshSettings, meshPort: UInt16, options: ProxyOptions,
      logging: @escaping @Sendable (MeshConfiguration.AccessLog, ProxyOptions) -> ProxyOptions = { $1 }
    ) {
      self.settings = settings
      self.meshPort = meshPort
      self.options = options
      self.logging = logging
    }

    func options(for settings: MeshSettings) -> ProxyOptions {
      settings.accessLog.map { logging($0, options) } ?? options
    }
  }

  private let cluster: ClusterRuntime
  private let runtime: ProxyRuntime
  private let layout: Layout
  private var decoded = DecodedObjects()
  private var workloadFeed: WorkloadFeed
  /// Keeps what it compiled last, so that a change costs what it touches.
  private var compiler: SnapshotCompiler
  /// TLS contexts by identity, made anew when a certificate or the trust bundle changes.
  private var material: [SPIFFEID: ProxyIdentities.Workload] = [:]
  private var holdings: IdentityKeeper.Holdings?
  /// What the mesh's configuration said of TLS when those were made.
  private var workloadTLS = MeshSettings.WorkloadTLS()
  /// What the SPIFFE bundles hold that it names.
  private var bundles = BundleKeeper.Holdings()
  private var outboundPorts: [WorkloadKey: UInt16] = [:]
  private var outboundPortsVersion: UInt64 = 0
  private var forwards: [WorkloadKey: [PortForward]] = [:]
  /// What is served while the cluster's own word is not to be had: the last state of an earlier life.
  private var remembered: ControlState?
  public private(set) var serving: Serving?
  /// The registry that `serving` was compiled from.
  private var servedRegistry: Registry?
  private var waiters: [UInt64: (awaited: Awaited, continuation: CheckedContinuation<Void, Never>)] = [:]

  private enum Awaited {
    case revision(UInt64)
    case row(RowKey, RowVersion)
  }
  private var nextWaiter: UInt64 = 0
  private var isPublishing = false
  private var isStale = false
  private var isClosed = false
  private var pace = PublicationPace()
  private var roundWaiters: [CheckedContinuation<Void, Never>] = []

  public init(cluster: ClusterRuntime, runtime: ProxyRuntime, layout: Layout, remembered: ControlState?) {
    self.cluster = cluster
    self.runtime = runtime
    self.layout = layout
    compiler = SnapshotCompiler(settings: layout.settings, id: 1)
    workloadFeed = WorkloadFeed(local: cluster.local.name)
    self.remembered = remembered
  }

  // MARK: Serving

  /// The revision the workers serve.
  public var servedRevision: UInt64 { serving?.snapshot.revision ?? 0 }

  /// Returns when the workers serve the revision or a later one; the revision they serve.
  public func awaitServing(revision: UInt64) async throws -> UInt64 {
    try await wait(for: .revision(revision))
    return servedRevision
  }

  /// Returns when the workers route by this version of a row or by a later one.
  public func awaitRouting(_ key: RowKey, _ version: RowVersion) async throws { try await wait(for: .row(key, version)) }

  private func isServed(_ awaited: Awaited) -> Bool {
    switch awaited {
    case .revision(let revision): servedRevision >= revision
    case .row(let key, let version): servedRegistry?.row(key).map { $0.version >= version } ?? false
    }
  }

  private func wait(for awaited: Awaited) async throws {
    if isServed(awaited) { return }
    nextWaiter &+= 1
    let id = nextWaiter
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        waiters[id] = (awaited, continuation)
        // Cancelled before it stood in the table: nobody would wake it.
        if Task.isCancelled { giveUp(id) }
      }
    } onCancel: {
      Task { await self.giveUp(id) }
    }
    try Task.checkCancellation()
  }

  private func giveUp(_ id: UInt64) { waiters.removeValue(forKey: id)?.continuation.resume() }

  public func use(_ holdings: IdentityKeeper.Holdings) async {
    self.holdings = holdings
    makeMaterial()
    await refresh()
  }

  /// Takes what is known of SPIFFE bundles, unless newer came first: it holds for the handshakes to come.
  public func use(_ bundles: BundleKeeper.Holdings) async {
    guard bundles.version > self.bundles.version else { return }
    self.bundles = bundles
    makeMaterial()
    await refresh()
  }

  private func makeMaterial() {
    guard let holdings else { return }
    let before = material
    let trust = holdings.trust.adding(workloadTLS, bundles.authorities)
    material = [:]
    for identity in holdings.workloads.values where !identity.chain.isEmpty {
      if let known = before[identity.id], known.isMade(of: identity.chain, bundle: trust, curves: workloadTLS.curves) {
        material[identity.id] = known
        continue
      }
      guard let shown = try? TLSIdentity(chain: identity.chain, key: identity.key) else { continue }
      material[identity.id] = try? ProxyIdentities.Workload(identity: shown, bundle: trust, curves: workloadTLS.curves)
    }
  }

  /// Takes the ports of local workloads, unless newer ones came first.
  public func use(_ local: LocalWorkloads.Needs) async {
    if local.version >= outboundPortsVersion {
      outboundPortsVersion = local.version
      outboundPorts = local.outboundPorts
      forwards = local.forwards
    }
    await refresh()
  }

  /// Compiles what is known now and returns when the workers serve it. Calls that come meanwhile share the next round.
  public func refresh() async {
    guard !isClosed else { return }
    isStale = true
    if isPublishing { return await nextRound() }
    isPublishing = true
    while isStale {
      // Who comes meanwhile shares this round.
      let pause = pace.pause(at: EventLoop.monotonicNow())
      if pause > .zero { try? await Task.sleep(for: pause) }
      isStale = false
      pace.began(at: EventLoop.monotonicNow())
      // Who comes during this round waits for the next: this one may have begun before their news.
      let waiting = roundWaiters
      roundWaiters = []
      await publish()
      for waiter in waiting { waiter.resume() }
    }
    isPublishing = false
  }

  private func nextRound() async {
    await withCheckedContinuation { roundWaiters.append($0) }
  }

  /// The workers go on with what they serve: a draining proxy must not open its listeners again.
  public func close() async {
    isClosed = true
    if isPublishing {
      isStale = true
      await nextRound()
    }
  }

  private func publish() async {
    let view = cluster.view
    let control = controlToServe(view)
    feed(control)
    feed(view)
    compiler.use(names: runtime.addresses(ofNamesSeenFrom: IPAddress(layout.settings.localAddress)))
    let (snapshot, findings) = compiler.compile(revision: control.revision.number, registryVersion: view.registryVersion)
    if snapshot.settings.workloadTLS != workloadTLS {
      workloadTLS = snapshot.settings.workloadTLS
      makeMaterial()
    }
    let result = await runtime.publish(
      ProxyState(
        snapshot: snapshot, listeners: listeners(snapshot), identities: identities(snapshot),
        options: layout.options(for: snapshot.settings)))
    runtime.watch(names: compiler.namesToResolve) { [weak self] in
      Task { await self?.refresh() }
    }
    serving = Serving(snapshot: snapshot, listeners: result.listeners, findings: findings, notEnforced: decoded.notEnforced)
    await cluster.report(revisionServed: snapshot.revision)
    servedRegistry = view.registry
    for (id, waiter) in waiters where isServed(waiter.awaited) {
      waiters[id] = nil
      waiter.continuation.resume()
    }
  }

  /// The cluster's state; the remembered one until the log has caught up with it.
  private func controlToServe(_ view: ClusterView) -> ControlState {
    guard let old = remembered else { return view.control }
    if view.control.applied.index >= old.applied.index {
      remembered = nil
      return view.control
    }
    return old
  }

  /// Gives the compiler the objects that have changed.
  private func feed(_ control: ControlState) {
    compiler.use(allocated: control.addresses.mapValues { "\($0)" })
    switch decoded.change(to: control, secrets: cluster.secrets) {
    case .everything(let objects): compiler.replace(objects: objects)
    case .some(let gone, let put):
      for key in gone { compiler.remove(key) }
      for object in put { compiler.put(object) }
    }
  }

  /// Gives the compiler the workloads that have changed.
  private func feed(_ view: ClusterView) {
    // The cluster file tells where a node is that has not been seen in this life.
    let seeds = cluster.local.seeds.map { ($0.name, $0.address.host) }
    let surroundings = WorkloadFeed.Surroundings(
      live: Set(view.members.filter { $0.state == .alive }.map(\.name)),
      addresses: Dictionary(view.members.map { ($0.name, $0.address.host) } + seeds) { first, _ in first },
      outboundPorts: outboundPorts)
    switch workloadFeed.change(to: view.registry, in: surroundings) {
    case .everything(let records): compiler.replace(workloads: records)
    case .some(let gone, let put):
      for key in gone { compiler.removeWorkload(key) }
      for record in put { compiler.put(record) }
    }
  }

  private func listeners(_ snapshot: MeshSnapshot) -> [ProxyListener] {
    let host = layout.settings.localAddress
    var listeners: [ProxyListener] = []
    func add(_ kind: ProxyListener.Kind, _ port: UInt16, on bind: String? = nil) {
      guard let address = SocketAddress(endpoint: bind ?? host, port: port) else { return }
      listeners.append(ProxyListener(kind, on: address))
    }
    add(.meshInbound, layout.meshPort)
    for place in snapshot.gateways.map(\.place) {
      let kind = ProxyListener.Kind.gateway(port: place.port, bind: place.bind)
      if !listeners.contains(where: { $0.kind == kind }) { add(kind, place.port, on: place.bind) }
    }
    for workload in snapshot.localWorkloads {
      let facts = snapshot.workloads[workload.workload]
      if let port = workload.outboundPort { add(.outbound(workload: facts.key), port) }
      for own in workload.listeners {
        let kind = ProxyListener.Kind.sidecar(workload: facts.key, bind: own.bind, port: own.port)
        guard let address = SocketAddress(endpoint: own.bind, port: own.port) else { continue }
        listeners.append(ProxyListener(kind, on: address))
      }
      guard let namespace = try? DNSLabel(facts.namespace), let name = try? DNSLabel(facts.name) else { continue }
      for forward in forwards[WorkloadKey(namespace: namespace, name: name)] ?? [] {
        add(.forward(workload: facts.key, host: forward.host, port: forward.target), forward.port)
      }
    }
    return listeners
  }

  private func identities(_ snapshot: MeshSnapshot) -> ProxyIdentities {
    var workloads: [String: ProxyIdentities.Workload] = [:]
    for local in snapshot.localWorkloads {
      if let material = material[local.identity] { workloads[snapshot.workloads[local.workload].key] = material }
    }
    return ProxyIdentities(workloads)
  }
}

extension Transport.TrustBundle {
  /// What workloads trust: this, and what the mesh's configuration adds. What cannot be added is left out: trust is never
  /// wider than it was written.
  func adding(_ written: MeshSettings.WorkloadTLS, _ bundles: BundleKeeper.Authorities) -> Transport.TrustBundle {
    var all = authorities
    var bound: [BoundAuthority] = []
    for authority in written.authorities {
      for certificate in Self.authorities(of: authority.source, bundles) where !all.contains(certificate) {
        if authority.trustDomains.isEmpty {
          all.append(certificate)
        } else {
          bound.append(BoundAuthority(certificate, trustDomains: Set(authority.trustDomains)))
        }
      }
    }
    let wider = try? Transport.TrustBundle(
      trustDomain: trustDomain, aliases: written.aliases, authorities: all, bound: bound, version: version)
    return wider ?? self
  }

  private static func authorities(
    of source: MeshConfiguration.Authority.Source, _ bundles: BundleKeeper.Authorities
  ) -> [Certificate] {
    switch source {
    case .pem(let pem): ((try? Certificate.parse(pem: Array(pem.utf8))) ?? []).filter(\.isAuthority)
    case .bundle(let url): bundles[url] ?? []
    }
  }
}

extension WorkloadRecord {
  init(_ placed: Registry.PlacedWorkload, meshAddress: String, outboundPort: UInt16?) {
    let row = placed.row
    let health: EndpointHealth =
      switch row.health {
      case .starting: .starting
      // Only what was well when its node was last seen is worth a try when nothing better is left.
      case .healthy: placed.isReachable ? .healthy : .unreachable
      case .unhealthy: .unhealthy
      case .leaving: .leaving
      }
    self.init(
      node: placed.owner, name: row.name.string, namespace: row.namespace.string,
      service: row.isGateway ? nil : row.service.string, serviceAccount: row.serviceAccount.string,
      labels: Dictionary(row.labels.map { ($0.key, $0.value) }) { first, _ in first }, address: row.address,
      meshAddress: meshAddress, meshPort: placed.meshPort,
      ports: row.ports.map {
        WorkloadRecord.Port(
          name: $0.name, servicePort: $0.servicePort, port: $0.port, protocol: PortProtocol(rawValue: $0.appProtocol) ?? .auto)
      },
      locality: Locality(parsing: row.locality), weight: row.weight, health: health, isGateway: row.isGateway,
      outboundPort: outboundPort)
  }
}
