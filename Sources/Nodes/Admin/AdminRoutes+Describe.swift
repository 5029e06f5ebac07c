import MeshActors
import MeshConfig
import Primitives
import Transport

/// `describe`: what applies to one service or workload, in words.
extension AdminRoutes {
  func describe(_ query: QueryParameters) async throws -> DescriptionInfo {
    guard let snapshot = await node.snapshots.serving?.snapshot else {
      throw AdminFailure(code: "unavailable", message: "the proxy of node \(node.node.name) has no snapshot yet")
    }
    let (name, namespace) = (query["name"] ?? "", query["namespace"] ?? "default")
    switch query["kind"] {
    case "service", "svc", "services":
      let found = snapshot.services.first { service in
        service.host == name || service.name == name && service.namespace == namespace
      }
      guard let found else {
        throw AdminFailure(code: "notFound", message: "there is no service '\(name)' in namespace \(namespace)")
      }
      var description = describe(found, snapshot)
      let notes = await notes(about: [found.host])
      if !notes.isEmpty { description.sections.append(DescriptionInfo.Section("Not in force", notes)) }
      return description
    case "workload", "workloads", "pod", "po":
      let found = snapshot.workloads.filter { $0.namespace == namespace && ($0.name == name || $0.app == name) }
      guard !found.isEmpty else {
        throw AdminFailure(code: "notFound", message: "there is no workload '\(name)' in namespace \(namespace)")
      }
      return DescriptionInfo(sections: found.flatMap { describe($0, snapshot) })
    default: throw AdminFailure(code: "invalid", message: "say what to describe: service NAME or workload NAME")
    }
  }

  // MARK: Services

  private func describe(_ service: Service, _ snapshot: MeshSnapshot) -> DescriptionInfo {
    let clusters = snapshot.clusters.filter { $0.service.map { snapshot.services[$0].host } == service.host }
    let origin =
      switch service.origin {
      case .kubernetesService: "a Service object"
      case .serviceEntry: "a ServiceEntry"
      case .registration: "registrations of workloads"
      }
    var sections = [
      DescriptionInfo.Section(
        "Service \(service.namespace)/\(service.name)",
        [
          "host: \(service.host)", "known by: \(origin)",
          "ports: " + service.ports.map { "\($0.number) \($0.name) (\($0.protocol.rawValue))" }.joined(separator: ", "),
        ] + (service.addresses.isEmpty ? [] : ["addresses: \(service.addresses.joined(separator: ", "))"]))
    ]
    sections.append(DescriptionInfo.Section("Destinations", clusters.map { Self.line($0, snapshot) }))
    sections.append(DescriptionInfo.Section("Endpoints", Self.endpoints(clusters, snapshot)))
    let routed = routes(to: service.host, snapshot)
    sections.append(
      DescriptionInfo.Section("Routes", routed.isEmpty ? ["no rule routes it: requests go to the service itself"] : routed))
    sections.append(DescriptionInfo.Section("Gateways", gateways(to: service.host, snapshot)))
    return DescriptionInfo(sections: sections.filter { !$0.lines.isEmpty })
  }

  private static func line(_ cluster: Cluster, _ snapshot: MeshSnapshot) -> String {
    let healthy = cluster.endpoints.count { $0.health == .healthy }
    var parts = ["port \(cluster.port)"]
    if let subset = cluster.subset { parts.append("subset \(subset)") }
    parts.append("\(healthy) of \(cluster.endpoints.count) endpoints healthy")
    let names = Set(cluster.endpoints.compactMap { $0.workload.map { snapshot.workloads[$0].name } }).sorted()
    if !names.isEmpty { parts.append(names.prefix(8).joined(separator: ", ") + (names.count > 8 ? ", …" : "")) }
    parts.append("balanced by \(RouteWords.algorithm(cluster.loadBalancer.algorithm)), TLS \(RouteWords.tls(cluster.tls))")
    if let rule = cluster.destinationRule { parts.append("DestinationRule \(rule)") }
    if cluster.outlierDetection != nil { parts.append("outlier detection") }
    return parts.joined(separator: ", ")
  }

  /// Each endpoint once, with where it is and how it is reached.
  private static func endpoints(_ clusters: [Cluster], _ snapshot: MeshSnapshot) -> [String] {
    let lines = clusters.filter { $0.subset == nil }.flatMap(\.endpoints).map { endpoint -> String in
      let workload = endpoint.workload.map { snapshot.workloads[$0] }
      let name =
        workload.map { "\($0.name) on \($0.node)" + ($0.version.isEmpty ? "" : ", version \($0.version)") }
        ?? "outside the mesh"
      let way = endpoint.isLocal ? "in process" : endpoint.mesh == nil ? "direct" : "mTLS"
      return "\(endpoint.address):\(endpoint.port) \(name), \(endpoint.health.rawValue), \(way)"
    }
    let shown = unique(lines.sorted())
    return Array(shown.prefix(shownMax)) + (shown.count > shownMax ? ["\(shown.count - shownMax) more"] : [])
  }

  private static let shownMax = 40

  /// Rules of this node's tables whose virtual host is the service's, each once.
  private func routes(to host: String, _ snapshot: MeshSnapshot) -> [String] {
    let lines = snapshot.outbound.flatMap { Self.lines(of: $0) { $0.domains.contains(host) } }
    return Self.unique(lines)
  }

  private func gateways(to host: String, _ snapshot: MeshSnapshot) -> [String] {
    Self.unique(
      snapshot.gateways.flatMap { gateway in
        Self.lines(of: gateway.table) { virtualHost in
          virtualHost.routes.contains { Self.destinations(of: $0).contains { $0.hasSuffix("|\(host)") } }
        }.map { "\(gateway.gateways.joined(separator: ", ")): \($0)" }
      })
  }

  private static func lines(of table: RouteTable, where isWanted: (VirtualHost) -> Bool) -> [String] {
    table.ports.flatMap { port in
      port.virtualHosts.filter(isWanted).flatMap { host in
        host.routes.compactMap { route -> String? in
          guard let origin = route.origin else { return nil }
          let leads = destinations(of: route)
          let match = RouteWords.match(route)
          return "port \(port.port): \(origin)" + (match == "*" ? "" : ", \(match)")
            + (leads.isEmpty ? "" : " → \(leads.joined(separator: ", "))")
        }
      }
    }
  }

  private static func destinations(of route: Route) -> [String] {
    guard case .forward(let destinations) = route.action else { return [] }
    return destinations.map { destinations.count > 1 ? "\($0.weight) \($0.clusterName)" : $0.clusterName }
  }

  private static func unique(_ lines: [String]) -> [String] {
    var seen: Set<String> = []
    return lines.filter { seen.insert($0).inserted }
  }

  // MARK: Workloads

  private func describe(_ workload: WorkloadFacts, _ snapshot: MeshSnapshot) -> [DescriptionInfo.Section] {
    let index = snapshot.workloads.index(ofKey: Array(workload.key.utf8))
    let behind = snapshot.clusters.filter { cluster in
      cluster.subset == nil && cluster.endpoints.contains { $0.workload == index }
    }
    let labels = workload.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ", ")
    let own = behind.flatMap(\.endpoints).filter { $0.workload == index }
    let addresses = Set(own.map { "\($0.address):\($0.port)" }).sorted()
    var sections = [
      DescriptionInfo.Section(
        "Workload \(workload.namespace)/\(workload.name) on \(workload.node)",
        [
          "address: \(addresses.joined(separator: ", "))", "identity: \(workload.principal)", "labels: \(labels)",
          "health: \(own.first?.health.rawValue ?? "no endpoint of a service")",
          "locality: \(own.first.map { "\($0.locality)" } ?? "-"), weight \(own.first?.weight ?? 1)",
          "services: " + behind.map { "\($0.host):\($0.port)" }.joined(separator: ", "),
        ])
    ]
    if let local = snapshot.localWorkloads.first(where: { $0.workload == index }),
      snapshot.outbound.indices.contains(local.outbound)
    {
      let table = snapshot.outbound[local.outbound]
      let hosts = table.ports.reduce(0) { $0 + $1.virtualHosts.count }
      sections.append(
        DescriptionInfo.Section(
          "Calls",
          ["\(hosts) virtual hosts on the ports \(table.ports.map { "\($0.port)" }.joined(separator: ", "))"]
            + Self.unique(Self.lines(of: table) { _ in true })))
    }
    return sections
  }
}
