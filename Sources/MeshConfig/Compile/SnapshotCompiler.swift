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
  private var changed: Changed = [.catalog, .rules, .gateways]
  /// Objects that Ingresses were made into.
  private var madeOfIngresses: Set<ObjectKey> = []
  private var ingressesAreStale = false
  /// VirtualServices that have changed.
  private var changedRules: Set<ObjectKey> = []

  /// Services whose endpoints have changed.
  private var touchedServices: Set<ServiceID> = []
  private var touchedNames: Set<WorkloadBook.ServiceName> = []

  private var entriesByObject: [ObjectKey: (stamp: UInt64, entries: [ServiceCatalog.Entry])] = [:]
  private var implied: [WorkloadBook.ServiceName: ServiceCatalog.Entry] = [:]
  /// Virtual addresses that were allocated, by host.
  private var allocated: [String: String] = [:]
  private var book: RuleBook
  private var rules: RuleIndex
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
    static let catalog = Changed(rawValue: 1)
    static let rules = Changed(rawValue: 2)
    static let gateways = Changed(rawValue: 4)
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
    rules = RuleIndex(objects: [], settings: settings)
    sidecars = SidecarIndex([], rootNamespace: settings.rootNamespace)
    rateLimits = RateLimitCompiler(objects: [], rootNamespace: settings.rootNamespace)
    pool = ClusterPool(
      catalog: ServiceCatalog([]), rules: rules, book: WorkloadBook(settings: settings), settings: settings)
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
    let records = pool.book.entries.map(\.record)
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
      take(workload)
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
    // What follows is no sequence to what went before.
    fresh.number = number + 1
    fresh.pool.book = pool.book
    fresh.pool.book.use(fresh.settings)
    fresh.pool.names = pool.names
    fresh.allocated = allocated
    fresh.touch(pool.book.entries.map(\.record))
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
    case .destinationRule: changed.insert(.rules)
    case .service, .serviceEntry, .workloadEntry, .endpoints, .endpointSlice: changed.insert(.catalog)
    default: changed.insert(.gateways)
    }
  }

  // MARK: Changes of the registry

  /// Takes a workload, new or changed.
  public mutating func put(_ workload: WorkloadRecord) {
    if discovery.sees(workload.namespace) {
      discovery.forgetWorkload(workload.key)
      take(workload)
    } else {
      discovery.hide(workload)
      dropWorkload(workload.key)
    }
  }

  private mutating func take(_ workload: WorkloadRecord) {
    guard let earlier = pool.book.put(workload) else { return }
    touch(earlier + [workload])
  }

  /// Forgets the workload called `<namespace>/<name>@<node>`.
  public mutating func removeWorkload(_ key: String) {
    if discovery.forgetWorkload(key) == nil { dropWorkload(key) }
  }

  private mutating func dropWorkload(_ key: String) {
    guard let earlier = pool.book.remove(key) else { return }
    touch(earlier)
  }

  /// Makes these all the workloads there are.
  public mutating func replace(workloads new: [WorkloadRecord]) {
    let keys = Set(new.map(\.key))
    let book = pool.book
    let gone =
      book.entries.map(\.record.key).filter { !keys.contains($0) } + book.refused.keys.sorted()
      + discovery.workloads.keys.sorted()
    for key in gone where !keys.contains(key) { removeWorkload(key) }
    for workload in new.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) { put(workload) }
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

  private mutating func touch(_ records: [WorkloadRecord]) {
    for record in records {
      for index in pool.catalog.services(of: record) { touchedServices.insert(pool.catalog.entries[index].id) }
      touchedServices.formUnion(pool.catalog.byMemberAddress[record.address] ?? [])
      if let name = record.service { touchedNames.insert(WorkloadBook.ServiceName(namespace: record.namespace, name: name)) }
    }
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
    let edited = updateSources()
    local = locals()
    let sameClients = local.elementsEqual(wereLocal) { $0.routesAlike($1) }
    let onlyEndpoints = changed.isEmpty && edited.isEmpty && sameClients
    if changed.isEmpty && sameClients {
      for index in local.indices {
        local[index].table = wereLocal[index].table
        local[index].egress = wereLocal[index].egress
      }
    }
    if !onlyEndpoints { updateRoutes(edited, keepsAllElse: changed.isEmpty && sameClients) }
    changed = []
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
    let refused = workloads.refused.keys.sorted().compactMap { workloads.refused[$0] }
    return (
      snapshot,
      Self.unique(
        settingsFindings + discovery.findings + refused + book.findings + rules.findings + routes.findings + conflicts)
    )
  }

  /// - Parameter keepsAllElse: nothing but the edited rules is other than it was.
  private mutating func updateRoutes(_ edited: [RuleBook.Entry], keepsAllElse: Bool) {
    let sources = RouteSources(
      settings: settings, compiler: compiler, book: book, sidecars: sidecars, gatewayAPI: gatewayAPI,
      gatewayObjects: gatewayObjects)
    if keepsAllElse, routes.revise(edited, local, sources, pool: &pool) { return }
    routes.compile(&local, sources, pool: &pool)
    // Clusters that moved into gaps have other indices now: routes that lead to them are compiled again.
    if pool.sweep() { routes.compile(&local, sources, pool: &pool) }
  }

  /// Services that registrations imply, where those have changed.
  private mutating func updateImplied() {
    for name in touchedNames {
      let records = pool.book.workloads(named: name).map { pool.book.entries[$0].record }
      let found = ServiceCatalog.implied(name, by: records, settings)
      let entry = found.map { $0.withAddress(allocated[$0.service.host]) }
      if entry?.service == implied[name]?.service { continue }
      implied[name] = entry
      changed.insert(.catalog)
    }
    touchedNames = []
  }

  /// Takes changed objects. Returns the rules that were or are made of changed VirtualServices.
  private mutating func updateSources() -> [RuleBook.Entry] {
    defer { changedRules = [] }
    let edited = changedRules.isEmpty ? [] : book.update(changedRules, objects)
    if changed.isEmpty { return edited }
    if changed.contains(.rules) {
      rules = RuleIndex(objects: objects.oldestFirst(.destinationRule), settings: settings, previous: rules)
    }
    if changed.contains(.catalog) { updateCatalog() }
    if changed.contains(.gateways) {
      sidecars = SidecarIndex(objects.oldestFirst(.sidecar), rootNamespace: settings.rootNamespace)
      rateLimits = RateLimitCompiler(
        objects: objects.oldestFirst(.envoyFilter).map(\.stored), rootNamespace: settings.rootNamespace)
      gatewayObjects = objects.oldestFirst([.gateway, .secret]).map(\.stored)
    }
    if changed.contains(.gateways) || changed.contains(.catalog) { updateGatewayAPI() }
    var policies = GatewayAPI.BackendTLSTable(gatewayAPI?.policies ?? [], domain: settings.domain)
    policies.credentials = ClientCredentials(objects.oldestFirst(.secret).map(\.stored))
    pool.use(rules: rules, sidecars: sidecars, backendTLS: policies)
    return edited
  }

  private mutating func updateGatewayAPI() {
    guard objects.kinds.contains(where: { $0.group == GatewayAPI.group }) else { return gatewayAPI = nil }
    let concerned = objects.oldestFirst(objects.kinds.subtracting([.virtualService, .destinationRule]))
    gatewayAPI = GatewayAPI.Topology(objects: concerned.map(\.stored), services: services, domain: settings.domain)
  }

  private mutating func updateCatalog() {
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
    let entries = (next.values.flatMap(\.entries) + implied.values).map(written.adding)
    pool.use(catalog: ServiceCatalog(entries))
    services = pool.catalog.entries.map(\.service)
  }

  /// Workloads of this node in the order of their keys.
  private func locals() -> [LocalClient] {
    let labelKeys = book.clientLabelKeys.union(rules.clientLabelKeys).union(sidecars.clientLabelKeys)
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
    let workloads = pool.book
    let compiler = InboundCompiler(sidecars: sidecars, rules: rules, services: services, settings: settings)
    var inbound: [Cluster] = []
    var listeners = WorkloadListeners(settings: settings)
    let own: [LocalWorkload] = local.compactMap { item in
      guard let index = workloads.local[item.key] else { return nil }
      let entry = workloads.entries[index]
      let record = entry.record
      let behind = servicesBehindPorts(record)
      var workload = LocalWorkload(
        workload: index, identity: entry.identity, address: record.address, ports: record.ports,
        services: behind.map { $0?.service }, outbound: item.table, outboundPort: record.outboundPort,
        isGateway: record.isGateway, health: record.health)
      workload.rateLimit = rateLimits.limit(for: record)
      workload.servicePorts = behind.map { $0?.port }
      workload.inbound = record.ports.indices.map { port in
        guard let cluster = compiler.cluster(workload, record, port: port, client: item.scope) else { return nil }
        inbound.append(cluster)
        return inbound.count - 1
      }
      let sidecar = sidecars.scope(of: item.scope)?.sidecar
      var opened = listeners.egress(of: item, sidecar: sidecar, tables: routes.tables, tcp: routes.tcp)
      for ingress in sidecar?.ingress ?? [] where ingress.opensListener {
        let cluster = compiler.cluster(workload, record, ingress: ingress, client: item.scope)
        opened.append(ingress.listener(of: record, speaks: cluster.protocol, cluster: inbound.count, settings))
        inbound.append(cluster)
      }
      workload.listeners = listeners.claim(opened, for: item.key)
      return workload
    }
    return (own, inbound, listeners.findings)
  }

  /// The first service, and port of it, that each port of a workload stands behind.
  private func servicesBehindPorts(_ record: WorkloadRecord) -> [(service: Int, port: UInt16)?] {
    let candidates = pool.catalog.services(of: record)
    return record.ports.indices.map { port in
      for index in candidates {
        let entry = pool.catalog.entries[index]
        let found = entry.service.ports.indices.first { EndpointCompiler.target(of: entry, port: $0, in: record) == port }
        if let found { return (index, entry.service.ports[found].number) }
      }
      return nil
    }
  }

  private static func unique(_ findings: [Finding]) -> [Finding] {
    var seen: Set<Finding> = []
    return findings.filter { seen.insert($0).inserted }
  }
}
