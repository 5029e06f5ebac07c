import Primitives

/// An endpoint that an object of the configuration puts behind a service.
struct WrittenEndpoint: Sendable, Hashable {
  let address: String
  /// By the name of the service's port.
  let ports: [String: UInt16]
  /// Whether a port that is not named goes to the service's target port.
  let usesTargetPorts: Bool
  let labels: [String: String]
  let locality: Locality
  let weight: UInt32
  let isReady: Bool
  /// Of a WorkloadEntry; empty: it names none.
  var serviceAccount = ""
}

/// WorkloadEntries, Endpoints and EndpointSlices of a configuration, by the services they stand behind.
struct WrittenEndpoints {
  private var entries: [String: [(labels: [String: String], endpoint: WrittenEndpoint)]] = [:]
  private var byService: [String: [WrittenEndpoint]] = [:]

  static func isSource(_ kind: ObjectKind) -> Bool { kind == .workloadEntry || kind == .endpoints || kind == .endpointSlice }

  init(_ objects: [HeldObject]) {
    for held in objects {
      let key = held.stored.key
      switch held.stored.object.spec {
      case .workloadEntry(let entry): add(entry, namespace: key.namespace)
      case .endpoints(let written):
        let labels = held.stored.object.meta.labels
        let service = key.kind == .endpoints ? key.name : labels["kubernetes.io/service-name"]
        if let service { byService["\(key.namespace)/\(service)", default: []] += Self.endpoints(written) }
      default: break
      }
    }
  }

  private mutating func add(_ entry: WorkloadEntry, namespace: String) {
    guard !entry.address.isEmpty else { return }
    var ports: [String: UInt16] = [:]
    for port in entry.ports { ports[port.key] = UInt16(clamping: port.value) }
    let endpoint = WrittenEndpoint(
      address: entry.address, ports: ports, usesTargetPorts: true, labels: entry.endpointLabels,
      locality: Locality(parsing: entry.locality), weight: UInt32(clamping: max(1, entry.weight)), isReady: true,
      serviceAccount: entry.serviceAccount)
    entries[namespace, default: []].append((entry.labels, endpoint))
  }

  private static func endpoints(_ written: KubernetesEndpoints) -> [WrittenEndpoint] {
    written.groups.flatMap { group in
      let ports = Dictionary(group.ports.filter { $0.port > 0 }.map { ($0.name, $0.port) }) { first, _ in first }
      return group.addresses.map { address in
        WrittenEndpoint(
          address: address.address, ports: ports, usesTargetPorts: false, labels: [:],
          locality: Locality(parsing: address.zone.isEmpty ? "" : "/\(address.zone)"), weight: 1, isReady: address.isReady)
      }
    }
  }

  /// The same entry when nothing stands behind it, else one of its own.
  func adding(to entry: ServiceCatalog.Entry) -> ServiceCatalog.Entry {
    let service = entry.service
    let selector = entry.selector
    var found =
      selector.isEmpty ? [] : (entries[service.namespace] ?? []).filter { Labels.match(selector, $0.labels) }.map(\.endpoint)
    if service.origin == .kubernetesService { found += byService["\(service.namespace)/\(service.name)"] ?? [] }
    if found.isEmpty { return entry }
    return ServiceCatalog.Entry(
      service: service, targets: entry.targets, source: entry.source, exportTo: entry.exportTo, created: entry.created,
      subjectAltNames: entry.subjectAltNames, written: found, distribution: entry.distribution, isSticky: entry.isSticky)
  }
}

extension EndpointCompiler {
  /// Endpoints that objects of the configuration put behind a service's port.
  func writtenEndpoints(_ entry: ServiceCatalog.Entry, port index: Int) -> [Labelled] {
    let port = entry.service.ports[index]
    var target = port.number
    if case .int(let number)? = entry.targets[index] { target = UInt16(clamping: number) }
    return entry.written.flatMap { item -> [Labelled] in
      guard let number = item.ports[port.name] ?? (item.usesTargetPorts ? target : nil) else { return [] }
      var found = endpoints(
        at: item.address, number, of: entry, labels: item.labels, locality: item.locality, weight: item.weight,
        serviceAccount: item.serviceAccount)
      if !item.isReady { for index in found.indices { found[index].endpoint.health = .unhealthy } }
      return found
    }
  }
}
