import Consensus
import Primitives

/// Who may hold the certificate-authority role: a new authority signs nothing before every live node has said that it
/// trusts it, or some would refuse what it signs.
enum IssuerRule {
  /// - Parameter bundleVersions: of the trust bundle of every live member; 0 where it is not known yet.
  static func issuers(anchors: [TrustAnchor], bundleVersions: [UInt64]) -> Set<NodeName> {
    guard let oldest = bundleVersions.min() else { return [] }
    // During a rotation a node has two, and its newest is the one it signs with.
    let newest = Dictionary(anchors.map { ($0.node, $0.added.number) }, uniquingKeysWith: max)
    return Set(newest.filter { $0.value <= oldest }.keys)
  }
}
