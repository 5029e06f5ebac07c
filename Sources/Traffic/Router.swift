import HTTPCodec
import MeshConfig
import Primitives

/// The routing decision: (request, table, draws) → plan. Same inputs, same plan.
public enum Router {
  /// Routes a request by a table of the snapshot it started with.
  ///
  /// - Parameter draws: decides splits, faults and mirrors. Draws happen in this order: delay, abort, destination, mirrors.
  public static func route(
    _ request: some RequestView, _ context: RequestContext, in table: RouteTable,
    draws: inout SeededGenerator
  ) -> RoutePlan {
    var facts = RouteFacts.none
    return route(request, context, in: table, draws: &draws, facts: &facts)
  }

  /// - Parameter facts: becomes what the data plane asks of the route.
  public static func route(
    _ request: some RequestView, _ context: RequestContext, in table: RouteTable,
    draws: inout SeededGenerator, facts: inout RouteFacts
  ) -> RoutePlan {
    facts = .none
    guard let found = find(request, context, in: table) else {
      return RoutePlan(route: nil, outcome: outcome(of: table.fallback))
    }
    guard let reference = found.route else { return RoutePlan(route: nil, outcome: .notFound) }
    let plan = plan(for: request, found.host.routes, reference, draws: &draws)
    facts = found.host.facts(ofRoute: reference.route, plan)
    return plan
  }

  /// Routes a request that entered a gateway's listener.
  public static func route(
    _ request: some RequestView, in gateway: GatewayListener, isHTTPS: Bool,
    draws: inout SeededGenerator, facts: inout RouteFacts
  ) -> RoutePlan {
    facts = .none
    if !isHTTPS, mustUseHTTPS(request, gateway) { return RoutePlan(route: nil, outcome: .redirectToHTTPS) }
    let context = RequestContext(port: gateway.port, isHTTPS: isHTTPS)
    return route(request, context, in: gateway.table, draws: &draws, facts: &facts)
  }

  struct Found {
    let virtualHost: Int
    /// nil when none of the host's routes matches.
    let route: RouteReference?
    let host: HostRoutes
  }

  /// Which virtual host claims the request, and which of its routes; nil when no host does.
  static func find(
    _ request: some RequestView, _ context: RequestContext, in table: RouteTable
  ) -> Found? {
    guard let portIndex = table.index(ofPort: context.port) else { return nil }
    return request.withBytes { bytes in
      let named = context.host.map { table.ports[portIndex].virtualHost(for: $0.span) }
      guard let index = named ?? table.ports[portIndex].virtualHost(for: bytes.extracting(request.host)) else { return nil }
      var work = RoutingWork()
      let host = table.ports[portIndex].virtualHosts[index].compiled
      let found = alternative(host.routes, host.index, request, context, bytes, &work)
      return Found(
        virtualHost: index,
        route: found.map { RouteReference(port: portIndex, virtualHost: index, route: $0.route, match: $0.match) },
        host: host)
    }
  }

  /// The first alternative that holds.
  private static func alternative(
    _ routes: [Route], _ index: RouteIndex?, _ request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>,
    _ work: inout RoutingWork
  ) -> RouteIndex.Alternative? {
    if let index {
      return index.first(for: bytes.extracting(request.path)) { alternative in
        work.alternatives += 1
        guard let match = alternative.match else { return true }
        return routes[alternative.route].matches[match].holds(request, context, bytes)
      }
    }
    for route in routes.indices {
      if routes[route].matches.isEmpty { return RouteIndex.Alternative(route: route, match: nil) }
      for match in routes[route].matches.indices {
        work.alternatives += 1
        if routes[route].matches[match].holds(request, context, bytes) {
          return RouteIndex.Alternative(route: route, match: match)
        }
      }
    }
    return nil
  }

  /// What finding a route takes, counted.
  struct RoutingWork: Hashable {
    /// Alternatives whose conditions were looked at.
    var alternatives = 0
  }

  /// How many alternatives are looked at to route a request.
  static func work(_ request: some RequestView, _ context: RequestContext, in table: RouteTable) -> RoutingWork {
    var work = RoutingWork()
    guard let port = table.index(ofPort: context.port) else { return work }
    request.withBytes { bytes in
      guard let host = table.ports[port].virtualHost(for: bytes.extracting(request.host)) else { return }
      let virtualHost = table.ports[port].virtualHosts[host].compiled
      _ = alternative(virtualHost.routes, virtualHost.index, request, context, bytes, &work)
    }
    return work
  }

  static func outcome(of fallback: RouteTable.Fallback) -> RouteOutcome {
    switch fallback {
    case .passthrough(let cluster): .passthrough(cluster: cluster)
    case .blackHole: .blackHole
    case .notFound: .notFound
    }
  }

  private static func mustUseHTTPS(_ request: some RequestView, _ gateway: GatewayListener) -> Bool {
    !gateway.redirectHosts.isEmpty
      && request.withBytes { bytes in gateway.redirectHosts.contains(bytes.extracting(request.host)) }
  }

  /// Reads single fields of the route: copying the whole of it would count references to all of its parts.
  private static func plan(
    for request: some RequestView, _ routes: [Route], _ reference: RouteReference, draws: inout SeededGenerator
  ) -> RoutePlan {
    let index = reference.route
    var plan = RoutePlan(route: reference, outcome: .redirect)
    switch routes[index].action {
    case .redirect: return plan
    case .directResponse:
      plan.outcome = .directResponse
      return plan
    case .forward(let destinations):
      if let fault = routes[index].fault { plan.fault = FaultPlan(fault, draws: &draws) }
      if let cors = routes[index].cors {
        switch CORS.check(request, cors) {
        case .notCrossOrigin: break
        case .request(let isAllowed): plan.isOriginAllowed = isAllowed
        case .preflight(let isAllowed):
          plan.isOriginAllowed = isAllowed
          if isAllowed || !cors.forwardUnmatchedPreflights {
            plan.outcome = .preflight(isOriginAllowed: isAllowed)
            return plan
          }
        }
      }
      plan.outcome = forward(to: destinations, origin: routes[index].origin, draws: &draws)
      plan.mirrors = mirrors(routes[index].mirrors, draws: &draws)
      return plan
    }
  }

  private static func forward(
    to destinations: [WeightedDestination], origin: RouteOrigin?, draws: inout SeededGenerator
  ) -> RouteOutcome {
    let chosen = destinations.isEmpty ? 0 : destination(among: destinations, draws: &draws)
    guard !destinations.isEmpty, let cluster = destinations[chosen].cluster else {
      return .noCluster(destination: chosen, isGatewayAPI: origin?.isGatewayAPI ?? false)
    }
    return .forward(cluster: cluster, destination: chosen)
  }

  /// A lone destination gets everything, whatever its weight.
  private static func destination(among destinations: [WeightedDestination], draws: inout SeededGenerator) -> Int {
    guard destinations.count > 1 else { return 0 }
    var total: UInt64 = 0
    for destination in destinations { total += UInt64(destination.weight) }
    var draw = draws.below(total)
    for index in destinations.indices {
      let weight = UInt64(destinations[index].weight)
      if draw < weight { return index }
      draw -= weight
    }
    return destinations.count - 1
  }

  private static func mirrors(_ mirrors: [MirrorPolicy], draws: inout SeededGenerator) -> UInt32 {
    var chosen: UInt32 = 0
    for index in mirrors.indices.prefix(TrafficLimits.mirrorsMax) {
      if mirrors[index].cluster != nil, Dice.roll(mirrors[index].partsPerMillion, &draws) { chosen |= 1 << UInt32(index) }
    }
    return chosen
  }
}

extension RouteOrigin {
  /// Gateway API routes answer 500, not 503, for a backend that does not exist.
  var isGatewayAPI: Bool { kind == "HTTPRoute" || kind == "GRPCRoute" }
}

extension RouteTable {
  func index(ofPort port: UInt16) -> Int? {
    var low = 0
    var high = ports.count
    while low < high {
      let middle = (low + high) / 2
      if ports[middle].port < port { low = middle + 1 } else { high = middle }
    }
    return low < ports.count && ports[low].port == port ? low : nil
  }
}

extension RouteTable.PortTable {
  /// Exact name first, then the longest wildcard, then `*`.
  func virtualHost(for host: Span<UInt8>) -> Int? {
    if let index = exact[host] { return index }
    return suffixes.value(for: host)
  }
}

/// Percentages with a grain of 0.0001 %, as parts per million.
enum Dice {
  /// True with probability `partsPerMillion` / 1,000,000. 0 and 1,000,000 draw nothing.
  static func roll(_ partsPerMillion: UInt32, _ draws: inout SeededGenerator) -> Bool {
    if partsPerMillion == 0 { return false }
    if partsPerMillion >= 1_000_000 { return true }
    return draws.below(1_000_000) < UInt64(partsPerMillion)
  }
}

extension FaultPlan {
  /// Rolls both dice independently.
  init(_ policy: FaultPolicy, draws: inout SeededGenerator) {
    delay = policy.delayDuration != nil && Dice.roll(policy.delayPartsPerMillion, &draws) ? policy.delayDuration : nil
    abort = policy.abort != nil && Dice.roll(policy.abortPartsPerMillion, &draws) ? policy.abort : nil
  }
}
