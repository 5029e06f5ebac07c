import MeshConfig
import Primitives
import Traffic

/// One cluster as one worker sees it: who of its endpoints answers, and what it carries. Kept over snapshots by its name.
final class ClusterState {
  let balancer: LoadBalancer
  /// Shared by the workers.
  let load: SharedLoad

  /// Requests that wait for a connection to become free, oldest first.
  private var waiting: [Exchange] = []

  /// False when as many wait as may.
  func wait(_ exchange: Exchange, _ policy: ConnectionPoolPolicy) -> Bool {
    guard load.beginPending(policy) else { return false }
    waiting.append(exchange)
    return true
  }

  /// Takes a request out of the queue, wherever it stands.
  func stopWaiting(_ exchange: Exchange) {
    guard let index = waiting.firstIndex(where: { $0 === exchange }) else { return }
    waiting.remove(at: index)
    load.endPending()
  }

  /// The request that may go on now that one has ended.
  func nextWaiting() -> Exchange? {
    guard !waiting.isEmpty else { return nil }
    load.endPending()
    return waiting.removeFirst()
  }

  init(_ cluster: Cluster, _ entry: LoadTable.Entry) {
    balancer = LoadBalancer(cluster, entry)
    load = entry.load
  }
}

/// The clusters of the worker's current snapshot, by index.
struct Balancing {
  private var clusters: [ClusterState] = []
  /// By what the workers share of a cluster, which stays the same over snapshots.
  private var byLoad: [ObjectIdentifier: ClusterState] = [:]

  mutating func install(_ snapshot: MeshSnapshot, _ loads: LoadTable) {
    var kept: [ObjectIdentifier: ClusterState] = [:]
    clusters = zip(snapshot.clusters, loads.entries).map { cluster, entry in
      let known = byLoad[ObjectIdentifier(entry.load)]
      known?.balancer.update(cluster, entry)
      let state = known ?? ClusterState(cluster, entry)
      kept[ObjectIdentifier(entry.load)] = state
      return state
    }
    byLoad = kept
  }

  subscript(_ cluster: ClusterIndex) -> ClusterState? { clusters.indices.contains(cluster) ? clusters[cluster] : nil }
}
