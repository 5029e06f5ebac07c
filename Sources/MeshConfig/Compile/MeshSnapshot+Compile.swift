import Primitives

extension MeshSnapshot {
  /// Compiles the configuration and the registry as this node sees them. Equal inputs give equal snapshots on every node.
  ///
  /// The findings say what in the state has no effect: shadowed hosts, conflicting ports, destinations that do not exist.
  public static func compile(
    revision: UInt64, registryVersion: UInt64, objects: [StoredObject], workloads: [WorkloadRecord], settings: MeshSettings
  ) -> (snapshot: MeshSnapshot, findings: [Finding]) {
    SnapshotCompiler(objects: objects, workloads: workloads, settings: settings)
      .compile(revision: revision, registryVersion: registryVersion)
  }
}

/// One run of the compiler: services and rules once, then a route table for each kind of local client.
private struct SnapshotCompiler {
  private let objects: [StoredObject]
  private let settings: MeshSettings
  private let records: [WorkloadRecord]
  private let identities: [SPIFFEID]
  private let catalog: ServiceCatalog
  private let book: RuleBook
  private let pool: ClusterPool
  private let findings: [Finding]
  private let clientLabelKeys: Set<String>

  init(objects: [StoredObject], workloads: [WorkloadRecord], settings: MeshSettings) {
    self.objects = objects.sorted(by: StoredObject.isOlder)
    self.settings = settings
    var findings: [Finding] = []
    (records, identities) = Self.identified(workloads, settings, &findings)
    catalog = ServiceCatalog(objects: self.objects, workloads: records, settings: settings)
    book = RuleBook(objects: self.objects, settings: settings)
    let rules = RuleIndex(objects: self.objects, settings: settings)
    clientLabelKeys = book.clientLabelKeys.union(rules.clientLabelKeys)
    let endpoints = EndpointCompiler(settings: settings, workloads: records, identities: identities)
    pool = ClusterPool(catalog: catalog, rules: rules, endpoints: endpoints)
    self.findings = findings + book.findings + rules.findings
  }

  /// Workloads in the order of their keys, without repeated keys and without those that can have no identity.
  private static func identified(
    _ workloads: [WorkloadRecord], _ settings: MeshSettings, _ findings: inout [Finding]
  ) -> ([WorkloadRecord], [SPIFFEID]) {
    var records: [WorkloadRecord] = []
    var identities: [SPIFFEID] = []
    for record in workloads.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
      if records.last?.key == record.key { continue }
      do throws(NameError) {
        identities.append(
          try SPIFFEID.workload(
            trustDomain: settings.trustDomain, namespace: record.namespace, serviceAccount: record.serviceAccount))
        records.append(record)
      } catch {
        findings.append(
          Finding(
            severity: .warning, code: Finding.Code.referenceNotFound, object: "workload \(record.key)",
            reason: "left out: it can have no identity: \(error.description)"))
      }
    }
    return (records, identities)
  }

  func compile(revision: UInt64, registryVersion: UInt64) -> (MeshSnapshot, [Finding]) {
    var pool = pool
    var findings = findings
    var local: [LocalWorkload] = []
    var tables: [RouteTable] = []
    var tcp: [TCPRouteTable] = []
    var gateways: [GatewayListener] = []
    var tableByClient: [ClientScope: Int] = [:]
    var opened: Set<UInt16> = []
    for (index, record) in records.enumerated() where record.node == settings.localNode {
      let client = scope(of: record)
      let table = tableByClient[client] ?? tables.count
      if table == tables.count {
        let compiler = MeshRouteCompiler(catalog: catalog, book: book, settings: settings, client: client)
        tables.append(compiler.compile(pool: &pool, findings: &findings))
        tcp.append(TCPRouteCompiler(catalog: catalog, book: book, settings: settings, client: client).compile(pool: &pool))
        tableByClient[client] = table
      }
      if record.isGateway {
        let compiler = GatewayCompiler(
          catalog: catalog, book: book, settings: settings, objects: objects, workload: record, client: client,
          localWorkload: local.count)
        gateways += compiler.compile(pool: &pool, findings: &findings).filter { !opened.contains($0.port) }
        opened.formUnion(gateways.map(\.port))
      }
      local.append(
        LocalWorkload(
          workload: index, identity: identities[index], address: record.address, ports: record.ports, outbound: table,
          outboundPort: record.outboundPort, isGateway: record.isGateway, health: record.health))
    }
    let snapshot = MeshSnapshot(
      revision: revision, registryVersion: registryVersion, settings: settings, services: catalog.entries.map(\.service),
      clusters: pool.clusters, workloads: zip(records, identities).map(WorkloadFacts.init), outbound: tables,
      localWorkloads: local, gateways: gateways.sorted { ($0.port, $0.server) < ($1.port, $1.server) }, tcp: tcp)
    findings += unresolved(snapshot)
    return (snapshot, Self.unique(findings))
  }

  /// Workloads that no rule tells apart share one route table.
  private func scope(of record: WorkloadRecord) -> ClientScope {
    ClientScope(namespace: record.namespace, labels: record.labels.filter { clientLabelKeys.contains($0.key) })
  }

  /// Destinations of routes that lead nowhere, once each.
  private func unresolved(_ snapshot: MeshSnapshot) -> [Finding] {
    let tables = snapshot.outbound + snapshot.gateways.map(\.table)
    var result: [Finding] = []
    for route in tables.flatMap(\.ports).flatMap(\.virtualHosts).flatMap(\.routes) {
      guard let origin = route.origin, case .forward(let destinations) = route.action else { continue }
      for destination in destinations where destination.cluster == nil {
        result.append(
          Finding(
            severity: .warning, code: Finding.Code.referenceNotFound,
            object: "\(origin.kind) \(origin.namespace)/\(origin.name)",
            path: "spec.http[\(origin.rule)]",
            reason: "no such service, port or subset: \(destination.clusterName); requests get 503 NC"))
      }
    }
    return result
  }

  private static func unique(_ findings: [Finding]) -> [Finding] {
    var seen: Set<Finding> = []
    return findings.filter { seen.insert($0).inserted }
  }
}

extension WorkloadRecord {
  /// `<namespace>/<workload name>@<node>`
  var key: String { "\(namespace)/\(name)@\(node)" }
}

extension WorkloadFacts {
  /// Canonical names as Istio derives them from labels (Istio, labels and annotations).
  fileprivate init(_ record: WorkloadRecord, _ identity: SPIFFEID) {
    let labels = record.labels
    let app = labels["app"] ?? labels["app.kubernetes.io/name"] ?? ""
    let version = labels["version"] ?? labels["app.kubernetes.io/version"] ?? ""
    self.init(
      name: record.name, namespace: record.namespace, node: record.node, serviceAccount: record.serviceAccount,
      principal: identity.description, app: app, version: version,
      canonicalService: labels["service.istio.io/canonical-name"] ?? (app.isEmpty ? record.name : app),
      canonicalRevision: labels["service.istio.io/canonical-revision"] ?? (version.isEmpty ? "latest" : version),
      labels: labels)
  }
}
