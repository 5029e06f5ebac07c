import Primitives

/// Every service of the mesh with what stands behind it, from Services, ServiceEntries and registrations (Istio, protocol selection).
struct ServiceCatalog {
  /// One service. Compared by identity: an entry is made anew when what it comes from changes.
  final class Entry: Sendable {
    let service: Service
    /// What the ports of `service` lead to, in the same order.
    let targets: [IntOrString?]
    let source: Source
    /// Namespaces that see it: names and `*`; resolved, so `.` is the own namespace's name.
    let exportTo: Set<String>
    let created: UInt64
    /// SANs for upstream TLS when a DestinationRule gives none.
    let subjectAltNames: [String]
    /// Endpoints that other objects of the configuration put behind it.
    let written: [WrittenEndpoint]
    /// Which endpoints the service wants to be preferred.
    let distribution: TrafficDistribution?

    init(
      service: Service, targets: [IntOrString?], source: Source, exportTo: Set<String>, created: UInt64,
      subjectAltNames: [String], written: [WrittenEndpoint] = [], distribution: TrafficDistribution? = nil
    ) {
      self.service = service
      self.targets = targets
      self.source = source
      self.exportTo = exportTo
      self.created = created
      self.subjectAltNames = subjectAltNames
      self.written = written
      self.distribution = distribution
    }

    var id: ServiceID { ServiceID(host: service.host, namespace: service.namespace) }
  }
  enum Source: Sendable {
    /// Workloads of the namespace with these labels, and those registered under the service's name.
    case workloads(selector: [String: String])
    case entry(ServiceEntry)
  }

  /// Sorted by host, then namespace; one entry a pair.
  let entries: [Entry]
  private let byHost: [String: Range<Int>]
  private let byName: [WorkloadBook.ServiceName: [Int]]
  /// By the first label of the selector.
  private let bySelector: [WorkloadBook.LabelValue: [Int]]

  init(_ all: [Entry]) {
    var found = all
    found.sort(by: Self.precedes)
    var kept: [Entry] = []
    for entry in found {
      // The first of a (host, namespace) pair owns it: Service, then the oldest ServiceEntry, then registrations.
      if let last = kept.last, last.service.host == entry.service.host, last.service.namespace == entry.service.namespace {
        continue
      }
      kept.append(entry)
    }
    entries = kept
    var ranges: [String: Range<Int>] = [:]
    var start = 0
    while start < kept.count {
      let host = kept[start].service.host
      let end = kept[start...].firstIndex { $0.service.host != host } ?? kept.count
      ranges[host] = start..<end
      start = end
    }
    byHost = ranges
    var names: [WorkloadBook.ServiceName: [Int]] = [:]
    var selectors: [WorkloadBook.LabelValue: [Int]] = [:]
    for (index, entry) in kept.enumerated() {
      let namespace = entry.service.namespace
      if entry.service.origin != .serviceEntry {
        names[WorkloadBook.ServiceName(namespace: namespace, name: entry.service.name), default: []].append(index)
      }
      if let label = entry.selector.min(by: { $0.key < $1.key }) {
        let value = WorkloadBook.LabelValue(namespace: namespace, key: label.key, value: label.value)
        selectors[value, default: []].append(index)
      }
    }
    byName = names
    bySelector = selectors
  }

  /// Services that a workload stands behind, in their order.
  func services(of record: WorkloadRecord) -> [Int] {
    var found: Set<Int> = []
    if let name = record.service {
      found.formUnion(byName[WorkloadBook.ServiceName(namespace: record.namespace, name: name)] ?? [])
    }
    for (key, value) in record.labels {
      let label = WorkloadBook.LabelValue(namespace: record.namespace, key: key, value: value)
      for index in bySelector[label] ?? [] where EndpointCompiler.selects(entries[index], record) { found.insert(index) }
    }
    return found.sorted()
  }

  private static func precedes(_ a: Entry, _ b: Entry) -> Bool {
    if a.service.host != b.service.host { return a.service.host.utf8.lexicographicallyPrecedes(b.service.host.utf8) }
    if a.service.namespace != b.service.namespace { return a.service.namespace < b.service.namespace }
    return (a.service.origin.rank, a.created) < (b.service.origin.rank, b.created)
  }

  /// The service that a client in `namespace` means by `host`: its own namespace's, then by origin and age.
  func index(ofHost host: String, seenFrom namespace: String) -> Int? {
    guard let range = byHost[host] else { return nil }
    return range.filter { isVisible($0, from: namespace) }.min { a, b in
      let own = (entries[a].service.namespace == namespace, entries[b].service.namespace == namespace)
      if own.0 != own.1 { return own.0 }
      let left = (entries[a].service.origin.rank, entries[a].created, a)
      return left < (entries[b].service.origin.rank, entries[b].created, b)
    }
  }

  /// One service for each host that a client in `namespace` sees, in the order of hosts.
  func visible(from namespace: String) -> [Int] {
    var result: [Int] = []
    var start = 0
    while start < entries.count {
      let host = entries[start].service.host
      if let index = index(ofHost: host, seenFrom: namespace) { result.append(index) }
      start = byHost[host]?.upperBound ?? entries.count
    }
    return result
  }

  private func isVisible(_ index: Int, from namespace: String) -> Bool { Visibility.allows(entries[index].exportTo, namespace) }

  // MARK: Where services come from

  static func entries(of stored: StoredObject, _ settings: MeshSettings) -> [Entry] {
    let namespace = stored.key.namespace
    switch stored.object.spec {
    case .service(let service):
      let exported = stored.object.meta.annotations["networking.istio.io/exportTo"] ?? ""
      let names = exported.split(separator: ",").map { String($0.filter { $0 != " " }) }
      let ports = service.ports.filter { !$0.isUDP }
      let compiled = Service(
        host: "\(stored.key.name).\(namespace).svc.\(settings.domain)", name: stored.key.name, namespace: namespace,
        origin: .kubernetesService,
        ports: ports.map {
          let spoken = ProtocolSelection.select(appProtocol: $0.appProtocol, name: $0.name, number: $0.port)
          return Service.Port(number: $0.port, name: $0.name, protocol: spoken)
        }, addresses: service.clusterIPs)
      return [
        Entry(
          service: compiled, targets: ports.map(\.targetPort), source: .workloads(selector: service.selector),
          exportTo: Visibility.resolve(names, own: namespace, byDefault: settings.exportTo.services), created: stored.created,
          subjectAltNames: [], distribution: TrafficDistribution(stored.object.meta, service.trafficDistribution))
      ]
    case .serviceEntry(let entry): return entry.hosts.map { Self.entry(host: $0.lowercased(), entry, stored, settings) }
    default: return []
    }
  }

  private static func entry(
    host: String, _ entry: ServiceEntry, _ stored: StoredObject, _ settings: MeshSettings
  ) -> Entry {
    let ports = entry.ports.filter { $0.protocol != "UDP" }
    let service = Service(
      host: host, name: host, namespace: stored.key.namespace, origin: .serviceEntry,
      ports: ports.map {
        let named: String? = $0.protocol.isEmpty ? nil : $0.protocol
        return Service.Port(
          number: $0.number, name: $0.name,
          protocol: ProtocolSelection.select(appProtocol: named, name: $0.name, number: $0.number))
      }, addresses: entry.addresses.filter { !$0.utf8.contains(0x2F) }, isExternal: entry.location == .meshExternal)
    return Entry(
      service: service, targets: ports.map { port in port.targetPort.map { .int(Int($0)) } }, source: .entry(entry),
      exportTo: Visibility.resolve(entry.exportTo, own: stored.key.namespace, byDefault: settings.exportTo.services),
      created: stored.created,
      subjectAltNames: entry.subjectAltNames, distribution: TrafficDistribution(stored.object.meta, nil))
  }

  /// The service that exists because workloads were registered under its name; its ports are the union of their rows'.
  static func implied(_ name: WorkloadBook.ServiceName, by workloads: [WorkloadRecord], _ settings: MeshSettings) -> Entry? {
    guard !workloads.isEmpty else { return nil }
    var ports: [UInt16: (port: Service.Port, of: WorkloadRecord)] = [:]
    for record in workloads {
      for port in record.ports {
        let number = port.servicePort ?? port.port
        // Where workloads differ, the first in the order of keys says what the port speaks.
        if let known = ports[number], !record.precedes(known.of) { continue }
        ports[number] = (Service.Port(number: number, name: port.name, protocol: port.protocol), record)
      }
    }
    let sorted = ports.values.map(\.port).sorted { $0.number < $1.number }
    return Entry(
      service: Service(
        host: "\(name.name).\(name.namespace).svc.\(settings.domain)", name: name.name, namespace: name.namespace,
        origin: .registration, ports: sorted), targets: sorted.map { _ in nil }, source: .workloads(selector: [:]),
      exportTo: ["*"], created: .max, subjectAltNames: [])
  }
}

/// Preference for near endpoints that a service asks for itself, without outlier detection (Istio, labels and annotations).
enum TrafficDistribution: String {
  case close = "PreferClose"
  case sameZone = "PreferSameZone"
  case sameNode = "PreferSameNode"

  private static let annotation = "networking.istio.io/traffic-distribution"

  /// By the annotation, or else as Kubernetes' own field says.
  init?(_ meta: ObjectMeta, _ field: String?) {
    guard let written = meta.annotations[Self.annotation] ?? field else { return nil }
    self.init(rawValue: written)
  }
}

/// Names a service in every revision.
struct ServiceID: Hashable {
  let host: String
  let namespace: String
}

extension ServiceCatalog.Entry {
  /// Labels of the workloads behind it; empty when it selects none by label.
  var selector: [String: String] {
    switch source {
    case .workloads(let selector): selector
    case .entry(let written): written.workloadSelector ?? [:]
    }
  }
}

extension WorkloadRecord {
  /// By namespace, name, then node.
  fileprivate func precedes(_ other: WorkloadRecord) -> Bool {
    (namespace, name, node.string) < (other.namespace, other.name, other.node.string)
  }
}

extension Service.Origin {
  /// Which definition of one host name wins.
  fileprivate var rank: Int {
    switch self {
    case .kubernetesService: 0
    case .serviceEntry: 1
    case .registration: 2
    }
  }
}

/// `exportTo` lists (Istio, general rules).
enum Visibility {
  /// Namespaces and `*`; `~` becomes the empty set. Where nothing is written the mesh's default holds, and without one everyone.
  static func resolve(_ written: [String], own: String, byDefault: [String] = []) -> Set<String> {
    let exportTo = written.isEmpty ? byDefault : written
    if exportTo.isEmpty { return ["*"] }
    return Set(exportTo.filter { $0 != "~" }.map { $0 == "." ? own : $0 })
  }
  static func allows(_ exportTo: Set<String>, _ namespace: String) -> Bool {
    exportTo.contains("*") || exportTo.contains(namespace)
  }
}
