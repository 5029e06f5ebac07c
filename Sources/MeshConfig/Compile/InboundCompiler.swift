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
    let address = ingress?.address(of: record)
    if limits == nil && address == nil { return nil }
    let key = "inbound/\(record.key):\(port.port)"
    let place = Endpoint.Place(
      key: EndpointCompiler.key(key), address: address?.host ?? record.address, port: address?.port ?? port.port,
      workload: workload.workload, isLocal: true, mesh: nil, locality: record.locality)
    return Cluster(
      name: "inbound|\(port.port)||", service: workload.services.indices.contains(index) ? workload.services[index] : nil,
      host: record.address, port: port.port, subset: nil, protocol: port.protocol, discovery: .listed,
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
  /// Where the application listens: `127.0.0.1:8080`, or the workload's own address and a port of it.
  fileprivate func address(of record: WorkloadRecord) -> (host: String, port: UInt16)? {
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
