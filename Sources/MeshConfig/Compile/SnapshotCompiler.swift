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

  private var objects: [ObjectKey: HeldObject] = [:]
  private var byAge: [HeldObject] = []
  private var lastStamp: UInt64 = 0
  private var changed: Changed = [.catalog, .book, .rules, .gateways]

  private var workloads: WorkloadBook
  /// Services whose endpoints have changed.
  private var touchedServices: Set<ServiceID> = []
  private var touchedNames: Set<WorkloadBook.ServiceName> = []

  private var entriesByObject: [ObjectKey: (stamp: UInt64, entries: [ServiceCatalog.Entry])] = [:]
  private var implied: [WorkloadBook.ServiceName: ServiceCatalog.Entry] = [:]
  private var book: RuleBook
  private var rules: RuleIndex
  private var sidecars: SidecarIndex
  /// nil while there is no object of the Gateway API.
  private var gatewayAPI: GatewayAPI.Topology?
  private var pool: ClusterPool
  private var units: [ClientScope: HostUnits] = [:]
  private var gatewayUnits: [String: HostUnits] = [:]

  private var services: [Service] = []
  private var local: [Local] = []
  private var tables: [RouteTable] = []
  private var tcp: [TCPRouteTable] = []
  private var gateways: [GatewayListener] = []
  private var routeFindings: [Finding] = []

  private struct Changed: OptionSet {
    let rawValue: UInt8
    static let catalog = Changed(rawValue: 1)
    static let book = Changed(rawValue: 2)
    static let rules = Changed(rawValue: 4)
    static let gateways = Changed(rawValue: 8)
  }

  /// A workload of this node, and which table it uses.
  private struct Local {
    let key: String
    let scope: ClientScope
    let isGateway: Bool
    /// What a gateway's listeners are decided by.
    let labels: [String: String]
    let ports: [WorkloadRecord.Port]
    var table = 0

    func routesAlike(_ other: Local) -> Bool {
      key == other.key && scope == other.scope && isGateway == other.isGateway
        && (!isGateway || labels == other.labels && ports == other.ports)
    }
  }

  /// - Parameter id: tells this compiler from others of the process; see `SnapshotChanges`.
  public init(settings: MeshSettings, id: UInt64 = 0) { self.init(settings, under: nil, id: id) }

  private init(_ base: MeshSettings, under configuration: MeshConfiguration?, id: UInt64) {
    let settings = base.applying(configuration)
    self.base = base
    self.settings = settings
    settingsFindings = base.findings(of: configuration)
    self.id = id
    workloads = WorkloadBook(settings: settings)
    book = RuleBook(objects: [], settings: settings)
    rules = RuleIndex(objects: [], settings: settings)
    sidecars = SidecarIndex([], rootNamespace: settings.rootNamespace)
    pool = ClusterPool(
      catalog: ServiceCatalog([]), rules: rules, endpoints: EndpointCompiler(settings: settings, book: workloads))
  }

  // MARK: Changes of the configuration

  /// Takes an object, new or changed.
  public mutating func put(_ object: StoredObject) {
    if objects[object.key]?.stored == object { return }
    lastStamp += 1
    objects[object.key] = HeldObject(stored: object, stamp: lastStamp)
    note(object.key.kind)
    if object.key == MeshConfiguration.key { adoptConfiguration() }
  }

  public mutating func remove(_ key: ObjectKey) {
    guard objects.removeValue(forKey: key) != nil else { return }
    note(key.kind)
    if key == MeshConfiguration.key { adoptConfiguration() }
  }

  /// The mesh's own settings are part of everything, so all that was compiled under others is left behind.
  private mutating func adoptConfiguration() {
    let configuration = MeshConfiguration.of(objects[MeshConfiguration.key]?.stored.object)
    if base.applying(configuration) == settings, base.findings(of: configuration) == settingsFindings { return }
    var fresh = SnapshotCompiler(base, under: configuration, id: id)
    fresh.objects = objects
    fresh.lastStamp = lastStamp
    // What follows is no sequence to what went before.
    fresh.number = number + 1
    fresh.workloads = workloads
    fresh.touch(workloads.entries.map(\.record))
    self = fresh
  }

  /// Makes these all the objects there are.
  public mutating func replace(objects new: [StoredObject]) {
    let keys = Set(new.map(\.key))
    for key in objects.keys where !keys.contains(key) { remove(key) }
    for object in new { put(object) }
  }

  private mutating func note(_ kind: ObjectKind) {
    switch kind {
    case .virtualService: changed.insert(.book)
    case .destinationRule: changed.insert(.rules)
    case .service, .serviceEntry, .workloadEntry, .endpoints, .endpointSlice: changed.insert(.catalog)
    default: changed.insert(.gateways)
    }
  }

  // MARK: Changes of the registry

  /// Takes a workload, new or changed.
  public mutating func put(_ workload: WorkloadRecord) {
    guard let earlier = workloads.put(workload) else { return }
    touch(earlier + [workload])
  }

  /// Forgets the workload called `<namespace>/<name>@<node>`.
  public mutating func removeWorkload(_ key: String) {
    guard let earlier = workloads.remove(key) else { return }
    touch(earlier)
  }

  /// Makes these all the workloads there are.
  public mutating func replace(workloads new: [WorkloadRecord]) {
    let keys = Set(new.map(\.key))
    let gone = workloads.entries.map(\.record.key).filter { !keys.contains($0) } + workloads.refused.keys.sorted()
    for key in gone where !keys.contains(key) { removeWorkload(key) }
    for workload in new.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) { put(workload) }
  }

  private mutating func touch(_ records: [WorkloadRecord]) {
    for record in records {
      for index in pool.catalog.services(of: record) { touchedServices.insert(pool.catalog.entries[index].id) }
      if let name = record.service { touchedNames.insert(WorkloadBook.ServiceName(namespace: record.namespace, name: name)) }
    }
  }

  // MARK: Compiling

  /// The snapshot of all that was given, and what in it has no effect.
  public mutating func compile(revision: UInt64, registryVersion: UInt64) -> (snapshot: MeshSnapshot, findings: [Finding]) {
    updateImplied()
    pool.use(workloads, rebuilding: touchedServices)
    touchedServices = []
    let wereLocal = local
    updateCatalogAndRules()
    local = locals()
    let sameClients = local.elementsEqual(wereLocal) { $0.routesAlike($1) }
    let onlyEndpoints = changed.isEmpty && sameClients
    if onlyEndpoints {
      for index in local.indices { local[index].table = wereLocal[index].table }
    } else {
      compileRoutes()
      // Clusters that moved into gaps have other indices now: routes that lead to them are compiled again.
      if pool.sweep() { compileRoutes() }
    }
    changed = []
    number += 1
    let snapshot = MeshSnapshot(
      revision: revision, registryVersion: registryVersion, settings: settings, services: services, clusters: pool.clusters,
      workloads: workloads.table, outbound: tables, localWorkloads: localWorkloads(), gateways: gateways, tcp: tcp,
      changes: SnapshotChanges(
        compiler: id, number: number, clusters: pool.takeTouched(), onlyEndpoints: onlyEndpoints && number > 1))
    let refused = workloads.refused.keys.sorted().compactMap { workloads.refused[$0] }
    return (snapshot, Self.unique(settingsFindings + refused + book.findings + rules.findings + routeFindings))
  }

  /// Services that registrations imply, where those have changed.
  private mutating func updateImplied() {
    for name in touchedNames {
      let records = workloads.workloads(named: name).map { workloads.entries[$0].record }
      let entry = ServiceCatalog.implied(name, by: records, settings)
      if entry?.service == implied[name]?.service { continue }
      implied[name] = entry
      changed.insert(.catalog)
    }
    touchedNames = []
  }

  private mutating func updateCatalogAndRules() {
    if changed.isEmpty { return }
    byAge = objects.values.sorted { StoredObject.isOlder($0.stored, $1.stored) }
    if changed.contains(.book) { book = RuleBook(objects: byAge, settings: settings, previous: book) }
    if changed.contains(.rules) { rules = RuleIndex(objects: byAge, settings: settings, previous: rules) }
    if changed.contains(.catalog) { updateCatalog() }
    if changed.contains(.gateways) { sidecars = SidecarIndex(byAge, rootNamespace: settings.rootNamespace) }
    if changed.contains(.gateways) || changed.contains(.catalog) { updateGatewayAPI() }
    let policies = GatewayAPI.BackendTLSTable(gatewayAPI?.policies ?? [], domain: settings.domain)
    pool.begin(catalog: pool.catalog, rules: rules, sidecars: sidecars, backendTLS: policies)
  }

  private mutating func updateGatewayAPI() {
    let isUsed = byAge.contains { $0.stored.key.kind.group == GatewayAPI.group }
    gatewayAPI =
      isUsed
      ? GatewayAPI.Topology(objects: byAge.map(\.stored), services: services, domain: settings.domain) : nil
  }

  private mutating func updateCatalog() {
    var next: [ObjectKey: (stamp: UInt64, entries: [ServiceCatalog.Entry])] = [:]
    for held in byAge {
      let key = held.stored.key
      guard key.kind == .service || key.kind == .serviceEntry else { continue }
      if let known = entriesByObject[key], known.stamp == held.stamp {
        next[key] = known
      } else {
        next[key] = (held.stamp, ServiceCatalog.entries(of: held.stored, settings))
      }
    }
    entriesByObject = next
    let written = WrittenEndpoints(byAge)
    let entries = (next.values.flatMap(\.entries) + implied.values).map(written.adding)
    let catalog = ServiceCatalog(entries)
    services = catalog.entries.map(\.service)
    pool.begin(catalog: catalog, rules: rules)
  }

  /// Workloads of this node in the order of their keys.
  private func locals() -> [Local] {
    let labelKeys = book.clientLabelKeys.union(rules.clientLabelKeys).union(sidecars.clientLabelKeys)
      .union(settings.clientLabelKeys)
    return workloads.local.keys.sorted().compactMap { key in
      guard let index = workloads.local[key] else { return nil }
      let record = workloads.entries[index].record
      // Workloads that no rule tells apart share one route table.
      let scope = ClientScope(
        namespace: record.namespace, labels: record.labels.filter { labelKeys.contains($0.key) },
        isGateway: record.isGateway)
      return Local(key: key, scope: scope, isGateway: record.isGateway, labels: record.labels, ports: record.ports)
    }
  }

  private mutating func compileRoutes() {
    pool.begin(catalog: pool.catalog, rules: rules)
    tables = []
    tcp = []
    gateways = []
    routeFindings = []
    var tableByClient: [ClientScope: Int] = [:]
    var opened: Set<UInt16> = []
    var gatewayKeys: Set<String> = []
    let stored = byAge.map(\.stored)
    for index in local.indices {
      let client = local[index].scope
      if tableByClient[client] == nil {
        let scope = sidecars.scope(of: client)
        let compiler = MeshRouteCompiler(
          catalog: pool.catalog, book: book, settings: settings, client: client, scope: scope, gatewayAPI: gatewayAPI)
        tableByClient[client] = tables.count
        tables.append(compiler.compile(&units[client, default: HostUnits()], pool: &pool, findings: &routeFindings))
        let opaque = TCPRouteCompiler(
          catalog: pool.catalog, book: book, settings: settings, client: client, scope: scope)
        tcp.append(opaque.compile(&units[client, default: HostUnits()].tcp, pool: &pool))
      }
      local[index].table = tableByClient[client] ?? 0
      guard local[index].isGateway, let workload = workloads.local[local[index].key] else { continue }
      gatewayKeys.insert(local[index].key)
      let compiler = GatewayCompiler(
        catalog: pool.catalog, book: book, settings: settings, objects: stored, workload: workloads.entries[workload].record,
        client: client, localWorkload: index)
      var found = compiler.compile(&gatewayUnits[local[index].key, default: HostUnits()], pool: &pool, findings: &routeFindings)
      if let gatewayAPI {
        found += compiler.compile(gatewayAPI, beside: found, pool: &pool, findings: &routeFindings)
      }
      gateways += found.filter { !opened.contains($0.port) }
      opened.formUnion(found.map(\.port))
    }
    gateways.sort { ($0.port, $0.server) < ($1.port, $1.server) }
    units = units.filter { tableByClient[$0.key] != nil }
    gatewayUnits = gatewayUnits.filter { gatewayKeys.contains($0.key) }
  }

  private func localWorkloads() -> [LocalWorkload] {
    let limits = RateLimitCompiler(
      objects: objects.values.map(\.stored).filter { $0.key.kind == .envoyFilter }.sorted(by: StoredObject.isOlder),
      rootNamespace: settings.rootNamespace)
    return local.compactMap { item in
      guard let index = workloads.local[item.key] else { return nil }
      let entry = workloads.entries[index]
      let record = entry.record
      var workload = LocalWorkload(
        workload: index, identity: entry.identity, address: record.address, ports: record.ports,
        services: servicesBehindPorts(record), outbound: item.table, outboundPort: record.outboundPort,
        isGateway: record.isGateway, health: record.health)
      workload.rateLimit = limits.limit(for: record)
      return workload
    }
  }

  /// The first service that each port of a workload stands behind.
  private func servicesBehindPorts(_ record: WorkloadRecord) -> [Int?] {
    let candidates = pool.catalog.services(of: record)
    return record.ports.indices.map { port in
      candidates.first { index in
        let entry = pool.catalog.entries[index]
        return entry.service.ports.indices.contains { EndpointCompiler.target(of: entry, port: $0, in: record) == port }
      }
    }
  }

  private static func unique(_ findings: [Finding]) -> [Finding] {
    var seen: Set<Finding> = []
    return findings.filter { seen.insert($0).inserted }
  }
}
