import MeshConfig
import Primitives
import Traffic

/// One cluster as one worker sees it: who of its endpoints answers, and what it carries. Kept over snapshots by its name.
final class ClusterState {
  let balancer: LoadBalancer
  var load = ClusterLoad()

  /// Requests that wait for a connection to become free, oldest first.
  private var waiting: [Exchange] = []

  func wait(_ exchange: Exchange) {
    waiting.append(exchange)
    load.pendingRequests += 1
  }

  /// Takes a request out of the queue, wherever it stands.
  func stopWaiting(_ exchange: Exchange) {
    guard let index = waiting.firstIndex(where: { $0 === exchange }) else { return }
    waiting.remove(at: index)
    load.pendingRequests -= 1
  }

  /// The request that may go on now that one has ended.
  func nextWaiting() -> Exchange? {
    guard !waiting.isEmpty else { return nil }
    load.pendingRequests -= 1
    return waiting.removeFirst()
  }

  init(_ cluster: Cluster, now: Instant) { balancer = LoadBalancer(cluster, now: now) }
}

/// The clusters of the worker's current snapshot, by index.
struct Balancing {
  private var clusters: [ClusterState] = []
  private var byName: [String: ClusterState] = [:]

  mutating func install(_ snapshot: MeshSnapshot, now: Instant) {
    var kept: [String: ClusterState] = [:]
    clusters = snapshot.clusters.map { cluster in
      let state: ClusterState
      if let known = kept[cluster.name] {
        return known
      } else if let known = byName[cluster.name] {
        known.balancer.update(cluster, now: now)
        state = known
      } else {
        state = ClusterState(cluster, now: now)
      }
      kept[cluster.name] = state
      return state
    }
    byName = kept
  }

  subscript(_ cluster: ClusterIndex) -> ClusterState? { clusters.indices.contains(cluster) ? clusters[cluster] : nil }

  /// Endpoints by cluster name, for `status`.
  func reports(at now: Instant) -> [String: [HostReport]] { byName.mapValues { $0.balancer.reports(at: now) } }
}
