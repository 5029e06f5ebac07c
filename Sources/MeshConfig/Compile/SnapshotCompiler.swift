import Primitives

extension MeshSnapshot {
  /// Compiles the configuration and the registry as this node sees them, from nothing. Equal inputs give snapshots that
  /// decide alike on every node.
  ///
  /// The findings say what in the state has no effect: shadowed hosts, conflicting ports, destinations that do not exist.
  public static func compile(
    revision: UInt64, registryVersion: UInt64, objects: [StoredObject], workloads: [WorkloadRecord], settings: MeshSettings
  ) -> (snapshot: MeshSnapshot, findings: [Finding]) {
    var compiler = SnapshotCompiler(settings: settings)
    compiler.replace(objects: objects)
    compiler.replace(workloads: workloads)
    return compiler.compile(revision: revision, registryVersion: registryVersion)
  }
}

/// Compiles one snapshot after another: what a change does not touch is taken over from the last one.
///
/// Give it the changes, then ask for a snapshot. A compiler that was given the same state in other steps makes snapshots that
/// decide alike; only the order of clusters and workloads may differ.
public struct SnapshotCompiler: Sendable {
  /// What the node was started with, and with it what the mesh's own configuration says.
  private let base: MeshSettings
  private let settings: MeshSettings
  private let settingsFindings: [Finding]
  private let id: UInt64
  private var number: UInt64 = 0

  private var objects = HeldObjects()
  private var discovery = Discovery()
  private var changed = Changed.first
  /// Objects that Ingresses were made into.
  private var madeOfIngresses: Set<ObjectKey> = []
  private var ingressesAreStale = false
  /// VirtualServices and DestinationRules that have changed.
  private var changedRules: Set<ObjectKey> = []
  private var changedPolicies: Set<ObjectKey> = []

  /// Services whose endpoints have changed.
  private var touchedServices: Set<ServiceID> = []
  private var touchedNames: Set<WorkloadBook.ServiceName> = []

  private var entriesByObject: [ObjectKey: (stamp: UInt64, entries: [ServiceCatalog.Entry])] = [:]
  /// Entries that other objects put endpoints behind, and what they are without.
  private var adorned: [ServiceID: (bare: ServiceCatalog.Entry, entry: ServiceCatalog.Entry)] = [:]
  private var implied: [WorkloadBook.ServiceName: ServiceCatalog.Entry] = [:]
  /// Virtual addresses that were allocated, by host.
  private var allocated: [String: String] = [:]
  private var book: RuleBook
  private var sidecars: SidecarIndex
  private var rateLimits: RateLimitCompiler
  /// nil while there is no object of the Gateway API.
  private var gatewayAPI: GatewayAPI.Topology?
  private var gatewayObjects: [StoredObject] = []
  /// Holds the workloads, too: one owner, so that a change copies nothing.
  private var pool: ClusterPool
  private var routes = CompiledRoutes()
  private let compiler: RouteCompiler

  private var services: [Service] = []
  private var local: [LocalClient] = []
  /// What the latest compilation took.
  public private(set) var work = CompileWork()

  private struct Changed: OptionSet {
    let rawValue: UInt8
    /// Services and what is written to stand behind them.
    static let catalog = Changed(rawValue: 1)
    static let sidecars = Changed(rawValue: 2)
    static let gateways = Changed(rawValue: 4)
    /// Secrets, objects of the Gateway API and what else may be part of anything.
    static let anything = Changed(rawValue: 8)
    static let first: Changed = [.catalog, .sidecars, .gateways, .anything]
  }

  /// - Parameter id: tells this compiler from others of the process; see `SnapshotChanges`.
  public init(settings: MeshSettings, id: UInt64 = 0) { self.init(settings, under: nil, id: id) }

  private init(_ base: MeshSettings, under configuration: MeshConfiguration?, id: UInt64) {
    let settings = base.applying(configuration)
    self.base = base
    self.settings = settings
    settingsFindings = base.findings(of: configuration)
    self.id = id
    book = RuleBook(settings: settings)
    sidecars = SidecarIndex([], rootNamespace: settings.rootNamespace)
    rateLimits = RateLimitCompiler(objects: [], rootNamespace: settings.rootNamespace)
    pool = ClusterPool(book: WorkloadBook(settings: settings), settings: settings)
    compiler = RouteCompiler(settings: settings)
  }

  // MARK: Changes of the configuration

  /// Takes an object, new or changed.
  public mutating func put(_ object: StoredObject) {
    if object.key.kind == .namespace, discovery.use(object.object.meta.labels, of: object.key.name) {
      look(at: object.key.name)
    }
    if discovery.sees(object.key) {
      discovery.forget(object.key)
      take(object)
    } else {
      discovery.hide(object)
      drop(object.key)
    }
  }

  public mutating func remove(_ key: ObjectKey) {
    if key.kind == .namespace, discovery.use(nil, of: key.name) { look(at: key.name) }
    if discovery.forget(key) == nil { drop(key) }
  }

  private mutating func take(_ object: StoredObject) {
    guard objects.put(object) else { return }
    note(object.key)
    noteIngress(object.key)
    if object.key == MeshConfiguration.key { adoptConfiguration() }
  }

  private mutating func drop(_ key: ObjectKey) {
    guard objects.remove(key) else { return }
    note(key)
    noteIngress(key)
    if key == MeshConfiguration.key { adoptConfiguration() }
  }

  /// Hides what is not seen any more, and shows what is seen now: in one namespace, or in all.
  private mutating func look(at namespace: String? = nil) {
    let covered = objects.keys.filter { key in
      (namespace ?? key.namespace) == key.namespace && !discovery.sees(key) && !madeOfIngresses.contains(key)
    }
    for key in covered.sorted() {
      if let held = objects[key] { discovery.hide(held.stored) }
      drop(key)
    }
    let records = pool.book.entries.map(\.record) + pool.book.refused.sorted { $0.key < $1.key }.map(\.value.record)
    for record in records where !discovery.sees(record.namespace) {
      discovery.hide(record)
      dropWorkload(record.key)
    }
    let uncovered = discovery.uncovered
    for object in uncovered.objects {
      discovery.forget(object.key)
      take(object)
    }
    for workload in uncovered.workloads {
      discovery.forgetWorkload(workload.key)
      take(workload, key: workload.key)
    }
  }

  /// The mesh's own settings are part of everything, so all that was compiled under others is left behind.
  private mutating func adoptConfiguration() {
    let configuration = MeshConfiguration.of(objects[MeshConfiguration.key]?.stored.object)
    if base.applying(configuration) == settings, base.findings(of: configuration) == settingsFindings { return }
    var fresh = SnapshotCompiler(base, under: configuration, id: id)
    fresh.objects = objects
    fresh.madeOfIngresses = madeOfIngresses
    fresh.ingressesAreStale = !madeOfIngresses.isEmpty
    fresh.changedRules = Set(objects.keys.filter { $0.kind == .virtualService })
    fresh.changedPolicies = Set(objects.keys.filter { $0.kind == .destinationRule })
    // What follows is no sequence to what went before.
    fresh.number = number + 1
    fresh.pool.book = pool.book
    fresh.pool.book.use(fresh.settings)
    fresh.pool.names = pool.names
    fresh.allocated = allocated
    for entry in pool.book.entries { fresh.touch(entry.record) }
    fresh.discovery = discovery
    fresh.discovery.selectors = fresh.settings.discoverySelectors
    let looks = fresh.discovery.selectors != discovery.selectors
    self = fresh
    if looks { look() }
  }

  /// Makes these all the objects there are.
  public mutating func replace(objects new: [StoredObject]) {
    let keys = Set(new.map(\.key))
    let known = objects.keys.filter { !madeOfIngresses.contains($0) } + discovery.objects.keys
    for key in known.sorted() where !keys.contains(key) { remove(key) }
    for object in Discovery.ordered(new) { put(object) }
  }

  /// Ingresses are followed in the words of Istio's objects; a Service says which numbers its ports' names have.
  private mutating func noteIngress(_ key: ObjectKey) {
    let concerns = key.kind == .ingress || key.kind == .ingressClass || key.kind == .service
    if concerns && (key.kind == .ingress || objects.kinds.contains(.ingress)) { ingressesAreStale = true }
  }

  private mutating func updateIngresses() {
    ingressesAreStale = false
    let made = IngressRules(objects.oldestFirst([.ingress, .ingressClass, .service]).map(\.stored), settings: settings).objects
    let keys = Set(made.map(\.key))
    for key in madeOfIngresses.subtracting(keys).sorted() where objects.remove(key) { note(key) }
    for object in made where objects.put(object) { note(object.key) }
    madeOfIngresses = keys
  }

  private mutating func note(_ key: ObjectKey) {
    switch key.kind {
    case .virtualService: changedRules.insert(key)
    case .destinationRule: changedPolicies.insert(key)
    case .service, .serviceEntry, .workloadEntry, .endpoints, .endpointSlice: changed.insert(.catalog)
    case .sidecar: changed.insert(.sidecars)
    case .gateway, .envoyFilter: changed.insert(.gateways)
    default: changed.insert(.anything)
    }
  }

  // MARK: Changes of the registry

  /// Takes a workload, new or changed.
  public mutating func put(_ workload: WorkloadRecord) { put(workload, key: workload.key) }

  private mutating func put(_ workload: WorkloadRecord, key: String) {
    if discovery.sees(workload.namespace) {
      discovery.forgetWorkload(key)
      take(workload, key: key)
    } else {
      discovery.hide(workload)
      dropWorkload(key)
    }
  }

  private mutating func take(_ workload: WorkloadRecord, key: String) {
    guard let earlier = pool.book.put(workload, key: key) else { return }
    for record in earlier { touch(record) }
    touch(workload)
  }

  /// Forgets the workload called `<namespace>/<name>@<node>`.
  public mutating func removeWorkload(_ key: String) {
    if discovery.forgetWorkload(key) == nil { dropWorkload(key) }
  }

  private mutating func dropWorkload(_ key: String) {
    guard let earlier = pool.book.remove(key) else { return }
    for record in earlier { touch(record) }
  }

  /// Makes these all the workloads there are.
  public mutating func replace(workloads new: [WorkloadRecord]) {
    // Each key is written once: it is what takes the time.
    let keys = new.map(\.key)
    let known =
      pool.book.entries.map(\.record.key) + pool.book.refused.keys.sorted() + discovery.workloads.keys.sorted()
    if !known.isEmpty {
      let stay = Set(keys)
      for key in known where !stay.contains(key) { removeWorkload(key) }
    }
    for index in keys.indices.sorted(by: { keys[$0] < keys[$1] }) { put(new[index], key: keys[index]) }
  }

  // MARK: What others find out

  /// Names outside the mesh whose addresses are endpoints of what is compiled.
  public var namesToResolve: [String] { pool.namesToResolve }

  /// Takes the addresses of such names. One that is not known stands for itself: whoever connects looks it up.
  public mutating func use(names: [String: [String]]) { touchedServices.formUnion(pool.use(names: names)) }

  /// Takes the virtual addresses that were allocated, by host.
  public mutating func use(allocated: [String: String]) {
    if allocated == self.allocated { return }
    self.allocated = allocated
    changed.insert(.catalog)
  }

  private mutating func touch(_ record: WorkloadRecord) {
    if let name = record.service { touchedNames.insert(WorkloadBook.ServiceName(namespace: record.namespace, name: name)) }
    if pool.catalog.entries.isEmpty { return }
    for index in pool.catalog.services(of: record) { touchedServices.insert(pool.catalog.entries[index].id) }
    touchedServices.formUnion(pool.catalog.byMemberAddress[record.address] ?? [])
  }

  // MARK: Compiling

  /// The snapshot of all that was given, and what in it has no effect.
  public mutating func compile(revision: UInt64, registryVersion: UInt64) -> (snapshot: MeshSnapshot, findings: [Finding]) {
    let before = CompileWork(pool, routes)
    if ingressesAreStale { updateIngresses() }
    updateImplied()
    pool.rebuild(touchedServices)
    touchedServices = []
    let wereLocal = local
    let isSilent = changed.isEmpty && changedPolicies.isEmpty
    let edited = changedRules.isEmpty ? [] : book.update(changedRules, objects)
    changedRules = []
    var concern = updateSources()
    local = locals()
    let sameClients = local.elementsEqual(wereLocal) { $0.routesAlike($1) }
    if !sameClients { concern.gateways = true }
    let onlyEndpoints = isSilent && edited.isEmpty && sameClients
    updateRoutes(edited, concern)
    number += 1
    work = CompileWork(pool, routes).since(before)
    let workloads = pool.book
    let (own, inbound, conflicts) = localWorkloads()
    let snapshot = MeshSnapshot(
      revision: revision, registryVersion: registryVersion, settings: settings, services: services, clusters: pool.clusters,
      workloads: workloads.table, outbound: routes.tables, localWorkloads: own, gateways: routes.gateways,
      tcp: routes.tcp, inbound: inbound,
      changes: SnapshotChanges(
        compiler: id, number: number, clusters: pool.takeTouched(), onlyEndpoints: onlyEndpoints && number > 1))
    let refused = workloads.refused.keys.sorted().compactMap { workloads.refused[$0]?.why }
    let found =
      settingsFindings + discovery.findings + refused + book.findings + pool.rules.findings + routes.findings + conflicts
    return (snapshot, Self.unique(found))
  }

  private mutating func updateRoutes(_ edited: [RuleBook.Entry], _ concern: Concern) {
    let sources = RouteSources(
      settings: settings, compiler: compiler, book: book, sidecars: sidecars, gatewayAPI: gatewayAPI,
      gatewayObjects: gatewayObjects)
    routes.update(&local, edited, concern, sources, pool: &pool)
    pool.forgetAnswers()
  }

  /// Services that registrations imply, where those have changed.
  private mutating func updateImplied() {
    for name in touchedNames {
      let workloads = pool.book.workloads(named: name).map { pool.book.entries[$0] }
      let found = ServiceCatalog.implied(name, by: workloads, settings)
      let entry = found.map { $0.withAddress(allocated[$0.service.host]) }
      if entry?.service == implied[name]?.service { continue }
      implied[name] = entry
      changed.insert(.catalog)
    }
    touchedNames = []
  }

  /// Takes changed objects other than VirtualServices. Returns what is compiled from them.
  private mutating func updateSources() -> Concern {
    defer { (changed, changedPolicies) = ([], []) }
    var concern = Concern.nothing
    let patterns = changedPolicies.isEmpty ? [] : pool.update(rules: changedPolicies, objects)
    if changed.contains(.catalog) {
      let other = updateCatalog()
      concern.add(hosts: other.hosts)
      concern.names = other.ofNames
    }
    // Rules may be for services that come with them.
    if !patterns.isEmpty { concern.add(hosts: pool.catalog.hosts(coveredBy: patterns)) }
    if changed.contains(.sidecars) { updateSidecars(&concern) }
    if !changed.isDisjoint(with: [.gateways, .anything]) {
      rateLimits = RateLimitCompiler(
        objects: objects.oldestFirst(.envoyFilter).map(\.stored), rootNamespace: settings.rootNamespace)
      gatewayObjects = objects.oldestFirst([.gateway, .secret]).map(\.stored)
      concern.gateways = true
    }
    let hadGatewayAPI = gatewayAPI != nil
    if !changed.isEmpty { updateGatewayAPI() }
    // Routes of the Gateway API do not tell what they depend on.
    let isAnything = changed.contains(.anything) || !changed.isEmpty && (hadGatewayAPI || gatewayAPI != nil)
    if !isAnything { return concern }
    var policies = GatewayAPI.BackendTLSTable(
      gatewayAPI?.policies ?? [], gatewayAPI?.backendCertificates ?? [:], domain: settings.domain)
    policies.credentials = ClientCredentials(objects.oldestFirst(.secret).map(\.stored))
    pool.use(backendTLS: policies)
    return .all
  }

  /// A Sidecar concerns the workloads that it is for, and of their hosts those that it shows or hides.
  private mutating func updateSidecars(_ concern: inout Concern) {
    let other = SidecarIndex(objects.oldestFirst(.sidecar), rootNamespace: settings.rootNamespace)
    for client in routes.clients where !other.agrees(with: sidecars, on: client) {
      let (before, now) = (sidecars.scope(of: client), other.scope(of: client))
      let shown = pool.catalog.entries.lazy.map(\.service).filter { service in
        before?.admits(service.host, namespace: service.namespace) ?? true
          != now?.admits(service.host, namespace: service.namespace) ?? true
      }
      concern.seen[client] = pool.catalog.withAliases(Set(shown.map(\.host)))
    }
    sidecars = other
    pool.use(sidecars: other)
  }

  private mutating func updateGatewayAPI() {
    guard objects.kinds.contains(where: { $0.group == GatewayAPI.group }) else { return gatewayAPI = nil }
    let concerned = objects.oldestFirst(objects.kinds.subtracting([.virtualService, .destinationRule]))
    gatewayAPI = GatewayAPI.Topology(objects: concerned.map(\.stored), services: services, domain: settings.domain)
  }

  private mutating func updateCatalog() -> (hosts: Set<String>, ofNames: Bool) {
    var next: [ObjectKey: (stamp: UInt64, entries: [ServiceCatalog.Entry])] = [:]
    for held in objects.oldestFirst([.service, .serviceEntry]) {
      let key = held.stored.key
      let known = entriesByObject[key].flatMap { $0.stamp == held.stamp ? $0.entries : nil }
      let entries = known ?? ServiceCatalog.entries(of: held.stored, settings)
      next[key] = (held.stamp, entries.map { $0.withAddress(allocated[$0.service.host]) })
    }
    entriesByObject = next
    for (name, entry) in implied { implied[name] = entry.withAddress(allocated[entry.service.host]) }
    let written = WrittenEndpoints(objects.oldestFirst([.workloadEntry, .endpoints, .endpointSlice]))
    var adornedNow: [ServiceID: (bare: ServiceCatalog.Entry, entry: ServiceCatalog.Entry)] = [:]
    let entries = (next.values.flatMap(\.entries) + implied.values).map { bare in
      let entry = written.adding(to: bare)
      if entry === bare { return bare }
      // The same one as long as what stands behind it is.
      let known = adorned[bare.id].flatMap { $0.bare === bare && $0.entry.written == entry.written ? $0.entry : nil }
      adornedNow[bare.id] = (bare, known ?? entry)
      return known ?? entry
    }
    adorned = adornedNow
    let other = pool.use(catalog: ServiceCatalog(entries))
    if other.ofNames { services = pool.catalog.entries.map(\.service) }
    return other
  }

  /// Workloads of this node in the order of their keys.
  private func locals() -> [LocalClient] {
    let labelKeys = book.clientLabelKeys.union(pool.rules.clientLabelKeys).union(sidecars.clientLabelKeys)
      .union(settings.clientLabelKeys)
    let workloads = pool.book
    return workloads.local.keys.sorted().compactMap { key in
      guard let index = workloads.local[key] else { return nil }
      let record = workloads.entries[index].record
      // Workloads that no rule tells apart share one route table.
      let scope = ClientScope(
        namespace: record.namespace, labels: record.labels.filter { labelKeys.contains($0.key) },
        isGateway: record.isGateway)
      var client = LocalClient(
        key: key, scope: scope, isGateway: record.isGateway, labels: record.labels, ports: record.ports)
      for (index, egress) in (sidecars.scope(of: scope)?.sidecar.egress ?? []).enumerated() where egress.opensListener {
        var own = scope
        own.egress = index
        client.egress.append(LocalClient.Egress(egress: index, scope: own))
      }
      return client
    }
  }

  private func localWorkloads() -> ([LocalWorkload], inbound: [Cluster], findings: [Finding]) {
    let inbound = InboundCompiler(sidecars: sidecars, rules: pool.rules, services: services, settings: settings)
    let compiler = LocalWorkloadCompiler(
      book: pool.book, catalog: pool.catalog, sidecars: sidecars, rateLimits: rateLimits, inbound: inbound, routes: routes,
      settings: settings)
    return compiler.compile(local)
  }

  private static func unique(_ findings: [Finding]) -> [Finding] {
    var seen: Set<Finding> = []
    return findings.filter { seen.insert($0).inserted }
  }
}
