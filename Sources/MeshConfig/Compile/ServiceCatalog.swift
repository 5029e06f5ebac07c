import Primitives

/// Every service of the mesh with what stands behind it, from Services, ServiceEntries and registrations (Istio, protocol selection).
struct ServiceCatalog {
  struct Entry {
    var service: Service
    /// What the ports of `service` lead to, in the same order.
    var targets: [IntOrString?]
    var source: Source
    /// Namespaces that see it: names and `*`; resolved, so `.` is the own namespace's name.
    var exportTo: Set<String>
    var created: UInt64
    /// SANs for upstream TLS when a DestinationRule gives none.
    var subjectAltNames: [String]
  }
  enum Source {
    /// Workloads of the namespace with these labels, and those registered under the service's name.
    case workloads(selector: [String: String])
    case entry(ServiceEntry)
  }

  /// Sorted by host, then namespace; one entry a pair.
  let entries: [Entry]
  private let byHost: [String: Range<Int>]

  init(objects: [StoredObject], workloads: [WorkloadRecord], settings: MeshSettings) {
    var found: [Entry] = []
    for stored in objects { found += Self.entries(of: stored, settings) }
    found += Self.implied(by: workloads, settings)
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

  private func isVisible(_ index: Int, from namespace: String) -> Bool {
    Visibility.allows(entries[index].exportTo, namespace)
  }

  // MARK: Where services come from

  private static func entries(of stored: StoredObject, _ settings: MeshSettings) -> [Entry] {
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
          exportTo: Visibility.resolve(names, own: namespace), created: stored.created, subjectAltNames: [])
      ]
    case .serviceEntry(let entry):
      return entry.hosts.map { Self.entry(host: $0.lowercased(), entry, stored) }
    default: return []
    }
  }

  private static func entry(host: String, _ entry: ServiceEntry, _ stored: StoredObject) -> Entry {
    let ports = entry.ports.filter { $0.protocol != "UDP" }
    let service = Service(
      host: host, name: host, namespace: stored.key.namespace, origin: .serviceEntry,
      ports: ports.map {
        let named: String? = $0.protocol.isEmpty ? nil : $0.protocol
        return Service.Port(
          number: $0.number, name: $0.name,
          protocol: ProtocolSelection.select(appProtocol: named, name: $0.name, number: $0.number))
      },
      addresses: entry.addresses.filter { !$0.utf8.contains(0x2F) }, isExternal: entry.location == .meshExternal)
    return Entry(
      service: service, targets: ports.map { port in port.targetPort.map { .int(Int($0)) } }, source: .entry(entry),
      exportTo: Visibility.resolve(entry.exportTo, own: stored.key.namespace), created: stored.created,
      subjectAltNames: entry.subjectAltNames)
  }

  /// Services that exist because workloads were registered under their name; ports are the union of their rows'.
  private static func implied(by workloads: [WorkloadRecord], _ settings: MeshSettings) -> [Entry] {
    var ports: [String: [UInt16: Service.Port]] = [:]
    var names: [(host: String, name: String, namespace: String)] = []
    for record in workloads {
      guard let name = record.service else { continue }
      let host = "\(name).\(record.namespace).svc.\(settings.domain)"
      if ports[host] == nil { names.append((host, name, record.namespace)) }
      for port in record.ports {
        let number = port.servicePort ?? port.port
        let compiled = Service.Port(number: number, name: port.name, protocol: port.protocol)
        if ports[host, default: [:]][number] == nil { ports[host, default: [:]][number] = compiled }
      }
    }
    return names.map { host, name, namespace in
      let sorted = (ports[host] ?? [:]).values.sorted { $0.number < $1.number }
      return Entry(
        service: Service(host: host, name: name, namespace: namespace, origin: .registration, ports: sorted),
        targets: sorted.map { _ in nil }, source: .workloads(selector: [:]), exportTo: ["*"], created: .max,
        subjectAltNames: [])
    }
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
  /// Namespaces and `*`; `~` becomes the empty set, nothing written everyone.
  static func resolve(_ exportTo: [String], own: String) -> Set<String> {
    if exportTo.isEmpty { return ["*"] }
    return Set(exportTo.filter { $0 != "~" }.map { $0 == "." ? own : $0 })
  }
  static func allows(_ exportTo: Set<String>, _ namespace: String) -> Bool {
    exportTo.contains("*") || exportTo.contains(namespace)
  }
}
