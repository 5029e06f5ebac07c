import Primitives

/// Endpoints of one service port: workloads × port, or the addresses of a ServiceEntry.
struct EndpointCompiler {
  let settings: MeshSettings
  /// Sorted and without duplicates; parallel to `MeshSnapshot.workloads`.
  let workloads: [WorkloadRecord]
  let identities: [SPIFFEID]
  private let byService: [ServiceName: [Int]]
  private let byLabel: [LabelValue: [Int]]

  private struct ServiceName: Hashable {
    let namespace: String
    let name: String
  }
  private struct LabelValue: Hashable {
    let namespace: String
    let key: String
    let value: String
  }

  init(settings: MeshSettings, workloads: [WorkloadRecord], identities: [SPIFFEID]) {
    self.settings = settings
    self.workloads = workloads
    self.identities = identities
    var byService: [ServiceName: [Int]] = [:]
    var byLabel: [LabelValue: [Int]] = [:]
    for (index, record) in workloads.enumerated() {
      if let service = record.service {
        byService[ServiceName(namespace: record.namespace, name: service), default: []].append(index)
      }
      for (key, value) in record.labels {
        byLabel[LabelValue(namespace: record.namespace, key: key, value: value), default: []].append(index)
      }
    }
    self.byService = byService
    self.byLabel = byLabel
  }

  /// An endpoint with the labels that subsets filter by.
  struct Labelled {
    var endpoint: Endpoint
    var labels: [String: String]
  }

  func endpoints(of entry: ServiceCatalog.Entry, port index: Int) -> [Labelled] {
    let found: [Labelled]
    switch entry.source {
    case .workloads(let selector): found = meshEndpoints(entry, selector: selector, port: index)
    case .entry(let written):
      found =
        written.workloadSelector.map { meshEndpoints(entry, selector: $0, port: index) }
        ?? externalEndpoints(entry, written, port: index)
    }
    return found.sorted { ($0.endpoint.key, $0.endpoint.address) < ($1.endpoint.key, $1.endpoint.address) }
  }

  func discovery(of entry: ServiceCatalog.Entry) -> Cluster.Discovery {
    guard case .entry(let written) = entry.source else { return .listed }
    switch written.resolution {
    case .none, .dynamicDNS: return written.workloadSelector == nil ? .originalDestination : .listed
    case .fixed: return .listed
    case .dns, .dnsRoundRobin: return .dns
    }
  }

  // MARK: Mesh workloads

  private func meshEndpoints(_ entry: ServiceCatalog.Entry, selector: [String: String], port: Int) -> [Labelled] {
    let named = entry.service.origin == .serviceEntry ? [] : workloads(named: entry.service)
    let selected = workloads(in: entry.service.namespace, selector: selector)
    return Set(named + selected).sorted().compactMap { index in
      let record = workloads[index]
      guard let target = Self.target(of: entry, port: port, in: record) else { return nil }
      return Labelled(endpoint: endpoint(index, port: target.port), labels: record.labels)
    }
  }

  private func workloads(named service: Service) -> [Int] {
    byService[ServiceName(namespace: service.namespace, name: service.name)] ?? []
  }

  /// Workloads with all of the labels; none for an empty selector. The rarest label narrows the search.
  private func workloads(in namespace: String, selector: [String: String]) -> [Int] {
    let lists = selector.map { byLabel[LabelValue(namespace: namespace, key: $0.key, value: $0.value)] ?? [] }
    guard let shortest = lists.min(by: { $0.count < $1.count }) else { return [] }
    return shortest.filter { Labels.match(selector, workloads[$0].labels) }
  }

  /// Which port of the workload stands behind a service port: the one registered for it, the one of the same name, the
  /// Service's target, or the only one of each.
  static func target(of entry: ServiceCatalog.Entry, port index: Int, in record: WorkloadRecord) -> WorkloadRecord.Port? {
    let port = entry.service.ports[index]
    if let declared = record.ports.first(where: { $0.servicePort == port.number }) { return declared }
    if !port.name.isEmpty, let named = record.ports.first(where: { $0.name == port.name }) { return named }
    switch entry.targets[index] ?? .int(Int(port.number)) {
    case .int(let number):
      if let target = record.ports.first(where: { Int($0.port) == number }) { return target }
    case .string(let name):
      if let target = record.ports.first(where: { $0.name == name }) { return target }
    }
    return entry.service.ports.count == 1 && record.ports.count == 1 ? record.ports[0] : nil
  }

  private func endpoint(_ index: Int, port: UInt16) -> Endpoint {
    let record = workloads[index]
    let mesh = Endpoint.MeshRoute(
      address: record.meshAddress, port: record.meshPort,
      serverName: "\(port).\(record.name).\(record.namespace).workload.mesh", identity: identities[index])
    return Endpoint(
      key: Self.key("\(record.node)/\(record.namespace)/\(record.name):\(port)"), address: record.address, port: port,
      workload: index, isLocal: record.node == settings.localNode, mesh: mesh, locality: record.locality, priority: 0,
      weight: max(1, record.weight), health: record.health)
  }

  // MARK: ServiceEntry endpoints

  private func externalEndpoints(_ entry: ServiceCatalog.Entry, _ written: ServiceEntry, port index: Int) -> [Labelled] {
    let port = entry.service.ports[index]
    let byDefault: UInt16
    if case .int(let number)? = entry.targets[index] { byDefault = UInt16(clamping: number) } else { byDefault = port.number }
    if written.endpoints.isEmpty {
      let isDNS = written.resolution == .dns || written.resolution == .dnsRoundRobin
      let addresses = isDNS ? [entry.service.host] : written.resolution == .fixed ? entry.service.addresses : []
      return addresses.map {
        Labelled(endpoint: Self.external($0, byDefault, locality: Locality(parsing: ""), weight: 1), labels: [:])
      }
    }
    return written.endpoints.filter { !$0.address.hasPrefix("unix://") && !$0.address.isEmpty }.map { endpoint in
      let mapped = endpoint.ports.first { $0.key == port.name }.map { UInt16(clamping: $0.value) }
      return Labelled(
        endpoint: Self.external(
          endpoint.address, mapped ?? byDefault, locality: Locality(parsing: endpoint.locality),
          weight: UInt32(clamping: max(1, endpoint.weight))),
        labels: endpoint.labels)
    }
  }

  private static func external(_ address: String, _ port: UInt16, locality: Locality, weight: UInt32) -> Endpoint {
    Endpoint(
      key: key("external/\(address):\(port)"), address: address, port: port, workload: nil, isLocal: false, mesh: nil,
      locality: locality, priority: 0, weight: weight, health: .healthy)
  }

  /// FNV-1a; stable over processes and releases, because rings and slow start depend on it.
  static func key(_ text: String) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return hash
  }
}
