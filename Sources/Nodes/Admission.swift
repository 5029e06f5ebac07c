import Consensus
import Primitives
import Transport

/// Decides which nodes may link to this one, after they have proved who they are or that they know the join secret.
///
/// The join secret alone must not give away a name that is in use: whoever holds it could take the place of a dead node.
enum Admission {
  /// Why the node is not let in, as both sides will read it; nil when it is.
  static func refusal(
    of node: NodeName, trust: LinkTrust, authorities: [[UInt8]], members: Set<NodeName>, anchors: [TrustAnchor]
  ) -> String? {
    guard members.contains(node) else {
      return "\(node) is not among the nodes of cluster.json; add it there on every host and start the nodes again"
    }
    // Its certificate chains to the trust bundle.
    guard trust == .joinSecret else { return nil }
    let known = anchors.filter { $0.node == node }
    guard known.isEmpty || known.contains(where: { authorities.contains($0.certificate) }) else {
      return """
        the cluster knows \(node) with another certificate authority; \
        give it back the pki folder of its data directory, or start it under a new name
        """
    }
    return nil
  }
}
