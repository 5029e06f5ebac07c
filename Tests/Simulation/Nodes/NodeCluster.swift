import Consensus
import Membership
import Primitives

/// A cluster of whole nodes' control side in virtual time, under one seed: membership, registry, consensus, roles, voters, joins
/// by token, and nodes that follow from outside of the consensus. Every core is the real one; links, disks and clocks are not.
public struct NodeCluster {
  public let seed: UInt64
  public var faults: NodeFaults
  public internal(set) var now = Instant(nanoseconds: 1_000_000_000)
  public internal(set) var checker = NodeChecker()
  public internal(set) var counts = NodeFaultCounts()
  var nodes: [Node] = []
  var queue = EventQueue<Event>()
  var generator: SeededGenerator
  /// Directed: messages on these ways are lost.
  var cuts: Set<Way> = []
  var nextRequest: UInt64 = 0
  /// Nodes that the cluster file names, and the first voters among them.
  let listed: [NodeName]
  let firstVoters: [NodeName]
  public let votersWanted: Int
  var isQuiet = false
  /// Nobody writes any more, so that what is the same everywhere can be seen to be so.
  var isStill = false
  /// Every authority that a node ever had.
  var authorities: [NodeName: [[UInt8]]] = [:]
  /// Wiped nodes that have not come back yet.
  var beingForgotten = 0
  /// Events so far.
  public internal(set) var steps = 0
  /// What happened, in words, when it is asked for.
  public internal(set) var story: [String] = []
  public var tellsStory = false
  static let cluster = ClusterTag(clusterName: "simulation")

  struct Way: Hashable {
    let from: Int
    let to: Int
  }

  /// One host: its disk and clocks outlive its process.
  struct Node {
    let name: NodeName
    let address: NodeAddress
    var disk: SimulatedDisk
    var process: Process?
    /// Counts starts and ends, so that events of an earlier life are dropped.
    var life = 0
    var pausedUntil = Instant.zero
    var diskFullUntil = Instant.zero
    /// What its monotonic clock shows at time zero: no two hosts' clocks begin alike.
    let origin: Duration
    var wallOffset: Duration = .zero
    /// Which token it came with.
    var token: JoinTokenID?
    var slowness: Duration = .zero
    /// It was told to go for good, and went.
    var hasLeft = false
  }

  /// Ends with the process's life; in place, because it is far too large to be copied at every step.
  final class Process {
    var swim: SWIM
    var registry: Registry
    var raft: Raft
    var control: ControlState
    var recent: RecentEntries
    var follower: Follower
    var states = StateServer()
    var assignment: RoleAssignment
    var lease: RoleLease
    let voters: VoterSelection
    var effects: [RaftEffect] = []
    var isWriting = false
    /// Effects are being carried out, in order.
    var isDraining = false
    /// The term in which this node's role assignment was told that it leads.
    var ledTerm: Term?
    /// Its disk was full: it takes no part in consensus until there is room.
    var lacksRoom = false
    var timer = Instant.distantFuture
    var snapshotIndex: LogIndex
    var ledSince: Instant?
    var heard: (leader: NodeName, at: Instant)?
    var nextLook: Instant
    var nextHead: Instant
    var isDeparting = false
    var waiting: [RequestToken: Operation] = [:]
    var accepted: [LogIndex: (term: Term, token: RequestToken)] = [:]
    /// Reads that are confirmed, and wait for the state to be there.
    var reads: [(index: LogIndex, floor: LogIndex)] = []

    init(
      swim: SWIM, registry: Registry, raft: Raft, control: ControlState, follower: Follower, lease: RoleLease,
      voters: VoterSelection, snapshotIndex: LogIndex, at clock: Instant
    ) {
      self.swim = swim
      self.registry = registry
      self.raft = raft
      self.control = control
      recent = RecentEntries(after: control.head)
      self.follower = follower
      assignment = RoleAssignment(local: registry.owner)
      self.lease = lease
      self.voters = voters
      self.snapshotIndex = snapshotIndex
      nextLook = clock
      nextHead = clock
    }
  }

  enum Operation {
    /// Nobody waits for it.
    case quiet
    /// A client's write: the latest answered place when it began, and where the answer goes.
    case write(floor: LogIndex, asker: Int?)
    case read(floor: LogIndex)
  }

  enum Parcel {
    case swim(SWIMMessage, isStream: Bool)
    case registry(RegistryMessage)
    case raft([UInt8])
    case renew(RoleRenewal)
    case acknowledge(RoleRenewal)
    case catchUp([UInt8])
    /// A command for whoever leads.
    case forward([UInt8], floor: LogIndex?)
    case written(LogIndex, floor: LogIndex)
  }

  enum Event {
    case deliver(Parcel, from: Int, to: Int, life: Int)
    case timer(Int, life: Int)
    case written(Int, life: Int, Persistence)
    case lookForRoom(Int, life: Int)
    case start(Int)
    case dies(Int, life: Int)
    case fault(Fault)
    case heal([Way])
    case client, workloads
    case act(Int, life: Int, epoch: RoleEpoch, floor: LogIndex)
    case story(Story)
  }

  enum Fault { case crash, partition, pause, clockJump, change, fullDisk, blackout }

  /// Something an operator does in several steps.
  enum Story {
    case joined(Int)
    case depart(Int, tries: Int)
    case undrain(Int)
    case forget(Int, step: Int)
    case lookAfter(Int)
  }

  public init(nodes count: Int = 5, seed: UInt64, faults: NodeFaults, votersWanted: Int = 3) {
    self.seed = seed
    self.votersWanted = votersWanted
    self.faults = faults
    generator = SeededGenerator(seed: seed)
    listed = (1...count).compactMap { try? NodeName("n\($0)") }
    firstVoters = Array(listed.prefix(min(3, count)))
    for index in listed.indices { addHost(listed[index]); nodes[index].slowness = .zero }
    for index in listed.indices { start(index) }
    schedule(.crash, faults.crashInterval)
    schedule(.partition, faults.partitionInterval)
    schedule(.pause, faults.pauseInterval)
    schedule(.clockJump, faults.clockJumpInterval)
    schedule(.change, faults.changeInterval)
    schedule(.fullDisk, faults.fullDiskInterval)
    schedule(.blackout, faults.blackoutInterval)
    queue.add(.client, at: now + .milliseconds(70))
    queue.add(.workloads, at: now + .milliseconds(90))
  }

  @discardableResult
  mutating func addHost(_ name: NodeName) -> Int {
    let number = nodes.count
    nodes.append(
      Node(
        name: name, address: NodeAddress(host: "10.0.0.\(number + 1)", port: 15010),
        disk: SimulatedDisk(authority: Array("authority \(name) \(generator.next())".utf8)),
        origin: .milliseconds(Int(generator.below(1_000_000_000))),
        slowness: generator.chance(0.2) ? generator.duration(in: .zero...faults.slowness) : .zero))
    return number
  }

  mutating func narrate(_ text: String) {
    if tellsStory { story.append("\(now.nanoseconds / 1_000_000) ms: \(text)") }
  }

  // MARK: Looking

  func index(of name: NodeName) -> Int? { nodes.lastIndex { $0.name == name } }
  func clock(_ index: Int) -> Instant { now + nodes[index].origin }
  func wall(_ index: Int) -> UInt64 {
    let milliseconds = 1_700_000_000_000 + Int64(now.nanoseconds / 1_000_000)
    return UInt64(max(0, milliseconds + nodes[index].wallOffset.nanosecondsClamped / 1_000_000))
  }
  public var up: [Int] { nodes.indices.filter { nodes[$0].process != nil } }
  func isRunning(_ index: Int) -> Bool { nodes[index].process != nil && nodes[index].pausedUntil <= now }

  /// The server that leads the highest term.
  public var leader: Int? {
    up.filter { nodes[$0].process?.raft.isLeader == true }
      .max { (nodes[$0].process?.raft.term ?? .zero) < (nodes[$1].process?.raft.term ?? .zero) }
  }

  /// Whom a node takes for the leader, as a member of the consensus or from outside.
  func knownLeader(_ index: Int) -> NodeName? {
    guard let process = nodes[index].process else { return nil }
    if let heard = process.heard, clock(index) - heard.at < .seconds(10) { return heard.leader }
    return process.raft.knownLeader
  }

  // MARK: Running

  public mutating func run(for duration: Duration) {
    let end = now + duration
    while steps < Self.stepsMax, let instant = queue.nextInstant, instant < end, let (_, event) = queue.popFirst() {
      now = max(now, instant)
      perform(event)
      steps += 1
      if steps % 16 == 0 { checkRoles() }
    }
    now = end
    if steps >= Self.stepsMax { checker.note("bounded work", "more than \(Self.stepsMax) events") }
    check()
  }

  /// Several times what a run takes: more is a storm that the nodes keep up among themselves.
  static let stepsMax = 250_000

  /// Runs until the condition holds; false when it does not within `limit`.
  public mutating func run(atMost limit: Duration, until condition: (NodeCluster) -> Bool) -> Bool {
    let end = now + limit
    while !condition(self) {
      guard now < end, checker.all.isEmpty else { return false }
      run(for: .milliseconds(100))
    }
    return true
  }

  private mutating func perform(_ event: Event) {
    if let index = host(of: event), nodes[index].pausedUntil > now {
      return queue.add(event, at: nodes[index].pausedUntil)
    }
    switch event {
    case .deliver(let parcel, let sender, let receiver, let life): deliver(parcel, from: sender, to: receiver, life: life)
    case .timer(let index, let life): timerFired(index, life: life)
    case .written(let index, let life, let persistence): written(index, life: life, persistence)
    case .lookForRoom(let index, let life): lookForRoom(index, life: life)
    case .start(let index): if nodes[index].process == nil, !nodes[index].hasLeft { start(index) }
    case .dies(let index, let life):
      guard nodes[index].life == life else { break }
      crash(index)
      queue.add(.start(index), at: now + generator.duration(in: faults.outage))
    case .fault(let fault): strike(fault)
    case .heal(let ways): cuts.subtract(ways)
    case .client: actAsClient()
    case .workloads: changeWorkloads()
    case .act(let index, let life, let epoch, let floor): act(index, life: life, epoch: epoch, floor: floor)
    case .story(let story): tell(story)
    }
  }

  private func host(of event: Event) -> Int? {
    switch event {
    case .deliver(_, _, let index, _), .timer(let index, _), .written(let index, _, _), .act(let index, _, _, _): index
    case .lookForRoom(let index, _): index
    default: nil
    }
  }

  // MARK: Processes

  public mutating func start(_ index: Int) {
    let clock = clock(index)
    if authorities[nodes[index].name]?.last != nodes[index].disk.authority {
      authorities[nodes[index].name, default: []].append(nodes[index].disk.authority)
    }
    nodes[index].life += 1
    narrate("\(nodes[index].name) starts")
    checker.began(nodes[index].name)
    nodes[index].disk.incarnation = max(wall(index), nodes[index].disk.incarnation + 1)
    let node = nodes[index]
    let incarnation = node.disk.incarnation
    var control = node.disk.raft.snapshot.flatMap { try? ControlState(restoring: $0.state) } ?? ControlState()
    if let known = node.disk.control, known.applied.index > control.applied.index { control = known }
    let raft = recoveredRaft(index)
    let zone = "local/z\(index % 3)/1"
    nodes[index].process = Process(
      swim: SWIM(
        local: MemberRecord(name: node.name, address: node.address, incarnation: incarnation, locality: zone),
        seed: generator.next(), at: clock),
      registry: Registry(owner: node.name, incarnation: incarnation, seed: generator.next(), at: clock),
      raft: raft, control: control, follower: Follower(local: node.name, seed: generator.next()),
      lease: RoleLease(local: node.name), voters: VoterSelection(target: votersWanted, patience: .seconds(4)),
      snapshotIndex: node.disk.raft.snapshot?.position.index ?? .zero, at: clock)
    feed(index, .join(contacts(of: index)))
    noteHistory(index)
    publishNode(index)
    stateChanged(index)
    rearm(index)
  }

  /// A server made of what the node's disk holds.
  mutating func recoveredRaft(_ index: Int) -> Raft {
    let node = nodes[index]
    let isFirst = node.token == nil && listed.contains(node.name)
    return Raft(
      local: node.name, cluster: Self.cluster, recovered: node.disk.raft,
      configuration: isFirst ? ClusterConfiguration(voters: firstVoters) : ClusterConfiguration(),
      seed: generator.next(), now: clock(index))
  }

  /// The nodes of the cluster file, or for one with a token those that the token names.
  private func contacts(of index: Int) -> [Seed] {
    let names = nodes[index].token == nil ? listed : Array(listed.prefix(3))
    return names.filter { $0 != nodes[index].name }.compactMap { name in
      self.index(of: name).map { Seed(name: name, address: nodes[$0].address) }
    }
  }

  public mutating func crash(_ index: Int) {
    guard let process = nodes[index].process else { return }
    counts.crashes += 1
    if process.isWriting { counts.writesLost += 1 }
    end(index)
  }

  mutating func end(_ index: Int) {
    narrate("\(nodes[index].name) ends")
    nodes[index].process = nil
    nodes[index].life += 1
    nodes[index].pausedUntil = .zero
    // A killed process's links end at once where the network lets it be known.
    for other in up where other != index && areLinked(index, other) {
      feed(other, .linkDown(nodes[index].name, .reset))
      feedRaft(other, .peerUnreachable(nodes[index].name))
    }
  }

  // MARK: Time

  private mutating func timerFired(_ index: Int, life: Int) {
    guard nodes[index].life == life, nodes[index].process != nil else { return }
    nodes[index].process?.timer = .distantFuture
    let clock = clock(index)
    feed(index, .tick)
    tickRegistry(index)
    feedRaft(index, .tick)
    feedAssignment(index, .tick)
    feedLease(index, .tick)
    feedFollower(index, .tick)
    if let look = nodes[index].process?.nextLook, clock >= look { lookAround(index) }
    rearm(index)
  }

  mutating func rearm(_ index: Int) {
    guard let process = nodes[index].process else { return }
    var deadline = min(process.raft.nextDeadline, process.assignment.nextDeadline, process.lease.nextDeadline)
    deadline = min(deadline, process.registry.nextDeadline, process.follower.nextDeadline, process.nextLook)
    if let swim = process.swim.nextDeadline { deadline = min(deadline, swim) }
    let local = max(deadline, clock(index) + .milliseconds(1))
    guard local < process.timer else { return }
    nodes[index].process?.timer = local
    queue.add(.timer(index, life: nodes[index].life), at: local + (.zero - nodes[index].origin))
  }

  /// What drivers do from time to time: voters, heads, postures, the removed, the saved state.
  private mutating func lookAround(_ index: Int) {
    let clock = clock(index)
    nodes[index].process?.nextLook = clock + .milliseconds(500)
    if generator.chance(0.5) { nodes[index].disk.control = nodes[index].process?.control }
    feedFollower(index, .tick)
    chooseVoters(index)
    candidatesChanged(index)
    if let due = nodes[index].process?.nextHead, clock >= due { announceHead(index) }
    announceAuthority(index)
    forgetTheRemoved(index)
    if let process = nodes[index].process, process.control.posture(of: nodes[index].name) == .leaving, !process.isDeparting {
      propose(.setPosture(nodes[index].name, .active), by: index)
    }
  }
}
