import Primitives

/// The workloads of the registry, each with what every snapshot needs of it made once.
struct WorkloadBook {
  final class Entry: Sendable {
    let record: WorkloadRecord
    let identity: SPIFFEID
    /// In the order of the record's ports.
    let places: [Endpoint.Place]

    init(_ record: WorkloadRecord, _ identity: SPIFFEID, at address: String, index: WorkloadIndex, isLocal: Bool) {
      self.record = record
      self.identity = identity
      places = record.ports.map { port in
        let mesh = Endpoint.MeshRoute(
          address: record.meshAddress, port: record.meshPort,
          serverName: "\(port.port).\(record.name).\(record.namespace).workload.mesh", identity: identity)
        return Endpoint.Place(
          key: EndpointCompiler.key("\(record.node)/\(record.namespace)/\(record.name):\(port.port)"), address: address,
          port: port.port, workload: index, isLocal: isLocal, mesh: mesh, locality: record.locality)
      }
    }
  }

  struct ServiceName: Hashable {
    let namespace: String
    let name: String
  }
  struct LabelValue: Hashable {
    let namespace: String
    let key: String
    let value: String
  }

  /// By `WorkloadIndex`.
  private(set) var entries: [Entry] = []
  private(set) var table = WorkloadTable()
  /// Workloads of this node, by key.
  private(set) var local: [String: WorkloadIndex] = [:]
  /// Workloads that are left out and why, by key.
  private(set) var refused: [String: (record: WorkloadRecord, why: Finding)] = [:]
  private var byService: [ServiceName: [WorkloadIndex]] = [:]
  private var byLabel: [LabelValue: [WorkloadIndex]] = [:]
  private var byAddress: [String: [WorkloadIndex]] = [:]
  /// Equal values are kept once: replicas have the same labels and account.
  private var labels: [[String: String]: [String: String]] = [:]
  private var identities: [String: SPIFFEID] = [:]
  private var settings: MeshSettings

  /// Distinct label maps and identities that are shared; beyond it they start anew.
  private static let sharedValues = 8_192

  init(settings: MeshSettings) { self.settings = settings }

  func record(_ key: String) -> WorkloadRecord? { table.index(ofKey: Array(key.utf8)).map { entries[$0].record } }

  func workloads(named name: ServiceName) -> [WorkloadIndex] { byService[name] ?? [] }

  /// Workloads with all of the labels; none for an empty selector. The rarest label narrows the search.
  func workloads(in namespace: String, selector: [String: String]) -> [WorkloadIndex] {
    let lists = selector.map { byLabel[LabelValue(namespace: namespace, key: $0.key, value: $0.value)] ?? [] }
    guard let shortest = lists.min(by: { $0.count < $1.count }) else { return [] }
    return shortest.filter { Labels.match(selector, entries[$0].record.labels) }
  }

  /// Workloads whose applications listen on an address.
  func workloads(at address: String) -> [Entry] { (byAddress[address] ?? []).map { entries[$0] } }

  /// Workloads behind a service, by name and by label, in the order of their indices.
  func members(of entry: ServiceCatalog.Entry) -> [Entry] {
    let service = entry.service
    let selected = workloads(in: service.namespace, selector: entry.selector)
    guard service.origin != .serviceEntry else { return selected.sorted().map { entries[$0] } }
    let named = workloads(named: ServiceName(namespace: service.namespace, name: service.name))
    let found = selected.isEmpty ? named : named.isEmpty ? selected : Set(named + selected).sorted()
    return found.map { entries[$0] }
  }

  // MARK: Changing

  /// Takes the mesh's settings as they are now: they say where applications of this node are called.
  mutating func use(_ settings: MeshSettings) {
    self.settings = settings
    for index in local.values {
      let entry = entries[index]
      entries[index] = Entry(
        entry.record, entry.identity, at: settings.applicationAddress(of: entry.record), index: index, isLocal: true)
    }
  }

  /// Takes a workload, new or changed. Returns the earlier records that this replaces or moves; nil when nothing changed.
  mutating func put(_ record: WorkloadRecord, key: String) -> [WorkloadRecord]? {
    let known = table.index(ofKey: Array(key.utf8))
    if let known, entries[known].record == record { return nil }
    guard let identity = identity(of: record, key) else {
      let why = refused[key]
      defer { refused[key] = why }
      return remove(key) ?? []
    }
    if !refused.isEmpty { refused[key] = nil }
    var record = record
    record.labels = shared(record.labels)
    let isLocal = record.node == settings.localNode
    let index = known ?? entries.count
    let entry = Entry(
      record, identity, at: settings.applicationAddress(of: record), index: index, isLocal: isLocal)
    let facts = WorkloadFacts(record, identity, principal: principal(identity, like: known))
    defer { if isLocal { local[key] = index } }
    if let known {
      let old = entries[known].record
      unfile(old, known)
      entries[known] = entry
      table.replace(at: known, with: facts)
      file(record, known)
      return [old]
    }
    entries.append(entry)
    table.append(facts)
    file(record, index)
    return []
  }

  /// Removes a workload. Returns its record and that of the one that took its index; nil when it is not known.
  mutating func remove(_ key: String) -> [WorkloadRecord]? {
    refused[key] = nil
    guard let index = table.index(ofKey: Array(key.utf8)) else { return nil }
    let gone = entries[index].record
    unfile(gone, index)
    local[key] = nil
    let last = entries.count - 1
    table.remove(at: index)
    guard index != last else {
      entries.removeLast()
      return [gone]
    }
    let moved = entries.removeLast()
    unfile(moved.record, last)
    file(moved.record, index)
    let isLocal = moved.record.node == settings.localNode
    if isLocal { local[moved.record.key] = index }
    entries[index] = Entry(
      moved.record, moved.identity, at: settings.applicationAddress(of: moved.record), index: index, isLocal: isLocal)
    return [gone, moved.record]
  }

  private mutating func file(_ record: WorkloadRecord, _ index: WorkloadIndex) {
    if let service = record.service {
      byService[ServiceName(namespace: record.namespace, name: service), default: []].append(index)
    }
    for (key, value) in record.labels {
      byLabel[LabelValue(namespace: record.namespace, key: key, value: value), default: []].append(index)
    }
    byAddress[record.address, default: []].append(index)
  }

  private mutating func unfile(_ record: WorkloadRecord, _ index: WorkloadIndex) {
    func take(_ list: inout [WorkloadIndex]?) {
      list?.removeAll { $0 == index }
      if list?.isEmpty == true { list = nil }
    }
    if let service = record.service { take(&byService[ServiceName(namespace: record.namespace, name: service)]) }
    for (key, value) in record.labels { take(&byLabel[LabelValue(namespace: record.namespace, key: key, value: value)]) }
    take(&byAddress[record.address])
  }

  // MARK: Shared values

  private mutating func shared(_ map: [String: String]) -> [String: String] {
    if let known = labels[map] { return known }
    if labels.count >= Self.sharedValues { labels = [:] }
    labels[map] = map
    return map
  }

  /// The identity of a workload; nil, and a finding, when it can have none.
  private mutating func identity(of record: WorkloadRecord, _ key: String) -> SPIFFEID? {
    let account = "\(record.namespace)/\(record.serviceAccount)"
    if let known = identities[account] { return known }
    do throws(NameError) {
      let identity = try SPIFFEID.workload(
        trustDomain: settings.trustDomain, namespace: record.namespace, serviceAccount: record.serviceAccount)
      if identities.count >= Self.sharedValues { identities = [:] }
      identities[account] = identity
      return identity
    } catch {
      let why = Finding(
        severity: .warning, code: Finding.Code.referenceNotFound, object: "workload \(key)",
        reason: "left out: it can have no identity: \(error.description)")
      refused[key] = (record, why)
      return nil
    }
  }

  /// The text of an identity, the same bytes as a neighbour's where there is one.
  private func principal(_ identity: SPIFFEID, like known: WorkloadIndex?) -> String {
    if let known, entries[known].identity == identity { return table[known].principal }
    guard let last = entries.last, last.identity == identity else { return identity.description }
    return table[entries.count - 1].principal
  }
}

extension WorkloadRecord {
  /// `<namespace>/<workload name>@<node>`
  public var key: String { "\(namespace)/\(name)@\(node)" }
}

extension WorkloadFacts {
  /// Canonical names as Istio derives them from labels (Istio, labels and annotations).
  fileprivate init(_ record: WorkloadRecord, _ identity: SPIFFEID, principal: String) {
    let labels = record.labels
    let app = labels["app"] ?? labels["app.kubernetes.io/name"] ?? ""
    let version = labels["version"] ?? labels["app.kubernetes.io/version"] ?? ""
    self.init(
      name: record.name, namespace: record.namespace, node: record.node, serviceAccount: record.serviceAccount,
      principal: principal, app: app, version: version,
      canonicalService: labels["service.istio.io/canonical-name"] ?? (app.isEmpty ? record.name : app),
      canonicalRevision: labels["service.istio.io/canonical-revision"] ?? (version.isEmpty ? "latest" : version), labels: labels
    )
  }
}
