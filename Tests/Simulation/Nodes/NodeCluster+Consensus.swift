import Consensus
import Membership
import Primitives

/// Consensus, roles, voters and following of one node.
extension NodeCluster {
  // MARK: Raft

  mutating func feedRaft(_ index: Int, _ input: RaftInput) {
    guard isRunning(index), let process = nodes[index].process else { return }
    process.raft.handle(input, at: clock(index), into: &process.effects)
    checker.bounded(nodes[index].name, "Raft effects", process.effects.count, 5_000)
    drain(index)
    rearm(index)
  }

  private mutating func drain(_ index: Int) {
    guard nodes[index].process?.isDraining == false else { return }
    nodes[index].process?.isDraining = true
    while let process = nodes[index].process, !process.isWriting, let effect = process.effects.first {
      nodes[index].process?.effects.removeFirst()
      perform(effect, on: index)
    }
    nodes[index].process?.isDraining = false
  }

  private mutating func perform(_ effect: RaftEffect, on index: Int) {
    switch effect {
    case .persist(let persistence):
      nodes[index].process?.isWriting = true
      let done = Event.written(index, life: nodes[index].life, persistence)
      queue.add(done, at: now + generator.duration(in: faults.writeDelay))
    case .send(let message, let peer): send(.raft(message.encoded()), from: index, to: peer)
    case .apply(let entries):
      let known = nodes[index].process?.control.applied.index ?? .zero
      for entry in entries {
        checker.applied(nodes[index].name, entry, in: nodes[index].process?.raft.term)
        if entry.index > known { take(entry, on: index) }
      }
      compact(index)
    case .installSnapshot(let snapshot):
      guard let state = try? ControlState(restoring: snapshot.state) else {
        return checker.note("snapshots", "\(nodes[index].name) cannot restore one")
      }
      nodes[index].process?.snapshotIndex = snapshot.position.index
      if state.applied.index > nodes[index].process?.control.applied.index ?? .zero { install(state, on: index) }
    case .becameLeader(let term):
      counts.elections += 1
      narrate("\(nodes[index].name) leads term \(term)")
      let clock = clock(index)
      nodes[index].process?.ledSince = clock
      nodes[index].process?.ledTerm = term
      checker.becameLeader(nodes[index].name, term, disk: nodes[index].disk.raft)
      cutShort(index)
      feedAssignment(index, .becameLeader)
    case .steppedDown(let term):
      narrate("\(nodes[index].name) leads term \(term) no more")
      nodes[index].process?.ledSince = nil
      nodes[index].process?.ledTerm = nil
      feedAssignment(index, .steppedDown)
    case .accepted(let token, let place): nodes[index].process?.accepted[place.index] = (place.term, token)
    case .rejected(let token, _): nodes[index].process?.waiting[token] = nil
    case .readReady(let token, let place):
      guard case .read(let floor)? = nodes[index].process?.waiting.removeValue(forKey: token) else { return }
      nodes[index].process?.reads.append((place, floor))
      answerReads(index)
    case .failed(let failure): checker.note("no failure", "\(nodes[index].name): \(failure)")
    case .leaderChanged, .configurationChanged: break
    }
  }

  /// The first leader of a cluster often dies before anybody has heard of its first entry.
  private mutating func cutShort(_ index: Int) {
    guard checker.raft.lastDecided == .zero, !isQuiet, generator.chance(faults.firstLeaderDies) else { return }
    counts.firstLeadersLost += 1
    let heard = nodes.indices.filter { $0 != index && generator.chance(0.3) }
    let ways = nodes.indices.filter { $0 != index && !heard.contains($0) }.map { Way(from: index, to: $0) }
    cuts.formUnion(ways)
    queue.add(.heal(ways), at: now + .milliseconds(100))
    queue.add(.dies(index, life: nodes[index].life), at: now + generator.duration(in: .zero ... .milliseconds(100)))
  }

  /// What a node has from others says that there is a history.
  mutating func noteHistory(_ index: Int) {
    if nodes[index].process?.control.applied.index ?? .zero > .zero { feedRaft(index, .historyKnown) }
  }

  mutating func written(_ index: Int, life: Int, _ persistence: Persistence) {
    guard nodes[index].life == life else {
      // The crash came first: the write may have reached the disk all the same, if no later life wrote since.
      if nodes[index].process == nil, nodes[index].life == life + 1, nodes[index].diskFullUntil <= now,
        nodes[index].disk.healUntil == nil, generator.chance(0.5)
      {
        nodes[index].disk.write(persistence)
      }
      return
    }
    nodes[index].process?.isWriting = false
    if nodes[index].diskFullUntil > now { return refuse(index) }
    nodes[index].disk.write(persistence)
    drain(index)
    rearm(index)
  }

  // MARK: Full disks

  /// The disk has no room for a write: nothing of it is there, and nothing that was to come after it may happen.
  private mutating func refuse(_ index: Int) {
    counts.writesRefused += 1
    narrate("the disk of \(nodes[index].name) is full")
    nodes[index].process?.effects = []
    nodes[index].process?.lacksRoom = true
    nodes[index].process?.ledSince = nil
    nodes[index].process?.ledTerm = nil
    feedAssignment(index, .steppedDown)
    feedRaft(index, .storageFull)
    nodes[index].process?.waiting = [:]
    nodes[index].process?.accepted = [:]
    nodes[index].process?.reads = []
    stateChanged(index)
    queue.add(.lookForRoom(index, life: nodes[index].life), at: now + .milliseconds(500))
  }

  /// Takes part again with what the disk holds, once there is room.
  mutating func lookForRoom(_ index: Int, life: Int) {
    guard nodes[index].life == life, nodes[index].process != nil else { return }
    guard nodes[index].diskFullUntil <= now else {
      return queue.add(.lookForRoom(index, life: life), at: now + .milliseconds(500))
    }
    let snapshotIndex = nodes[index].disk.raft.snapshot?.position.index ?? .zero
    let raft = recoveredRaft(index)
    nodes[index].process?.raft = raft
    nodes[index].process?.snapshotIndex = snapshotIndex
    nodes[index].process?.lacksRoom = false
    noteHistory(index)
    narrate("\(nodes[index].name) has room again")
    stateChanged(index)
    rearm(index)
  }

  private mutating func compact(_ index: Int) {
    guard let process = nodes[index].process else { return }
    let applied = process.control.applied.index
    guard applied <= process.raft.commitIndex, applied >= process.snapshotIndex.advanced(by: faults.entriesPerSnapshot) else {
      return
    }
    process.snapshotIndex = applied
    process.raft.handle(.compact(through: applied, state: process.control.snapshot()), at: clock(index), into: &process.effects)
  }

  // MARK: The state

  private mutating func take(_ entry: LogEntry, on index: Int) {
    guard let process = nodes[index].process else { return }
    let result: AppliedEntry
    do { result = try process.control.apply(entry) } catch { return checker.note("applying", "\(nodes[index].name): \(error)") }
    process.recent.append(entry, history: process.control.history)
    if case .command(let bytes) = entry.payload, case .configuration(let change)? = try? Command(decoding: bytes),
      result.touched.contains(.objects), entry.index == checker.raft.lastDecided
    {
      checker.changed(under: change.epoch, by: nodes[index].name)
    }
    let accepted = process.accepted.removeValue(forKey: entry.index)
    let operation = accepted.flatMap { process.waiting.removeValue(forKey: $0.token) }
    if let operation, accepted?.term == entry.term, case .applied? = result.outcome {
      answer(operation, at: entry.index, by: index)
    }
    if result.touched.contains(.roles) { counts.roleMoves += 1 }
    if !result.touched.isDisjoint(with: [.roles, .trust, .nodes]) { stateChanged(index) }
    answerReads(index)
    announceHead(index)
  }

  private mutating func install(_ state: ControlState, on index: Int) {
    counts.statesInstalled += 1
    nodes[index].process?.control = state
    nodes[index].process?.recent = RecentEntries(after: state.head)
    stateChanged(index)
    answerReads(index)
  }

  mutating func stateChanged(_ index: Int) {
    guard let process = nodes[index].process else { return }
    let mayAct = process.control.posture(of: nodes[index].name) == .active && !process.lacksRoom
    feedLease(index, mayAct ? .staying : .leaving)
    feedAssignment(index, .roles(process.control.roles))
    feedLease(index, .roles(process.control.roles))
    candidatesChanged(index)
  }

  private mutating func answer(_ operation: Operation, at place: LogIndex, by index: Int) {
    guard case .write(let floor, let asker) = operation else { return }
    if let asker, asker != index { return send(.written(place, floor: floor), from: index, to: nodes[asker].name) }
    counts.writesAcknowledged += 1
    checker.answeredWrite(at: place, floor: floor)
  }

  private mutating func answerReads(_ index: Int) {
    guard let process = nodes[index].process else { return }
    let place = process.control.applied.index
    let ready = process.reads.filter { $0.index <= place }
    guard !ready.isEmpty else { return }
    nodes[index].process?.reads.removeAll { $0.index <= place }
    for read in ready {
      counts.readsAnswered += 1
      checker.answeredRead(at: place, floor: read.floor)
    }
  }

  // MARK: Proposals

  /// Through whoever leads; nobody waits for it.
  mutating func propose(_ command: Command, by index: Int) { submit(command.encoded(), .quiet, by: index) }

  mutating func submit(_ command: [UInt8], _ operation: Operation, by index: Int) {
    guard let process = nodes[index].process else { return }
    if process.raft.isLeader {
      nextRequest += 1
      let token = RequestToken(nextRequest)
      nodes[index].process?.waiting[token] = operation
      feedRaft(index, .propose([Proposal(token: token, command: command)]))
    } else if let leader = knownLeader(index), leader != nodes[index].name {
      var floor: LogIndex?
      if case .write(let known, _) = operation { floor = known }
      send(.forward(command, floor: floor), from: index, to: leader)
    }
  }

  mutating func receiveForward(_ command: [UInt8], floor: LogIndex?, from sender: Int, at index: Int) {
    guard nodes[index].process?.raft.isLeader == true else { return }
    submit(command, floor.map { .write(floor: $0, asker: sender) } ?? .quiet, by: index)
  }

  // MARK: Following

  mutating func feedFollower(_ index: Int, _ input: Follower.Input) {
    guard isRunning(index), let process = nodes[index].process else { return }
    var effects: [Follower.Effect] = []
    let voters = process.control.configuration.voters
    process.follower.handle(
      input, state: process.control, voters: voters, believesAnyone: voters.isEmpty, at: clock(index), into: &effects)
    for effect in effects {
      switch effect {
      case .send(let message, let peer): send(.catchUp(message.encoded()), from: index, to: peer)
      case .apply(let entries):
        counts.entriesPulled += entries.count
        for entry in entries {
          checker.applied(nodes[index].name, entry, in: nil)
          take(entry, on: index)
        }
        noteHistory(index)
      case .install(let state, let diverged):
        if diverged { checker.note("one history", "\(nodes[index].name) had parted from the voters") }
        install(state, on: index)
        noteHistory(index)
      case .distrusted(let peer): checker.note("one history", "\(nodes[index].name) got wrong entries from \(peer)")
      }
    }
    rearm(index)
  }

  mutating func announceHead(_ index: Int) {
    guard let process = nodes[index].process, process.raft.isLeader else { return }
    nodes[index].process?.nextHead = clock(index) + .seconds(3)
    let status = process.raft.status
    let absent = status.absentMembers(at: clock(index))
    let members = status.configuration.members.filter { !absent.contains($0) }
    for member in process.swim.members where member.state.isLive && member.name != nodes[index].name {
      guard !members.contains(member.name) else { continue }
      send(.catchUp(CatchUpMessage.head(process.control.head).encoded()), from: index, to: member.name)
    }
  }

  mutating func announceAuthority(_ index: Int) {
    guard let process = nodes[index].process, nodes[index].token == nil else { return }
    let anchors = process.control.trust.anchors
    guard !anchors.contains(where: { $0.certificate == nodes[index].disk.authority }) else { return }
    guard !anchors.contains(where: { $0.node == nodes[index].name }) else { return }
    propose(.addTrustAnchor(node: nodes[index].name, certificate: nodes[index].disk.authority), by: index)
  }

  // MARK: Voters

  mutating func chooseVoters(_ index: Int) {
    guard let process = nodes[index].process, process.raft.isLeader, process.raft.holdsLease(at: clock(index)) else { return }
    let since = process.ledSince ?? clock(index)
    let status = process.raft.status
    let seen = Dictionary(process.swim.members.map { ($0.name, $0) }) { first, _ in first }
    let names = Set(seen.keys).union(listed).union(process.control.trust.anchors.map(\.node))
    let candidates = names.sorted().map { name in
      let member = seen[name]
      let isTrusted = process.control.trust.anchors.contains { $0.node == name }
      let isLocal = name == nodes[index].name
      return VoterCandidate(
        name: name, isAlive: isLocal || (member?.state == .alive && isTrusted),
        absence: isLocal || member?.state.isLive == true ? .zero : clock(index) - max(member?.since ?? since, since),
        isGoing: process.control.posture(of: name) != .active, zone: member?.locality ?? "")
    }
    if candidates.contains(where: { $0.name == nodes[index].name && $0.isGoing }),
      status.followers.contains(where: { $0.isActive && status.configuration.isVoter($0.name) })
    {
      return feedRaft(index, .transferLeadership(to: nil))
    }
    let caughtUp = status.followers.filter {
      $0.isActive && !$0.receivesSnapshot && $0.match.number + 64 >= status.last.index.number
    }
    let change = process.voters.nextChange(
      local: nodes[index].name, configuration: status.configuration, candidates: candidates,
      caughtUp: Set(caughtUp.map(\.name)))
    guard let change else { return }
    counts.voterChanges += 1
    nextRequest += 1
    feedRaft(index, .changeConfiguration(RequestToken(nextRequest), change))
  }

  // MARK: Roles

  mutating func feedAssignment(_ index: Int, _ input: RoleAssignmentInput) {
    guard isRunning(index), let process = nodes[index].process else { return }
    var effects: [RoleAssignmentEffect] = []
    process.assignment.handle(input, at: clock(index), into: &effects)
    for effect in effects {
      switch effect {
      case .assign(let role, let holder, let epoch, let reason):
        narrate("\(nodes[index].name) proposes \(holder) for \(role) in epoch \(epoch): \(reason)")
        // Only as the leader that decided it: its successor knows of renewals that this node does not.
        guard let raft = nodes[index].process?.raft, raft.isLeader, raft.term == nodes[index].process?.ledTerm else { continue }
        propose(
          .assignRole(RoleGrant(role: role, holder: holder, epoch: epoch, at: wall(index), reason: reason)), by: index)
      case .acknowledge(let renewal, let holder):
        if holder == nodes[index].name {
          feedLease(index, .acknowledged(renewal))
        } else {
          send(.acknowledge(renewal), from: index, to: holder)
        }
      }
    }
    rearm(index)
  }

  /// What is decided may already have moved a role on; only who has applied it all knows.
  func mayProlong(_ index: Int) -> Bool {
    guard let process = nodes[index].process else { return false }
    return process.raft.holdsLease(at: clock(index)) && process.control.applied.index >= process.raft.commitIndex
  }

  mutating func feedLease(_ index: Int, _ input: RoleLeaseInput) {
    guard isRunning(index), let process = nodes[index].process else { return }
    var effects: [RoleLeaseEffect] = []
    process.lease.handle(input, at: clock(index), into: &effects)
    for effect in effects {
      switch effect {
      case .renew(let renewal):
        guard let leader = knownLeader(index) else { continue }
        if leader == nodes[index].name {
          feedAssignment(index, .renewal(renewal, from: leader, leaderHoldsLease: mayProlong(index)))
        } else {
          send(.renew(renewal), from: index, to: leader)
        }
      case .release(let role, let epoch):
        narrate("\(nodes[index].name) gives \(role) back, epoch \(epoch)")
        propose(.releaseRole(role, epoch), by: index)
      case .acquired(let role, let epoch): narrate("\(nodes[index].name) acts as \(role) in epoch \(epoch)")
      case .lost(let role, let epoch): narrate("\(nodes[index].name) acts no more as \(role) in epoch \(epoch)")
      }
    }
    rearm(index)
  }
}
