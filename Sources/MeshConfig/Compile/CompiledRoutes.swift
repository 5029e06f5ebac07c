/// A workload of this node, and which table it uses.
struct LocalClient {
  let key: String
  let scope: ClientScope
  let isGateway: Bool
  /// What a gateway's listeners are decided by.
  let labels: [String: String]
  let ports: [WorkloadRecord.Port]
  /// Index into the tables; set when routes are compiled.
  var table = 0
  /// The listeners of its own that its Sidecar opens, each with a table.
  var egress: [Egress] = []

  struct Egress {
    /// Index into the Sidecar's.
    let egress: Int
    let scope: ClientScope
    var table = 0
  }

  func routesAlike(_ other: LocalClient) -> Bool {
    key == other.key && scope == other.scope && isGateway == other.isGateway
      && egress.elementsEqual(other.egress) { $0.egress == $1.egress && $0.scope == $1.scope }
      && (!isGateway || labels == other.labels && ports == other.ports)
  }
}

/// What routes are compiled from, beside the pool's catalog and rules.
struct RouteSources {
  let settings: MeshSettings
  let compiler: RouteCompiler
  let book: RuleBook
  let sidecars: SidecarIndex
  /// nil while there is no object of the Gateway API.
  let gatewayAPI: GatewayAPI.Topology?
  /// Gateways and Secrets, oldest first.
  let gatewayObjects: [StoredObject]
}

/// The route tables of a node's workloads and gateways, kept over compilations.
struct CompiledRoutes {
  private(set) var tables: [RouteTable] = []
  private(set) var tcp: [TCPRouteTable] = []
  private(set) var gateways: [GatewayListener] = []
  /// Clients by the index of their tables.
  private var clients: [ClientScope] = []
  private var claimFindings: [[Finding]] = []
  private var gatewayFindings: [Finding] = []
  private var units: [ClientScope: HostUnits] = [:]
  private var gatewayUnits: [String: HostUnits] = [:]

  /// What has no effect.
  var findings: [Finding] {
    clients.indices.flatMap { claimFindings[$0] + (units[clients[$0]]?.findings ?? []) } + gatewayFindings
  }

  /// Virtual hosts made so far, and those of them that were compiled at once.
  var hostsCompiled: Int { allUnits.reduce(0) { $0 + $1.compiled } }
  var hostsWarmed: Int { allUnits.reduce(0) { $0 + $1.warmed } }
  private var allUnits: [HostUnits] { Array(units.values) + Array(gatewayUnits.values) }

  /// Compiles everything; units that still hold are taken over.
  mutating func compile(_ local: inout [LocalClient], _ sources: RouteSources, pool: inout ClusterPool) {
    pool.begin()
    tables = []
    tcp = []
    clients = []
    claimFindings = []
    var tableByClient: [ClientScope: Int] = [:]
    func table(of client: ClientScope) -> Int {
      if let known = tableByClient[client] { return known }
      tableByClient[client] = tables.count
      add(client, sources, &pool)
      return tables.count - 1
    }
    for index in local.indices {
      local[index].table = table(of: local[index].scope)
      for own in local[index].egress.indices { local[index].egress[own].table = table(of: local[index].egress[own].scope) }
    }
    units = units.filter { tableByClient[$0.key] != nil }
    compileGateways(local, sources, &pool)
  }

  private mutating func add(_ client: ClientScope, _ sources: RouteSources, _ pool: inout ClusterPool) {
    let compiler = MeshRouteCompiler(client, sources, catalog: pool.catalog)
    let opaque = TCPRouteCompiler(
      catalog: pool.catalog, book: sources.book, settings: sources.settings, compiler: sources.compiler, client: client,
      scope: compiler.scope,
      gatewayAPI: sources.gatewayAPI)
    let (table, opaqueTable) = units[client, default: HostUnits()].sharing(with: peer(of: client)) { units in
      (compiler.compile(&units, pool: &pool), opaque.compile(&units.tcp, pool: &pool))
    }
    tables.append(table)
    tcp.append(opaqueTable)
    clients.append(client)
    claimFindings.append(compiler.claims.findings)
  }

  /// What another client of this compilation has that may be shared: of the same namespace, because names are the same there.
  private func peer(of client: ClientScope) -> HostUnits? {
    let peers = clients.prefix { $0 != client }
    return (peers.first { $0.namespace == client.namespace } ?? peers.first).flatMap { units[$0] }
  }

  private mutating func compileGateways(_ local: [LocalClient], _ sources: RouteSources, _ pool: inout ClusterPool) {
    gateways = []
    gatewayFindings = []
    var opened: Set<UInt16> = []
    var keys: Set<String> = []
    for (index, gateway) in local.enumerated() where gateway.isGateway {
      guard let workload = pool.book.local[gateway.key] else { continue }
      keys.insert(gateway.key)
      let compiler = GatewayCompiler(
        catalog: pool.catalog, book: sources.book, settings: sources.settings, compiler: sources.compiler,
        objects: sources.gatewayObjects,
        workload: pool.book.entries[workload].record, client: gateway.scope, localWorkload: index)
      var found = compiler.compile(
        &gatewayUnits[gateway.key, default: HostUnits()], pool: &pool, findings: &gatewayFindings)
      if let gatewayAPI = sources.gatewayAPI {
        found += compiler.compile(gatewayAPI, beside: found, pool: &pool, findings: &gatewayFindings)
      }
      gateways += found.filter { !opened.contains($0.port) }
      opened.formUnion(found.map(\.port))
    }
    gateways.sort { ($0.port, $0.server) < ($1.port, $1.server) }
    gatewayUnits = gatewayUnits.filter { keys.contains($0.key) }
  }

  /// Compiles again what these entries, old ones and new ones, have to do with. False when that is more than hosts of services,
  /// and nothing was changed.
  ///
  /// Nothing but VirtualServices may have changed, so every destination stays: all that a client can be sent to is built for it.
  mutating func revise(
    _ entries: [RuleBook.Entry], _ local: [LocalClient], _ sources: RouteSources, pool: inout ClusterPool
  ) -> Bool {
    var services: [[Int]] = []
    for client in clients {
      guard let found = MeshRouteCompiler(client, sources, catalog: pool.catalog).services(decidedBy: entries) else {
        return false
      }
      services.append(found)
    }
    for (index, client) in clients.enumerated() {
      let compiler = MeshRouteCompiler(client, sources, catalog: pool.catalog)
      units[client, default: HostUnits()].sharing(with: peer(of: client)) { units in
        compiler.revise(services[index], &tables[index], &units, pool: &pool)
      }
      claimFindings[index] = compiler.claims.findings
    }
    if entries.contains(where: \.isForGateways) { compileGateways(local, sources, &pool) }
    return true
  }
}
