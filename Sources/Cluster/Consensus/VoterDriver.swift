import Consensus
import Membership
import Primitives
import Transport

/// On the node that leads: moves the voters towards what they should be, a step at a time. Confined to the control loop.
final class VoterDriver {
  private let loop: EventLoop
  private let local: ClusterLocal
  private let raft: RaftDriver
  private let selection: VoterSelection
  private let members: () -> [Member]
  private var ledSince: Instant?
  private var isStopped = false

  init(loop: EventLoop, local: ClusterLocal, raft: RaftDriver, members: @escaping () -> [Member]) {
    self.loop = loop
    self.local = local
    self.raft = raft
    self.members = members
    selection = VoterSelection(target: local.votersWanted, patience: local.voterPatience)
  }

  func start() { loop.schedule(after: ClusterLimits.voterInterval) { [weak self] in self?.look() } }
  func stop() { isStopped = true }

  private func look() {
    guard !isStopped else { return }
    step()
    loop.schedule(after: ClusterLimits.voterInterval) { [weak self] in self?.look() }
  }

  /// Takes one step, if this node leads and one is due.
  func step() {
    let now = EventLoop.monotonicNow()
    guard raft.isLeader else { return ledSince = nil }
    let since = ledSince ?? now
    ledSince = since
    guard raft.holdsLease(at: now) else { return }
    let status = raft.status
    let candidates = candidates(now: now, since: since)
    if candidates.contains(where: { $0.name == local.name && $0.isGoing }),
      status.followers.contains(where: { $0.isActive && status.configuration.isVoter($0.name) })
    {
      // Another leader takes this node's vote away.
      return raft.transferLeadership()
    }
    let caughtUp = status.followers.filter {
      $0.isActive && !$0.receivesSnapshot && $0.match.number &+ ClusterLimits.learnerLagMax >= status.last.index.number
    }
    let change = selection.nextChange(
      local: local.name, configuration: status.configuration, candidates: candidates, caughtUp: Set(caughtUp.map(\.name)))
    if let change { raft.change(change) }
  }

  /// Every node that is or may be a member. One that was never seen is counted as absent since this node leads.
  private func candidates(now: Instant, since: Instant) -> [VoterCandidate] {
    let control = raft.state
    let seen = Dictionary(members().map { ($0.name, $0) }) { first, _ in first }
    var names = Set(seen.keys).union(local.seeds.map(\.name)).union(control.trust.anchors.map(\.node))
    names.insert(local.name)
    return names.sorted().map { name in
      let member = seen[name]
      let isLive = member?.state.isLive ?? false
      // Another node's certificate authority has to be known before it may vote.
      let isTrusted = control.trust.anchors.contains { $0.node == name }
      return VoterCandidate(
        name: name, isAlive: name == local.name || (member?.state == .alive && isTrusted),
        absence: isLive || name == local.name ? .zero : now - max(member?.since ?? since, since),
        isGoing: control.posture(of: name) != .active, zone: Self.zone(member?.locality ?? ""))
    }
  }

  /// `region/zone` of a locality.
  private static func zone(_ locality: String) -> String {
    locality.split(separator: "/", omittingEmptySubsequences: false).prefix(2).joined(separator: "/")
  }
}
