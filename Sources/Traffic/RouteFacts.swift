import MeshConfig

/// What the data plane asks of every matched route, without a reference to any part of it: copying a whole `Route` would
/// count references to all of them, several times a request.
public struct RouteFacts: Hashable, Sendable {
  public var timeout: Duration?
  public var perTryTimeout: Duration?
  /// The route, or the chosen destination, rewrites requests or has operations on their header fields.
  public var changesRequest = false
  /// The same for responses, with what CORS adds.
  public var changesResponse = false
  /// Requests of a session go to one endpoint.
  public var hasSession = false

  public static let none = RouteFacts()
}

extension RouteTable {
  /// The facts of the route that `plan` refers to; the plan must come from this table.
  public func facts(of plan: RoutePlan) -> RouteFacts {
    guard let reference = plan.route else { return .none }
    return ports[reference.port].virtualHosts[reference.virtualHost].compiled.facts(ofRoute: reference.route, plan)
  }
}

extension HostRoutes {
  /// The facts of the route that `plan` chose.
  func facts(ofRoute index: Int, _ plan: RoutePlan) -> RouteFacts {
    var facts = RouteFacts()
    facts.timeout = routes[index].timeout
    facts.perTryTimeout = routes[index].retry?.perTryTimeout
    facts.changesRequest = routes[index].rewrite != nil || !routes[index].requestHeaders.isEmpty
    facts.changesResponse = !routes[index].responseHeaders.isEmpty || plan.isOriginAllowed && routes[index].cors != nil
    facts.hasSession = routes[index].session != nil
    if case .forward(_, let chosen) = plan.outcome, case .forward(let destinations) = routes[index].action,
      destinations.indices.contains(chosen)
    {
      facts.changesRequest = facts.changesRequest || !destinations[chosen].requestHeaders.isEmpty
      facts.changesResponse = facts.changesResponse || !destinations[chosen].responseHeaders.isEmpty
    }
    return facts
  }
}
