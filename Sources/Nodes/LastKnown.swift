import Cluster
import Consensus
import Membership
import Primitives

/// Keeps on the disk what this node needs to serve alone after a restart: the control state and the others' registry rows.
///
/// Written at most once in `interval`: a storm of changes costs the disk one write.
actor LastKnown {
  private let cluster: ClusterRuntime
  private let storage: NodeStorage
  private let clock: WallClock
  /// The log position that is on the disk: a state that lags behind it, as after a restart, does not replace it.
  private var controlAt: LogIndex
  private var isControlStale = false
  private var areRowsStale = false

  private static let interval: Duration = .seconds(1)

  init(cluster: ClusterRuntime, storage: NodeStorage, clock: WallClock, remembered: ControlState?) {
    self.cluster = cluster
    self.storage = storage
    self.clock = clock
    controlAt = remembered?.applied.index ?? .zero
  }

  /// Follows the cluster until cancelled.
  func run() async {
    for await change in cluster.changes() {
      if !change.isDisjoint(with: [.objects, .trust, .roles, .addresses]) { isControlStale = true }
      if change.contains(.registry) { areRowsStale = true }
      save()
      do { try await Task.sleep(for: Self.interval) } catch { return }
    }
  }

  /// Hands what changed to the storage thread.
  func save() {
    let view = cluster.view
    if isControlStale, view.control.applied.index >= controlAt {
      isControlStale = false
      controlAt = view.control.applied.index
      storage.set(StoredFact.controlState, view.control.snapshot())
    }
    if areRowsStale {
      areRowsStale = false
      storage.set(StoredFact.registryRows, SavedRows(rows: view.registry.saved(), savedAt: clock.seconds).bytes)
    }
  }
}
