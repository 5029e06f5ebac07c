import Primitives

/// The outbound route table of one kind of client workload (Istio, VirtualService).
struct MeshRouteCompiler {
  let catalog: ServiceCatalog
  let book: RuleBook
  let settings: MeshSettings
  let client: ClientScope
  /// What a Sidecar lets the client see; nil: everything that is exported.
  var scope: SidecarIndex.Scope?
  /// Routes of the Gateway API, where there are any.
  var gatewayAPI: GatewayAPI.Topology?

  /// A host that is not in the registry is honoured on this port only.
  private static let unregisteredPort: UInt16 = 80

  /// Rules of the mesh that this client sees, by host: the oldest object has it.
  typealias Claims = HostIndex<RuleBook.Entry>

  func compile(_ units: inout HostUnits, pool: inout ClusterPool, findings: inout [Finding]) -> RouteTable {
    let claims = Self.claims(of: book, client: client, scope: scope, &findings)
    let visible = Self.visible(in: catalog, client: client, scope: scope)
    var hosts: [UInt16: [HostUnit]] = [:]
    units.begin()
    // Own services first, so that short names and shared domains go to them.
    let ordered = visible.filter { isOwn($0) } + visible.filter { !isOwn($0) }
    for service in ordered {
      pool.buildAll(service: service, client: client)
      addHosts(service, claims, &hosts, &units, &pool)
    }
    addUnregistered(claims, visible, &hosts, &units, &pool)
    for port in hosts.keys.sorted() { for unit in hosts[port] ?? [] { findings += unit.findings } }
    let ports = hosts.keys.sorted().map { units.table($0, hosts[$0] ?? []) }
    units.end()
    return RouteTable(
      ports: ports, fallback: allowsAny ? .passthrough(ClusterPool.passthrough) : .blackHole)
  }

  private var allowsAny: Bool {
    scope?.sidecar.outboundPolicy.map { $0 == .allowAny } ?? (settings.outboundPolicy == .allowAny)
  }

  /// Services that are exported to the client and that its Sidecar lets it see.
  static func visible(in catalog: ServiceCatalog, client: ClientScope, scope: SidecarIndex.Scope?) -> [Int] {
    let exported = catalog.visible(from: client.namespace)
    guard let scope else { return exported }
    return exported.filter { index in
      let service = catalog.entries[index].service
      return scope.admits(service.host, namespace: service.namespace)
    }
  }

  private func isOwn(_ service: Int) -> Bool { catalog.entries[service].service.namespace == client.namespace }

  static func claims(
    of book: RuleBook, client: ClientScope, scope: SidecarIndex.Scope?, _ findings: inout [Finding]
  ) -> Claims {
    var claims = Claims()
    for entry in book.entries where entry.gateways.contains(GatewayName.mesh) {
      guard Visibility.allows(entry.exportTo, client.namespace) else { continue }
      for host in entry.hosts where scope?.admits(host, namespace: entry.key.namespace) ?? true {
        guard let owner = claims[host] else {
          claims[host] = entry
          continue
        }
        if owner === entry { continue }
        findings.append(
          Finding(
            severity: .error, code: Finding.Code.conflictingMeshHosts, object: entry.key.description, path: "spec.hosts",
            reason: "ignored for \(host): the older \(owner.key) routes it", hint: "put all rules for a host in one object"))
      }
    }
    return claims
  }

  private func addHosts(
    _ service: Int, _ claims: Claims, _ hosts: inout [UInt16: [HostUnit]], _ units: inout HostUnits, _ pool: inout ClusterPool
  ) {
    let target = catalog.entries[service].service
    let compiler = RouteCompiler(settings: settings)
    let claim = claims.value(covering: target.host)
    let domains = Self.domains(of: target, client: client, domain: settings.domain)
    for (index, port) in target.ports.enumerated() where port.protocol.isHTTP {
      if let unit = gatewayAPIHost(target, port.number, domains, &pool) {
        hosts[port.number, default: []].append(unit)
        continue
      }
      let unit = units.unit(
        "\(target.host):\(port.number)", domains: domains, rules: claim.map { [$0] } ?? [], client: client, pool: &pool
      ) { pool in
        let routes = claim.map { compiler.routes($0.http, at: place(port.number), pool: &pool) } ?? []
        // A rule set that says nothing about this port leaves the service as it is.
        return routes.isEmpty ? [compiler.defaultRoute(target, port: index, client: client, pool: &pool)] : routes
      }
      hosts[port.number, default: []].append(unit)
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
    return routes.map { HostUnit(name: "\(service.host):\(port)", domains: domains, routes: $0, rules: [], asked: []) }
  }

  private func place(_ port: UInt16) -> RouteCompiler.Place {
    RouteCompiler.Place(client: client, gateways: [GatewayName.mesh], port: port)
  }

  /// Names a client may write for a service (Istio, general rules).
  static func domains(of service: Service, client: ClientScope, domain: String) -> [String] {
    var names = [service.host]
    let suffix = ".\(service.namespace).svc.\(domain)"
    if service.host.hasSuffix(suffix) {
      let short = String(service.host.dropLast(suffix.utf8.count))
      names += ["\(short).\(service.namespace).svc", "\(short).\(service.namespace)"]
      if service.namespace == client.namespace { names.append(short) }
    }
    return names + service.addresses
  }

  private func addUnregistered(
    _ claims: Claims, _ visible: [Int], _ hosts: inout [UInt16: [HostUnit]], _ units: inout HostUnits, _ pool: inout ClusterPool
  ) {
    let compiler = RouteCompiler(settings: settings)
    let known = Set(visible.map { catalog.entries[$0].service.host })
    let covering = claims.hasWildcards ? Set(known.flatMap(HostName.wildcards)) : []
    for host in claims.patterns {
      guard let entry = claims[host], !known.contains(host), !covering.contains(host) else { continue }
      let unit = units.unit("\(host):\(Self.unregisteredPort)", domains: [host], rules: [entry], client: client, pool: &pool) {
        pool in compiler.routes(entry.http, at: place(Self.unregisteredPort), pool: &pool)
      }
      if !unit.routes.isEmpty { hosts[Self.unregisteredPort, default: []].append(unit) }
    }
  }
}
