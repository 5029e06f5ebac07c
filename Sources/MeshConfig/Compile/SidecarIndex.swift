/// Which services each client workload sees (Istio, Sidecar).
struct SidecarIndex: Sendable {
  /// What one Sidecar lets one client see.
  struct Scope: Sendable {
    let sidecar: Sidecar
    private let clientNamespace: String
    /// The hosts of each `egress`; of one alone, for the table of its own listener.
    private let hosts: [[Sidecar.Host]]
    /// Those of an `egress` with a port, which are all that the port carries.
    private var byPort: [UInt16: [[Sidecar.Host]]] = [:]
    /// What all other ports carry.
    private var others: [[Sidecar.Host]] = []

    fileprivate init(_ sidecar: Sidecar, clientNamespace: String, egress: Int?) {
      self.sidecar = sidecar
      self.clientNamespace = clientNamespace
      let own = egress.flatMap { sidecar.egress.indices.contains($0) ? [sidecar.egress[$0]] : nil }
      hosts = (own ?? sidecar.egress).map(\.hosts)
      for item in own ?? sidecar.egress {
        if !item.isForEveryPort, let port = item.port {
          byPort[port.number, default: []].append(item.hosts)
        } else if own != nil || item.port == nil {
          others.append(item.hosts)
        }
      }
    }

    /// Whether a host of a namespace is visible. Without `egress` everything is.
    func admits(_ host: String, namespace: String) -> Bool {
      hosts.isEmpty || hosts.contains { admits($0, host, namespace) }
    }

    /// Whether it is on a port.
    func admits(_ host: String, namespace: String, port: UInt16) -> Bool {
      hosts.isEmpty || (byPort[port] ?? others).contains { admits($0, host, namespace) }
    }

    private func admits(_ hosts: [Sidecar.Host], _ host: String, _ namespace: String) -> Bool {
      if hosts.contains(where: { $0.isExcluded && matches($0, host, namespace) }) { return false }
      return hosts.contains { !$0.isExcluded && matches($0, host, namespace) }
    }

    private func matches(_ pattern: Sidecar.Host, _ host: String, _ namespace: String) -> Bool {
      switch pattern.namespace {
      case "~": return false
      case "*": break
      case ".": if namespace != clientNamespace { return false }
      default: if namespace != pattern.namespace { return false }
      }
      return HostName.covers(pattern.name, host)
    }
  }

  private struct Item {
    let namespace: String
    let sidecar: Sidecar
    let stamp: UInt64
  }

  /// Oldest first.
  private let items: [Item]
  private let rootNamespace: String

  /// - Parameter objects: oldest first.
  init(_ objects: [HeldObject], rootNamespace: String) {
    self.rootNamespace = rootNamespace
    items = objects.compactMap { held in
      guard case .sidecar(let sidecar) = held.stored.object.spec else { return nil }
      return Item(namespace: held.stored.key.namespace, sidecar: sidecar, stamp: held.stamp)
    }
  }

  var isEmpty: Bool { items.isEmpty }
  /// Keys of the labels that tell clients apart.
  var clientLabelKeys: Set<String> { Set(items.flatMap { ($0.sidecar.workloadSelector ?? [:]).keys }) }

  /// The one whose selector matches, else the namespace's, else the mesh's; nil: everything exported is visible.
  func scope(of client: ClientScope) -> Scope? {
    chosen(for: client).map { Scope($0.sidecar, clientNamespace: client.namespace, egress: client.egress) }
  }

  /// Whether a client has the same Sidecar, or none, in both.
  func agrees(with other: SidecarIndex, on client: ClientScope) -> Bool {
    chosen(for: client)?.stamp == other.chosen(for: client)?.stamp
  }

  private func chosen(for client: ClientScope) -> Item? {
    if items.isEmpty || client.isGateway { return nil }
    let own = items.filter { $0.namespace == client.namespace }
    return own.first { $0.sidecar.selects(client.labels) ?? false }
      ?? own.first { $0.sidecar.selects(client.labels) == nil }
      ?? items.first { $0.namespace == rootNamespace && $0.sidecar.selects(client.labels) == nil }
  }
}

extension Sidecar {
  /// nil: no selector, every workload of the namespace.
  fileprivate func selects(_ labels: [String: String]) -> Bool? {
    guard let workloadSelector, !workloadSelector.isEmpty else { return nil }
    return Labels.match(workloadSelector, labels)
  }
}
