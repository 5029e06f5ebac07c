import Consensus
import Primitives
import Transport

/// Decides which nodes may link to this one, after they have proved who they are, or that they know the join secret or a token.
///
/// Neither secret nor token gives away a name that is in use: whoever holds it could take the place of a dead node.
struct Admission {
  /// Nodes that the cluster file names.
  var listed: Set<NodeName>
  /// The newest control state that this node has.
  var control: ControlState

  /// Why the node is not let in, as both sides will read it; nil when it is.
  func refusal(of node: NodeName, trust: LinkTrust, authorities: [[UInt8]]) -> String? {
    guard control.posture(of: node) != .gone else {
      return "\(node) is being forgotten by the cluster; start it again when that is done"
    }
    let known = control.trust.anchors.filter { $0.node == node }
    switch trust {
    case .ownToken: return nil
    case .bundle, .joinSecret:
      guard listed.contains(node) || !known.isEmpty else {
        return """
          \(node) is not among the nodes of cluster.json; add it there on every host and start the nodes again, \
          or let it in with a token: mesh-node token create
          """
      }
    // Judged with its key.
    case .token: break
    }
    // A certificate of an earlier life is still good when the cluster has forgotten that node, and another has its name.
    guard !known.isEmpty, !known.contains(where: { authorities.contains($0.certificate) }) else { return nil }
    return """
      the cluster knows \(node) with another certificate authority; give it back the pki folder of its data directory, \
      start it under a new name, or, when the other is gone for good: mesh-node forget \(node)
      """
  }
}
