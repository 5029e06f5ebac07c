/// Where a gateway listens: what listeners have in common that share a port.
public struct GatewayPlace: Sendable, Hashable {
  public var port: UInt16
  public var bind: String?

  public init(port: UInt16, bind: String? = nil) {
    self.port = port
    self.bind = bind
  }

  /// How the place is said to people: the socket, or the port, with its address where it is not the node's.
  public var name: String {
    guard let bind else { return "\(port)" }
    return bind.hasPrefix("unix://") ? bind : "\(bind):\(port)"
  }
}

/// One port, or Unix socket, opened by this node's gateway workload.
public struct GatewayListener: Sendable {
  /// 0 for a Unix socket.
  public var port: UInt16
  /// Gateways merged here, `namespace/name`, oldest first.
  public var gateways: [String]
  /// The gateway workload (identity and facts): index into `MeshSnapshot.localWorkloads`.
  public var localWorkload: Int
  /// Its `ports` has exactly one entry, for this port.
  public var table: RouteTable
  /// Hosts answered with a redirect to https; lower case.
  public let httpsRedirectHosts: [String]
  /// The same for looking up.
  public let redirectHosts: HostSet
  /// What the port speaks. Listeners of TLS servers share a port, one for each server.
  public var role = Role.http
  /// Server names that lead to a TLS server.
  public var serverNames: [ServerNamePattern] = []
  /// Names the server in all snapshots: `namespace/gateway/port name`.
  public var server = ""
  /// The address to open, or `unix://` with a path; nil: the node's address.
  public var bind: String?
  public var place: GatewayPlace { GatewayPlace(port: port, bind: bind) }
  /// Every connection begins with a PROXY header; one without is closed.
  public var expectsProxyProtocol = false

  public init(port: UInt16, gateways: [String], localWorkload: Int, table: RouteTable, httpsRedirectHosts: [String] = []) {
    self.port = port
    self.gateways = gateways
    self.localWorkload = localWorkload
    self.table = table
    self.httpsRedirectHosts = httpsRedirectHosts
    redirectHosts = HostSet(httpsRedirectHosts)
  }
}
