import Primitives

/// What the workloads of this node are to its proxy: their identities, ports, listeners and the destinations behind them.
struct LocalWorkloadCompiler {
  let book: WorkloadBook
  let catalog: ServiceCatalog
  let sidecars: SidecarIndex
  let rateLimits: RateLimitCompiler
  let inbound: InboundCompiler
  let routes: CompiledRoutes
  let settings: MeshSettings

  func compile(_ local: [LocalClient]) -> ([LocalWorkload], inbound: [Cluster], findings: [Finding]) {
    var clusters: [Cluster] = []
    var listeners = WorkloadListeners(settings: settings)
    let own: [LocalWorkload] = local.compactMap { item in
      guard let index = book.local[item.key] else { return nil }
      let entry = book.entries[index]
      let record = entry.record
      let behind = servicesBehindPorts(record)
      var workload = LocalWorkload(
        workload: index, identity: entry.identity, address: record.address, ports: record.ports,
        services: behind.map { $0?.service }, outbound: item.table, outboundPort: record.outboundPort,
        isGateway: record.isGateway, health: record.health)
      workload.rateLimit = rateLimits.limit(for: record)
      workload.servicePorts = behind.map { $0?.port }
      workload.inbound = record.ports.indices.map { port in
        guard let cluster = inbound.cluster(workload, record, port: port, client: item.scope) else { return nil }
        clusters.append(cluster)
        return clusters.count - 1
      }
      let sidecar = sidecars.scope(of: item.scope)?.sidecar
      var opened = listeners.egress(of: item, sidecar: sidecar, tables: routes.tables, tcp: routes.tcp)
      for ingress in sidecar?.ingress ?? [] where ingress.opensListener {
        let cluster = inbound.cluster(workload, record, ingress: ingress, client: item.scope)
        opened.append(ingress.listener(of: record, speaks: cluster.protocol, cluster: clusters.count, settings))
        clusters.append(cluster)
      }
      workload.listeners = listeners.claim(opened, for: item.key)
      return workload
    }
    return (own, clusters, listeners.findings)
  }

  /// The first service, and port of it, that each port of a workload stands behind.
  private func servicesBehindPorts(_ record: WorkloadRecord) -> [(service: Int, port: UInt16)?] {
    let candidates = catalog.services(of: record)
    return record.ports.indices.map { port in
      for index in candidates {
        let entry = catalog.entries[index]
        let found = entry.service.ports.indices.first { EndpointCompiler.target(of: entry, port: $0, in: record) == port }
        if let found { return (index, entry.service.ports[found].number) }
      }
      return nil
    }
  }
}
