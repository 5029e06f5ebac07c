import MeshConfig
import Primitives

/// Where a route stands in its table: plain integers, so keeping one costs no reference counting.
public struct RouteReference: Hashable, Sendable {
  /// Indices into `RouteTable.ports`, `PortTable.virtualHosts` and `VirtualHost.routes`.
  public var port: Int
  public var virtualHost: Int
  public var route: Int
  /// The alternative that matched, an index into `Route.matches`; nil when the route matches everything.
  public var match: Int?

  public init(port: Int, virtualHost: Int, route: Int, match: Int?) {
    self.port = port
    self.virtualHost = virtualHost
    self.route = route
    self.match = match
  }
}

extension RouteTable {
  /// The route a plan refers to; the plan must come from this table.
  public subscript(_ reference: RouteReference) -> Route {
    ports[reference.port].virtualHosts[reference.virtualHost].compiled.routes[reference.route]
  }
}

/// What is to be done with a request.
public enum RouteOutcome: Hashable, Sendable {
  /// To a cluster of the snapshot; `destination` is the index in the route's weighted destinations.
  case forward(cluster: ClusterIndex, destination: Int)
  /// Answer with the route's redirect; `PathRewriting.appendLocation` writes the Location.
  case redirect
  /// Answer 301 to `https` with the same host and target (Gateway `tls.httpsRedirect`).
  case redirectToHTTPS
  /// Answer with the route's fixed status and body.
  case directResponse
  /// Answer a CORS preflight here; headers are written only when the origin is allowed.
  case preflight(isOriginAllowed: Bool)
  /// 404 NR.
  case notFound
  /// The destination names what does not exist: 503 NC, or 500 for a Gateway API route.
  case noCluster(destination: Int, isGatewayAPI: Bool)
  /// REGISTRY_ONLY: 502 with an empty body.
  case blackHole
  /// To the request's own destination (ALLOW_ANY).
  case passthrough(cluster: ClusterIndex)
}

/// Faults that the dice chose for one request; delay first, then abort.
public struct FaultPlan: Hashable, Sendable {
  public var delay: Duration?
  public var abort: FaultPolicy.Abort?

  public static let none = FaultPlan(delay: nil, abort: nil)
}

/// What the router decided for one request: a small value without references.
public struct RoutePlan: Hashable, Sendable {
  /// nil when no route of the table matched.
  public var route: RouteReference?
  public var outcome: RouteOutcome
  public var fault: FaultPlan
  /// Bit n: send a copy to `Route.mirrors[n]`.
  public var mirrors: UInt32
  /// A cross-origin request whose origin the route allows: response headers are added.
  public var isOriginAllowed: Bool

  public init(
    route: RouteReference?, outcome: RouteOutcome, fault: FaultPlan = .none, mirrors: UInt32 = 0,
    isOriginAllowed: Bool = false
  ) {
    self.route = route
    self.outcome = outcome
    self.fault = fault
    self.mirrors = mirrors
    self.isOriginAllowed = isOriginAllowed
  }
}
