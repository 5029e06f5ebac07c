import Cluster
import Membership
import Primitives
import Transport

/// Tells when every live node routes by what this node's rows say of its workloads.
public struct RoutingAgreement: Sendable {
  private let cluster: ClusterRuntime
  private let system: SocketActorSystem

  public init(cluster: ClusterRuntime, system: SocketActorSystem) {
    self.cluster = cluster
    self.system = system
  }

  /// Waits for all live nodes, at most for `limit`; those that have not said so by then.
  public func wait(for workloads: [WorkloadKey], within limit: Duration) async -> [NodeName] {
    let deadline = ContinuousClock.now + limit
    var rows: [[UInt8]] = []
    for key in workloads {
      if let row = await cluster.signedRow(namespace: key.namespace, name: key.name) { rows.append(row) }
    }
    let wanted = rows
    return await withTaskGroup(of: NodeName?.self) { group in
      for node in cluster.view.aliveNodes {
        group.addTask { await agreesInTime(node, wanted, deadline) ? nil : node }
      }
      var lagging: [NodeName] = []
      for await node in group { if let node { lagging.append(node) } }
      return lagging.sorted()
    }
  }

  /// A call on this node itself has no time limit of its own.
  private func agreesInTime(_ node: NodeName, _ rows: [[UInt8]], _ deadline: ContinuousClock.Instant) async -> Bool {
    await withTaskGroup(of: Bool.self) { group in
      group.addTask { await agrees(node, rows, deadline) }
      group.addTask {
        try? await Task.sleep(until: deadline)
        return false
      }
      let first = await group.next() ?? false
      group.cancelAll()
      return first
    }
  }

  private func agrees(_ node: NodeName, _ rows: [[UInt8]], _ deadline: ContinuousClock.Instant) async -> Bool {
    for row in rows {
      while true {
        let left = ContinuousClock.now.duration(to: deadline)
        guard left > .zero, !Task.isCancelled else { return false }
        do {
          try await RemoteCall.with(timeout: left) { try await ProxyActor.on(node, using: system).awaitRouting(row: row) }
          break
        } catch {
          // A node that is gone routes nothing.
          if cluster.view.member(node)?.state.isLive != true { return true }
          try? await Task.sleep(for: .milliseconds(20))
        }
      }
    }
    return true
  }
}
