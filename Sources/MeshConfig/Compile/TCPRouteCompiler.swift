import Primitives

/// Compiles `tcp[]` and `tls[]` rules for one client of the mesh (Istio, VirtualService).
struct TCPRouteCompiler {
  let catalog: ServiceCatalog
  let book: RuleBook
  let settings: MeshSettings
  let compiler: RouteCompiler
  let client: ClientScope
  /// What a Sidecar lets the client see; nil: everything that is exported.
  let scope: SidecarIndex.Scope?
  /// Routes of the Gateway API, where there are any.
  let gatewayAPI: GatewayAPI.Topology?

  init(
    catalog: ServiceCatalog, book: RuleBook, settings: MeshSettings, compiler: RouteCompiler, client: ClientScope,
    scope: SidecarIndex.Scope? = nil, gatewayAPI: GatewayAPI.Topology? = nil
  ) {
    self.catalog = catalog
    self.book = book
    self.settings = settings
    self.compiler = compiler
    self.client = client
    self.scope = scope
    self.gatewayAPI = gatewayAPI
  }

  /// For the same client as a compiler of requests.
  init(_ other: MeshRouteCompiler, _ sources: RouteSources) {
    self.init(
      catalog: other.catalog, book: sources.book, settings: sources.settings, compiler: sources.compiler,
      client: other.client, scope: other.scope, gatewayAPI: sources.gatewayAPI)
  }

  private struct Port {
    var units: [TCPUnit] = []
    var serverNames: [ServerNameRoute] = []
  }

  /// The table of everything that this client may open a connection to.
  ///
  /// - Parameter visible: services that the client sees.
  func compile(_ visible: [VisibleService], _ units: inout TCPUnits, pool: inout ClusterPool) -> TCPRouteTable {
    units.begin()
    defer { units.end() }
    var ports: [UInt16: Port] = [:]
    let claims = Claims(book: book, client: client, scope: scope)
    for service in visible { add(service, claims, to: &ports, &units, &pool) }
    for entry in meshEntries { addServerNames(of: entry, visible, to: &ports, &pool) }
    return TCPRouteTable(
      ports: ports.keys.sorted().map { number in
        units.table(number, ports[number]?.units ?? [], Self.sorted(ports[number]?.serverNames ?? []))
      })
  }

  /// Whether all that stands on ports is services, so that they can be compiled alone.
  var hasOnlyServices: Bool { gatewayAPI == nil && !book.entries.contains { !$0.tls.isEmpty && $0.isForMesh } }

  /// Compiles these services again, within a table that stays as it is otherwise.
  func revise(_ services: [VisibleService], _ table: inout TCPRouteTable, _ units: inout TCPUnits, pool: inout ClusterPool) {
    var ports: [UInt16: Port] = [:]
    let claims = Claims(book: book, client: client, scope: scope)
    for service in services { add(service, claims, to: &ports, &units, &pool) }
    for number in ports.keys.sorted() {
      guard let place = table.ports.firstIndex(where: { $0.port == number }),
        let changed = units.replace(ports[number]?.units ?? [], port: number)
      else { continue }
      table.ports[place] = changed
    }
  }

  /// Rules of the mesh that this client sees and that look at server names, oldest first.
  private var meshEntries: [RuleBook.Entry] {
    book.entries.filter { entry in
      !entry.tls.isEmpty && entry.isForMesh && Visibility.allows(entry.exportTo, client.namespace)
    }
  }

  private func add(
    _ service: VisibleService, _ claims: Claims, to ports: inout [UInt16: Port], _ units: inout TCPUnits,
    _ pool: inout ClusterPool
  ) {
    let target = catalog.entries[service.index].service
    let claim = claims[target.host]
    let names = service.names
    for port in target.ports where scope?.admits(target.host, namespace: target.namespace, port: port.number) ?? true {
      if let unit = gatewayAPIUnit(target, port, names, &pool) {
        ports[port.number, default: Port()].units.append(unit)
        continue
      }
      let rules = port.protocol.isDeclaredHTTP || claim?.tcp.isEmpty != false ? nil : claim
      let unit = units.unit(
        target, port, names: names, rules: rules, query: query(target, port.number), client: client, pool: &pool
      ) { rules, pool in routes(rules, at: place(port.number), isMesh: true, pool: &pool) }
      ports[port.number, default: Port()].units.append(unit)
    }
  }

  /// TCPRoutes and TLSRoutes that name the service come before a VirtualService.
  private func gatewayAPIUnit(
    _ target: Service, _ port: Service.Port, _ names: [String], _ pool: inout ClusterPool
  ) -> TCPUnit? {
    guard let gatewayAPI, !port.protocol.isDeclaredHTTP else { return nil }
    let connections = GatewayAPI.MeshConnectionCompiler(topology: gatewayAPI, clientNamespace: client.namespace)
    let found = connections.rules(host: target.host, namespace: target.namespace, port: port.number) { backend in
      let query = DestinationQuery(host: backend.host, subset: nil, port: backend.port, listenerPort: port.number)
      let answer = pool.destination(query, client: client)
      return (answer.cluster, answer.name)
    }
    guard let found else { return nil }
    var service = TCPService(
      host: target.host, protocol: port.protocol, address: target.addresses.first.flatMap { AddressForm.parse($0) } ?? [],
      routes: found.routes + [TCPRoute(to: pool.destination(query(target, port.number), client: client))],
      serverNames: Self.sorted(found.serverNames))
    service.blocks = target.blocks
    return TCPUnit(service, names: names, rules: nil, asked: [])
  }

  /// A service itself.
  private func query(_ target: Service, _ port: UInt16) -> DestinationQuery {
    DestinationQuery(host: target.host, subset: nil, port: port, listenerPort: port)
  }

  private func place(_ port: UInt16) -> RouteCompiler.Place {
    RouteCompiler.Place(client: client, gateways: [GatewayName.mesh], port: port)
  }

  /// `tls[]` rules stand on the ports they name, else on those where their hosts speak TLS, else on 443.
  private func addServerNames(
    of entry: RuleBook.Entry, _ visible: [VisibleService], to ports: inout [UInt16: Port], _ pool: inout ClusterPool
  ) {
    let named = Set(entry.tls.flatMap(\.match).compactMap(\.conditions.port))
    let spoken = visible.map { catalog.entries[$0.index].service }.filter { service in
      entry.hosts.contains { HostName.covers($0, service.host) }
    }.flatMap(\.ports).filter { $0.protocol == .tls || $0.protocol == .https }.map(\.number)
    for number in named.union(spoken.isEmpty && named.isEmpty ? [443] : spoken).sorted() {
      ports[number, default: Port()].serverNames += serverNames(entry, at: place(number), within: nil, pool: &pool)
    }
  }

  static func sorted(_ routes: [ServerNameRoute]) -> [ServerNameRoute] {
    routes.enumerated().sorted { a, b in
      if ServerNamePattern.isMoreSpecific(a.element.pattern, b.element.pattern) { return true }
      if ServerNamePattern.isMoreSpecific(b.element.pattern, a.element.pattern) { return false }
      return a.offset < b.offset
    }.map(\.element)
  }
}

// MARK: - Rules, at the mesh and at gateways

extension TCPRouteCompiler {
  /// The `tcp[]` rules that fit a place.
  func routes(_ entry: RuleBook.Entry, at place: RouteCompiler.Place, isMesh: Bool, pool: inout ClusterPool) -> [TCPRoute] {
    entry.tcp.enumerated().flatMap { index, rule -> [TCPRoute] in
      let fitting = rule.match.filter { applies($0, entry, at: place) }
      if fitting.isEmpty && !rule.match.isEmpty { return [] }
      guard let destinations = destinations(rule.route, entry, at: place, pool: &pool) else { return [] }
      let origin = Self.origin(entry, index, "tcp")
      if rule.match.isEmpty { return [TCPRoute(origin: origin, destinations: destinations)] }
      return fitting.map { match in
        TCPRoute(origin: origin, subnets: match.destinationSubnets.compactMap { AddressBlock($0) }, destinations: destinations)
      }
    }
  }

  /// The `tls[]` rules that fit a place, by server name; at a gateway only names that one of its `hosts` covers.
  func serverNames(_ entry: RuleBook.Entry, at place: RouteCompiler.Place, within hosts: [String]?, pool: inout ClusterPool)
    -> [ServerNameRoute]
  {
    var result: [ServerNameRoute] = []
    for (index, rule) in entry.tls.enumerated() {
      guard let destinations = destinations(rule.route, entry, at: place, pool: &pool) else { continue }
      for match in rule.match where applies(match.conditions, entry, at: place) {
        let subnets = match.conditions.destinationSubnets.compactMap { AddressBlock($0) }
        let route = TCPRoute(origin: Self.origin(entry, index, "tls"), subnets: subnets, destinations: destinations)
        for written in match.sniHosts.map({ $0.lowercased() }) {
          let names = hosts.map { $0.compactMap { Self.narrower(written, $0) } } ?? [written]
          result += Set(names).sorted().map { ServerNameRoute(pattern: ServerNamePattern($0), route: route) }
        }
      }
    }
    return result
  }

  /// The more specific of two hosts of which one covers the other.
  static func narrower(_ a: String, _ b: String) -> String? { HostName.covers(b, a) ? a : HostName.covers(a, b) ? b : nil }

  /// Conditions on where the connection enters; unlike HTTP's, `gateways` and the source's all hold together.
  private func applies(_ match: VirtualService.ConnectionConditions, _ entry: RuleBook.Entry, at place: RouteCompiler.Place)
    -> Bool
  {
    if let port = match.port, port != place.port { return false }
    let namespace = entry.key.namespace
    guard
      match.gateways.isEmpty
        || match.gateways.contains(where: { place.gateways.contains(GatewayName.resolve($0, namespace: namespace)) })
    else { return false }
    guard match.sourceNamespace.isEmpty || match.sourceNamespace == place.client.namespace else { return false }
    return Labels.match(match.sourceLabels, place.client.labels)
  }

  private func destinations(
    _ written: [VirtualService.WeightedDestination], _ entry: RuleBook.Entry, at place: RouteCompiler.Place,
    pool: inout ClusterPool
  ) -> [WeightedDestination]? {
    let weighted = written.count > 1 ? written.filter { $0.weight > 0 } : written
    guard !weighted.isEmpty else { return nil }
    return weighted.map { item in
      let target = pool.destination(compiler.query(item.destination, entry.key.namespace, at: place), client: place.client)
      return WeightedDestination(
        cluster: target.cluster, clusterName: target.name, weight: UInt32(clamping: max(1, item.weight)))
    }
  }

  private static func origin(_ entry: RuleBook.Entry, _ rule: Int, _ list: String) -> RouteOrigin {
    RouteOrigin(kind: entry.key.kind.rawValue, namespace: entry.key.namespace, name: entry.key.name, rule: rule, list: list)
  }
}

extension PortProtocol {
  /// Declared as HTTP: opaque rules do not stand on such ports.
  var isDeclaredHTTP: Bool { isHTTP && self != .auto }
}
