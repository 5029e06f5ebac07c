import Consensus
import Primitives

/// A cluster of Raft servers with control state, role assignment and leases, in virtual time, under one seed.
///
/// Every server is the real core over a simulated disk: what was not durable when it crashed is gone.
public struct RaftCluster {
  public let names: [NodeName]
  public var faults: RaftFaults
  public private(set) var now = Instant(nanoseconds: 1_000_000_000)
  public private(set) var checker = RaftChecker()
  public private(set) var counts = RaftFaultCounts()
  private var servers: [Server]
  private var queue = EventQueue<Event>()
  private var generator: SeededGenerator
  private let configuration: ClusterConfiguration
  private let settings: RaftSettings
  /// Servers on different sides do not hear each other.
  private var sides: [Int]
  private var nextRequest: UInt64 = 0
  private var reads: [RequestToken: LogIndex] = [:]

  /// One process and its disk.
  struct Server: Sendable {
    let name: NodeName
    var disk = RecoveredState()
    /// Nil while crashed.
    var process: Process?
    /// Counts starts, so that events of an earlier life are dropped.
    var life = 0
    var pausedUntil = Instant.zero
  }

  struct Process: Sendable {
    var raft: Raft
    var control: ControlState
    var assignment: RoleAssignment
    var lease: RoleLease
    var effects: [RaftEffect] = []
    var isWriting = false
    /// An effect is being carried out; those that follow from it come after it.
    var isDraining = false
    var timer = Instant.zero
    var snapshotIndex: LogIndex
  }

  enum Event: Sendable {
    case deliver(Parcel, from: Int, to: Int)
    case timer(Int, life: Int)
    case written(Int, life: Int, Persistence)
    case restart(Int)
    case crash, partition, heal, pause, operate
    /// The leader of a term dies.
    case dies(Int, life: Int)
    /// The disk of a server has room again.
    case room(Int, life: Int)
    case declareDead(Int, life: Int)
    case client
  }

  enum Parcel: Sendable {
    case raft([UInt8])
    case renew(RoleRenewal)
    case acknowledge(RoleRenewal)
  }

  public init(voters: Int, learners: Int = 0, seed: UInt64, faults: RaftFaults) {
    let names = (1...(voters + learners)).compactMap { try? NodeName("n\($0)") }
    self.names = names
    self.faults = faults
    configuration = ClusterConfiguration(voters: Array(names.prefix(voters)), learners: Array(names.dropFirst(voters)))
    generator = SeededGenerator(seed: seed)
    var settings = RaftSettings()
    settings.appendBytesMax = faults.appendBytesMax
    self.settings = settings
    servers = names.map { Server(name: $0) }
    sides = names.map { _ in 0 }
    for index in names.indices { start(index) }
    scheduleFaults()
    queue.add(.client, at: now + .milliseconds(50))
  }

  // MARK: Observation

  public func isUp(_ index: Int) -> Bool { servers[index].process != nil }
  public func status(_ index: Int) -> RaftStatus? { servers[index].process?.raft.status }
  public func control(_ index: Int) -> ControlState? { servers[index].process?.control }
  /// The server that leads the highest term.
  public var leader: Int? {
    servers.indices.filter { servers[$0].process?.raft.isLeader == true }
      .max { (servers[$0].process?.raft.term ?? .zero) < (servers[$1].process?.raft.term ?? .zero) }
  }
  /// Who may act under a role at this moment.
  public func holders(of role: Role) -> [Int] {
    servers.indices.filter { now >= servers[$0].pausedUntil && servers[$0].process?.lease.epoch(of: role, at: now) != nil }
  }

  /// One line a server, for the report of a failed run.
  public var summary: String {
    names.indices.map { index in
      guard let process = servers[index].process else { return "\(names[index]): down" }
      let status = process.raft.status
      let roles = Role.allCases.map { role in
        let state = process.control.roles[role]
        let acts = process.lease.epoch(of: role, at: now) != nil ? "*" : ""
        return "\(role)=\(state.holder?.string ?? "-")@\(state.epoch)\(acts)"
      }
      return "\(names[index]): \(status.duty) term \(status.term) commit \(status.commitIndex) last \(status.last) "
        + "members \(status.configuration) heal \(servers[index].disk.healUntil.map { "\($0)" } ?? "-") "
        + "applied \(process.control.applied) paused \(servers[index].pausedUntil > now) timer \(process.timer - now) "
        + "followers \(status.followers.map { "\($0.name):\($0.match)" }) \(roles)"
    }.joined(separator: "\n")
  }

  // MARK: Running

  public mutating func run(for duration: Duration) {
    let end = now + duration
    while let instant = queue.nextInstant, instant < end, let (_, event) = queue.popFirst() {
      now = max(now, instant)
      perform(event)
      checkRoles()
    }
    now = end
    checkLogs()
  }

  /// Runs until the condition holds; false when it does not within `limit`.
  public mutating func run(atMost limit: Duration, until condition: (RaftCluster) -> Bool) -> Bool {
    let end = now + limit
    while !condition(self) {
      guard now < end else { return false }
      run(for: .milliseconds(10))
    }
    return true
  }

  /// Ends every fault and starts every server.
  public mutating func heal() {
    let quiet = RaftFaults()
    faults = quiet
    sides = names.map { _ in 0 }
    for index in names.indices {
      servers[index].pausedUntil = .zero
      if servers[index].process == nil { start(index) }
    }
    announceMembers()
  }

  public mutating func crash(_ index: Int) {
    guard let process = servers[index].process else { return }
    counts.crashes += 1
    if process.isWriting { counts.writesLost += 1 }
    servers[index].process = nil
    servers[index].life += 1
    queue.add(.declareDead(index, life: servers[index].life), at: now + .milliseconds(1500))
    // A killed process's links end at once.
    for other in names.indices where other != index && areLinked(index, other) {
      feed(.peerUnreachable(names[index]), to: other)
    }
  }

  public mutating func pause(_ index: Int, for duration: Duration) {
    counts.pauses += 1
    servers[index].pausedUntil = now + duration
  }

  public mutating func isolate(_ indexes: Set<Int>) { sides = names.indices.map { indexes.contains($0) ? 1 : 0 } }

  /// Kills a server and loses what it promised since its snapshot, or since its first entry: what Raft does not survive.
  public mutating func forgetPromises(_ index: Int) {
    crash(index)
    let disk = servers[index].disk
    let entries = disk.snapshot == nil ? Array(disk.entries.prefix(1)) : []
    let term = entries.last?.term ?? disk.snapshot?.position.term ?? .zero
    servers[index].disk = RecoveredState(hardState: HardState(term: term), snapshot: disk.snapshot, entries: entries)
    start(index)
  }

  public mutating func start(_ index: Int) {
    let server = servers[index]
    let control = server.disk.snapshot.flatMap { try? ControlState(restoring: $0.state) } ?? ControlState()
    if server.disk.snapshot != nil && control.applied == .zero { checker.note("snapshots", "one cannot be restored") }
    let raft = Raft(
      local: server.name, cluster: ClusterTag(clusterName: "simulation"), recovered: server.disk,
      configuration: configuration, settings: settings, seed: generator.next(), now: now)
    servers[index].pausedUntil = .zero
    servers[index].process = Process(
      raft: raft, control: control, assignment: RoleAssignment(local: server.name),
      lease: RoleLease(local: server.name), snapshotIndex: control.applied.index)
    rolesChanged(control.roles, on: index)
    announceMembers()
    arm(index)
  }

  public mutating func feed(_ input: RaftInput, to index: Int) {
    guard servers[index].pausedUntil <= now, var process = servers[index].process else { return }
    process.raft.handle(input, at: now, into: &process.effects)
    servers[index].process = process
    drain(index)
    arm(index)
  }

  public mutating func propose(_ command: Command, to index: Int) {
    nextRequest += 1
    feed(.propose([Proposal(token: RequestToken(nextRequest), command: command.encoded())]), to: index)
  }

  // MARK: Events

  private mutating func perform(_ event: Event) {
    if let index = server(of: event), servers[index].pausedUntil > now {
      return queue.add(event, at: servers[index].pausedUntil)
    }
    switch event {
    case .deliver(let parcel, let sender, let receiver): deliver(parcel, from: sender, to: receiver)
    case .timer(let index, let life): tick(index, life: life)
    case .written(let index, let life, let persistence): written(index, life: life, persistence)
    case .restart(let index): if servers[index].process == nil { start(index) }
    case .declareDead(let index, let life): if servers[index].life == life { announceMembers() }
    case .client: actAsClient()
    case .operate: changeMembers()
    case .dies(let index, let life):
      guard servers[index].life == life else { break }
      crash(index)
      queue.add(.restart(index), at: now + generator.duration(in: faults.outage))
    case .room(let index, let life):
      guard servers[index].life == life else { break }
      crash(index)
      start(index)
    case .crash, .partition, .heal, .pause: strike(event)
    }
  }

  private func server(of event: Event) -> Int? {
    switch event {
    case .deliver(_, _, let index), .timer(let index, _), .written(let index, _, _): index
    default: nil
    }
  }

  private mutating func scheduleFaults() {
    if let interval = faults.crashInterval { queue.add(.crash, at: after(interval)) }
    if let interval = faults.partitionInterval { queue.add(.partition, at: after(interval)) }
    if let interval = faults.pauseInterval { queue.add(.pause, at: after(interval)) }
    if let interval = faults.membershipInterval { queue.add(.operate, at: after(interval)) }
  }

  private mutating func after(_ mean: Duration) -> Instant { now + generator.duration(in: .zero...(mean * 2)) }

  private mutating func strike(_ event: Event) {
    let victim = generator.index(below: names.count)
    let outage = generator.duration(in: faults.outage)
    switch event {
    case .crash:
      guard let interval = faults.crashInterval else { return }
      crash(victim)
      if generator.chance(faults.rotting) { rot(victim) }
      queue.add(.restart(victim), at: now + outage)
      queue.add(.crash, at: after(interval))
    case .partition:
      guard let interval = faults.partitionInterval else { return }
      sides = names.map { _ in generator.index(below: 2) }
      queue.add(.heal, at: now + outage)
      queue.add(.partition, at: after(interval))
    case .heal: sides = names.map { _ in 0 }
    case .dies, .room, .operate: break
    case .pause:
      guard let interval = faults.pauseInterval else { return }
      pause(victim, for: outage)
      queue.add(.pause, at: after(interval))
    default: break
    }
  }

  private mutating func tick(_ index: Int, life: Int) {
    guard servers[index].life == life, let process = servers[index].process, now >= process.timer else { return }
    servers[index].process?.timer = .distantFuture
    feed(.tick, to: index)
    feedAssignment(.tick, to: index)
    feedLease(.tick, to: index)
    arm(index)
  }

  private mutating func arm(_ index: Int) {
    guard let process = servers[index].process else { return }
    let deadline = max(
      min(process.raft.nextDeadline, process.assignment.nextDeadline, process.lease.nextDeadline), now + .microseconds(500))
    guard deadline < .distantFuture, process.timer <= now || deadline < process.timer || process.timer == .distantFuture
    else { return }
    servers[index].process?.timer = deadline
    queue.add(.timer(index, life: servers[index].life), at: deadline)
  }

  private mutating func actAsClient() {
    queue.add(.client, at: now + .milliseconds(40))
    let target = leader ?? generator.index(below: names.count)
    nextRequest += 1
    let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: "t\(nextRequest % 17)")
    let change = ChangeSet(
      puts: [ObjectPut(key: key, bytes: Array("\(nextRequest)".utf8))],
      requestID: RequestID(high: 0, low: nextRequest),
      epoch: servers[target].process?.control.roles[.configuration].epoch ?? .zero, author: "client")
    propose(.configuration(change), to: target)
    nextRequest += 1
    reads[RequestToken(nextRequest)] = checker.lastDecided
    feed(.read(RequestToken(nextRequest)), to: target)
  }

  // MARK: Network

  private func areLinked(_ a: Int, _ b: Int) -> Bool { sides[a] == sides[b] }

  private mutating func send(_ parcel: Parcel, from sender: Int, to name: NodeName) {
    guard let receiver = names.firstIndex(of: name) else { return }
    guard areLinked(sender, receiver) else { return counts.blocked += 1 }
    if generator.chance(faults.loss) { return counts.lost += 1 }
    queue.add(.deliver(parcel, from: sender, to: receiver), at: now + generator.duration(in: faults.delay))
    if generator.chance(faults.duplication) {
      counts.duplicated += 1
      queue.add(.deliver(parcel, from: sender, to: receiver), at: now + generator.duration(in: faults.delay))
    }
  }

  private mutating func deliver(_ parcel: Parcel, from sender: Int, to receiver: Int) {
    guard areLinked(sender, receiver) else { return counts.blocked += 1 }
    guard let process = servers[receiver].process else { return }
    switch parcel {
    case .raft(let bytes):
      guard let message = try? RaftMessage(decoding: bytes) else { return checker.note("codec", "a message does not decode") }
      feed(.received(message, from: names[sender]), to: receiver)
    case .renew(let renewal):
      let isSure = mayProlong(process)
      feedAssignment(.renewal(renewal, from: names[sender], leaderHoldsLease: isSure), to: receiver)
    case .acknowledge(let renewal): feedLease(.acknowledged(renewal), to: receiver)
    }
  }

  // MARK: Effects

  private mutating func drain(_ index: Int) {
    guard servers[index].process?.isDraining == false else { return }
    servers[index].process?.isDraining = true
    while let process = servers[index].process, !process.isWriting, let effect = process.effects.first {
      servers[index].process?.effects.removeFirst()
      perform(effect, on: index)
    }
    servers[index].process?.isDraining = false
  }

  private mutating func perform(_ effect: RaftEffect, on index: Int) {
    let name = names[index]
    switch effect {
    case .persist(let persistence):
      servers[index].process?.isWriting = true
      let done = Event.written(index, life: servers[index].life, persistence)
      queue.add(done, at: now + generator.duration(in: faults.writeDelay))
    case .send(let message, let peer): send(.raft(message.encoded()), from: index, to: peer)
    case .apply(let entries): apply(entries, on: index)
    case .installSnapshot(let snapshot): install(snapshot, on: index)
    case .becameLeader(let term):
      counts.elections += 1
      checker.becameLeader(name, term, disk: servers[index].disk)
      cutShort(index)
      feedAssignment(.becameLeader, to: index)
    case .steppedDown: feedAssignment(.steppedDown, to: index)
    case .readReady(let token, let read):
      counts.readsAnswered += 1
      if let floor = reads.removeValue(forKey: token), read < floor {
        checker.note("linearizable reads", "\(name) reads at \(read) what was decided up to \(floor)")
      }
    case .failed(let failure): checker.note("no failure", "\(name): \(failure)")
    case .accepted, .rejected, .leaderChanged, .configurationChanged: break
    }
  }

  private mutating func written(_ index: Int, life: Int, _ persistence: Persistence) {
    guard servers[index].life == life else {
      // The crash came first: the write may have reached the disk all the same, if no later life wrote since. What has rotted
      // was written before.
      let isBetween = servers[index].process == nil && servers[index].life == life + 1
      if isBetween && generator.chance(0.5) && servers[index].disk.healUntil == nil { servers[index].disk.write(persistence) }
      return
    }
    if generator.chance(faults.fullDisk), checker.lastDecided > .zero { return refuse(index) }
    servers[index].disk.write(persistence)
    servers[index].process?.isWriting = false
    drain(index)
    arm(index)
  }

  /// The disk has no room: nothing of the write is there, and nothing that was to come after it happens.
  private mutating func refuse(_ index: Int) {
    counts.writesRefused += 1
    servers[index].process?.isWriting = false
    servers[index].process?.effects = []
    feedAssignment(.steppedDown, to: index)
    feed(.storageFull, to: index)
    queue.add(.room(index, life: servers[index].life), at: now + generator.duration(in: faults.outage))
  }

  // MARK: Storms

  /// A leader that some hear and others do not, and that dies soon (Raft paper, figure 8).
  private mutating func cutShort(_ index: Int) {
    guard generator.chance(faults.churn) else { return }
    sides = names.indices.map { $0 == index || generator.chance(0.5) ? 0 : 1 }
    let delay = faults.delay.upperBound * 6
    queue.add(.heal, at: now + generator.duration(in: delay...(delay * 4)))
    queue.add(.dies(index, life: servers[index].life), at: now + generator.duration(in: .zero...delay))
  }

  /// Checksums show that entries have rotted: a server drops them and has to get them back before it may vote. Before anything
  /// is decided nobody else may have them: then a cluster is begun anew.
  private mutating func rot(_ index: Int) {
    let disk = servers[index].disk
    guard servers[index].process == nil, checker.lastDecided > .zero, let last = disk.entries.last,
      !servers.contains(where: { $0.disk.healUntil != nil })
    else { return }
    counts.corruptions += 1
    servers[index].disk.healUntil = last.index
    servers[index].disk.entries.removeSubrange(generator.index(below: disk.entries.count)...)
  }

  /// An operator adds, promotes and removes servers, as fast as the leader lets it.
  private mutating func changeMembers() {
    guard let interval = faults.membershipInterval else { return }
    queue.add(.operate, at: after(interval))
    guard let index = generator.chance(0.5) ? leader : generator.index(below: names.count),
      let members = servers[index].process?.raft.status.configuration
    else { return }
    let name = names[generator.index(below: names.count)]
    let change: ConfigurationChange =
      if members.learners.contains(name) { .promote(name) } else if members.contains(name) { .remove(name) } else {
        .addLearner(name)
      }
    if case .remove = change, members.voters.count <= 3 { return }
    nextRequest += 1
    feed(.changeConfiguration(RequestToken(nextRequest), change), to: index)
  }

  private mutating func apply(_ entries: [LogEntry], on index: Int) {
    for entry in entries {
      guard var control = servers[index].process?.control else { return }
      checker.applied(names[index], entry, in: servers[index].process?.raft.term)
      do { _ = try control.apply(entry) } catch { return checker.note("applying", "\(names[index]): \(error)") }
      let before = servers[index].process?.control.roles
      servers[index].process?.control = control
      if control.roles != before { rolesChanged(control.roles, on: index) }
    }
    counts.committed = max(counts.committed, Int(checker.lastDecided.number))
    guard var process = servers[index].process else { return }
    let applied = process.control.applied.index
    if applied >= process.snapshotIndex.advanced(by: faults.entriesPerSnapshot) {
      process.snapshotIndex = applied
      process.raft.handle(.compact(through: applied, state: process.control.snapshot()), at: now, into: &process.effects)
      servers[index].process = process
    }
  }

  private mutating func install(_ snapshot: Snapshot, on index: Int) {
    counts.snapshotsInstalled += 1
    do {
      let control = try ControlState(restoring: snapshot.state)
      servers[index].process?.control = control
      servers[index].process?.snapshotIndex = control.applied.index
      rolesChanged(control.roles, on: index)
    } catch { checker.note("snapshots", "\(names[index]): \(error)") }
  }

  // MARK: Roles

  private mutating func rolesChanged(_ table: RoleTable, on index: Int) {
    counts.roleMoves += 1
    feedAssignment(.roles(table), to: index)
    feedLease(.roles(table), to: index)
  }

  private mutating func announceMembers() {
    let members = servers.map { RoleCandidate(name: $0.name, liveness: $0.process == nil ? .dead : .alive) }
    for index in names.indices where servers[index].pausedUntil <= now { feedAssignment(.members(members), to: index) }
  }

  private mutating func feedAssignment(_ input: RoleAssignmentInput, to index: Int) {
    guard var process = servers[index].process else { return }
    var effects: [RoleAssignmentEffect] = []
    process.assignment.handle(input, at: now, into: &effects)
    servers[index].process = process
    for effect in effects {
      switch effect {
      case .assign(let role, let holder, let epoch, let reason):
        propose(.assignRole(RoleGrant(role: role, holder: holder, epoch: epoch, at: 0, reason: reason)), to: index)
      case .acknowledge(let renewal, let holder):
        if holder == names[index] {
          feedLease(.acknowledged(renewal), to: index)
        } else {
          send(.acknowledge(renewal), from: index, to: holder)
        }
      }
    }
    arm(index)
  }

  /// What is decided may already have moved a role on; only who has applied it all knows.
  private func mayProlong(_ process: Process) -> Bool {
    process.raft.holdsLease(at: now) && process.control.applied.index >= process.raft.commitIndex
  }

  private mutating func feedLease(_ input: RoleLeaseInput, to index: Int) {
    guard var process = servers[index].process else { return }
    var effects: [RoleLeaseEffect] = []
    process.lease.handle(input, at: now, into: &effects)
    servers[index].process = process
    for case .renew(let renewal) in effects {
      guard let leader = process.raft.knownLeader else { continue }
      if leader == names[index] {
        let isSure = mayProlong(process)
        feedAssignment(.renewal(renewal, from: leader, leaderHoldsLease: isSure), to: index)
      } else {
        send(.renew(renewal), from: index, to: leader)
      }
    }
    arm(index)
  }

  // MARK: Checks

  private mutating func checkRoles() {
    for role in Role.allCases {
      let acting = holders(of: role)
      if acting.count > 1, !role.isFencedByLog {
        checker.note("one actor a role", "\(acting.map { names[$0].string }) act as \(role) at \(now.nanoseconds)")
      }
      for index in acting {
        if let epoch = servers[index].process?.lease.epoch(of: role, at: now) { checker.acts(names[index], role, epoch) }
      }
    }
  }

  private mutating func checkLogs() {
    for a in names.indices {
      for b in names.indices where a < b {
        checker.compare((names[a], servers[a].disk), (names[b], servers[b].disk))
      }
    }
  }
}

extension RecoveredState {
  /// What a disk does with one atomic write.
  public mutating func write(_ persistence: Persistence) {
    if let snapshot = persistence.snapshot {
      self.snapshot = snapshot
      entries.removeAll { persistence.resetsLog || $0.index <= snapshot.position.index }
    }
    if let from = persistence.truncateFrom { entries.removeAll { $0.index >= from } }
    entries += persistence.entries
    if let hardState = persistence.hardState { self.hardState = hardState }
    if let target = healUntil, (entries.last?.index ?? snapshot?.position.index ?? .zero) >= target { healUntil = nil }
  }
}
