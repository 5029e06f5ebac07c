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

/// What a change of anything but VirtualServices may have altered.
struct Concern {
  /// Hosts that may lead elsewhere than before; nil: any.
  var hosts: Set<String>? = []
  /// The same for clients whose Sidecar is another one: hosts that they see now and did not, or the other way round.
  var seen: [ClientScope: Set<String>] = [:]
  /// Whether clients see other names or ports than before.
  var names = false
  /// Whether gateways have other listeners, or other workloads are gateways.
  var gateways = false

  static let all = Concern(hosts: nil, names: true, gateways: true)
  static let nothing = Concern()

  var isNothing: Bool { hosts?.isEmpty == true && seen.isEmpty && !names && !gateways }

  mutating func add(hosts more: Set<String>) { hosts?.formUnion(more) }
}

/// The route tables of a node's workloads and gateways, kept over compilations.
struct CompiledRoutes {
  private(set) var tables: [RouteTable] = []
  private(set) var tcp: [TCPRouteTable] = []
  private(set) var gateways: [GatewayListener] = []
  /// Clients by the index of their tables.
  private(set) var clients: [ClientScope] = []
  private var claimFindings: [[Finding]] = []
  private var gatewayFindings: [Finding] = []
  private var units: [ClientScope: HostUnits] = [:]
  private var gatewayUnits: [GatewayClient: HostUnits] = [:]

  private struct GatewayClient: Hashable {
    let key: String
    let scope: ClientScope
  }

  /// What has no effect.
  var findings: [Finding] {
    clients.indices.flatMap { claimFindings[$0] + (units[clients[$0]]?.findings ?? []) } + gatewayFindings
  }

  /// Virtual hosts made so far, and those of them that were compiled at once.
  var hostsCompiled: Int { formerly.compiled + allUnits.reduce(0) { $0 + $1.compiled } }
  var hostsWarmed: Int { formerly.warmed + allUnits.reduce(0) { $0 + $1.warmed } }
  private var allUnits: [HostUnits] { Array(units.values) + Array(gatewayUnits.values) }
  /// The same of clients that are gone.
  private var formerly = (compiled: 0, warmed: 0)

  /// Compiles again what these entries, old ones and new ones, decide, and what else is of concern; all else is taken over.
  mutating func update(
    _ local: inout [LocalClient], _ edited: [RuleBook.Entry], _ concern: Concern, _ sources: RouteSources,
    pool: inout ClusterPool
  ) {
    let before = clients
    assignTables(&local)
    let isSame = clients == before
    if isSame, edited.isEmpty, concern.isNothing { return }
    let compilers = clients.map { MeshRouteCompiler($0, sources, catalog: pool.catalog) }
    if !isSame {
      tables = clients.map { _ in RouteTable(ports: [], fallback: .notFound) }
      tcp = clients.map { _ in TCPRouteTable() }
      claimFindings = clients.map { _ in [] }
    }
    let moved = settle(compilers, isSame ? concern : .all, &pool)
    let hosts = concern.hosts?.union(moved)
    for (index, compiler) in compilers.enumerated() {
      let seen = concern.seen[compiler.client]
      let concerned = hosts.map { $0.union(seen ?? []) }
      if isSame, !concern.names, seen == nil, let concerned, revise(index, compiler, edited, concerned, sources, &pool) {
        continue
      }
      let peer = peer(of: index) ?? before.first { $0.namespace == compiler.client.namespace }
      compile(index, compiler, concerned, peer.flatMap { units[$0] }, sources, &pool)
    }
    if !isSame { forget(units.filter { !clients.contains($0.key) }) }
    if concern.gateways || !isSame || hosts?.isEmpty != true || edited.contains(where: \.isForGateways) {
      compileGateways(local, hosts, sources, &pool)
    }
  }

  /// Clients in the order of the workloads, each once.
  private mutating func assignTables(_ local: inout [LocalClient]) {
    clients = []
    var tables: [ClientScope: Int] = [:]
    func table(of client: ClientScope) -> Int {
      if let known = tables[client] { return known }
      tables[client] = clients.count
      clients.append(client)
      return clients.count - 1
    }
    for index in local.indices {
      local[index].table = table(of: local[index].scope)
      for own in local[index].egress.indices { local[index].egress[own].table = table(of: local[index].egress[own].scope) }
    }
  }

  private mutating func forget(_ gone: [ClientScope: HostUnits]) {
    for (client, old) in gone {
      units[client] = nil
      formerly = (formerly.compiled + old.compiled, formerly.warmed + old.warmed)
    }
  }

  /// Decides which destinations there are, before anything asks where it is led. Returns hosts that are led elsewhere by that.
  private func settle(_ compilers: [MeshRouteCompiler], _ concern: Concern, _ pool: inout ClusterPool) -> Set<String> {
    let hosts = concern.hosts.map { concern.seen.values.reduce(into: $0) { $0.formUnion($1) } }
    if hosts?.isEmpty == true { return [] }
    pool.begin(hosts)
    for compiler in compilers {
      for service in compiler.services(of: hosts) { pool.want(service: service, client: compiler.client) }
    }
    return pool.settle()
  }

  /// Puts the table of a client together anew; what does not concern it is taken over into it.
  private mutating func compile(
    _ index: Int, _ compiler: MeshRouteCompiler, _ concerned: Set<String>?, _ peer: HostUnits?, _ sources: RouteSources,
    _ pool: inout ClusterPool
  ) {
    let opaque = TCPRouteCompiler(compiler, sources)
    let visible = compiler.named
    (tables[index], tcp[index]) = units[compiler.client, default: HostUnits()].sharing(with: peer, concerned: concerned) {
      units in
      (compiler.compile(visible, &units, pool: &pool), opaque.compile(visible, &units.tcp, pool: &pool))
    }
    claimFindings[index] = compiler.claims.findings
  }

  /// Compiles only the services of a client that are concerned. False when there is more to it, and nothing was changed.
  private mutating func revise(
    _ index: Int, _ compiler: MeshRouteCompiler, _ edited: [RuleBook.Entry], _ concerned: Set<String>, _ sources: RouteSources,
    _ pool: inout ClusterPool
  ) -> Bool {
    if edited.isEmpty && concerned.isEmpty { return true }
    let opaque = TCPRouteCompiler(compiler, sources)
    guard concerned.isEmpty || opaque.hasOnlyServices,
      let services = units[compiler.client].flatMap({ compiler.services(decidedBy: edited, leadingTo: concerned, $0) })
    else { return false }
    let peer = peer(of: index).flatMap { units[$0] }
    units[compiler.client, default: HostUnits()].sharing(with: peer, concerned: concerned) { units in
      compiler.revise(services, &tables[index], &units, pool: &pool)
      if !concerned.isEmpty { opaque.revise(services, &tcp[index], &units.tcp, pool: &pool) }
    }
    claimFindings[index] = compiler.claims.findings
    return true
  }

  /// A client before this one whose units may be shared: of the same namespace, because names are the same there.
  private func peer(of index: Int) -> ClientScope? {
    let peers = clients[..<index]
    return peers.first { $0.namespace == clients[index].namespace } ?? peers.first
  }

  /// - Parameter concerned: hosts that may lead elsewhere than before; nil: all.
  private mutating func compileGateways(
    _ local: [LocalClient], _ concerned: Set<String>?, _ sources: RouteSources, _ pool: inout ClusterPool
  ) {
    gateways = []
    gatewayFindings = []
    var opened: Set<UInt16> = []
    var known: Set<GatewayClient> = []
    for (index, gateway) in local.enumerated() where gateway.isGateway {
      guard let workload = pool.book.local[gateway.key] else { continue }
      let client = GatewayClient(key: gateway.key, scope: gateway.scope)
      known.insert(client)
      let compiler = GatewayCompiler(
        catalog: pool.catalog, book: sources.book, settings: sources.settings, compiler: sources.compiler,
        objects: sources.gatewayObjects,
        workload: pool.book.entries[workload].record, client: gateway.scope, localWorkload: index)
      var found = gatewayUnits[client, default: HostUnits()].sharing(with: nil, concerned: concerned) { units in
        compiler.compile(&units, pool: &pool, findings: &gatewayFindings)
      }
      if let gatewayAPI = sources.gatewayAPI {
        found += compiler.compile(gatewayAPI, beside: found, pool: &pool, findings: &gatewayFindings)
      }
      gateways += found.filter { !opened.contains($0.port) }
      opened.formUnion(found.map(\.port))
    }
    gateways.sort { ($0.port, $0.server) < ($1.port, $1.server) }
    gatewayUnits = gatewayUnits.filter { known.contains($0.key) }
  }
}
