import Consensus
import Membership
import Primitives

/// Clients, operators, faults, and what is checked.
extension NodeCluster {
  // MARK: Clients

  /// The holder of the configuration role, as far as it knows, decides on a write; a read asks whoever seems to lead.
  mutating func actAsClient() {
    queue.add(.client, at: now + .milliseconds(isQuiet ? 150 : 60))
    let holders = up.filter { nodes[$0].process?.lease.epoch(of: .configuration, at: clock($0)) != nil }
    if !holders.isEmpty, !isStill {
      let index = holders[generator.index(below: holders.count)]
      if isRunning(index), let epoch = nodes[index].process?.lease.epoch(of: .configuration, at: clock(index)) {
        // Deciding takes time; the process may be paused, or the role gone, when it is done.
        let delay = generator.chance(0.1) ? generator.duration(in: .zero ... .seconds(3)) : .milliseconds(1)
        queue.add(.act(index, life: nodes[index].life, epoch: epoch, floor: checker.answered), at: now + delay)
      }
    }
    // Whoever takes itself for the leader, were it the last one to learn that it is none.
    let leading = up.filter { isRunning($0) && nodes[$0].process?.raft.isLeader == true }
    guard let index = leading.count > 1 ? leading[generator.index(below: leading.count)] : leading.first else { return }
    nextRequest += 1
    let token = RequestToken(nextRequest)
    nodes[index].process?.waiting[token] = .read(floor: checker.answered)
    feedRaft(index, .read(token))
  }

  mutating func act(_ index: Int, life: Int, epoch: RoleEpoch, floor: LogIndex) {
    guard nodes[index].life == life, nodes[index].process != nil else { return }
    nextRequest += 1
    let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: "t\(nextRequest % 13)")
    let change = ChangeSet(
      puts: [ObjectPut(key: key, bytes: Array("\(nextRequest)".utf8))], requestID: RequestID(high: 0, low: nextRequest),
      epoch: epoch, author: "client")
    submit(Command.configuration(change).encoded(), .write(floor: floor, asker: index), by: index)
  }

  // MARK: Faults

  mutating func schedule(_ fault: Fault, _ interval: Duration?) {
    guard let interval, !isQuiet else { return }
    queue.add(.fault(fault), at: now + generator.duration(in: .zero...(interval * 2)))
  }

  mutating func strike(_ fault: Fault) {
    guard !isQuiet else { return }
    let victim = generator.index(below: nodes.count)
    let outage = generator.duration(in: faults.outage)
    switch fault {
    case .crash:
      crash(victim)
      if !nodes[victim].hasLeft {
        if nodes[victim].process == nil, generator.chance(faults.corruption), canRot(victim),
          nodes[victim].disk.corrupt(&generator)
        {
          counts.corruptions += 1
        }
        queue.add(.start(victim), at: now + outage)
      }
      schedule(.crash, faults.crashInterval)
    case .partition:
      cut(for: outage)
      schedule(.partition, faults.partitionInterval)
    case .pause:
      if nodes[victim].process != nil {
        counts.pauses += 1
        nodes[victim].pausedUntil = now + outage
        narrate("\(nodes[victim].name) is paused for \(outage)")
      }
      schedule(.pause, faults.pauseInterval)
    case .clockJump:
      counts.clockJumps += 1
      nodes[victim].wallOffset = .seconds(Int(generator.below(14_400)) - 7_200)
      schedule(.clockJump, faults.clockJumpInterval)
    case .fullDisk:
      nodes[victim].diskFullUntil = now + outage
      schedule(.fullDisk, faults.fullDiskInterval)
    case .blackout:
      counts.blackouts += 1
      for index in nodes.indices where nodes[index].process != nil {
        crash(index)
        queue.add(.start(index), at: now + generator.duration(in: .zero...outage))
      }
      schedule(.blackout, faults.blackoutInterval)
    case .change:
      beginStory(victim)
      schedule(.change, faults.changeInterval)
    }
  }

  /// A log heals from the others while a majority of them is whole.
  private func canRot(_ victim: Int) -> Bool {
    // With fewer voters the others cannot elect a leader that gives the rest back, nor before anything was decided.
    checker.raft.lastDecided > .zero && !nodes.contains { $0.disk.healUntil != nil } && beingForgotten == 0
      && nodes[victim].disk.voters.count >= 3
  }

  /// Cuts the cluster in two, one node's ways in one direction, or single ways.
  private mutating func cut(for outage: Duration) {
    var ways: [Way] = []
    let all = nodes.indices
    switch generator.below(3) {
    case 0:
      let sides = all.map { _ in generator.index(below: 2) }
      for a in all { for b in all where sides[a] != sides[b] { ways.append(Way(from: a, to: b)) } }
      counts.partitions += 1
    case 1:
      let victim = generator.index(below: nodes.count)
      let isDeaf = generator.chance(0.5)
      for b in all where b != victim { ways.append(isDeaf ? Way(from: b, to: victim) : Way(from: victim, to: b)) }
      counts.oneWayCuts += 1
    default:
      for a in all { for b in all where a != b && generator.chance(0.2) { ways.append(Way(from: a, to: b)) } }
      counts.oneWayCuts += 1
    }
    cuts.formUnion(ways)
    narrate("cut for \(outage): " + ways.map { "\(nodes[$0.from].name)>\(nodes[$0.to].name)" }.joined(separator: " "))
    queue.add(.heal(ways), at: now + outage)
  }

  // MARK: Operators

  private mutating func beginStory(_ victim: Int) {
    let going = nodes.contains { $0.process.map { $0.control.postures.isEmpty == false } ?? false }
    let story: UInt64 =
      switch faults.operators {
      case .everything: generator.below(6)
      case .lostDisks: 4
      case .handovers: generator.chance(0.5) ? 3 : 5
      }
    switch story {
    case 0, 1: if nodes.count < 8 { join() }
    case 2: if !going, up.count > 3, isRunning(victim) { queue.add(.story(.depart(victim, tries: 0)), at: now) }
    case 3:
      guard !going, isRunning(victim) else { return }
      counts.drains += 1
      propose(.setPosture(nodes[victim].name, .draining), by: victim)
      queue.add(.story(.undrain(victim)), at: now + .seconds(4))
    case 4: if !going, up.count > 3, nodes[victim].process != nil { wipe(victim) }
    default:
      guard let asker = up.first(where: { isRunning($0) }), nodes[victim].process != nil else { return }
      counts.transfers += 1
      let role = Role.allCases[generator.index(below: Role.allCases.count)]
      propose(.transferRole(role, to: nodes[victim].name), by: asker)
    }
  }

  /// A node that no file names comes with a token that an operator made.
  mutating func join() {
    guard let contact = up.filter({ isRunning($0) }).first, let name = try? NodeName("j\(nodes.count)") else { return }
    let token = JoinTokenID(generator.next())
    let created = wall(contact)
    propose(
      .createToken(
        JoinToken(
          id: token, verifier: [UInt8](repeating: 7, count: 32), createdAt: created, expiresAt: created + 40_000_000, uses: 1,
          author: "operator")), by: contact)
    let index = addHost(name)
    nodes[index].token = token
    queue.add(.story(.joined(index)), at: now + .milliseconds(500))
  }

  /// A host loses everything; the cluster is told to forget its node, and it comes back anew.
  private mutating func wipe(_ victim: Int) {
    // What only this disk promised to keep would be lost with it.
    guard !nodes.contains(where: { $0.disk.healUntil != nil }), beingForgotten == 0, checker.raft.lastDecided > .zero else {
      return
    }
    // Without a majority of the voters' disks nothing can be decided again.
    let name = nodes[victim].name
    let configurations = up.compactMap { nodes[$0].process?.raft.status.configuration }
    guard configurations.allSatisfy({ !$0.isVoter(name) || $0.voters.count >= 3 }) else { return }
    end(victim)
    nodes[victim].hasLeft = true
    beingForgotten += 1
    queue.add(.story(.forget(victim, step: 0)), at: now + .seconds(3))
  }

  mutating func tell(_ story: Story) {
    switch story {
    case .joined(let index):
      counts.joins += 1
      start(index)
    case .depart(let index, let tries):
      guard let process = nodes[index].process else { return }
      guard isRunning(index) else { return queue.add(.story(story), at: nodes[index].pausedUntil) }
      nodes[index].process?.isDeparting = true
      let name = nodes[index].name
      propose(.setPosture(name, .leaving), by: index)
      let configuration = process.control.configuration
      let isFree = process.control.posture(of: name) == .leaving && !configuration.voters.contains(name)
      if isFree { return feed(index, .leave) }
      // Given up after a while, as the command is: the node stays.
      guard tries < 20, !isQuiet else {
        nodes[index].process?.isDeparting = false
        return
      }
      queue.add(.story(.depart(index, tries: tries + 1)), at: now + .milliseconds(500))
    case .undrain(let index):
      let asker = up.first { isRunning($0) }
      if let asker, let process = nodes[asker].process, process.control.posture(of: nodes[index].name) == .draining {
        propose(.setPosture(nodes[index].name, .active), by: asker)
      }
      // The wish to drain may still be on its way.
      if !isSettled(index, .active) || !isStill { queue.add(.story(.undrain(index)), at: now + .seconds(1)) }
    case .forget(let index, let step): forget(index, step: step)
    case .lookAfter(let index): lookAfter(index)
    }
  }

  private func isSettled(_ index: Int, _ posture: NodePosture) -> Bool {
    leader.flatMap { nodes[$0].process?.control.posture(of: nodes[index].name) } == posture
  }

  private mutating func forget(_ index: Int, step: Int) {
    let name = nodes[index].name
    guard let asker = leader, isRunning(asker), let process = nodes[asker].process else {
      return queue.add(.story(.forget(index, step: step)), at: now + .milliseconds(500))
    }
    let isKnown = process.control.trust.anchors.contains { $0.node == name } || process.control.nodes[name] != nil
    let isGone = process.control.posture(of: name) == .gone
    if step == 0 || (isKnown && !isGone) {
      propose(.setPosture(name, .gone), by: asker)
    } else if isKnown || isGone, !process.control.configuration.contains(name),
      !process.raft.status.configuration.contains(name)
    {
      propose(.forgetNode(name), by: asker)
    } else if !isKnown, !isGone {
      counts.forgotten += 1
      beingForgotten -= 1
      nodes[index].disk = SimulatedDisk(authority: Array("authority \(name) \(generator.next())".utf8))
      nodes[index].hasLeft = false
      // A node that a token let in needs another one; those that the file names come with the join secret.
      guard nodes[index].token == nil else { return nodes[index].hasLeft = true }
      start(index)
      return queue.add(.story(.lookAfter(index)), at: now + .seconds(1))
    }
    queue.add(.story(.forget(index, step: step + 1)), at: now + .milliseconds(500))
  }

  /// What the operator asked for more than once may come into force when the node is back already, and so may the word of its
  /// earlier life: then it is refused, and the operator has it forgotten once more.
  private mutating func lookAfter(_ index: Int) {
    queue.add(.story(.lookAfter(index)), at: now + .seconds(1))
    guard !nodes[index].hasLeft, let asker = leader, isRunning(asker), let control = nodes[asker].process?.control else {
      return
    }
    let name = nodes[index].name
    let isStranger = control.trust.anchors.contains { $0.node == name && $0.certificate != nodes[index].disk.authority }
    if control.posture(of: name) == .gone {
      propose(.forgetNode(name), by: asker)
    } else if isStranger {
      propose(.setPosture(name, .gone), by: asker)
    }
  }

  // MARK: The end of all faults

  /// Ends every fault and starts every node that has not left for good.
  public mutating func heal() {
    narrate("all faults end")
    isQuiet = true
    let quiet = NodeFaults()
    faults = quiet
    cuts = []
    for index in nodes.indices {
      nodes[index].pausedUntil = .zero
      nodes[index].wallOffset = .zero
      nodes[index].diskFullUntil = .zero
      nodes[index].slowness = .zero
      if nodes[index].process == nil, !nodes[index].hasLeft, nodes[index].life > 0 { start(index) }
    }
  }

  // MARK: Checks

  mutating func checkRoles() {
    for role in Role.allCases {
      var acting: [NodeName] = []
      for index in up where isRunning(index) {
        guard let epoch = nodes[index].process?.lease.epoch(of: role, at: clock(index)) else { continue }
        acting.append(nodes[index].name)
        checker.acts(nodes[index].name, role, epoch)
      }
      if acting.count > 1, !role.isFencedByLog {
        checker.note("one actor a role", "\(acting) act as \(role) at \(now.nanoseconds)")
      }
    }
  }

  mutating func check() {
    checkRoles()
    for a in nodes.indices {
      for b in nodes.indices where a < b {
        checker.compare((nodes[a].name, nodes[a].disk.raft), (nodes[b].name, nodes[b].disk.raft))
      }
    }
    for index in up {
      guard let process = nodes[index].process else { continue }
      checker.bounded(nodes[index].name, "waiting operations", process.waiting.count, 20_000)
      checker.bounded(nodes[index].name, "log entries", nodes[index].disk.raft.entries.count, 4_000)
    }
    checker.bounded(listed[0], "messages on their way", queue.count, 20_000)
  }

  /// Running nodes that are part of the cluster: not those whose join is not decided, or whose token is void.
  public var members: [Int] {
    let anchors = leader.flatMap { nodes[$0].process?.control.trust.anchors } ?? []
    return up.filter { index in anchors.contains { $0.certificate == nodes[index].disk.authority } }
  }

  /// What does not yet hold after all faults have ended; empty when the cluster has converged.
  public var lacking: [String] {
    var list: [String] = []
    let members = members
    if beingForgotten > 0 { list.append("\(beingForgotten) nodes are not forgotten yet") }
    guard let leader, let lead = nodes[leader].process else { return ["no leader"] }
    for index in up where nodes[index].token == nil && !members.contains(index) {
      list.append("\(nodes[index].name) is no member")
    }
    for a in members {
      guard let process = nodes[a].process else { continue }
      for b in members where process.swim.member(nodes[b].name)?.state != .alive {
        let state = process.swim.member(nodes[b].name)?.state
        list.append("\(nodes[a].name) holds \(nodes[b].name) for \(state.map { "\($0)" } ?? "unknown")")
      }
      if process.control.history != lead.control.history {
        list.append("\(nodes[a].name) has applied \(process.control.applied), the leader \(lead.control.applied)")
      }
      if process.registry.digestHash != lead.registry.digestHash {
        let own = Set(process.registry.digest)
        let others = Set(lead.registry.digest)
        let differing = own.symmetricDifference(others).map { "\($0.owner) \($0.version)" }.sorted()
        list.append("the registry of \(nodes[a].name) differs: \(differing.joined(separator: ", "))")
      }
    }
    for role in Role.allCases {
      let acting = members.filter { nodes[$0].process?.lease.epoch(of: role, at: clock($0)) != nil }
      if acting.count != 1 { list.append("\(acting.count) nodes act as \(role)") }
      if let preferred = lead.control.roles[role].preferred { list.append("\(role) has not moved to \(preferred)") }
    }
    for index in up where nodes[index].process?.lacksRoom == true {
      list.append("\(nodes[index].name) takes no part in consensus")
    }
    let voters = lead.raft.status.configuration.voters
    let alive = members.filter { lead.control.posture(of: nodes[$0].name) == .active }
    let wanted = min(votersWanted, alive.count % 2 == 1 ? alive.count : alive.count - 1)
    if voters.count < wanted { list.append("\(voters.count) voters, \(wanted) wanted") }
    if voters.count % 2 == 0 { list.append("\(voters.count) voters") }
    for voter in voters where !members.contains(where: { nodes[$0].name == voter }) && alive.count > voters.count {
      list.append("the voter \(voter) is gone")
    }
    for index in members where lead.control.posture(of: nodes[index].name) != .active {
      list.append("\(nodes[index].name) drains")
    }
    return list
  }

  /// One line a node, for the report of a failed run.
  public var summary: String {
    nodes.indices.map { index in
      guard let process = nodes[index].process else {
        return "\(nodes[index].name): down\(nodes[index].hasLeft ? ", left" : "")"
      }
      let status = process.raft.status
      let roles = Role.allCases.map {
        "\($0)=\(process.control.roles[$0].holder?.string ?? "-")@\(process.control.roles[$0].epoch)"
      }
      return "\(nodes[index].name): \(status.duty) term \(status.term) commit \(status.commitIndex) last \(status.last) "
        + "members \(status.configuration) applied \(process.control.applied) \(process.control.configuration) "
        + "heal \(nodes[index].disk.healUntil.map { "\($0)" } ?? "-") postures \(process.control.postures.map { "\($0.key)=\($0.value)" }.sorted()) "
        + "paused \(nodes[index].pausedUntil > now) \(roles)"
    }.joined(separator: "\n")
  }
}

/// One run of a seed: faults, then their end, then what has to come about.
public struct NodeRun: Sendable {
  public let seed: UInt64
  public let violations: [String]
  public let counts: NodeFaultCounts
  public let summary: String
  /// Events that were handled.
  public let steps: Int

  /// What happened, in words, when `tellsStory`.
  public let story: [String]

  public init(
    seed: UInt64, operators: NodeFaults.Operators = .everything, safety: Duration = .seconds(20),
    liveness: Duration = .seconds(60),
    tellsStory: Bool = false
  ) {
    self.seed = seed
    var generator = SeededGenerator(seed: seed)
    var faults = NodeFaults.drawn(from: &generator)
    var count = [3, 4, 5, 5][generator.index(below: 4)]
    switch operators {
    case .everything: break
    case .handovers: faults.changeInterval = .milliseconds(400)
    case .lostDisks:
      // Enough nodes for two that have come back to be without a log, and enough quiet for them to come so far.
      count = 5
      faults = NodeFaults()
      faults.changeInterval = .milliseconds(1200)
    }
    faults.operators = operators
    var cluster = NodeCluster(nodes: count, seed: seed, faults: faults)
    cluster.tellsStory = tellsStory
    cluster.run(for: operators == .lostDisks ? safety * 3 : safety)
    cluster.heal()
    cluster.run(for: .seconds(5))
    cluster.isStill = true
    var violations = cluster.checker.all
    if violations.isEmpty, !cluster.run(atMost: liveness, until: { $0.lacking.isEmpty }) {
      violations = cluster.checker.all + cluster.lacking.map { "convergence: \($0)" }
    }
    self.violations = violations
    counts = cluster.counts
    steps = cluster.steps
    summary = cluster.summary
    story = cluster.story
  }
}
