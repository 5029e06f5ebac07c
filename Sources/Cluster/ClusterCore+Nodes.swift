import Consensus
import Membership
import Primitives
import Transport

/// What the log says of nodes, and what follows from it here: postures, gossip keys, the forgetting of the dead.
extension ClusterCore {
  /// Looks from time to time at what no single event shows.
  func keepHouse() {
    guard !isStopped else { return }
    forgetTheRemoved()
    stayIfStarted()
    // Whether the others still answer shows itself by no event.
    if raft.isLeader { candidatesChanged() }
    loop.schedule(after: .seconds(1)) { [weak self] in self?.keepHouse() }
  }

  func nodesChanged() {
    takePosture(raft.state.posture(of: local.name))
    membership.take(raft.state.gossipKeys)
    forgetTheRemoved()
  }

  /// A node that drains or goes looks to others as one whose workloads are leaving, and gives its roles back.
  private func takePosture(_ new: NodePosture) {
    guard new != posture else { return }
    posture = new
    takeRolesOrNot()
    for key in workloads.keys.sorted() {
      if let workload = workloads[key] { try? registry.publish(workload: shown(workload)) }
    }
  }

  /// A workload row as others are to see it.
  func shown(_ workload: WorkloadRow) -> WorkloadRow {
    guard posture != .active else { return workload }
    var row = workload
    row.health = .leaving
    return row
  }

  /// It left for good, and was started again.
  private func stayIfStarted() {
    guard raft.state.posture(of: local.name) == .leaving, !isDeparting, leader != nil else { return }
    proposeQuietly(.setPosture(local.name, .active))
  }

  // MARK: Joining

  /// A stranger proved a join token to this node, which vouches for it.
  func joining(_ node: NodeName, token: UInt64, authority: [UInt8], address: SocketAddress) {
    let admitted = AdmittedNode(
      name: node, address: address.ip.map { "\($0)" } ?? "\(address)", locality: "", canIssue: true)
    let command = Command.joinByToken(
      TokenJoin(token: JoinTokenID(token), node: admitted, certificate: authority, at: clock.milliseconds()))
    let links = links
    let judge: @Sendable (Outcome) -> Void = { outcome in
      if case .invalid(let reason) = outcome { links.disconnect(node, reason: reason.words) }
      if case .limit = outcome { links.disconnect(node, reason: "the cluster has as many nodes as it may have") }
    }
    if raft.isLeader {
      raft.propose(command) { if case .success(let entry) = $0, let outcome = entry.outcome { judge(outcome) } }
    } else if let leader, let forward {
      Task { if let outcome = try? await forward(command, leader, .now + .seconds(10)) { judge(outcome) } }
    }
  }

  func noteClock(of node: NodeName, lead: Int64) {
    clockLeads[node] = lead
    publish(.members)
  }

  /// The dead that the log knows no longer are no members; a live one has to join anew.
  private func forgetTheRemoved() {
    let known = Set(raft.state.trust.anchors.map(\.node))
    guard known.contains(local.name) else { return }
    registry.readmit(known)
    for member in membership.members where member.name != local.name && !known.contains(member.name) {
      guard !member.state.isLive else { continue }
      links.disconnect(member.name, reason: "\(member.name) was removed from the cluster")
      membership.forget(member.name)
      registry.forget(member.name)
    }
    // Rows of theirs may have come from a node that did not know it yet.
    let live = Set(livePeers)
    for owner in registry.registry.ownersWithRows where owner != local.name && !known.contains(owner) && !live.contains(owner) {
      registry.forget(owner)
    }
  }
}
