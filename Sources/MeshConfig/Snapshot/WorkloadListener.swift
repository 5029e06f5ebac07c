/// A port that a Sidecar opens for a workload beside those it has anyway (Istio, Sidecar `egress` and `ingress`).
public struct WorkloadListener: Sendable, Hashable {
  /// An IP address, or `unix://` with a path.
  public var bind: String
  public var port: UInt16
  public var role: Role

  public enum Role: Sendable, Hashable {
    /// A proxy for the hosts of a table of its own, on all their ports (`HTTP_PROXY`).
    case proxy(table: Int)
    /// Requests that name hosts of a table of its own, all meant for this port.
    case http(table: Int)
    /// Opaque connections to one host of a table of its own.
    case tcp(table: Int, host: String)
    /// TLS that is passed on to the host of a table of its own that the client's server name names.
    case tls(table: Int)
    /// To the workload's application: `cluster` is an index into `MeshSnapshot.inbound`.
    case inbound(speaks: PortProtocol, cluster: Int, tls: ServerTLS?)
  }

  public init(bind: String, port: UInt16, role: Role) {
    self.bind = bind
    self.port = port
    self.role = role
  }

  /// Index into `MeshSnapshot.outbound` and `MeshSnapshot.tcp`; nil for connections to the workload.
  public var table: Int? {
    switch role {
    case .proxy(let table), .http(let table), .tcp(let table, _), .tls(let table): table
    case .inbound: nil
    }
  }

  /// Whether what comes is HTTP in plain text from its first byte.
  public var isPlainHTTP: Bool {
    switch role {
    case .proxy, .http: true
    case .tcp, .tls: false
    case .inbound(let speaks, _, let tls): tls == nil && speaks.isHTTP && speaks != .auto
    }
  }
}
