import Primitives

/// The outbound route table of one kind of client workload (Istio, VirtualService).
struct MeshRouteCompiler {
  let catalog: ServiceCatalog
  let book: RuleBook
  let settings: MeshSettings
  let client: ClientScope

  /// A host that is not in the registry is honoured on this port only.
  private static let unregisteredPort: UInt16 = 80

  /// Rules of the mesh that this client sees, by host: the oldest object has it.
  private struct Claims {
    var exact: [String: RuleBook.Entry] = [:]
    /// Most specific first.
    var wildcards: [(host: String, entry: RuleBook.Entry)] = []

    func entry(for host: String) -> RuleBook.Entry? {
      exact[host] ?? wildcards.first { HostName.covers($0.host, host) }?.entry
    }
  }

  func compile(pool: inout ClusterPool, findings: inout [Finding]) -> RouteTable {
    let claims = claims(&findings)
    let visible = catalog.visible(from: client.namespace)
    var tables: [UInt16: VirtualHostTable] = [:]
    // Own services first, so that short names and shared domains go to them.
    let ordered = visible.filter { isOwn($0) } + visible.filter { !isOwn($0) }
    for service in ordered {
      pool.buildAll(service: service, client: client)
      addVirtualHosts(service, claims, &tables, &pool)
    }
    addUnregistered(claims, visible, &tables, &pool)
    return RouteTable(
      ports: tables.keys.sorted().compactMap { port in tables[port].map { $0.portTable(port) } },
      fallback: settings.outboundPolicy == .allowAny ? .passthrough(ClusterPool.passthrough) : .blackHole)
  }

  private func isOwn(_ service: Int) -> Bool { catalog.entries[service].service.namespace == client.namespace }

  private func claims(_ findings: inout [Finding]) -> Claims {
    var claims = Claims()
    var owners: [String: ObjectKey] = [:]
    for entry in book.entries where entry.gateways.contains(GatewayName.mesh) {
      guard Visibility.allows(entry.exportTo, client.namespace) else { continue }
      for host in entry.hosts {
        if let owner = owners[host] {
          if owner == entry.key { continue }
          findings.append(
            Finding(
              severity: .error, code: Finding.Code.conflictingMeshHosts, object: entry.key.description, path: "spec.hosts",
              reason: "ignored for \(host): the older \(owner) routes it", hint: "put all rules for a host in one object"))
          continue
        }
        owners[host] = entry.key
        if host.hasPrefix("*") { claims.wildcards.append((host, entry)) } else { claims.exact[host] = entry }
      }
    }
    claims.wildcards.sort { HostName.isMoreSpecific($0.host, $1.host) }
    return claims
  }

  private func addVirtualHosts(
    _ service: Int, _ claims: Claims, _ tables: inout [UInt16: VirtualHostTable], _ pool: inout ClusterPool
  ) {
    let target = catalog.entries[service].service
    let compiler = RouteCompiler(catalog: catalog, settings: settings)
    let claim = claims.entry(for: target.host)
    for (index, port) in target.ports.enumerated() where port.protocol.isHTTP {
      var routes: [Route] = []
      if let claim { routes = compiler.routes(claim.http, at: place(port.number), pool: &pool) }
      // A rule set that says nothing about this port leaves the service as it is.
      if routes.isEmpty { routes = [compiler.defaultRoute(service: service, port: index, client: client, pool: &pool)] }
      tables[port.number, default: VirtualHostTable()].add(
        name: "\(target.host):\(port.number)", domains: Self.domains(of: target, client: client, domain: settings.domain),
        routes: routes)
    }
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
    _ claims: Claims, _ visible: [Int], _ tables: inout [UInt16: VirtualHostTable], _ pool: inout ClusterPool
  ) {
    let compiler = RouteCompiler(catalog: catalog, settings: settings)
    let known = Set(visible.map { catalog.entries[$0].service.host })
    let names = claims.exact.keys.filter { !known.contains($0) }.sorted()
    let wildcards = claims.wildcards.map(\.host).filter { wildcard in !known.contains { HostName.covers(wildcard, $0) } }
    for host in names + wildcards {
      guard let entry = claims.exact[host] ?? claims.wildcards.first(where: { $0.host == host })?.entry else { continue }
      let routes = compiler.routes(entry.http, at: place(Self.unregisteredPort), pool: &pool)
      guard !routes.isEmpty else { continue }
      tables[Self.unregisteredPort, default: VirtualHostTable()].add(
        name: "\(host):\(Self.unregisteredPort)", domains: [host], routes: routes)
    }
  }
}
