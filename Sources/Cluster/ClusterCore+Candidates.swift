import Consensus
import Membership
import Primitives
import Transport

/// What the roles are told of the nodes that may hold them.
extension ClusterCore {
  /// Whoever leads decides by this who may hold which role.
  func candidatesChanged() {
    let members = membership.members
    let issuers = IssuerRule.issuers(anchors: raft.state.trust.anchors, bundleVersions: bundleVersions(of: members))
    let absent = raft.status.absentMembers(at: EventLoop.monotonicNow())
    roles.feed(
      .members(
        members.map { member in
          RoleCandidate(
            name: member.name, liveness: Self.liveness(member.state), canIssue: issuers.contains(member.name),
            isLeaving: raft.state.posture(of: member.name) != .active || absent.contains(member.name)
              || (isLeaving && member.name == local.name))
        }))
  }

  /// The trust bundle that each live member says it has. One that has shown no row for long is not waited for: it takes
  /// no part in the mesh that its certificates could be refused in.
  private func bundleVersions(of members: [Member]) -> [UInt64] {
    let now = EventLoop.monotonicNow()
    let known = Dictionary(registry.registry.nodes.map { ($0.owner, $0.row.trustBundleVersion) }) { first, _ in first }
    let live = members.filter(\.state.isLive).map(\.name)
    rowlessSince = rowlessSince.filter { known[$0.key] == nil && live.contains($0.key) }
    return live.compactMap { name in
      if let version = known[name] { return version }
      let since = rowlessSince[name] ?? now
      if rowlessSince[name] == nil {
        rowlessSince[name] = now
        loop.schedule(after: ClusterLimits.rowPatience + .milliseconds(10)) { [weak self] in self?.candidatesChanged() }
      }
      return now - since < ClusterLimits.rowPatience ? 0 : nil
    }
  }

  private static func liveness(_ state: MemberState) -> RoleCandidate.Liveness {
    switch state {
    case .alive: .alive
    case .suspect: .suspect
    case .dead: .dead
    case .left: .left
    }
  }
}
