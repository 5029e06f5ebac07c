import Consensus
import Primitives
import Transport

/// Runs both sides of the role leases: assignment where this node leads Raft, renewal where it holds a role. Confined to
/// the control loop.
final class RoleDriver: TimerHandler {
  struct Outputs {
    /// A message for another node's `RoleDriver`.
    var send: (_ message: [UInt8], _ node: NodeName) -> Void
    var leader: () -> NodeName?
    var leaderHoldsLease: () -> Bool
    /// Proposes locally when this node leads, else asks the leader.
    var propose: (Command) -> Void
    /// Proposes only while this node leads in the term that the assignment knows of.
    var proposeAsLeader: (Command) -> Void
    var heldRolesChanged: () -> Void
  }

  private let loop: EventLoop
  private let local: NodeName
  private let outputs: Outputs
  private let wallMilliseconds: () -> UInt64
  private var assignment: RoleAssignment
  private var lease: RoleLease
  private var timer: TimerToken?

  init(loop: EventLoop, local: NodeName, wallMilliseconds: @escaping () -> UInt64, outputs: Outputs) {
    self.loop = loop
    self.local = local
    self.outputs = outputs
    self.wallMilliseconds = wallMilliseconds
    assignment = RoleAssignment(local: local)
    lease = RoleLease(local: local)
  }

  func start() { arm() }

  func stop() {
    if let timer { loop.cancel(timer) }
    timer = nil
  }

  /// The epoch this node may act under at this very moment, or nil.
  func epoch(of role: Role) -> RoleEpoch? { lease.epoch(of: role, at: EventLoop.monotonicNow()) }

  func feed(_ input: RoleAssignmentInput) {
    var effects: [RoleAssignmentEffect] = []
    assignment.handle(input, at: EventLoop.monotonicNow(), into: &effects)
    for effect in effects { perform(effect) }
    arm()
  }

  func feed(_ input: RoleLeaseInput) {
    var effects: [RoleLeaseEffect] = []
    lease.handle(input, at: EventLoop.monotonicNow(), into: &effects)
    for effect in effects { perform(effect) }
    arm()
  }

  /// Both sides see the table that was applied.
  func rolesApplied(_ table: RoleTable) {
    feed(RoleAssignmentInput.roles(table))
    feed(RoleLeaseInput.roles(table))
  }

  // MARK: Messages: `kind u8 · renewal`

  private enum MessageKind: UInt8 { case renew = 1, acknowledge = 2 }

  func receive(_ bytes: [UInt8], from peer: NodeName) {
    var reader = ByteReader(bytes)
    guard let kind = (try? reader.uint8()).flatMap(MessageKind.init), let renewal = try? RoleRenewal(from: &reader),
      reader.isAtEnd
    else { return }
    switch kind {
    case .renew: feed(.renewal(renewal, from: peer, leaderHoldsLease: outputs.leaderHoldsLease()))
    case .acknowledge:
      // Only the leader this node follows can prolong a lease.
      if outputs.leader() == peer { feed(.acknowledged(renewal)) }
    }
  }

  private func send(_ kind: MessageKind, _ renewal: RoleRenewal, to node: NodeName) {
    var writer = ByteWriter(reserving: 24)
    writer.uint8(kind.rawValue)
    renewal.encode(to: &writer)
    outputs.send(writer.bytes, node)
  }

  // MARK: Effects

  private func perform(_ effect: RoleAssignmentEffect) {
    switch effect {
    case .assign(let role, let holder, let epoch, let reason):
      outputs.proposeAsLeader(
        .assignRole(RoleGrant(role: role, holder: holder, epoch: epoch, at: wallMilliseconds(), reason: reason)))
    case .acknowledge(let renewal, let node):
      if node == local { feed(.acknowledged(renewal)) } else { send(.acknowledge, renewal, to: node) }
    }
  }

  private func perform(_ effect: RoleLeaseEffect) {
    switch effect {
    case .renew(let renewal):
      guard let leader = outputs.leader() else { return }
      if leader == local {
        feed(.renewal(renewal, from: local, leaderHoldsLease: outputs.leaderHoldsLease()))
      } else {
        send(.renew, renewal, to: leader)
      }
    case .acquired, .lost: outputs.heldRolesChanged()
    case .release(let role, let epoch): outputs.propose(.releaseRole(role, epoch))
    }
  }

  private func arm() {
    if let timer { loop.cancel(timer) }
    let deadline = min(assignment.nextDeadline, lease.nextDeadline)
    // A deadline in the past means that the core waits for an answer; it is looked at again soon, not at once.
    timer =
      deadline == .distantFuture ? nil : loop.schedule(at: max(deadline, EventLoop.monotonicNow() + .milliseconds(5)), self)
  }

  func timerFired(_ token: TimerToken) {
    timer = nil
    feed(RoleAssignmentInput.tick)
    feed(RoleLeaseInput.tick)
  }
}
