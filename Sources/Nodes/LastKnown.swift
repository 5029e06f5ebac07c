import Cluster
import Consensus
import Membership
import Primitives

/// Keeps on the disk what this node needs to serve alone after a restart: the control state and the others' registry rows.
///
/// A storm of changes costs the disk one write for each pause.
actor LastKnown {
  private let cluster: ClusterRuntime
  private let storage: NodeStorage
  private let clock: WallClock
  /// The log position that is on the disk: a state that lags behind it, as after a restart, does not replace it.
  private var controlAt: LogIndex

  init(cluster: ClusterRuntime, storage: NodeStorage, clock: WallClock, remembered: ControlState?) {
    self.cluster = cluster
    self.storage = storage
    self.clock = clock
    controlAt = remembered?.applied.index ?? .zero
  }

  /// Follows the cluster until cancelled. What people change is kept at once; rows come in storms and may lag a second.
  func run() async {
    await withDiscardingTaskGroup { group in
      group.addTask {
        await self.follow([.objects, .trust, .roles, .addresses], pause: .milliseconds(250)) { await self.saveControl() }
      }
      group.addTask { await self.follow(.registry, pause: .seconds(1)) { await self.saveRows() } }
    }
  }

  private nonisolated func follow(
    _ wanted: ClusterChange, pause: Duration, _ save: @Sendable () async -> Void
  ) async {
    for await _ in cluster.changes(of: wanted) {
      await save()
      do { try await Task.sleep(for: pause) } catch { return }
    }
  }

  /// Hands everything to the storage thread, as the node stops.
  func save() {
    saveControl()
    saveRows()
  }

  private func saveControl() {
    let control = cluster.view.control
    guard control.applied.index >= controlAt else { return }
    controlAt = control.applied.index
    storage.set(StoredFact.controlState, control.snapshot())
  }

  private func saveRows() {
    storage.set(StoredFact.registryRows, SavedRows(rows: cluster.view.registry.saved(), savedAt: clock.seconds).bytes)
  }
}
