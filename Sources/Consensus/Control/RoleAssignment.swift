import Primitives

/// A node as a candidate for roles.
public struct RoleCandidate: Hashable, Sendable {
  public enum Liveness: Sendable, Hashable { case alive, suspect, dead, left }

  public let name: NodeName
  public var liveness: Liveness
  /// It can hold the certificate-authority role.
  public var canIssue: Bool
  /// It drains or leaves: it keeps no role.
  public var isLeaving: Bool

  public init(name: NodeName, liveness: Liveness, canIssue: Bool = true, isLeaving: Bool = false) {
    self.name = name
    self.liveness = liveness
    self.canIssue = canIssue
    self.isLeaving = isLeaving
  }
}

public enum RoleAssignmentInput: Sendable, Equatable {
  case tick
  /// This node became the Raft leader; leases of the former leader's time may still run.
  case becameLeader
  case steppedDown
  /// Every member this node knows.
  case members([RoleCandidate])
  /// The roles as this node has applied them.
  case roles(RoleTable)
  /// A holder wants to keep its role. `leaderHoldsLease` is `Raft.holdsLease(at:)`: a leader that may have been replaced
  /// unknowingly must not prolong anything.
  case renewal(RoleRenewal, from: NodeName, leaderHoldsLease: Bool)
}

public enum RoleAssignmentEffect: Sendable, Equatable {
  /// Propose `Command.assignRole`, with the wall clock added.
  case assign(Role, to: NodeName, epoch: RoleEpoch, reason: String)
  case acknowledge(RoleRenewal, to: NodeName)
}

/// Decides, on the Raft leader, who holds which role.
///
/// A role moves only when its lease has surely ended: the holder gave it back, or renewed nothing for a lease. So at any moment at
/// most one node acts under a role, as far as clocks run at one rate; and where they do not, the epoch refuses the older holder.
/// Renewals stay off the log: an idle cluster writes nothing.
///
/// A role whose acts are fenced by the log waits for no lease: the leader takes it as it begins to lead, because from that entry on
/// the log refuses what the former holder still decides. So changes wait for an election, not for a lease behind it.
public struct RoleAssignment: Sendable, Equatable {
  public let local: NodeName
  public let settings: RoleSettings
  private var members: [RoleCandidate] = []
  private var roles = RoleTable()
  private var leadership: Leadership?

  private struct Leadership: Sendable, Equatable {
    let since: Instant
    /// When roles or living members last changed.
    var changed: Instant
    var tenures: [Tenure]
    /// Nodes whose lease ran out, until when they are chosen last.
    var penalties: [NodeName: Instant] = [:]
    /// Roles that came to this leader since it leads, or that an operator moved: they stay where they are.
    var settled: Set<Role> = []
  }

  /// What the leader knows of a role's present epoch.
  private struct Tenure: Sendable, Equatable {
    var epoch: RoleEpoch
    /// The lease cannot be valid from here on unless it is renewed.
    var endsAt: Instant
    /// True when the leader refuses renewals so that the role moves for balance.
    var isRetiring = false
    /// Until when the effect of a decision is awaited. Once set, nothing is renewed in this epoch: a late proposal may
    /// still commit.
    var proposedUntil: Instant?
    /// No node could take the role when it was last decided: nothing was proposed.
    var lacksCandidate = false
    /// For whom it was last proposed.
    var proposedTo: NodeName?
  }

  public init(local: NodeName, settings: RoleSettings = RoleSettings()) {
    self.local = local
    self.settings = settings
  }

  public mutating func handle(
    _ input: RoleAssignmentInput, at now: Instant, into effects: inout [RoleAssignmentEffect]
  ) {
    switch input {
    case .tick: break
    case .becameLeader: begin(at: now)
    case .steppedDown: leadership = nil
    case .members(let candidates): see(candidates, at: now)
    case .roles(let table): see(table, at: now)
    case .renewal(let renewal, let holder, let isSure):
      if isSure { renew(renewal, from: holder, at: now, into: &effects) }
    }
    decide(at: now, into: &effects)
  }

  /// When to feed `tick` next.
  public var nextDeadline: Instant {
    guard let leadership else { return .distantFuture }
    var deadlines = leadership.tenures.map { $0.proposedUntil ?? $0.endsAt }
    if isUnbalanced(leadership) { deadlines.append(leadership.changed + settings.balanceDelay) }
    let awaitsFormation = Role.allCases.contains {
      roles[$0].epoch == .zero && leadership.tenures[slot($0)].proposedUntil == nil
    }
    if awaitsFormation { deadlines.append(leadership.since + settings.formation) }
    return deadlines.min() ?? .distantFuture
  }

  // MARK: Evidence

  private mutating func begin(at now: Instant) {
    let tenures = Role.allCases.map { Tenure(epoch: roles[$0].epoch, endsAt: now + settings.grace) }
    leadership = Leadership(since: now, changed: now, tenures: tenures)
  }

  private mutating func see(_ candidates: [RoleCandidate], at now: Instant) {
    let sorted = candidates.sorted { $0.name < $1.name }
    let isNews = sorted.filter { $0.liveness == .alive }.map(\.name) != members.filter { $0.liveness == .alive }.map(\.name)
    if sorted != members, var leadership {
      for index in leadership.tenures.indices where leadership.tenures[index].lacksCandidate {
        leadership.tenures[index].proposedUntil = now
      }
      self.leadership = leadership
    }
    members = sorted
    if isNews { leadership?.changed = now }
  }

  private mutating func see(_ table: RoleTable, at now: Instant) {
    for role in Role.allCases where table[role] != roles[role] {
      leadership?.changed = now
      if table[role].epoch != roles[role].epoch {
        // The former leader may have assigned and renewed it, and this node only now applies the assignment.
        let start = leadership?.since ?? now
        let slot = slot(role)
        if let target = leadership?.tenures[slot].proposedTo, table[role].holder == target { leadership?.settled.insert(role) }
        leadership?.tenures[slot] = Tenure(
          epoch: table[role].epoch, endsAt: max(now + settings.leaseDuration, start + settings.grace))
      }
    }
    roles = table
  }

  private mutating func renew(
    _ renewal: RoleRenewal, from holder: NodeName, at now: Instant, into effects: inout [RoleAssignmentEffect]
  ) {
    guard var leadership else { return }
    var tenure = leadership.tenures[slot(renewal.role)]
    let state = roles[renewal.role]
    guard state.holder == holder, state.epoch == renewal.epoch, tenure.proposedUntil == nil, !tenure.isRetiring,
      member(holder)?.isLeaving != true
    else { return }
    // The holder counts from when it sent this, which was earlier.
    tenure.endsAt = max(tenure.endsAt, now + settings.leaseDuration)
    leadership.tenures[slot(renewal.role)] = tenure
    self.leadership = leadership
    effects.append(.acknowledge(renewal, to: holder))
  }

  private func slot(_ role: Role) -> Int { Int(role.rawValue) - 1 }
  private func member(_ name: NodeName) -> RoleCandidate? { members.first { $0.name == name } }

  // MARK: Decisions

  /// What has its place goes first, then the role with fewest possible holders.
  private static let order: [Role] = [.configuration, .certificateAuthority, .discovery]

  private mutating func decide(at now: Instant, into effects: inout [RoleAssignmentEffect]) {
    guard var leadership else { return }
    leadership.penalties = leadership.penalties.filter { $0.value > now }
    var planned: [NodeName] = []
    for role in Self.order {
      if let waiting = leadership.tenures[slot(role)].proposedUntil, now < waiting { continue }
      guard let reason = reasonToAssign(role, leadership, at: now) else { continue }
      if let holder = roles[role].holder, !leadership.tenures[slot(role)].isRetiring, !role.isFencedByLog {
        leadership.penalties[holder] = now + settings.penalty
      }
      leadership.tenures[slot(role)].proposedUntil = now + settings.proposalTimeout
      let target = preferred(for: role) ?? ownClaim(to: role) ?? choice(for: role, leadership, planned: planned)
      leadership.tenures[slot(role)].lacksCandidate = target == nil
      leadership.tenures[slot(role)].proposedTo = target
      guard let target else { continue }
      planned.append(target)
      effects.append(.assign(role, to: target, epoch: roles[role].epoch.next, reason: reason))
    }
    for role in Self.order where isAskedToMove(role) { leadership.tenures[slot(role)].isRetiring = true }
    if now >= leadership.changed + settings.balanceDelay, let role = roleToRetire(leadership) {
      leadership.tenures[slot(role)].isRetiring = true
      leadership.changed = now
    }
    self.leadership = leadership
  }

  /// Why the role needs a holder now, or nil.
  private func reasonToAssign(_ role: Role, _ leadership: Leadership, at now: Instant) -> String? {
    let tenure = leadership.tenures[slot(role)]
    guard let holder = roles[role].holder else {
      if roles[role].epoch > .zero {
        return roles[role].preferred.map { "given back to move to \($0) on request" } ?? "given back"
      }
      let isFormed = members.count { $0.liveness == .alive } >= Role.allCases.count
      return isFormed || now >= leadership.since + settings.formation ? "first assignment" : nil
    }
    if role.isFencedByLog, holder != local, ownClaim(to: role) != nil {
      if !leadership.settled.contains(role) { return "goes with the leadership of the log" }
      if member(holder)?.liveness == .dead { return "\(holder) is dead" }
      if member(holder)?.liveness == .left { return "\(holder) left" }
    }
    if now >= tenure.endsAt {
      if tenure.isRetiring, let preferred = roles[role].preferred { return "moved from \(holder) to \(preferred) on request" }
      if tenure.isRetiring { return "moved from \(holder) for balance" }
      switch member(holder)?.liveness {
      case .dead: return "\(holder) is dead"
      case .left: return "\(holder) left"
      case .alive, .suspect, nil: return "the lease of \(holder) ended"
      }
    }
    if mutated(.assignEarly), member(holder)?.liveness != .alive { return "the holder seems dead" }
    // That others take the holder for dead proves nothing: it may be cut off, and act until its lease ends.
    return nil
  }

  private func eligible(for role: Role) -> [RoleCandidate] {
    let able = members.filter { !$0.isLeaving && (role != .certificateAuthority || $0.canIssue) }
    let alive = able.filter { $0.liveness == .alive }
    return alive.isEmpty ? able.filter { $0.liveness == .suspect } : alive
  }

  /// This leader, where the role is best held by who writes the log: a change then travels no further than it has to.
  private func ownClaim(to role: Role) -> NodeName? {
    role.isFencedByLog && member(local)?.isLeaving != true ? local : nil
  }

  /// Whom an operator wants, if that node can take the role now.
  private func preferred(for role: Role) -> NodeName? {
    guard let wanted = roles[role].preferred else { return nil }
    return eligible(for: role).first { $0.name == wanted && $0.liveness == .alive }?.name
  }

  private func isAskedToMove(_ role: Role) -> Bool {
    guard roles[role].holder != nil, let wanted = preferred(for: role) else { return false }
    return roles[role].holder != wanted
  }

  /// The eligible node without a recent lapse that holds the fewest roles; the first by name among equals.
  private func choice(for role: Role, _ leadership: Leadership, planned: [NodeName]) -> NodeName? {
    func burden(_ name: NodeName) -> Int {
      Role.allCases.count { $0 != role && roles[$0].holder == name } + planned.count { $0 == name }
    }
    return eligible(for: role).min { a, b in
      let (lapsedA, lapsedB) = (leadership.penalties[a.name] != nil, leadership.penalties[b.name] != nil)
      if lapsedA != lapsedB { return lapsedB }
      let (loadA, loadB) = (burden(a.name), burden(b.name))
      return loadA == loadB ? a.name < b.name : loadA < loadB
    }?.name
  }

  private func isUnbalanced(_ leadership: Leadership) -> Bool { roleToRetire(leadership) != nil }

  /// A role whose holder has another one while some node that could take it has none.
  private func roleToRetire(_ leadership: Leadership) -> Role? {
    guard !leadership.tenures.contains(where: { $0.isRetiring || $0.proposedUntil != nil }) else { return nil }
    return Self.order.reversed().first { role in
      guard !role.isFencedByLog, let holder = roles[role].holder, roles.roles(heldBy: holder).count > 1 else { return false }
      return eligible(for: role).contains {
        $0.liveness == .alive && leadership.penalties[$0.name] == nil && roles.roles(heldBy: $0.name).isEmpty
      }
    }
  }
}
