import Primitives

/// The ports that one gateway workload opens and what they route (Istio, Gateway).
struct GatewayCompiler {
  let catalog: ServiceCatalog
  let book: RuleBook
  let settings: MeshSettings
  let compiler: RouteCompiler
  let objects: [StoredObject]
  let workload: WorkloadRecord
  let client: ClientScope
  /// Index into `MeshSnapshot.localWorkloads`.
  let localWorkload: Int

  /// Servers that share a port: of one kind.
  struct Listener {
    enum Kind: String { case http = "HTTP", tls = "TLS", tcp = "TCP" }
    typealias Item = (gateway: ObjectKey, server: Gateway.Server)
    let kind: Kind
    var gateways: [String] = []
    var servers: [Item] = []
  }

  func credentials(of gateway: ObjectKey) -> CredentialIndex {
    IngressRules.made(gateway)
      ? CredentialIndex(ofIngressesIn: objects, gateway: workload.namespace)
      : CredentialIndex(objects, namespace: workload.namespace)
  }

  func compile(_ units: inout HostUnits, pool: inout ClusterPool, findings: inout [Finding]) -> [GatewayListener] {
    units.begin()
    defer { units.end() }
    var listeners: [GatewayPlace: Listener] = [:]
    for stored in objects {
      guard case .gateway(let gateway) = stored.object.spec, Labels.match(gateway.selector, workload.labels) else { continue }
      for (index, server) in gateway.servers.enumerated() { add(server, index, of: stored.key, to: &listeners, &findings) }
    }
    var result: [GatewayListener] = []
    for place in listeners.keys.sorted(by: { ($0.port, $0.bind ?? "") < ($1.port, $1.bind ?? "") }) {
      guard let listener = listeners[place] else { continue }
      let port = place.port
      guard listener.kind == .http else {
        result +=
          listener.kind == .tcp
          ? plainListener(listener, at: place, pool: &pool)
          : secureListeners(listener, at: place, &units, pool: &pool, findings: &findings)
        continue
      }
      let table = table(listener, at: place, &units, pool: &pool, findings: &findings)
      let redirects = listener.servers.filter { $0.server.tls?.httpsRedirect == true }.flatMap { item in
        item.server.hosts.map { ServerHost($0, namespace: item.gateway.namespace).host }
      }
      var one = GatewayListener(
        port: port, gateways: listener.gateways, localWorkload: localWorkload, table: table,
        httpsRedirectHosts: Array(Set(redirects)).sorted())
      one.bind = place.bind
      result.append(one)
    }
    return result
  }

  /// Ports of the Gateway API's Gateways, where Istio's leave them free.
  func compile(
    _ topology: GatewayAPI.Topology, beside others: [GatewayListener], pool: inout ClusterPool, findings: inout [Finding]
  ) -> [GatewayListener] {
    let gatewayAPI = GatewayAPI.ListenerCompiler(
      topology: topology, settings: settings, localWorkload: localWorkload, workload: workload)
    return gatewayAPI.compile(taken: Set(others.map(\.port)), findings: &findings) { target, gateway in
      let query = DestinationQuery(host: target.host, subset: nil, port: target.port, listenerPort: target.port)
      let answer = pool.destination(query, client: topology.scope(of: client, at: gateway))
      return (answer.cluster, answer.name)
    }
  }

  /// The first class of protocol on a port keeps it; a later server of another class is left out.
  private func add(
    _ server: Gateway.Server, _ index: Int, of key: ObjectKey, to listeners: inout [GatewayPlace: Listener],
    _ findings: inout [Finding]
  ) {
    let place = place(of: server)
    let kind: Listener.Kind = server.protocol.isPlaintextHTTP ? .http : server.protocol.needsTLS ? .tls : .tcp
    var listener = listeners[place] ?? Listener(kind: kind)
    if listener.kind != kind || kind == .tcp && !listener.servers.isEmpty {
      findings.append(
        Finding(
          severity: .error, code: Finding.Code.conflictingGateways, object: key.description, path: "spec.servers[\(index)]",
          reason: "port \(place.name) is already open for \(listener.kind.rawValue) by \(listener.gateways[0])",
          hint: "use another port"))
      return
    }
    let name = "\(key.namespace)/\(key.name)"
    if !listener.gateways.contains(name) { listener.gateways.append(name) }
    listener.servers.append((key, server))
    listeners[place] = listener
  }

  /// Servers with different addresses, or sockets, share nothing (Istio, `bind`). The node's own address is what is opened anyway.
  private func place(of server: Gateway.Server) -> GatewayPlace {
    if let bind = server.bind, bind.hasPrefix("unix://") { return GatewayPlace(port: 0, bind: bind) }
    return GatewayPlace(
      port: listeningPort(server.port), bind: server.bind == settings.localAddress ? nil : server.bind)
  }

  /// A server's port is the port of the gateway's Service when one is known: what is opened is the target port.
  private func listeningPort(_ number: UInt16) -> UInt16 {
    for entry in catalog.entries where entry.service.namespace == workload.namespace {
      guard case .workloads(let selector) = entry.source, !selector.isEmpty, Labels.match(selector, workload.labels),
        let index = entry.service.ports.firstIndex(where: { $0.number == number })
      else { continue }
      switch entry.targets[index] {
      case .int(let target): return UInt16(clamping: target)
      case .string(let name): return workload.ports.first { $0.name == name }?.port ?? number
      case nil: return number
      }
    }
    return number
  }

  func table(
    _ listener: Listener, at opened: GatewayPlace, _ units: inout HostUnits, pool: inout ClusterPool,
    findings: inout [Finding]
  ) -> RouteTable {
    let port = opened.port
    var rules: [String: [RuleBook.Entry]] = [:]
    for entry in entries(on: listener.gateways) {
      for host in hosts(of: entry, on: listener) { rules[host, default: []].append(entry) }
    }
    // Every rule set sees the port it was written for: the number in the Gateway.
    let written = listener.servers.first?.server.port ?? port
    let place = RouteCompiler.Place(client: client, gateways: Set(listener.gateways), port: written)
    let servers = listener.kind == .http ? "" : listener.servers.map(\.server.portName).joined(separator: ",")
    let scope = "\(opened.name) \(written) \(listener.gateways.joined(separator: ",")) \(servers)"
    let found = rules.keys.sorted(by: HostName.isMoreSpecific).map { host in
      let entries = rules[host] ?? []
      let unit = units.unit(
        host, port: port, domains: [host], scope: scope, rules: entries, client: client, pool: &pool,
        queries: { entries.flatMap { compiler.queries($0.http, at: place) } },
        compile: { [compiler] answers in
          Self.catchAllsLast(entries.flatMap { compiler.routes($0.http, at: place) { answers[$0] } })
        })
      findings += unit.findings
      return unit
    }
    return RouteTable(ports: [units.table(port, found, scope: scope)], fallback: .notFound)
  }

  /// Rules that name one of these gateways, oldest first.
  func entries(on gateways: [String]) -> [RuleBook.Entry] {
    if gateways.count == 1 { return book.byGateway[gateways[0]] ?? [] }
    var seen: Set<ObjectIdentifier> = []
    return gateways.flatMap { book.byGateway[$0] ?? [] }.filter { seen.insert(ObjectIdentifier($0)).inserted }
      .sorted(by: RuleBook.Entry.isOlder)
  }

  /// The more specific of each pair of a rule's host and a server's host, where one covers the other.
  private func hosts(of entry: RuleBook.Entry, on listener: Listener) -> [String] {
    let bound = listener.servers.filter { isBound(entry, to: $0) }
    return Array(Set(bound.flatMap { boundHosts(entry, $0) })).sorted()
  }

  /// Whether a rule set names the gateway and is seen by it.
  func isBound(_ entry: RuleBook.Entry, to item: Listener.Item) -> Bool {
    entry.gateways.contains("\(item.gateway.namespace)/\(item.gateway.name)")
      && (Visibility.allows(entry.exportTo, workload.namespace) || Visibility.allows(entry.exportTo, item.gateway.namespace))
  }

  /// The hosts that a rule set and a server have in common.
  func boundHosts(_ entry: RuleBook.Entry, _ item: Listener.Item) -> [String] {
    item.server.hosts.flatMap { written -> [String] in
      let server = ServerHost(written, namespace: item.gateway.namespace)
      guard server.admits(entry.key.namespace) else { return [] }
      return entry.hosts.compactMap { TCPRouteCompiler.narrower($0, server.host) }
    }
  }

  /// Alternatives that match everything move to the end, in their order; each alternative counts for itself.
  private static func catchAllsLast(_ routes: [Route]) -> [Route] {
    var first: [Route] = []
    var last: [Route] = []
    for route in routes {
      var narrow = route
      narrow.matches = route.matches.filter { !$0.isCatchAll }
      if !narrow.matches.isEmpty { first.append(narrow) }
      if narrow.matches.count == route.matches.count && !route.matches.isEmpty { continue }
      var wide = route
      wide.matches = route.matches.filter(\.isCatchAll)
      last.append(wide)
    }
    return first + last
  }
}

/// A host of a Gateway server: `host`, or `namespace/host` that only rules of that namespace may use.
struct ServerHost {
  let host: String
  private let namespace: String?

  init(_ written: String, namespace own: String) {
    let parts = written.lowercased().split(separator: "/", maxSplits: 1).map(String.init)
    host = parts.last ?? written
    namespace = parts.count == 2 && parts[0] != "*" ? (parts[0] == "." ? own : parts[0]) : nil
  }

  func admits(_ ruleNamespace: String) -> Bool { namespace == nil || namespace == ruleNamespace }
}

extension RouteMatch {
  /// No condition, or a path condition that every path meets.
  fileprivate var isCatchAll: Bool {
    guard scheme == nil, method == nil, authority == nil, headers.isEmpty, withoutHeaders.isEmpty, queryParameters.isEmpty
    else { return false }
    switch path {
    case nil: return true
    case .prefix(let prefix): return prefix.isEmpty || prefix == [0x2F]
    case .regex(let pattern): return pattern.source == ".*"
    case .exact, .segmentPrefix: return false
    }
  }
}
