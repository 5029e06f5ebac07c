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
    guard let reference = find(request, context, in: table) else {
      return RoutePlan(route: nil, outcome: outcome(of: table.fallback))
    }
    guard let route = reference.route else { return RoutePlan(route: nil, outcome: .notFound) }
    let routes = table.ports[route.port].virtualHosts[route.virtualHost].routes
    return plan(for: request, routes, route, draws: &draws)
  }

  /// Routes a request that entered a gateway's listener.
  public static func route(
    _ request: some RequestView, in gateway: GatewayListener, isHTTPS: Bool,
    draws: inout SeededGenerator
  ) -> RoutePlan {
    if !isHTTPS, mustUseHTTPS(request, gateway) { return RoutePlan(route: nil, outcome: .redirectToHTTPS) }
    return route(request, RequestContext(port: gateway.port, isHTTPS: isHTTPS), in: gateway.table, draws: &draws)
  }

  /// Which virtual host claims the request, and which of its routes; nil when no host does.
  static func find(
    _ request: some RequestView, _ context: RequestContext, in table: RouteTable
  ) -> (virtualHost: Int, route: RouteReference?)? {
    guard let portIndex = table.index(ofPort: context.port) else { return nil }
    return request.withBytes { bytes in
      let named = context.host.map { table.ports[portIndex].virtualHost(for: $0.span) }
      guard let index = named ?? table.ports[portIndex].virtualHost(for: bytes.extracting(request.host)) else { return nil }
      let routes = table.ports[portIndex].virtualHosts[index].routes
      for routeIndex in routes.indices {
        guard let match = routes[routeIndex].match(request, context, bytes) else { continue }
        let alternative = match < 0 ? nil : match
        return (index, RouteReference(port: portIndex, virtualHost: index, route: routeIndex, match: alternative))
      }
      return (index, nil)
    }
  }

  static func outcome(of fallback: RouteTable.Fallback) -> RouteOutcome {
    switch fallback {
    case .passthrough(let cluster): .passthrough(cluster: cluster)
    case .blackHole: .blackHole
    case .notFound: .notFound
    }
  }

  private static func mustUseHTTPS(_ request: some RequestView, _ gateway: GatewayListener) -> Bool {
    if gateway.httpsRedirectHosts.isEmpty { return false }
    let hosts = gateway.httpsRedirectHosts
    return request.withBytes { bytes in
      let host = bytes.extracting(request.host)
      return hosts.contains { HostPattern.matches($0, host) }
    }
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
    for wildcard in wildcards where HostPattern.hasSuffix(host, wildcard.suffix) { return wildcard.virtualHost }
    return nil
  }
}

extension Route {
  /// The index of the first alternative that holds, −1 when there is none to hold, nil when none does.
  func match(_ request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>) -> Int? {
    if matches.isEmpty { return -1 }
    for index in matches.indices where matches[index].failure(request, context, bytes) == nil { return index }
    return nil
  }
}

/// Host names with a leading wildcard (Istio, general rules): `*.x.com` is a suffix test on `.x.com`, `*` matches everything.
enum HostPattern {
  /// Whether the lower-case `pattern` takes `host`.
  static func matches(_ pattern: String, _ host: Span<UInt8>) -> Bool {
    let bytes = pattern.utf8
    if bytes.first == 0x2A {
      return bytes.count == 1 || host.count >= bytes.count && ends(host, with: bytes.dropFirst(), count: bytes.count - 1)
    }
    return host.count == bytes.count && ends(host, with: bytes, count: bytes.count)
  }

  /// Whether something stands before the suffix; an empty suffix takes any host.
  static func hasSuffix(_ host: Span<UInt8>, _ suffix: [UInt8]) -> Bool {
    suffix.isEmpty || host.count > suffix.count && ends(host, with: suffix, count: suffix.count)
  }

  private static func ends(_ host: Span<UInt8>, with suffix: some Sequence<UInt8>, count: Int) -> Bool {
    guard host.count >= count else { return false }
    var index = host.count - count
    for byte in suffix {
      if ASCII.lowercased(host[index]) != byte { return false }
      index += 1
    }
    return true
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
