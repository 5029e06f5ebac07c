import Primitives

/// How the applications of this node are called: what a Sidecar says of the ports that they listen on, and within which limits
/// (Istio, Sidecar).
struct InboundCompiler {
  let sidecars: SidecarIndex
  let rules: RuleIndex
  let services: [Service]
  let settings: MeshSettings

  /// A destination for the port at `index`; nil when it is called as it was registered, without limits.
  func cluster(_ workload: LocalWorkload, _ record: WorkloadRecord, port index: Int, client: ClientScope) -> Cluster? {
    let port = record.ports[index]
    let sidecar = sidecars.scope(of: client)?.sidecar
    let ingress = sidecar?.ingress.first { $0.port.number == port.port }
    let limits = ingress?.connectionPool ?? sidecar?.inboundConnectionPool ?? rule(workload, port: index, client)
    let own = settings.applicationAddress(of: record)
    let address = ingress?.address(of: record) ?? (own == record.address ? nil : (own, port.port))
    if limits == nil && address == nil { return nil }
    return made(workload, record, port.port, port.protocol, position: index, address, limits)
  }

  /// A destination for a port that a Sidecar opens, whether or not the application was registered with it.
  func cluster(_ workload: LocalWorkload, _ record: WorkloadRecord, ingress: Sidecar.Ingress, client: ClientScope) -> Cluster {
    let address = ingress.address(of: record)
    let position =
      record.ports.firstIndex { $0.port == ingress.port.number } ?? record.ports.firstIndex { $0.port == address?.port }
    let sidecar = sidecars.scope(of: client)?.sidecar
    let limits =
      ingress.connectionPool ?? sidecar?.inboundConnectionPool ?? position.flatMap { rule(workload, port: $0, client) }
    let written = ingress.port.protocol.isEmpty ? nil : ingress.port.protocol
    var spoken = ProtocolSelection.select(
      appProtocol: written, name: ingress.port.name, number: ingress.port.number)
    // Inside TLS that ends here are requests.
    if ingress.tls != nil, spoken == .https { spoken = .http }
    return made(workload, record, ingress.port.number, spoken, position: position, address, limits)
  }

  private func made(
    _ workload: LocalWorkload, _ record: WorkloadRecord, _ port: UInt16, _ spoken: PortProtocol, position: Int?,
    _ address: (host: String, port: UInt16)?, _ limits: DestinationRule.ConnectionPool?
  ) -> Cluster {
    let key = "inbound/\(record.key):\(port)"
    let place = Endpoint.Place(
      key: EndpointCompiler.key(key), address: address?.host ?? record.address, port: address?.port ?? port,
      workload: workload.workload, isLocal: true, mesh: nil, locality: record.locality)
    let service = position.flatMap { workload.services.indices.contains($0) ? workload.services[$0] : nil }
    return Cluster(
      name: "inbound|\(port)||", service: service,
      host: record.address, port: port, subset: nil, protocol: spoken, discovery: .listed,
      endpoints: [Endpoint(place, weight: 1, health: .healthy)], loadBalancer: LoadBalancerPolicy(),
      connectionPool: TrafficPolicyCompiler(settings: settings).connectionPool(limits), outlierDetection: nil, tls: .disabled,
      destinationRule: nil)
  }

  /// What the service's own DestinationRule says of connections: of the port, else of the whole.
  private func rule(_ workload: LocalWorkload, port index: Int, _ client: ClientScope) -> DestinationRule.ConnectionPool? {
    guard workload.services.indices.contains(index), let service = workload.services[index], services.indices.contains(service)
    else { return nil }
    let target = services[service]
    let rule = rules.rule(forHost: target.host, serviceNamespace: target.namespace, client: client)
    let number = workload.servicePorts.indices.contains(index) ? workload.servicePorts[index] : nil
    return TrafficPolicyCompiler.blocks(rule, subset: nil, port: number ?? workload.ports[index].port).connectionPool
  }
}

extension Sidecar.Ingress {
  /// The port that is opened beside the mesh port.
  func listener(
    of record: WorkloadRecord, speaks: PortProtocol, cluster: Int, _ settings: MeshSettings
  ) -> WorkloadListener {
    let tls = tls.map {
      ServerTLSCompiler($0, credentials: CredentialIndex([], namespace: ""), defaults: settings.tlsDefaults).settings
    }
    return WorkloadListener(
      bind: bind ?? record.address, port: port.number, role: .inbound(speaks: speaks, cluster: cluster, tls: tls))
  }

  /// Where the application listens: `127.0.0.1:8080`, or the workload's own address and a port of it.
  fileprivate func address(of record: WorkloadRecord) -> (host: String, port: UInt16)? {
    if let defaultEndpoint, defaultEndpoint.hasPrefix("unix://") { return (defaultEndpoint, 0) }
    guard let defaultEndpoint, let colon = defaultEndpoint.lastIndex(of: ":"),
      let port = UInt16(defaultEndpoint[defaultEndpoint.index(after: colon)...])
    else { return nil }
    switch defaultEndpoint[..<colon] {
    case "127.0.0.1": return ("127.0.0.1", port)
    case "[::1]": return ("::1", port)
    default: return (record.address, port)
    }
  }
}
