import Cluster
import Consensus
import MeshActors
import MeshConfig
import Primitives
import Transport

/// The history of the configuration, and the whole of it for analysis.
extension AdminRoutes {
  /// Newest first.
  func history() -> [RevisionInfo] {
    let control = node.cluster.view.control
    var exists = Set(control.objects.keys)
    return control.revisions.all.reversed().map { revision in
      let changes = revision.changes.map { change in
        let action = change.before == nil ? "created" : exists.contains(change.key) ? "configured" : "deleted"
        return RevisionInfo.Change(
          action: action, kind: change.key.kind, namespace: change.key.namespace, name: change.key.name)
      }
      // Back in time: what it created was not there before, what it deleted was.
      for change in revision.changes {
        if change.before == nil { exists.remove(change.key) } else { exists.insert(change.key) }
      }
      return RevisionInfo(
        revision: revision.number.number, previous: revision.previous.number, author: revision.author, changes: changes)
    }
  }

  func rollback(_ request: RollbackRequest) async throws -> ApplyReport {
    try await change(
      ConfigChange(
        dryRun: request.dryRun, rollbackTo: request.revision, namespace: "default", author: author,
        requestHigh: .random(in: .min ... .max), requestLow: .random(in: .min ... .max)),
      wait: request.wait && !request.dryRun, milliseconds: request.timeoutMilliseconds)
  }

  func live() async throws -> LiveConfiguration {
    let objects = node.cluster.view.control.sortedObjects.compactMap { _, stored in
      (try? MeshObject.decode(canonical: stored.bytes))?.yaml
    }
    var registry: [String] = []
    if let snapshot = await node.snapshots.serving?.snapshot {
      for workload in snapshot.workloads { registry.append(Self.pod(workload)) }
      for service in snapshot.services where service.origin == .registration { registry.append(Self.service(service)) }
    }
    return LiveConfiguration(
      objects: objects.joined(separator: "---\n"), registry: registry.joined(separator: "---\n"),
      isolatesTenants: node.file.configuration.isolatesTenants)
  }

  private static func pod(_ workload: WorkloadFacts) -> String {
    let labels = workload.labels.sorted { $0.key < $1.key }.map { "\n    \(quoted($0.key)): \(quoted($0.value))" }.joined()
    return """
      apiVersion: v1
      kind: Pod
      metadata:
        name: \(quoted("\(workload.name).\(workload.node)"))
        namespace: \(quoted(workload.namespace))
        labels:\(labels.isEmpty ? " {}" : labels)

      """
  }

  private static func service(_ service: Service) -> String {
    let ports = service.ports.map { port in
      let name = port.name.isEmpty ? "\(port.protocol)-\(port.number)" : port.name
      return "{port: \(port.number), name: \(quoted(name))}"
    }
    return """
      apiVersion: v1
      kind: Service
      metadata: {name: \(quoted(service.name)), namespace: \(quoted(service.namespace))}
      spec: {ports: [\(ports.joined(separator: ", "))]}

      """
  }

  private static func quoted(_ text: String) -> String { "'\(text.replacing("'", with: "''"))'" }
}
