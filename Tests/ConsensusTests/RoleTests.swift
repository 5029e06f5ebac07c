import Consensus
import Primitives
import Testing

struct RoleAssignmentTests {
  /// A leader's assignment whose proposals are applied at once.
  struct Bench {
    var assignment = RoleAssignment(local: name("n1"))
    var table = RoleTable()
    var now = Instant(nanoseconds: 10_000_000_000)
    var members: [RoleCandidate]
    private(set) var moves: [String] = []
    private(set) var acknowledged: [RoleRenewal] = []

    init(_ names: [String]) {
      members = names.map { RoleCandidate(name: name($0), liveness: .alive) }
      feed(.members(members))
    }

    mutating func feed(_ input: RoleAssignmentInput) {
      var effects: [RoleAssignmentEffect] = []
      assignment.handle(input, at: now, into: &effects)
      for effect in effects {
        switch effect {
        case .assign(let role, let holder, let epoch, _):
          moves.append("\(role) \(holder) \(epoch)")
          table[role] = RoleState(holder: holder, epoch: epoch)
          feed(.roles(table))
        case .acknowledge(let renewal, _): acknowledged.append(renewal)
        }
      }
    }

    mutating func set(_ node: String, _ change: (inout RoleCandidate) -> Void) {
      for index in members.indices where members[index].name == name(node) { change(&members[index]) }
      feed(.members(members))
    }

    /// Time passes; the holders named renew every 250 ms.
    mutating func pass(_ duration: Duration, renewing: [String]) {
      let end = now + duration
      while now < end {
        now = now + .milliseconds(250)
        for role in Role.allCases {
          let state = table[role]
          guard let holder = state.holder, renewing.contains(holder.string) else { continue }
          feed(.renewal(RoleRenewal(role: role, epoch: state.epoch, sentAt: now), from: holder, leaderHoldsLease: true))
        }
        feed(.tick)
      }
    }

    func holder(_ role: Role) -> String? { table[role].holder?.string }
    mutating func forgetMoves() { moves = [] }
  }

  private func settled(_ names: [String] = ["n1", "n2", "n3"]) -> Bench {
    var bench = Bench(names)
    bench.feed(.becameLeader)
    bench.pass(.seconds(2), renewing: names)
    bench.forgetMoves()
    return bench
  }

  @Test func `three roles over three nodes are one each`() {
    let bench = settled()
    #expect(Set(Role.allCases.compactMap { bench.holder($0) }).count == 3)
  }

  @Test func `a role that nobody can take is placed as soon as somebody can`() {
    var bench = Bench(["n1", "n2", "n3"])
    for node in ["n1", "n2", "n3"] { bench.set(node) { $0.canIssue = false } }
    bench.feed(.becameLeader)
    bench.pass(.milliseconds(250), renewing: ["n1", "n2", "n3"])
    #expect(bench.holder(.certificateAuthority) == nil && bench.holder(.configuration) != nil)
    bench.set("n3") { $0.canIssue = true }
    #expect(bench.holder(.certificateAuthority) == "n3")
  }

  @Test func `one node holds all when it is alone`() {
    let bench = settled(["n1"])
    #expect(Role.allCases.allSatisfy { bench.holder($0) == "n1" })
  }

  @Test func `nothing moves while holders renew`() {
    var bench = settled()
    bench.pass(.seconds(60), renewing: ["n1", "n2", "n3"])
    #expect(bench.moves.isEmpty)
  }

  @Test func `only a node that can issue holds the certificate authority`() {
    var bench = Bench(["n1", "n2", "n3"])
    for node in ["n1", "n2"] { bench.set(node) { $0.canIssue = false } }
    bench.feed(.becameLeader)
    #expect(bench.holder(.certificateAuthority) == "n3")
    #expect(Set(Role.allCases.compactMap { bench.holder($0) }).count == 3)
  }

  @Test func `a role moves with a new epoch when its lease ended, not before`() {
    var bench = settled()
    let victim = bench.holder(.discovery) ?? ""
    let others = ["n1", "n2", "n3"].filter { $0 != victim }
    bench.set(victim) { $0.liveness = .dead }
    bench.pass(.milliseconds(750), renewing: others)
    #expect(bench.holder(.discovery) == victim, "its last lease may still run")
    bench.pass(.milliseconds(500), renewing: others)
    #expect(bench.holder(.discovery) != victim)
    #expect(bench.table[.discovery].epoch == RoleEpoch(2))
  }

  @Test func `a new leader takes the role that the log fences at once, from whoever holds it`() {
    var bench = settled()
    #expect(bench.holder(.configuration) == "n1")
    bench.feed(.steppedDown)
    bench.table[.configuration] = RoleState(holder: name("n2"), epoch: RoleEpoch(2))
    bench.table[.discovery].holder = name("n3")
    bench.feed(.roles(bench.table))
    bench.feed(.becameLeader)
    #expect(bench.moves == ["configuration n1 3"], "the others' leases may still run")
  }

  /// The table after an operator asked for a move.
  private func table(moving role: Role, to node: String, holders: RoleTable) throws -> RoleTable {
    var state = ControlState()
    let grants = Role.allCases.compactMap { role in
      holders[role].holder.map { RoleGrant(role: role, holder: $0, epoch: RoleEpoch(1), at: 0, reason: "") }
    }
    let commands =
      grants.map { Command.assignRole($0) } + [
        .addTrustAnchor(node: name(node), certificate: [1]), .transferRole(role, to: name(node)),
      ]
    for command in commands {
      _ = try state.apply(
        LogEntry(index: state.applied.index.next, term: Term(1), payload: .command(command.encoded())))
    }
    return state.roles
  }

  @Test func `where an operator has moved it, it stays until another leads`() throws {
    var bench = settled()
    bench.table = try table(moving: .configuration, to: "n3", holders: bench.table)
    bench.feed(.roles(bench.table))
    bench.pass(.seconds(3), renewing: ["n1", "n2", "n3"])
    #expect(bench.moves == ["configuration n3 2"])
    bench.pass(.seconds(5), renewing: ["n1", "n2", "n3"])
    #expect(bench.holder(.configuration) == "n3")
    bench.set("n3") { $0.liveness = .dead }
    #expect(bench.holder(.configuration) == "n1", "nobody waits for the lease of a dead node that the log fences")
  }

  @Test func `a leader that leaves takes nothing`() {
    var bench = settled()
    bench.feed(.steppedDown)
    bench.table[.configuration] = RoleState(holder: name("n2"), epoch: RoleEpoch(2))
    bench.feed(.roles(bench.table))
    bench.set("n1") { $0.isLeaving = true }
    bench.feed(.becameLeader)
    #expect(bench.moves.isEmpty && bench.holder(.configuration) == "n2")
  }

  @Test func `a new leader waits for leases it knows nothing of, even of nodes that it takes for dead`() {
    var bench = settled()
    bench.feed(.steppedDown)
    bench.now = bench.now + .seconds(5)
    let dead = bench.holder(.discovery) ?? ""
    bench.set(dead) { $0.liveness = .dead }
    bench.feed(.becameLeader)
    bench.now = bench.now + .milliseconds(1399)
    bench.feed(.tick)
    #expect(bench.moves.isEmpty, "the dead may be cut off, and act")
    bench.now = bench.now + .milliseconds(1)
    bench.feed(.tick)
    #expect(Role.allCases.allSatisfy { bench.table[$0].epoch >= RoleEpoch(2) })
  }

  @Test func `a leader that may have been replaced prolongs nothing`() {
    var bench = settled()
    let state = bench.table[.discovery]
    guard let holder = state.holder else { Issue.record("vacant"); return }
    let count = bench.acknowledged.count
    let renewal = RoleRenewal(role: .discovery, epoch: state.epoch, sentAt: bench.now)
    bench.feed(.renewal(renewal, from: holder, leaderHoldsLease: false))
    #expect(bench.acknowledged.count == count)
    bench.feed(.renewal(renewal, from: name("n9"), leaderHoldsLease: true))
    #expect(bench.acknowledged.count == count, "somebody else's role")
    bench.feed(.renewal(renewal, from: holder, leaderHoldsLease: true))
    #expect(bench.acknowledged.count == count + 1)
  }

  @Test func `a node that leaves hands its role over`() {
    var bench = settled()
    let leaving = bench.holder(.configuration) ?? ""
    bench.set(leaving) { $0.isLeaving = true }
    bench.table[.configuration].holder = nil
    bench.feed(.roles(bench.table))
    #expect(bench.holder(.configuration) != leaving && bench.holder(.configuration) != nil)
  }

  @Test func `a node that comes back takes a role from one that holds two, but not at once`() {
    var bench = settled(["n1", "n2"])
    bench.members.append(RoleCandidate(name: name("n3"), liveness: .alive))
    bench.feed(.members(bench.members))
    bench.pass(.seconds(9), renewing: ["n1", "n2", "n3"])
    #expect(bench.moves.isEmpty)
    bench.pass(.seconds(4), renewing: ["n1", "n2", "n3"])
    #expect(bench.moves.count == 1)
    #expect(Set(Role.allCases.compactMap { bench.holder($0) }).count == 3)
    bench.pass(.seconds(60), renewing: ["n1", "n2", "n3"])
    #expect(bench.moves.count == 1)
  }

  @Test func `a node whose lease ran out is chosen last for a while`() {
    var bench = settled(["n1", "n2", "n3", "n4"])
    let flapping = bench.holder(.certificateAuthority) ?? ""
    let others = ["n1", "n2", "n3", "n4"].filter { $0 != flapping }
    bench.pass(.milliseconds(1500), renewing: others)
    bench.forgetMoves()
    bench.pass(.seconds(20), renewing: ["n1", "n2", "n3", "n4"])
    #expect(Role.allCases.allSatisfy { bench.holder($0) != flapping })
    #expect(bench.moves.isEmpty)
  }
}

struct RoleLeaseTests {
  private func table(_ holder: String, _ epoch: UInt64) -> RoleTable {
    var table = RoleTable()
    table[.discovery] = RoleState(holder: name(holder), epoch: RoleEpoch(epoch))
    return table
  }

  @Test func `a holder acts from its first acknowledgement until a lease after that renewal was sent`() {
    var lease = RoleLease(local: name("n1"))
    var effects: [RoleLeaseEffect] = []
    let sent = Instant(nanoseconds: 5_000_000_000)
    lease.handle(.roles(table("n1", 3)), at: sent, into: &effects)
    let renewal = RoleRenewal(role: .discovery, epoch: RoleEpoch(3), sentAt: sent)
    #expect(effects == [.renew(renewal)])
    #expect(lease.epoch(of: .discovery, at: sent) == nil)
    effects = []
    lease.handle(.acknowledged(renewal), at: sent + .milliseconds(40), into: &effects)
    #expect(effects == [.acquired(.discovery, RoleEpoch(3))])
    #expect(lease.epoch(of: .discovery, at: sent + .milliseconds(999)) == RoleEpoch(3))
    #expect(lease.epoch(of: .discovery, at: sent + .milliseconds(1000)) == nil, "a paused process wakes without it")
    effects = []
    lease.handle(.tick, at: sent + .seconds(7), into: &effects)
    #expect(effects.first == .lost(.discovery, RoleEpoch(3)))
    effects = []
    lease.handle(.acknowledged(renewal), at: sent + .seconds(7), into: &effects)
    #expect(effects.isEmpty, "an answer that was on its way too long")
  }

  @Test func `a role that the log fences is acted under by the log's word`() {
    var lease = RoleLease(local: name("n1"))
    var effects: [RoleLeaseEffect] = []
    let now = Instant(nanoseconds: 5_000_000_000)
    var table = RoleTable()
    table[.configuration] = RoleState(holder: name("n1"), epoch: RoleEpoch(3))
    lease.handle(.roles(table), at: now, into: &effects)
    #expect(effects.first == .acquired(.configuration, RoleEpoch(3)))
    #expect(lease.epoch(of: .configuration, at: now + .seconds(9)) == RoleEpoch(3), "what it decides may be refused, no more")
    effects = []
    table[.configuration] = RoleState(holder: name("n2"), epoch: RoleEpoch(4))
    lease.handle(.roles(table), at: now + .seconds(9), into: &effects)
    #expect(effects == [.lost(.configuration, RoleEpoch(3))])
    #expect(lease.epoch(of: .configuration, at: now + .seconds(9)) == nil)
  }

  @Test func `a newer epoch ends the lease at once`() {
    var lease = RoleLease(local: name("n1"))
    var effects: [RoleLeaseEffect] = []
    let sent = Instant(nanoseconds: 5_000_000_000)
    lease.handle(.roles(table("n1", 3)), at: sent, into: &effects)
    lease.handle(
      .acknowledged(RoleRenewal(role: .discovery, epoch: RoleEpoch(3), sentAt: sent)), at: sent, into: &effects)
    effects = []
    lease.handle(.roles(table("n2", 4)), at: sent + .milliseconds(10), into: &effects)
    #expect(effects == [.lost(.discovery, RoleEpoch(3))])
    #expect(lease.epoch(of: .discovery, at: sent + .milliseconds(10)) == nil)
    #expect(lease.nextDeadline == .distantFuture)
  }

  @Test func `a leaving node stops first and gives the role back then`() {
    var lease = RoleLease(local: name("n1"))
    var effects: [RoleLeaseEffect] = []
    let sent = Instant(nanoseconds: 5_000_000_000)
    lease.handle(.roles(table("n1", 3)), at: sent, into: &effects)
    lease.handle(
      .acknowledged(RoleRenewal(role: .discovery, epoch: RoleEpoch(3), sentAt: sent)), at: sent, into: &effects)
    effects = []
    lease.handle(.leaving, at: sent + .milliseconds(10), into: &effects)
    #expect(effects == [.lost(.discovery, RoleEpoch(3)), .release(.discovery, RoleEpoch(3))])
    lease.handle(.roles(table("n1", 5)), at: sent + .milliseconds(20), into: &effects)
    #expect(effects.count == 2, "it takes none any more")
  }
}
