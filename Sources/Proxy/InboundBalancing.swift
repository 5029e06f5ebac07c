import MeshConfig
import Primitives
import Traffic

/// The ports of this node's applications that have limits or a place of their own, by index into `MeshSnapshot.inbound`.
struct InboundBalancing {
  private var clusters: [ClusterState] = []

  /// Takes another snapshot's. Those that share what they carry with one of the last go on with it.
  mutating func install(_ inbound: [Cluster], _ loads: LoadTable) {
    if inbound.isEmpty && clusters.isEmpty { return }
    let known = Dictionary(clusters.map { (ObjectIdentifier($0.load), $0) }) { first, _ in first }
    clusters = inbound.enumerated().map { index, cluster in
      let entry = loads.entry(index, of: cluster)
      guard let state = known[ObjectIdentifier(entry.load)] else { return ClusterState(cluster, entry) }
      state.balancer.update(cluster, entry)
      return state
    }
  }

  subscript(_ index: Int) -> ClusterState? { clusters.indices.contains(index) ? clusters[index] : nil }
}
