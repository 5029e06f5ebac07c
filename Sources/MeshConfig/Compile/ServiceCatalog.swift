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
    /// One client always goes to one endpoint where no rule says how to choose (`sessionAffinity: ClientIP`).
    let isSticky: Bool

    init(
      service: Service, targets: [IntOrString?], source: Source, exportTo: Set<String>, created: UInt64,
      subjectAltNames: [String], written: [WrittenEndpoint] = [], distribution: TrafficDistribution? = nil,
      isSticky: Bool = false
    ) {
      self.service = service
      self.targets = targets
      self.source = source
      self.exportTo = exportTo
      self.created = created
      self.subjectAltNames = subjectAltNames
      self.written = written
      self.distribution = distribution
      self.isSticky = isSticky
    }

    var id: ServiceID { ServiceID(host: service.host, namespace: service.namespace) }

    /// Whether clients see the same names and ports, whatever stands behind them.
    func isNamedAlike(_ other: Entry) -> Bool {
      aliasTarget == other.aliasTarget && created == other.created && exportTo == other.exportTo && service == other.service
    }

    private var aliasTarget: String? { if case .alias(let host) = source { host } else { nil } }
  }
  enum Source: Sendable {
    /// Workloads of the namespace with these labels, and those registered under the service's name.
    case workloads(selector: [String: String])
    case entry(ServiceEntry)
    /// Another name for a host (`externalName`): of the mesh, or outside of it.
    case alias(of: String)
  }

  /// Sorted by host, then namespace; one entry a pair.
  let entries: [Entry]
  private let byHost: [String: Range<Int>]
  private let byName: [WorkloadBook.ServiceName: [Int]]
  /// By the first label of the selector.
  private let bySelector: [WorkloadBook.LabelValue: [Int]]
  /// Services whose endpoints are the addresses of a name.
  let byResolvedName: [String: [ServiceID]]
  /// Services with written endpoints that may be workloads of the mesh, by address.
  let byMemberAddress: [String: [ServiceID]]
  /// Services that are another name for one of the mesh, by the host of that one.
  private let aliases: [String: [Int]]

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
    var resolved: [String: [ServiceID]] = [:]
    var members: [String: [ServiceID]] = [:]
    var aliases: [String: [Int]] = [:]
    for (index, entry) in kept.enumerated() {
      if case .alias(let host) = entry.source, ranges[host] != nil {
        aliases[host, default: []].append(index)
        continue
      }
      for name in entry.resolvedNames { resolved[name, default: []].append(entry.id) }
      for address in entry.memberAddresses { members[address, default: []].append(entry.id) }
    }
    byMemberAddress = members
    byResolvedName = resolved
    self.aliases = aliases
  }

  /// Whether an entry is only another name for a service of the mesh.
  func isAlias(_ index: Int) -> Bool {
    guard case .alias(let host) = entries[index].source else { return false }
    return byHost[host] != nil
  }

  /// Other names for the service of a host that a client in `namespace` may use.
  func aliases(ofHost host: String, seenFrom namespace: String, depth: Int = 0) -> [Service] {
    guard depth < Self.aliasDepthMax, let found = aliases[host] else { return [] }
    return found.filter { isVisible($0, from: namespace) }.flatMap { index in
      let alias = entries[index].service
      return [alias] + aliases(ofHost: alias.host, seenFrom: namespace, depth: depth + 1)
    }
  }

  /// A name may stand for one that stands for another; how far that is followed (Istio).
  private static let aliasDepthMax = 10

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
    if isBefore(a, b) { return true }
    if isBefore(b, a) { return false }
    return (a.service.origin.rank, a.created) < (b.service.origin.rank, b.created)
  }

  /// By host, then namespace.
  private static func isBefore(_ a: Entry, _ b: Entry) -> Bool {
    if a.service.host != b.service.host { return a.service.host.utf8.lexicographicallyPrecedes(b.service.host.utf8) }
    return a.service.namespace < b.service.namespace
  }

  /// The service that a client in `namespace` means by `host`: its own namespace's, then by origin and age.
  func index(ofHost host: String, seenFrom namespace: String) -> Int? {
    var host = host
    for _ in 0..<Self.aliasDepthMax {
      guard let range = byHost[host] else { return nil }
      let found = range.lazy.filter { isVisible($0, from: namespace) }.min { a, b in
        let own = (entries[a].service.namespace == namespace, entries[b].service.namespace == namespace)
        if own.0 != own.1 { return own.0 }
        let left = (entries[a].service.origin.rank, entries[a].created, a)
        return left < (entries[b].service.origin.rank, entries[b].created, b)
      }
      guard let found, isAlias(found), case .alias(let target) = entries[found].source else { return found }
      host = target
    }
    return nil
  }

  /// One service for each host that a client in `namespace` sees, in the order of hosts.
  func visible(from namespace: String) -> [Int] {
    var result: [Int] = []
    var start = 0
    while start < entries.count {
      let host = entries[start].service.host
      // What an alias stands for is met under its own name.
      if let index = index(ofHost: host, seenFrom: namespace), entries[index].service.host == host { result.append(index) }
      start = byHost[host]?.upperBound ?? entries.count
    }
    return result
  }

  /// The entry of a service of just this host and namespace.
  func index(of id: ServiceID) -> Int? { byHost[id.host]?.first { entries[$0].service.namespace == id.namespace } }

  /// Hosts that are other than in an earlier catalog, and every name for them in either.
  ///
  /// - Returns: with them, whether names, ports, or who sees them differ; if not, only what stands behind them does.
  func changes(since old: ServiceCatalog) -> (hosts: Set<String>, ofNames: Bool) {
    var hosts: Set<String> = []
    var ofNames = false
    var (before, now) = (old.entries[...], entries[...])
    while before.first != nil || now.first != nil {
      if let a = before.first, let b = now.first, !Self.isBefore(a, b), !Self.isBefore(b, a) {
        if a !== b {
          hosts.insert(b.service.host)
          if !a.isNamedAlike(b) { ofNames = true }
        }
        (before, now) = (before.dropFirst(), now.dropFirst())
        continue
      }
      ofNames = true
      if let a = before.first, now.first.map({ Self.isBefore(a, $0) }) ?? true {
        hosts.insert(a.service.host)
        before = before.dropFirst()
      } else if let b = now.popFirst() {
        hosts.insert(b.service.host)
      }
    }
    return (withAliases(old.withAliases(hosts)), ofNames)
  }

  /// These hosts and every name that stands for one of them, whoever may use it.
  func withAliases(_ hosts: Set<String>) -> Set<String> {
    if aliases.isEmpty { return hosts }
    var found = hosts
    var open = Array(hosts)
    while let host = open.popLast() {
      for index in aliases[host] ?? [] where found.insert(entries[index].service.host).inserted {
        open.append(entries[index].service.host)
      }
    }
    return found
  }

  /// Hosts that these hosts and wildcards cover, and every name for them.
  func hosts(coveredBy patterns: Set<String>) -> Set<String> {
    let wildcards = patterns.filter { $0.utf8.first == 0x2A }
    var found = patterns.filter { byHost[$0] != nil }
    if !wildcards.isEmpty {
      for host in byHost.keys where wildcards.contains(where: { HostName.covers($0, host) }) { found.insert(host) }
    }
    return withAliases(found)
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
      var compiled = Service(
        host: "\(stored.key.name).\(namespace).svc.\(settings.domain)", name: stored.key.name, namespace: namespace,
        origin: .kubernetesService,
        ports: ports.map {
          let spoken = ProtocolSelection.select(appProtocol: $0.appProtocol, name: $0.name, number: $0.port)
          return Service.Port(number: $0.port, name: $0.name, protocol: spoken)
        }, addresses: service.clusterIPs)
      compiled.isExternal = service.externalName != nil
      return [
        Entry(
          service: compiled, targets: ports.map(\.targetPort),
          source: service.externalName.map { .alias(of: $0.lowercased()) } ?? .workloads(selector: service.selector),
          exportTo: Visibility.resolve(names, own: namespace, byDefault: settings.exportTo.services), created: stored.created,
          subjectAltNames: [], distribution: TrafficDistribution(stored.object.meta, service.trafficDistribution),
          isSticky: service.isSticky)
      ]
    case .serviceEntry(let entry): return entry.hosts.map { Self.entry(host: $0.lowercased(), entry, stored, settings) }
    default: return []
    }
  }

  private static func entry(
    host: String, _ entry: ServiceEntry, _ stored: StoredObject, _ settings: MeshSettings
  ) -> Entry {
    let ports = entry.ports.filter { $0.protocol != "UDP" }
    var service = Service(
      host: host, name: host, namespace: stored.key.namespace, origin: .serviceEntry,
      ports: ports.map {
        let named: String? = $0.protocol.isEmpty ? nil : $0.protocol
        return Service.Port(
          number: $0.number, name: $0.name,
          protocol: ProtocolSelection.select(appProtocol: named, name: $0.name, number: $0.number))
      }, addresses: entry.addresses.filter { !$0.utf8.contains(0x2F) }, isExternal: entry.location == .meshExternal)
    service.blocks = entry.addresses.filter { $0.utf8.contains(0x2F) }.compactMap { AddressBlock($0) }
    service.allocatesAddress = VirtualAddress.isAllocated(to: entry, host: host, stored.object.meta)
    return Entry(
      service: service, targets: ports.map { port in port.targetPort.map { .int(Int($0)) } }, source: .entry(entry),
      exportTo: Visibility.resolve(entry.exportTo, own: stored.key.namespace, byDefault: settings.exportTo.services),
      created: stored.created,
      subjectAltNames: entry.subjectAltNames, distribution: TrafficDistribution(stored.object.meta, nil))
  }

  /// The service that exists because workloads were registered under its name; its ports are the union of their rows'.
  static func implied(_ name: WorkloadBook.ServiceName, by workloads: [WorkloadBook.Entry], _ settings: MeshSettings) -> Entry?
  {
    guard !workloads.isEmpty else { return nil }
    var ports: [UInt16: (port: Service.Port, of: WorkloadBook.Entry)] = [:]
    for workload in workloads {
      for port in workload.record.ports {
        let number = port.servicePort ?? port.port
        // Where workloads differ, the first in the order of keys says what the port speaks.
        if let known = ports[number], !workload.record.precedes(known.of.record) { continue }
        ports[number] = (Service.Port(number: number, name: port.name, protocol: port.protocol), workload)
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
    case .alias: [:]
    }
  }

  /// Names whose addresses are its endpoints, each in lower case.
  var resolvedNames: Set<String> {
    switch source {
    case .workloads: return []
    case .alias(let host): return AddressForm.isAddress(host) ? [] : [host]
    case .entry(let entry):
      guard entry.resolution == .dns else { return [] }
      var names = entry.endpoints.isEmpty && entry.workloadSelector == nil ? [service.host] : []
      names += entry.endpoints.map { $0.address.lowercased() } + written.map { $0.address.lowercased() }
      return Set(names.filter { NameForm.isHost($0) && !AddressForm.isAddress($0) })
    }
  }

  /// Addresses of endpoints that mutual TLS is written for.
  var memberAddresses: Set<String> {
    var found = written.filter { EntryTLSMode($0.labels, serviceAccount: $0.serviceAccount) != .plain }.map(\.address)
    if case .entry(let entry) = source {
      found += entry.endpoints.filter { EntryTLSMode($0.labels, serviceAccount: $0.serviceAccount) != .plain }.map(\.address)
    }
    return Set(found)
  }

  /// The same entry with a virtual address that was allocated to its host.
  func withAddress(_ address: String?) -> ServiceCatalog.Entry {
    guard let address, service.addresses.isEmpty, service.blocks.isEmpty, service.allocatesAddress else { return self }
    var service = service
    service.addresses = service.origin == .serviceEntry ? VirtualAddress.all(address) : [address]
    return ServiceCatalog.Entry(
      service: service, targets: targets, source: source, exportTo: exportTo, created: created,
      subjectAltNames: subjectAltNames, written: written, distribution: distribution, isSticky: isSticky)
  }
}

/// Virtual addresses of ServiceEntries (Istio, ServiceEntry `addresses`).
enum VirtualAddress {
  static let label = "networking.istio.io/enable-autoallocate-ip"

  /// An address that was allocated, and what stands beside it: that of the same number in 2001:2::/48, for ever as well.
  static func all(_ address: String) -> [String] {
    let octets = address.split(separator: ".").compactMap { UInt8($0) }
    guard octets.count == 4 else { return [address] }
    return [address, "2001:2::" + String(UInt16(octets[2]) << 8 | UInt16(octets[3]), radix: 16)]
  }

  /// As authorities have it: IPv6 in brackets, too (RFC 3986 3.2.2).
  static func names(_ address: String) -> [String] { address.utf8.contains(0x3A) ? [address, "[\(address)]"] : [address] }

  /// Not for wildcards, not where the client's own destination is called, and not where the label says `false`.
  static func isAllocated(to entry: ServiceEntry, host: String, _ meta: ObjectMeta) -> Bool {
    !host.hasPrefix("*") && entry.addresses.isEmpty && entry.resolution != .none && meta.labels[label] != "false"
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
