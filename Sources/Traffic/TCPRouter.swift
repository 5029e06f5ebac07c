import MeshConfig
import Primitives

/// What an opaque connection is for, as its client said it.
public struct TCPRequest: Hashable, Sendable {
  /// The name or address it asked for, in lower case; IPv6 without brackets. Empty at a gateway.
  public var host: [UInt8]
  public var port: UInt16
  /// 4 or 16 bytes, when it is meant for an address.
  public var address: [UInt8]
  /// The server name of its ClientHello; nil while nobody has looked, empty when there is none.
  public var serverName: [UInt8]?

  public init(host: [UInt8], port: UInt16, address: [UInt8] = [], serverName: [UInt8]? = nil) {
    self.host = host
    self.port = port
    self.address = address
    self.serverName = serverName
  }
}

/// Where an opaque connection goes.
public enum TCPPlan: Hashable, Sendable {
  case forward(ClusterIndex, RouteOrigin?)
  /// The destination of the rule does not exist.
  case noCluster(String)
  /// To where the client asked, outside the registry.
  case passthrough(ClusterIndex)
  case blackHole
  /// No rule fits; the connection is closed.
  case noRoute
}

/// Routes opaque connections: a decision of values only (Istio, VirtualService `tcp[]` and `tls[]`).
public enum TCPRouter {
  /// Whether the way depends on the server name that a TLS client will ask for.
  public static func needsServerName(_ request: TCPRequest, in table: TCPRouteTable) -> Bool {
    guard let port = table.port(request.port) else { return false }
    guard let service = port.service(host: request.host, address: request.address) else { return !port.serverNames.isEmpty }
    if !port.services[service].serverNames.isEmpty { return true }
    if port.serverNames.isEmpty { return false }
    // A declared protocol in which the server may speak first is never waited for.
    return port.services[service].protocol == .tls || port.services[service].protocol == .https
  }

  /// Whether the service asked for may speak HTTP, by declaration or for want of one.
  public static func mayCarryHTTP(_ request: TCPRequest, in table: TCPRouteTable) -> Bool {
    guard let port = table.port(request.port), let service = port.service(host: request.host, address: request.address)
    else { return false }
    return port.services[service].protocol.isHTTP
  }

  /// For a client of the mesh: its rules by server name, those of the service, and at last what is done with strangers.
  public static func route(
    _ request: TCPRequest, in table: TCPRouteTable, fallback: RouteTable.Fallback, draws: inout SeededGenerator
  ) -> TCPPlan {
    guard let port = table.port(request.port) else { return stranger(fallback) }
    let found = port.service(host: request.host, address: request.address)
    if let name = request.serverName {
      let own = found.map { port.services[$0].serverNames }
      if let route = first(own ?? [], name, request.address) ?? first(port.serverNames, name, request.address) {
        return plan(route, &draws)
      }
    }
    guard let found else { return stranger(fallback) }
    let service = port.services[found]
    let address = request.address.isEmpty ? service.address : request.address
    guard let route = service.routes.first(where: { $0.admits(address) }) else { return stranger(fallback) }
    return plan(route, &draws)
  }

  /// At a gateway that ends TLS, or speaks none.
  public static func route(_ routes: [TCPRoute], address: [UInt8], draws: inout SeededGenerator) -> TCPPlan {
    routes.first { $0.admits(address) }.map { plan($0, &draws) } ?? .noRoute
  }

  /// At a gateway that passes TLS through.
  public static func route(
    _ routes: [ServerNameRoute], serverName: [UInt8], address: [UInt8], draws: inout SeededGenerator
  ) -> TCPPlan {
    first(routes, serverName, address).map { plan($0, &draws) } ?? .noRoute
  }

  /// The routes stand from the most specific name to the least; the first pattern that has a fitting rule decides.
  private static func first(_ routes: [ServerNameRoute], _ name: [UInt8], _ address: [UInt8]) -> TCPRoute? {
    routes.first { $0.pattern.admits(name) && $0.route.admits(address) }?.route
  }

  private static func stranger(_ fallback: RouteTable.Fallback) -> TCPPlan {
    switch fallback {
    case .passthrough(let cluster): .passthrough(cluster)
    case .blackHole: .blackHole
    case .notFound: .noRoute
    }
  }

  private static func plan(_ route: TCPRoute, _ draws: inout SeededGenerator) -> TCPPlan {
    var chosen = route.destinations.first
    if route.destinations.count > 1 {
      var point = draws.below(route.destinations.reduce(UInt64(0)) { $0 + UInt64($1.weight) })
      chosen = route.destinations.first { destination in
        if point < UInt64(destination.weight) { return true }
        point -= UInt64(destination.weight)
        return false
      }
    }
    guard let chosen else { return .noRoute }
    return chosen.cluster.map { .forward($0, route.origin) } ?? .noCluster(chosen.clusterName)
  }
}

extension TCPRoute {
  fileprivate func admits(_ address: [UInt8]) -> Bool { subnets.isEmpty || subnets.contains { $0.contains(address) } }
}
