import Primitives

/// Times of role leases. The same on every node.
public struct RoleSettings: Sendable, Equatable {
  /// How long a holder may act after it sent a renewal that was acknowledged.
  public var leaseDuration: Duration = .milliseconds(1000)
  public var renewalInterval: Duration = .milliseconds(250)
  /// Between two renewals until the first is acknowledged: a new leader needs a heartbeat before it may prolong anything.
  public var acquisitionInterval: Duration = .milliseconds(50)
  /// How long a new leader lets a holder it knows nothing of keep its role: a lease the former leader may have renewed
  /// until its own lease ended (a lease and the shortest election timeout).
  public var grace: Duration = .milliseconds(1400)
  /// How long the very first assignment waits for three nodes to choose from.
  public var formation: Duration = .milliseconds(1000)
  /// How long a proposed assignment may take before it is proposed again.
  public var proposalTimeout: Duration = .milliseconds(1000)
  /// Roles and members have to be unchanged this long before a role moves only for balance.
  public var balanceDelay: Duration = .seconds(10)
  /// A node whose lease ran out is chosen last for this long.
  public var penalty: Duration = .seconds(30)

  public init() {}
}

/// A holder's request to keep a role, and the leader's acknowledgement of it.
public struct RoleRenewal: Hashable, Sendable {
  public let role: Role
  public let epoch: RoleEpoch
  /// The holder's monotonic clock when it asked; echoed.
  public let sentAt: Instant

  public init(role: Role, epoch: RoleEpoch, sentAt: Instant) {
    self.role = role
    self.epoch = epoch
    self.sentAt = sentAt
  }

  /// 18 bytes or fewer.
  public func encode(to writer: inout ByteWriter) {
    writer.uint8(role.rawValue)
    writer.varint(epoch.number)
    writer.uint64(sentAt.nanoseconds)
  }

  public init(from reader: inout ByteReader) throws(ByteError) {
    role = try Role(from: &reader)
    epoch = RoleEpoch(try reader.boundedNumber())
    sentAt = Instant(nanoseconds: try reader.uint64())
  }
}

public enum RoleLeaseInput: Sendable, Equatable {
  case tick
  /// The roles as this node has applied them.
  case roles(RoleTable)
  /// The leader's acknowledgement.
  case acknowledged(RoleRenewal)
  /// This node is about to leave or drains: it gives its roles back and takes none.
  case leaving
  /// It takes roles again.
  case staying
}

public enum RoleLeaseEffect: Sendable, Equatable {
  /// Send to the Raft leader, or hand to the local `RoleAssignment` when this node leads. Dropped when none is known.
  case renew(RoleRenewal)
  /// This node may act under the role from now on.
  case acquired(Role, RoleEpoch)
  /// It may not any more; acts under way have to end.
  case lost(Role, RoleEpoch)
  /// Propose `Command.releaseRole`, through the leader.
  case release(Role, RoleEpoch)
}

/// The holder's side of role leases: a node acts under a role only while the time of its last acknowledged renewal, as it
/// was *sent* by its own monotonic clock, is less than a lease ago. A process that was paused finds its lease over when
/// it wakes, before anything else could tell it. Where the log fences the role it acts by the log's word; its renewals only tell the
/// leader that it is there.
public struct RoleLease: Sendable, Equatable {
  public let local: NodeName
  public let settings: RoleSettings
  private var leases: [Lease?] = Role.allCases.map { _ in nil }
  /// The epoch that was given back last: what says so may still be on its way, so it is never acted under again.
  private var givenBack: [RoleEpoch?] = Role.allCases.map { _ in nil }
  private var isLeaving = false

  private struct Lease: Sendable, Equatable {
    let epoch: RoleEpoch
    var nextRenewal: Instant
    /// Nil until the first acknowledgement and after the lease ran out.
    var validUntil: Instant?
  }

  public init(local: NodeName, settings: RoleSettings = RoleSettings()) {
    self.local = local
    self.settings = settings
  }

  /// The epoch to act under, or nil: this node does not hold the role at this moment. Ask directly before every act,
  /// with the clock just read.
  public func epoch(of role: Role, at now: Instant) -> RoleEpoch? {
    guard let lease = leases[slot(role)] else { return nil }
    if role.isFencedByLog { return lease.epoch }
    guard let end = lease.validUntil, now < end || mutated(.actWithoutLease) else { return nil }
    return lease.epoch
  }

  public var nextDeadline: Instant {
    leases.reduce(.distantFuture) { earliest, lease in
      guard let lease else { return earliest }
      return min(earliest, lease.nextRenewal, lease.validUntil ?? .distantFuture)
    }
  }

  public mutating func handle(_ input: RoleLeaseInput, at now: Instant, into effects: inout [RoleLeaseEffect]) {
    switch input {
    case .tick: break
    case .roles(let table): follow(table, at: now, into: &effects)
    case .acknowledged(let renewal): acknowledge(renewal, at: now, into: &effects)
    case .leaving: leave(into: &effects)
    case .staying: isLeaving = false
    }
    for role in Role.allCases { keep(role, at: now, into: &effects) }
  }

  private func slot(_ role: Role) -> Int { Int(role.rawValue) - 1 }

  private mutating func follow(_ table: RoleTable, at now: Instant, into effects: inout [RoleLeaseEffect]) {
    for role in Role.allCases {
      let state = table[role]
      let isOurs = state.holder == local && (!isLeaving || mutated(.actAfterHandingOver))
      if let lease = leases[slot(role)], !isOurs || state.epoch != lease.epoch {
        leases[slot(role)] = nil
        if lease.validUntil != nil || role.isFencedByLog { effects.append(.lost(role, lease.epoch)) }
      }
      if isOurs, let preferred = state.preferred, preferred != local {
        giveBack(role, into: &effects)
      } else if isOurs && leases[slot(role)] == nil && givenBack[slot(role)] != state.epoch {
        leases[slot(role)] = Lease(epoch: state.epoch, nextRenewal: now)
        if role.isFencedByLog { effects.append(.acquired(role, state.epoch)) }
      }
    }
  }

  private mutating func acknowledge(_ renewal: RoleRenewal, at now: Instant, into effects: inout [RoleLeaseEffect]) {
    guard var lease = leases[slot(renewal.role)], lease.epoch == renewal.epoch, renewal.sentAt <= now else { return }
    let end = renewal.sentAt + settings.leaseDuration
    guard end > now else { return }
    if lease.validUntil == nil, !renewal.role.isFencedByLog { effects.append(.acquired(renewal.role, renewal.epoch)) }
    lease.validUntil = max(end, lease.validUntil ?? .zero)
    leases[slot(renewal.role)] = lease
  }

  private mutating func leave(into effects: inout [RoleLeaseEffect]) {
    isLeaving = true
    for role in Role.allCases { giveBack(role, into: &effects) }
  }

  /// Stops acting first, then says so: the next holder cannot have begun.
  private mutating func giveBack(_ role: Role, into effects: inout [RoleLeaseEffect]) {
    guard let lease = leases[slot(role)] else { return }
    givenBack[slot(role)] = lease.epoch
    if !mutated(.actAfterHandingOver) { leases[slot(role)] = nil }
    if lease.validUntil != nil || role.isFencedByLog { effects.append(.lost(role, lease.epoch)) }
    effects.append(.release(role, lease.epoch))
  }

  /// Ends what ran out and renews what is due.
  private mutating func keep(_ role: Role, at now: Instant, into effects: inout [RoleLeaseEffect]) {
    guard var lease = leases[slot(role)] else { return }
    if let end = lease.validUntil, now >= end, !mutated(.actWithoutLease) {
      lease.validUntil = nil
      if !role.isFencedByLog { effects.append(.lost(role, lease.epoch)) }
    }
    if now >= lease.nextRenewal {
      lease.nextRenewal = now + (lease.validUntil == nil ? settings.acquisitionInterval : settings.renewalInterval)
      effects.append(.renew(RoleRenewal(role: role, epoch: lease.epoch, sentAt: now)))
    }
    leases[slot(role)] = lease
  }
}
