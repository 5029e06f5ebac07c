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

/// The clusters of the worker's current snapshot, by index; each made when a request first needs it.
struct Balancing {
  private var snapshot: MeshSnapshot?
  private var loads = LoadTable()
  private var clusters: [ClusterState?] = []
  /// Clusters that the latest installation looked at.
  private(set) var clustersVisited = 0

  /// Takes another snapshot. Of one that follows the last only what has changed is looked at.
  mutating func install(_ new: MeshSnapshot, _ loads: LoadTable) {
    let isNext = snapshot.map { old in new.changes?.follows(old.changes) ?? false } ?? false
    let changed = isNext ? new.changes?.clusters ?? [] : Array(new.clusters.indices)
    clustersVisited = changed.count
    // By what the workers share of a cluster, which stays the same over snapshots.
    var known: [ObjectIdentifier: ClusterState] = [:]
    let count = new.clusters.count
    let dropped = count < clusters.count ? Array(count..<clusters.count) : []
    for index in changed + dropped where index < clusters.count {
      if let state = clusters[index] { known[ObjectIdentifier(state.load)] = state }
    }
    clusters.removeLast(dropped.count)
    clusters += Array(repeating: nil, count: count - clusters.count)
    for index in changed {
      guard !known.isEmpty, let entry = loads.known(index), let state = known[ObjectIdentifier(entry.load)] else {
        clusters[index] = nil
        continue
      }
      state.balancer.update(new.clusters[index], entry)
      clusters[index] = state
    }
    snapshot = new
    self.loads = loads
  }

  subscript(_ cluster: ClusterIndex) -> ClusterState? {
    mutating get {
      guard clusters.indices.contains(cluster) else { return nil }
      if let state = clusters[cluster] { return state }
      guard let snapshot else { return nil }
      let state = ClusterState(snapshot.clusters[cluster], loads.entry(cluster, of: snapshot.clusters[cluster]))
      clusters[cluster] = state
      return state
    }
  }
}
