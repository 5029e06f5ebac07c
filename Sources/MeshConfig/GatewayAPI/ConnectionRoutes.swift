extension GatewayAPI.Topology {
  /// The rules of a TCPRoute or TLSRoute, one for each that has a backend with a weight.
  func connectionRoutes(_ route: Route, _ destination: GatewayAPI.HTTPRouteCompiler.Destination) -> [TCPRoute] {
    route.connectionRules.enumerated().compactMap { index, rule in
      let origin = RouteOrigin(
        kind: route.key.kind.rawValue, namespace: route.key.namespace, name: route.key.name, rule: index)
      let weighted = rule.backends.filter { $0.weight > 0 }
      guard !weighted.isEmpty else { return nil }
      return TCPRoute(
        origin: origin,
        destinations: weighted.map { backend in
          let target = try? references.backend(
            backend.reference, kind: route.key.kind.documentKind, from: route.key.namespace)
          let found = target.map(destination)
          return WeightedDestination(
            cluster: found?.cluster, clusterName: found?.name ?? backend.reference.name,
            weight: UInt32(clamping: backend.weight))
        })
    }
  }

  /// Routes attached to a port of a service, as a client in a namespace sees them: those of its own namespace come before
  /// those of the service's; other namespaces' routes are for their own clients only (Gateway API, GAMMA).
  func attached(host: String, namespace: String, port: UInt16, seenFrom client: String, _ isMeant: (Route) -> Bool) -> [Route] {
    if meshAttachments.isEmpty { return [] }
    let here = meshAttachments.filter { $0.host == host && ($0.port == nil || $0.port == port) }
      .map { routes[$0.route] }.filter(isMeant)
    let consumers = here.filter { $0.key.namespace == client && $0.key.namespace != namespace }
    return consumers.isEmpty ? here.filter { $0.key.namespace == namespace } : consumers
  }
}

extension GatewayAPI {
  /// What TCPRoutes and TLSRoutes of the mesh make of a service for one client.
  struct MeshConnectionCompiler {
    let topology: Topology
    let clientNamespace: String

    /// nil when no route is attached to the service's port. The oldest TCPRoute has all of its connections.
    func rules(
      host: String, namespace: String, port: UInt16, _ destination: HTTPRouteCompiler.Destination
    ) -> (routes: [TCPRoute], serverNames: [ServerNameRoute])? {
      let found = topology.attached(host: host, namespace: namespace, port: port, seenFrom: clientNamespace) {
        $0.key.kind == .tcpRoute || $0.key.kind == .tlsRoute
      }
      if found.isEmpty { return nil }
      var routes: [TCPRoute] = []
      if let first = found.first(where: { $0.key.kind == .tcpRoute }) {
        routes = topology.connectionRoutes(first, destination)
        // Without a backend that may be used its connections are refused.
        if routes.isEmpty { routes = [Self.nowhere(first)] }
      }
      var serverNames: [ServerNameRoute] = []
      for route in found where route.key.kind == .tlsRoute {
        let rule = topology.connectionRoutes(route, destination).first ?? Self.nowhere(route)
        let names = route.common.hostnames.isEmpty ? ["*"] : route.common.hostnames
        serverNames += names.map { ServerNameRoute(pattern: ServerNamePattern($0), route: rule) }
      }
      return (routes, serverNames)
    }

    private static func nowhere(_ route: Topology.Route) -> TCPRoute {
      let origin = RouteOrigin(kind: route.key.kind.rawValue, namespace: route.key.namespace, name: route.key.name, rule: 0)
      return TCPRoute(
        origin: origin, destinations: [WeightedDestination(cluster: nil, clusterName: route.key.description, weight: 1)])
    }
  }
}
