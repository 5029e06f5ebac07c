import Primitives

extension GatewayAPI {
  /// Turns the listeners of Gateways into ports that a gateway workload opens.
  struct ListenerCompiler {
    let topology: Topology
    let settings: MeshSettings
    /// Index into `MeshSnapshot.localWorkloads`.
    let localWorkload: Int
    let workload: WorkloadRecord

    /// The Gateways that this workload serves: those that its label names, or all where it has none.
    private static let gatewayLabel = "gateway.networking.k8s.io/gateway-name"

    /// And of those the Gateways that ask for no address, or for this node's.
    private func serves(_ gateway: ObjectKey) -> Bool {
      let asked = topology.gateways.first { $0.key == gateway }?.gateway.askedAddresses ?? []
      guard asked.isEmpty || asked.contains(settings.localAddress) else { return false }
      guard let name = workload.labels[Self.gatewayLabel] else { return true }
      return name == gateway.name && workload.namespace == gateway.namespace
    }

    /// - Parameter taken: ports of Istio's Gateways, which keep them.
    func compile(
      taken: Set<UInt16>, findings: inout [Finding], _ destination: HTTPRouteCompiler.GatewayDestination
    ) -> [GatewayListener] {
      let served = topology.listeners.indices.filter {
        serves(topology.listeners[$0].gateway) && topology.listeners[$0].isServed
      }
      var result: [GatewayListener] = []
      for port in Set(served.map { topology.listeners[$0].spec.port }).sorted() {
        let here = served.filter { topology.listeners[$0].spec.port == port }
        if taken.contains(port) {
          for index in here { findings.append(conflict(index, "a Gateway of networking.istio.io has port \(port)")) }
          continue
        }
        result += listeners(here, port: port, &findings, destination)
      }
      return result
    }

    private func conflict(_ index: Int, _ reason: String) -> Finding {
      let listener = topology.listeners[index]
      return Finding(
        severity: .error, code: Finding.Code.conflictingGateways, object: listener.owner.description, path: "spec.listeners",
        reason: "the listener \(listener.spec.name) is not served: \(reason)", hint: "use another port or host")
    }

    /// Gateways that share a workload share its ports: the oldest one's kind of listener has a port.
    private func listeners(
      _ indices: [Int], port: UInt16, _ findings: inout [Finding], _ destination: HTTPRouteCompiler.GatewayDestination
    ) -> [GatewayListener] {
      guard let first = indices.first else { return [] }
      let isTLS: (Int) -> Bool = { ["HTTPS", "TLS"].contains(topology.listeners[$0].spec.protocol) }
      let kind = topology.listeners[first].spec.protocol
      let same = indices.filter { isTLS(first) ? isTLS($0) : topology.listeners[$0].spec.protocol == kind }
      for index in indices where !same.contains(index) {
        findings.append(conflict(index, "port \(port) speaks \(kind) for \(topology.listeners[first].gateway)"))
      }
      if kind == "HTTP" { return [httpListener(same, port: port, destination)] }
      if kind == "TCP" {
        let routes = connectionRoutes(of: [first], destination)
        return [listener(first, role: .tcp(routes))]
      }
      return secureListeners(same, port: port, &findings, destination)
    }

    // MARK: HTTP

    private func httpListener(
      _ indices: [Int], port: UInt16, _ destination: HTTPRouteCompiler.GatewayDestination
    ) -> GatewayListener {
      var result = listener(indices[0], role: .http)
      result.table = table(indices, port: port, destination)
      result.gateways = indices.map { name(of: topology.listeners[$0].gateway) }.removingRepeats()
      return result
    }

    /// Virtual hosts of listeners that share a port. A host belongs to the listener that names it most specifically, and to no other.
    private func table(_ indices: [Int], port: UInt16, _ destination: HTTPRouteCompiler.GatewayDestination) -> RouteTable {
      let compiler = HTTPRouteCompiler(topology: topology, settings: settings)
      var hosts: Set<String> = []
      for index in indices { hosts.insert(topology.listeners[index].spec.hostname ?? "*") }
      for item in topology.attachments where indices.contains(item.listener) { hosts.formUnion(item.hostnames) }
      var virtualHosts = VirtualHostTable()
      for host in hosts.sorted(by: HostName.isMoreSpecific) {
        let owners = indices.filter { HostName.covers(topology.listeners[$0].spec.hostname ?? "*", host) }
        let names = owners.map { topology.listeners[$0].spec.hostname ?? "*" }
        guard let best = names.min(by: HostName.isMoreSpecific) else { continue }
        let own = owners.filter { (topology.listeners[$0].spec.hostname ?? "*") == best }
        let routes = compiler.routes(candidates(own, host), port: port, destination)
        virtualHosts.add(name: "\(host):\(port)", domains: [host], content: CallByNeed(HostRoutes(routes)))
      }
      return RouteTable(ports: [virtualHosts.portTable(port)], fallback: .notFound)
    }

    /// Routes attached to the listeners that take the host, in the order of age.
    private func candidates(_ listeners: [Int], _ host: String) -> [HTTPRouteCompiler.Candidate] {
      var found: [(route: Int, hostname: String, listener: Int)] = []
      for item in topology.attachments where listeners.contains(item.listener) {
        let names = item.hostnames.filter { HostName.covers($0, host) }
        guard let best = names.min(by: HostName.isMoreSpecific) else { continue }
        if !found.contains(where: { $0.route == item.route }) { found.append((item.route, best, item.listener)) }
      }
      return found.sorted { $0.route < $1.route }
        .map { (topology.routes[$0.route], $0.hostname, topology.listeners[$0.listener].gateway) }
        .filter { !$0.0.rules.isEmpty }
    }

    // MARK: TLS and TCP

    private func secureListeners(
      _ indices: [Int], port: UInt16, _ findings: inout [Finding], _ destination: HTTPRouteCompiler.GatewayDestination
    ) -> [GatewayListener] {
      var claimed: Set<String> = []
      var result: [GatewayListener] = []
      for index in indices {
        let spec = topology.listeners[index].spec
        let host = spec.hostname ?? "*"
        guard claimed.insert(host).inserted else {
          findings.append(conflict(index, "an earlier listener of port \(port) has the host \(host)"))
          continue
        }
        var one: GatewayListener
        if spec.protocol == "HTTPS" {
          one = listener(index, role: .https(serverTLS(index)))
          one.table = table([index], port: port, destination)
        } else if spec.tls?.isPassthrough ?? false {
          one = listener(index, role: .passthrough(serverNames(index, destination)))
        } else {
          one = listener(index, role: .tls(serverTLS(index), connectionRoutes(of: [index], destination)))
        }
        one.serverNames = [ServerNamePattern(host)]
        result.append(one)
      }
      return result
    }

    private func serverTLS(_ index: Int) -> ServerTLS {
      let listener = topology.listeners[index]
      var tls = ServerTLS(
        sources: listener.certificates.map { secret in
          guard let chain = secret.certificateChain, let key = secret.privateKey else {
            return .missing("the Secret cannot be opened on this node")
          }
          return .material(certificate: chain, key: key)
        })
      if tls.sources.isEmpty { tls.sources = [.missing("the listener names no certificate")] }
      if let validation = listener.clientValidation {
        tls.clientCertificate = validation.allowsInsecureFallback ? .optional : .required
        tls.acceptsUnverified = validation.allowsInsecureFallback
        tls.authorities = .material(listener.clientAuthorities)
      }
      return tls
    }

    private func listener(_ index: Int, role: GatewayListener.Role) -> GatewayListener {
      let listener = topology.listeners[index]
      var result = GatewayListener(
        port: listener.spec.port, gateways: [name(of: listener.gateway)], localWorkload: localWorkload,
        table: RouteTable(ports: [], fallback: .notFound))
      result.role = role
      result.server = "\(listener.owner.namespace)/\(listener.owner.name)/\(listener.spec.name)"
      return result
    }

    private func name(of gateway: ObjectKey) -> String { "\(gateway.namespace)/\(gateway.name)" }

    /// The oldest route has the connections of a listener.
    private func connectionRoutes(of listeners: [Int], _ destination: HTTPRouteCompiler.GatewayDestination) -> [TCPRoute] {
      for item in topology.attachments.sorted(by: { $0.route < $1.route }) where listeners.contains(item.listener) {
        let gateway = topology.listeners[item.listener].gateway
        let routes = topology.connectionRoutes(topology.routes[item.route]) { destination($0, gateway) }
        if !routes.isEmpty { return routes }
      }
      return []
    }

    private func serverNames(_ index: Int, _ destination: HTTPRouteCompiler.GatewayDestination) -> [ServerNameRoute] {
      var result: [ServerNameRoute] = []
      for item in topology.attachments where item.listener == index {
        let gateway = topology.listeners[index].gateway
        let rules = topology.connectionRoutes(topology.routes[item.route]) { destination($0, gateway) }
        guard let route = rules.first else { continue }
        result += item.hostnames.map { ServerNameRoute(pattern: ServerNamePattern($0), route: route) }
      }
      return TCPRouteCompiler.sorted(result)
    }
  }

  /// What HTTPRoutes and GRPCRoutes of the mesh make of a service for one client.
  struct MeshRouteCompiler {
    let topology: Topology
    let settings: MeshSettings
    let clientNamespace: String

    /// nil when no route is attached to the service's port. Routes of the client's own namespace come before those of the
    /// service's namespace; other namespaces' routes are for their own clients only (Gateway API, GAMMA).
    func routes(
      host: String, namespace: String, port: UInt16, _ destination: HTTPRouteCompiler.Destination
    ) -> [MeshConfig.Route]? {
      let chosen = topology.attached(host: host, namespace: namespace, port: port, seenFrom: clientNamespace) {
        !$0.rules.isEmpty
      }
      if chosen.isEmpty { return nil }
      let compiler = HTTPRouteCompiler(topology: topology, settings: settings)
      return compiler.routes(chosen.map { ($0, "*", nil) }, port: port) { target, _ in destination(target) }
    }
  }
}

extension Array where Element: Hashable {
  fileprivate func removingRepeats() -> [Element] {
    var seen: Set<Element> = []
    return filter { seen.insert($0).inserted }
  }
}
