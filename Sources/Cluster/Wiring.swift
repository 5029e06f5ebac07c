import Consensus
import Membership
import Primitives
import Transport

/// Breaks the circle between the core and its drivers: outputs go through here to the core, once there is one.
final class Wiring {
  weak var core: ClusterCore?

  var raftOutputs: RaftDriver.Outputs {
    RaftDriver.Outputs(
      send: { [self] message, node, isBulk in core?.send(.raft, isBulk ? .bulk : .urgent, message, to: node) },
      applied: { [self] entry in core?.applied(entry) },
      settling: { [self] in core?.publishPending() },
      restored: { [self] in core?.restored() },
      leadershipChanged: { [self] in core?.leadershipChanged() },
      failed: { [self] text in core?.failed(text) },
      recovered: { [self] in core?.recovered() })
  }

  var followOutputs: FollowDriver.Outputs {
    FollowDriver.Outputs(
      send: { [self] message, node, isBulk in core?.send(.catchUp, isBulk ? .bulk : .urgent, message, to: node) },
      peers: { [self] in core?.livePeers ?? [] },
      apply: { [self] entries in core?.raft.follow(entries) },
      install: { [self] state in core?.raft.follow(state) },
      diverged: { [self] in core?.diverged() },
      leaderHeard: { [self] in core?.publish(.raft) })
  }

  var roleOutputs: RoleDriver.Outputs {
    RoleDriver.Outputs(
      send: { [self] message, node in core?.send(.lease, .urgent, message, to: node) },
      leader: { [self] in core?.leader },
      leaderHoldsLease: { [self] in core?.leaderHoldsLease() ?? false },
      propose: { [self] command in core?.proposeQuietly(command) },
      proposeAsLeader: { [self] command in core?.proposeAsLeader(command) },
      heldRolesChanged: { [self] in core?.publish(.roles) })
  }

  var membershipOutputs: MembershipDriver.Outputs {
    MembershipDriver.Outputs(
      sendStream: { [self] message, node, address in core?.sendStream(message, to: node, at: address) },
      memberChanged: { [self] change in core?.memberChanged(change) },
      incarnationRaised: { [self] incarnation in core?.incarnationRaised(incarnation) },
      registryDiffers: { [self] node, digest in core?.registryDiffers(node, digest) },
      leaveCompleted: { [self] in core?.leaveCompleted() })
  }

  var registryOutputs: RegistryDriver.Outputs {
    RegistryDriver.Outputs(
      send: { [self] message, node in core?.send(.registry, .bulk, message, to: node) },
      changed: { [self] in core?.registryChanged() },
      digestChanged: { [self] digest in core?.registryDigest(digest) },
      rejected: { _, _ in })
  }
}
