import Primitives

/// Decides which further ports are opened for the workloads of a node (Istio, Sidecar).
///
/// Nothing is captured here: what capture would bring enters through the workload's outbound port and the mesh port. So a port
/// of its own is opened where applications have to call it, or others the application, by address: for `captureMode: NONE`,
/// and wherever `bind` or an `ingress` with `tls` says so.
struct WorkloadListeners {
  let settings: MeshSettings
  private(set) var findings: [Finding] = []
  /// Who has an address: two workloads of a node cannot.
  private var taken: [String: String] = [:]

  init(settings: MeshSettings) { self.settings = settings }

  /// The listeners of `egress` that a client has.
  func egress(
    of client: LocalClient, sidecar: Sidecar?, tables: [RouteTable], tcp: [TCPRouteTable]
  ) -> [WorkloadListener] {
    client.egress.compactMap { own in
      guard let egress = sidecar.flatMap({ $0.egress.indices.contains(own.egress) ? $0.egress[own.egress] : nil }),
        let port = egress.port, tables.indices.contains(own.table), tcp.indices.contains(own.table)
      else { return nil }
      let host = tcp[own.table].port(port.number)?.services.first?.host
      let role: WorkloadListener.Role?
      switch egress.speaks(tables[own.table]) {
      case .proxy: role = .proxy(table: own.table)
      case .http: role = .http(table: own.table)
      case .tls: role = .tls(table: own.table)
      case .opaque: role = host.map { .tcp(table: own.table, host: $0) }
      }
      return role.map { WorkloadListener(bind: egress.bind ?? loopback, port: port.number, role: $0) }
    }
  }

  /// Where applications of this node call what is theirs alone. Nodes that share a machine have a loopback address each.
  private var loopback: String {
    let own = settings.localAddress
    return own.hasPrefix("127.") ? own : own.utf8.contains(0x3A) ? "::1" : "127.0.0.1"
  }

  /// The listeners that are opened; an address that another workload has is left out, and said.
  mutating func claim(_ listeners: [WorkloadListener], for workload: String) -> [WorkloadListener] {
    listeners.filter { listener in
      let address = "\(listener.bind) \(listener.port)"
      guard let owner = taken[address] else {
        taken[address] = workload
        return true
      }
      findings.append(
        Finding(
          severity: .warning, code: Finding.Code.notEnforced, object: "workload \(workload)", path: "spec",
          reason: "accepted, not enforced: its Sidecar's listener at \(listener.bind):\(listener.port) is open for \(owner)",
          hint: "bind another address or port"))
      return false
    }
  }
}

extension Sidecar.Egress {
  /// It carries its hosts whatever their ports are: without a port, as a proxy, and at a Unix socket (Istio, Sidecar).
  var isForEveryPort: Bool { port.map { $0.number == 0 || $0.protocol == Sidecar.Port.proxy } ?? true }

  /// Whether applications reach it by an address of its own.
  var opensListener: Bool { port != nil && (bind != nil || captureMode == .none) }

  fileprivate enum Speech { case proxy, http, tls, opaque }

  /// What clients speak; without a word about it, HTTP where one of its hosts does.
  fileprivate func speaks(_ table: RouteTable) -> Speech {
    guard let port else { return .opaque }
    switch port.protocol {
    case Sidecar.Port.proxy: return .proxy
    case "HTTP", "HTTP2", "GRPC", "GRPC-WEB": return port.number == 0 ? .proxy : .http
    case "TLS", "HTTPS": return .tls
    case "": return port.number == 0 ? .proxy : table.ports.contains { $0.port == port.number } ? .http : .opaque
    default: return .opaque
    }
  }
}

extension Sidecar.Ingress {
  /// Whether others reach the application by an address of its own, beside the mesh port.
  var opensListener: Bool { bind != nil || captureMode == .none || tls != nil }
}
