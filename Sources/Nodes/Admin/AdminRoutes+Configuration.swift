import Cluster
import Consensus
import FoundationEssentials
import Membership
import MeshActors
import MeshConfig
import Primitives
import Transport

/// Apply, delete and get.
extension AdminRoutes {
  func apply(_ request: ApplyRequest) async throws -> ApplyReport {
    try await change(
      ConfigChange(
        sources: request.sources.map { ConfigChange.Source(name: $0.name, text: $0.text) }, dryRun: request.dryRun,
        isStrict: request.strict, namespace: request.namespace, isNamespaceFixed: request.namespaceIsFixed, author: author,
        requestHigh: .random(in: .min ... .max),
        requestLow: .random(in: .min ... .max)),
      wait: request.wait && !request.dryRun, milliseconds: request.timeoutMilliseconds)
  }

  func delete(_ request: DeleteRequest) async throws -> ApplyReport {
    let names = try request.objects.map { text in
      let parts = text.split(separator: "/", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { throw AdminFailure(code: "invalid", message: "'\(text)' is not KIND/NAME") }
      return ConfigChange.ObjectName(kind: parts[0], namespace: request.namespace, name: parts[1])
    }
    return try await change(
      ConfigChange(
        sources: request.sources.map { ConfigChange.Source(name: $0.name, text: $0.text) }, deletes: names,
        deletesSources: !request.sources.isEmpty, dryRun: request.dryRun, ignoresMissing: request.ignoreNotFound,
        namespace: request.namespace, isNamespaceFixed: request.namespaceIsFixed, author: author,
        requestHigh: .random(in: .min ... .max), requestLow: .random(in: .min ... .max)),
      wait: request.wait && !request.dryRun, milliseconds: request.timeoutMilliseconds)
  }

  var author: String { "node \(node.node.name)" }

  func change(_ change: ConfigChange, wait: Bool, milliseconds: Int) async throws -> ApplyReport {
    let started = ContinuousClock.now
    let deadline = started + .milliseconds(max(1, min(milliseconds, 600_000)))
    let reply: ConfigReply
    do { reply = try await node.configuration.submit(change, deadline: deadline) } catch let error as MeshError {
      guard error.code == .tooLarge else { throw error }
      throw AdminFailure(code: "tooLarge", message: "\(error.message): apply it in several parts")
    }
    guard reply.isAccepted else {
      let counts = ["error", "warning"].compactMap { level -> String? in
        let count = reply.findings.filter { $0.severity == level }.count
        return count == 0 || level == "warning" && change.isStrict != true ? nil : "\(count) \(level)\(count == 1 ? "" : "s")"
      }
      let isConflict = reply.findings.contains { $0.code == Finding.Code.conflict }
      throw AdminFailure(
        code: isConflict ? "conflict" : "invalid", message: "refused: \(counts.joined(separator: ", ")); nothing was changed",
        findings: reply.findings.map(FindingInfo.init))
    }
    var report = ApplyReport(
      revision: reply.revision,
      changes: reply.changes.map {
        ObjectChange(kind: $0.kind, namespace: $0.namespace, name: $0.name, action: $0.action, detail: $0.detail)
      },
      findings: reply.findings.map(FindingInfo.init), serving: [], lagging: [], elapsedMilliseconds: 0)
    if wait {
      let (serving, lagging) = await node.configuration.awaitServing(reply.revision, deadline: deadline)
      report.serving = serving.map(\.string)
      report.lagging = lagging.map(\.string)
    }
    report.elapsedMilliseconds = started.duration(to: .now).inMilliseconds
    return report
  }

  func objects(_ query: QueryParameters) async throws -> [StoredObjectInfo] {
    let filter = try ObjectFilter(query)
    if query["consistent"] == "true" { try await node.configuration.reachDecided(deadline: .now + .seconds(10)) }
    let status = await objectStatus()
    return node.cluster.view.control.sortedObjects.compactMap { key, stored in
      filter.admits(key) ? StoredObjectInfo(stored, status) : nil
    }
  }

  /// What the mesh says of objects besides what was written.
  func objectStatus() async -> ObjectStatus {
    ObjectStatus(gateways: await gatewayStatus(), addresses: node.cluster.view.control.addresses)
  }

  /// What the mesh says of Gateway API objects; nil where there are none.
  private func gatewayStatus() async -> GatewayAPI.Status? {
    let control = node.cluster.view.control
    guard control.objects.keys.contains(where: { $0.group == GatewayAPI.group }) else { return nil }
    let objects = control.sortedObjects.compactMap { _, stored in
      (try? MeshObject.decode(canonical: stored.bytes, opening: node.cluster.secrets.open)).map {
        MeshConfig.StoredObject($0, created: stored.created.number)
      }
    }
    let snapshot = await node.snapshots.serving?.snapshot
    return GatewayAPI.Status(
      objects: snapshot?.settings.visible(objects) ?? objects, services: snapshot?.services ?? [],
      domain: snapshot?.settings.domain ?? "cluster.local",
      address: node.node.address,
      nodes: Set(node.cluster.view.members.map(\.address.host) + node.cluster.local.seeds.map(\.address.host)))
  }
}

extension FindingInfo {
  /// Whether it says that a document was skipped, which the list of changes says, too.
  public var isOfSkipped: Bool { code == Finding.Code.skipped }

  init(_ finding: ConfigReply.Finding) {
    let object = finding.object.isEmpty ? "" : finding.object + (finding.path.isEmpty ? "" : " ")
    self.init(
      level: finding.severity, code: finding.code, file: finding.source, line: finding.line, column: finding.column,
      field: object + finding.path,
      message: finding.reason, hint: finding.hint)
  }
}

/// Which objects are asked for.
struct ObjectFilter {
  /// Empty: every kind.
  private var kinds: Set<String> = []
  private let name: String?
  private let namespace: String?

  /// - Parameter query: `kind` takes several, with commas between.
  init(_ query: QueryParameters) throws {
    for text in (query["kind"] ?? "").split(separator: ",") {
      guard let kind = ObjectKind(named: String(text)) else {
        throw AdminFailure(
          code: "invalid", message: "there is no kind '\(text)'; \(ObjectKind.hint(forUnknown: String(text)))")
      }
      kinds.insert(kind.rawValue)
    }
    name = query["name"]
    namespace = query["namespace"]
  }

  func admits(_ key: Consensus.ObjectKey) -> Bool {
    (kinds.isEmpty || kinds.contains(key.kind)) && (name == nil || key.name == name)
      && (namespace == nil || key.namespace == namespace || key.namespace.isEmpty)
  }
}

/// What the mesh says of objects besides what was written: Gateway API conditions, and addresses that were allocated.
struct ObjectStatus {
  let gateways: GatewayAPI.Status?
  let addresses: [String: ServiceAddress]
}

extension StoredObjectInfo {
  /// nil for an object that this version cannot read.
  init?(_ stored: Consensus.StoredObject, _ all: ObjectStatus) {
    guard let object = try? MeshObject.decode(canonical: stored.bytes) else { return nil }
    let allocated = object.allocatedAddresses { all.addresses[$0].map { "\($0)" } }
    let status = all.gateways?.status(of: object.key) ?? .status(of: allocated)
    self.init(
      kind: object.key.kind.documentKind, apiVersion: object.key.kind.apiVersion, namespace: object.key.namespace,
      name: object.key.name, labels: object.meta.labels, creationIndex: stored.created.number,
      resourceVersion: stored.version.number, yaml: object.yaml(status: status), json: object.json(status: status),
      enforced: object.isEnforced, addresses: allocated.isEmpty ? nil : allocated.map(\.value))
  }
}
