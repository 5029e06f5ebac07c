import Primitives

/// What the addresses stand for that endpoints of a service are written with.
struct WrittenAddresses: Sendable {
  /// Addresses of names outside the mesh, as far as they are known.
  var names: [String: [String]] = [:]
  /// Workloads whose applications listen on an address.
  var members: [String: [WorkloadBook.Entry]] = [:]
}

/// Endpoints of one service port: workloads × port, or the addresses of a ServiceEntry.
struct EndpointCompiler {
  /// The workloads behind the service.
  let members: [WorkloadBook.Entry]
  let addresses: WrittenAddresses
  let trustDomain: String

  /// An endpoint with the labels that subsets filter by.
  struct Labelled {
    var endpoint: Endpoint
    var labels: [String: String]
  }

  func endpoints(of entry: ServiceCatalog.Entry, port index: Int) -> [Labelled] {
    let found: [Labelled]
    switch entry.source {
    case .workloads: found = meshEndpoints(entry, port: index)
    case .entry(let written):
      found =
        written.workloadSelector == nil
        ? externalEndpoints(entry, written, port: index) : meshEndpoints(entry, port: index)
    case .alias(let host):
      found = endpoints(
        at: host, Self.targetPort(of: entry, port: index), of: entry, labels: [:], locality: Locality(parsing: ""), weight: 1)
    }
    let sorted = (found + writtenEndpoints(entry, port: index)).sorted {
      ($0.endpoint.key, $0.endpoint.address) < ($1.endpoint.key, $1.endpoint.address)
    }
    guard Self.discovery(of: entry) == .dns else { return sorted }
    // Several names may lead to one address.
    return sorted.indices.filter { $0 == 0 || sorted[$0].endpoint.key != sorted[$0 - 1].endpoint.key }.map { sorted[$0] }
  }

  static func discovery(of entry: ServiceCatalog.Entry) -> Cluster.Discovery {
    if case .alias = entry.source { return .dns }
    guard case .entry(let written) = entry.source else { return .listed }
    switch written.resolution {
    case .none, .dynamicDNS: return written.workloadSelector == nil ? .originalDestination : .listed
    case .fixed: return .listed
    case .dns: return .dns
    case .dnsRoundRobin: return .logicalDNS
    }
  }

  // MARK: Mesh workloads

  private func meshEndpoints(_ entry: ServiceCatalog.Entry, port: Int) -> [Labelled] {
    members.compactMap { workload in
      let record = workload.record
      guard let target = Self.target(of: entry, port: port, in: record) else { return nil }
      return Labelled(
        endpoint: Endpoint(workload.places[target], weight: max(1, record.weight), health: record.health), labels: record.labels
      )
    }
  }

  /// Whether a workload stands behind a service.
  static func selects(_ entry: ServiceCatalog.Entry, _ record: WorkloadRecord) -> Bool {
    guard entry.service.namespace == record.namespace else { return false }
    if entry.service.origin != .serviceEntry, record.service == entry.service.name { return true }
    switch entry.source {
    case .workloads(let selector): return !selector.isEmpty && Labels.match(selector, record.labels)
    case .entry(let written): return written.workloadSelector.map { !$0.isEmpty && Labels.match($0, record.labels) } ?? false
    case .alias: return false
    }
  }

  /// Which port of the workload stands behind a service port: the one registered for it, the one of the same name, the
  /// Service's target, or the only one of each.
  static func target(of entry: ServiceCatalog.Entry, port index: Int, in record: WorkloadRecord) -> Int? {
    let port = entry.service.ports[index]
    if let declared = record.ports.firstIndex(where: { $0.servicePort == port.number }) { return declared }
    if !port.name.isEmpty, let named = record.ports.firstIndex(where: { $0.name == port.name }) { return named }
    switch entry.targets[index] ?? .int(Int(port.number)) {
    case .int(let number): if let target = record.ports.firstIndex(where: { Int($0.port) == number }) { return target }
    case .string(let name): if let target = record.ports.firstIndex(where: { $0.name == name }) { return target }
    }
    return entry.service.ports.count == 1 && record.ports.count == 1 ? 0 : nil
  }

  // MARK: Endpoints that are written

  private func externalEndpoints(_ entry: ServiceCatalog.Entry, _ written: ServiceEntry, port index: Int) -> [Labelled] {
    let port = entry.service.ports[index]
    let byDefault = Self.targetPort(of: entry, port: index)
    if written.endpoints.isEmpty {
      let isDNS = written.resolution == .dns || written.resolution == .dnsRoundRobin
      let addresses = isDNS ? [entry.service.host] : written.resolution == .fixed ? written.singleAddresses : []
      return addresses.flatMap {
        endpoints(at: $0, byDefault, of: entry, labels: [:], locality: Locality(parsing: ""), weight: 1)
      }
    }
    return written.endpoints.flatMap { endpoint -> [Labelled] in
      if endpoint.address.isEmpty { return [] }
      let mapped = endpoint.ports.first { $0.key == port.name }.map { UInt16(clamping: $0.value) }
      return endpoints(
        at: endpoint.address, mapped ?? byDefault, of: entry, labels: endpoint.endpointLabels,
        locality: Locality(parsing: endpoint.locality), weight: UInt32(clamping: max(1, endpoint.weight)),
        serviceAccount: endpoint.serviceAccount)
    }
  }

  private static func targetPort(of entry: ServiceCatalog.Entry, port index: Int) -> UInt16 {
    if case .int(let number)? = entry.targets[index] { return UInt16(clamping: number) }
    return entry.service.ports[index].number
  }

  /// What stands at a written address: a workload of the mesh with the identity that is written, a Unix socket of the
  /// caller's host, each address of a name, or the address itself.
  func endpoints(
    at address: String, _ port: UInt16, of entry: ServiceCatalog.Entry, labels: [String: String], locality: Locality,
    weight: UInt32, serviceAccount: String = ""
  ) -> [Labelled] {
    let mode = EntryTLSMode(labels, serviceAccount: serviceAccount)
    if mode != .plain, let member = member(at: address, port) {
      // Without an identity that can be one, nothing may be sent.
      let namespace = entry.service.namespace
      guard let place = member.place.under(serviceAccount, namespace: namespace, trustDomain: trustDomain) else { return [] }
      let isPlaced = !locality.region.isEmpty
      let own = Endpoint.Place(
        key: place.key, address: place.address, port: place.port, workload: place.workload, isLocal: place.isLocal,
        mesh: place.mesh, locality: isPlaced ? locality : place.locality)
      return [Labelled(endpoint: Endpoint(own, weight: weight, health: member.health), labels: labels)]
    }
    // Mutual TLS is asked for and nobody of the mesh is there: it is not called without.
    if mode == .mutual { return [] }
    let resolved = Self.discovery(of: entry) == .dns ? addresses.names[address.lowercased()] ?? [address] : [address]
    return resolved.map {
      Labelled(endpoint: Self.external($0, port, locality: locality, weight: weight), labels: labels)
    }
  }

  private func member(at address: String, _ port: UInt16) -> (health: EndpointHealth, place: Endpoint.Place)? {
    for entry in addresses.members[address] ?? [] {
      if let place = entry.places.first(where: { $0.port == port }) { return (entry.record.health, place) }
    }
    return nil
  }

  static func external(_ address: String, _ port: UInt16, locality: Locality, weight: UInt32) -> Endpoint {
    let place = Endpoint.Place(
      key: key("external/\(address):\(port)"), address: address, port: port, workload: nil, isLocal: false, mesh: nil,
      locality: locality)
    return Endpoint(place, weight: weight, health: .healthy)
  }

  /// FNV-1a; stable over processes and releases, because rings and slow start depend on it.
  static func key(_ text: String) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return hash
  }
}

extension Endpoint.Place {
  /// The place under the identity that somebody else says it has; nil when that is no identity.
  fileprivate func under(_ serviceAccount: String, namespace: String, trustDomain: String) -> Endpoint.Place? {
    guard !serviceAccount.isEmpty, var mesh else { return self }
    let identity = try? SPIFFEID.workload(trustDomain: trustDomain, namespace: namespace, serviceAccount: serviceAccount)
    guard let identity else { return nil }
    if identity == mesh.identity { return self }
    mesh.identity = identity
    return Endpoint.Place(
      key: key, address: address, port: port, workload: workload, isLocal: false, mesh: mesh, locality: locality)
  }
}
