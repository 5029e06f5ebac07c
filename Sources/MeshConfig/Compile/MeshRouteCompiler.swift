import Primitives

/// A service that a client sees, with every name and address that the client may write for it.
struct VisibleService {
  /// Index into the catalog's entries.
  let index: Int
  let names: [String]
}

/// The outbound route table of one kind of client workload (Istio, VirtualService).
struct MeshRouteCompiler {
  let catalog: ServiceCatalog
  let settings: MeshSettings
  let client: ClientScope
  /// What a Sidecar lets the client see; nil: everything that is exported.
  let scope: SidecarIndex.Scope?
  /// Rules of the mesh that this client sees.
  let claims: Claims
  /// Routes of the Gateway API, where there are any.
  private let gatewayAPI: GatewayAPI.Topology?
  private let compiler: RouteCompiler

  /// A host that is not in the registry is honoured on this port only.
  private static let unregisteredPort: UInt16 = 80

  init(_ client: ClientScope, _ sources: RouteSources, catalog: ServiceCatalog) {
    self.catalog = catalog
    self.client = client
    settings = sources.settings
    scope = sources.sidecars.scope(of: client)
    claims = Claims(book: sources.book, client: client, scope: scope)
    gatewayAPI = sources.gatewayAPI
    compiler = sources.compiler
  }

  func compile(_ visible: [VisibleService], _ units: inout HostUnits, pool: inout ClusterPool) -> RouteTable {
    var hosts: [UInt16: [HostUnit]] = [:]
    units.begin()
    for service in visible {
      for (port, unit) in compiled(service, &units, &pool) { hosts[port, default: []].append(unit) }
    }
    addUnregistered(visible, &hosts, &units, &pool)
    let ports = hosts.keys.sorted().map { units.table($0, hosts[$0] ?? []) }
    units.end()
    return RouteTable(
      ports: ports, fallback: allowsAny ? .passthrough(ClusterPool.passthrough) : .blackHole)
  }

  // MARK: What some rules decide

  /// Services for which these entries, old ones or new ones, decide something for this client, and those whose requests are led to one of
  /// these hosts; nil when they decide more than the requests of single services.
  func services(decidedBy entries: [RuleBook.Entry], leadingTo hosts: Set<String>, _ units: HostUnits) -> [VisibleService]? {
    var found: Set<Int> = []
    for entry in entries where entry.isForMesh {
      // Server names are looked at on whole ports, whatever a Sidecar lets the client see.
      guard !entry.routesConnections else { return nil }
      for host in entry.hosts where claims.admits(entry, for: host) {
        guard !host.hasPrefix("*"), let service = service(host) else { return nil }
        found.insert(service)
      }
    }
    for host in units.asking(hosts) {
      guard let service = service(host) else { return nil }
      found.insert(service)
    }
    return found.sorted().map(named)
  }

  /// The service of just this host that the client sees, if any.
  private func service(_ host: String) -> Int? {
    guard let found = catalog.index(ofHost: host, seenFrom: client.namespace), catalog.entries[found].service.host == host,
      isVisible(found)
    else { return nil }
    return found
  }

  /// Services of these hosts that the client sees; nil: of all hosts.
  func services(of hosts: Set<String>?) -> [Int] { hosts.map { $0.compactMap(service).sorted() } ?? visible }

  /// Compiles the routes of these services again, within a table that stays as it is otherwise.
  func revise(_ services: [VisibleService], _ table: inout RouteTable, _ units: inout HostUnits, pool: inout ClusterPool) {
    for service in services {
      for (port, unit) in compiled(service, &units, &pool) {
        guard let place = table.ports.firstIndex(where: { $0.port == port }), let changed = units.replace(unit, port: port)
        else { continue }
        table.ports[place] = changed
      }
    }
  }

  private var allowsAny: Bool {
    scope?.sidecar.outboundPolicy.map { $0 == .allowAny } ?? (settings.outboundPolicy == .allowAny)
  }

  /// Services that are exported to the client and that its Sidecar lets it see.
  var visible: [Int] {
    let exported = catalog.visible(from: client.namespace)
    guard let scope else { return exported }
    return exported.filter { index in
      let service = catalog.entries[index].service
      return scope.admits(service.host, namespace: service.namespace)
    }
  }

  /// The same with their names, own services first, so that short names and shared addresses go to them.
  var named: [VisibleService] {
    let visible = visible
    func isOwn(_ index: Int) -> Bool { catalog.entries[index].service.namespace == client.namespace }
    return visible.filter(isOwn).map(named) + visible.filter { !isOwn($0) }.map(named)
  }

  private func named(_ index: Int) -> VisibleService {
    let target = catalog.entries[index].service
    return VisibleService(
      index: index, names: Self.domains(of: target, client: client, domain: settings.domain, catalog))
  }

  private func isVisible(_ index: Int) -> Bool {
    let service = catalog.entries[index].service
    return scope?.admits(service.host, namespace: service.namespace) ?? true
  }

  private func isVisible(_ service: Service, on port: UInt16) -> Bool {
    scope?.admits(service.host, namespace: service.namespace, port: port) ?? true
  }

  /// The virtual hosts of a service, one for each port that speaks HTTP.
  private func compiled(
    _ service: VisibleService, _ units: inout HostUnits, _ pool: inout ClusterPool
  ) -> [(port: UInt16, unit: HostUnit)] {
    let target = catalog.entries[service.index].service
    let claim = claims.value(covering: target.host)
    let domains = service.names
    let seen = target.ports.filter { $0.protocol.isHTTP && isVisible(target, on: $0.number) }
    return seen.map { port in
      if let unit = gatewayAPIHost(target, port.number, domains, &pool) { return (port.number, unit) }
      let place = place(port.number)
      let own = DestinationQuery(host: target.host, subset: nil, port: port.number, listenerPort: port.number)
      let unit = units.unit(
        target.host, port: port.number, domains: domains, rules: claim.map { [$0] } ?? [], client: client, pool: &pool,
        queries: { [own] + (claim.map { compiler.queries($0.http, at: place) } ?? []) },
        compile: { [compiler] answers in
          let routes = claim.map { compiler.routes($0.http, at: place) { answers[$0] } } ?? []
          // A rule set that says nothing about this port leaves the service as it is.
          return routes.isEmpty ? [compiler.defaultRoute(answers[own])] : routes
        })
      return (port.number, unit)
    }
  }

  /// Routes of the Gateway API that name the service come before a VirtualService.
  private func gatewayAPIHost(
    _ service: Service, _ port: UInt16, _ domains: [String], _ pool: inout ClusterPool
  ) -> HostUnit? {
    guard let gatewayAPI else { return nil }
    let compiler = GatewayAPI.MeshRouteCompiler(topology: gatewayAPI, settings: settings, clientNamespace: client.namespace)
    let routes = compiler.routes(host: service.host, namespace: service.namespace, port: port) { target in
      let query = DestinationQuery(host: target.host, subset: nil, port: target.port, listenerPort: port)
      let answer = pool.destination(query, client: client)
      return (answer.cluster, answer.name)
    }
    return routes.map {
      HostUnit(
        service.host, port: port, domains: domains, content: CallByNeed(HostRoutes($0)), rules: [], asked: [])
    }
  }

  private func place(_ port: UInt16) -> RouteCompiler.Place {
    RouteCompiler.Place(client: client, gateways: [GatewayName.mesh], port: port)
  }

  /// Names a client may write for a service (Istio, general rules).
  private static func domains(
    of service: Service, client: ClientScope, domain: String, _ catalog: ServiceCatalog
  ) -> [String] {
    let aliases = catalog.aliases(ofHost: service.host, seenFrom: client.namespace)
    return ([service] + aliases).flatMap { domains(of: $0, client: client, domain: domain) }
  }

  private static func domains(of service: Service, client: ClientScope, domain: String) -> [String] {
    var names = [service.host]
    let suffix = ".\(service.namespace).svc.\(domain)"
    if service.host.hasSuffix(suffix) {
      let short = String(service.host.dropLast(suffix.utf8.count))
      names += ["\(short).\(service.namespace).svc", "\(short).\(service.namespace)"]
      if service.namespace == client.namespace { names.append(short) }
    }
    return names + service.addresses.flatMap(VirtualAddress.names)
  }

  /// Tells such units from those of services, which answer with the service where their rules say nothing.
  private static let unregistered = "unregistered"

  private func addUnregistered(
    _ visible: [VisibleService], _ hosts: inout [UInt16: [HostUnit]], _ units: inout HostUnits, _ pool: inout ClusterPool
  ) {
    if claims.isEmpty { return }
    let place = place(Self.unregisteredPort)
    let known = Set(visible.map { catalog.entries[$0.index].service.host })
    let covering = claims.hasWildcards ? Set(known.flatMap(HostName.wildcards)) : []
    for host in claims.patterns where !known.contains(host) && !covering.contains(host) {
      guard let entry = claims[host],
        scope?.admits(host, namespace: entry.key.namespace, port: Self.unregisteredPort) ?? true
      else { continue }
      let unit = units.unit(
        host, port: Self.unregisteredPort, domains: [host], scope: Self.unregistered, rules: [entry], client: client,
        pool: &pool,
        queries: { compiler.queries(entry.http, at: place) },
        compile: { [compiler] answers in compiler.routes(entry.http, at: place) { answers[$0] } })
      if !unit.content.glimpse.routes.isEmpty { hosts[Self.unregisteredPort, default: []].append(unit) }
    }
  }
}
