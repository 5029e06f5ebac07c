import Consensus
import Membership
import Primitives

/// Membership and registry of one node.
extension NodeCluster {
  mutating func feed(_ index: Int, _ input: SWIM.Input) {
    guard isRunning(index) else { return }
    var effects: [SWIM.Effect] = []
    let now = clock(index)
    nodes[index].process?.swim.handle(input, at: now, into: &effects)
    checker.bounded(nodes[index].name, "membership effects at once", effects.count, 2_000)
    var isChanged = false
    for effect in effects {
      switch effect {
      case .sendDatagram(let message, let address): sendDatagram(message, from: index, to: address)
      case .sendStream(let message, let name, _): send(.swim(message, isStream: true), from: index, to: name)
      case .memberChanged: isChanged = true
      case .incarnationRaised(let incarnation): nodes[index].disk.incarnation = max(incarnation, nodes[index].disk.incarnation)
      case .registryDiffers(let name, let digest):
        withRegistry(index) { registry, now, effects in registry.heard(digest: digest, from: name, at: now, into: &effects) }
      case .claimRejected: break
      case .leaveCompleted:
        guard nodes[index].process?.isDeparting == true else { break }
        nodes[index].hasLeft = true
        counts.departures += 1
        return end(index)
      }
    }
    if isChanged { membersChanged(index) }
    rearm(index)
  }

  private mutating func membersChanged(_ index: Int) {
    guard let members = nodes[index].process?.swim.members else { return }
    let live = members.filter(\.state.isLive).map(\.name)
    let now = clock(index)
    nodes[index].process?.registry.peersChanged(live, at: now)
    if let leader = nodes[index].process?.heard?.leader, !live.contains(leader) { nodes[index].process?.heard = nil }
    feedFollower(index, .peers(live.filter { $0 != nodes[index].name }))
    announceHead(index)
    candidatesChanged(index)
  }

  mutating func candidatesChanged(_ index: Int) {
    guard let process = nodes[index].process else { return }
    let absent = process.raft.status.absentMembers(at: clock(index))
    let candidates = process.swim.members.map { member in
      let liveness: RoleCandidate.Liveness =
        switch member.state {
        case .alive: .alive
        case .suspect: .suspect
        case .dead: .dead
        case .left: .left
        }
      return RoleCandidate(
        name: member.name, liveness: liveness,
        canIssue: process.control.trust.anchors.contains { $0.node == member.name },
        isLeaving: process.control.posture(of: member.name) != .active || absent.contains(member.name))
    }
    feedAssignment(index, .members(candidates))
  }

  // MARK: Registry

  mutating func withRegistry(_ index: Int, _ body: (inout Registry, Instant, inout [Registry.Effect]) throws -> Void) {
    guard isRunning(index), var registry = nodes[index].process?.registry else { return }
    var effects: [Registry.Effect] = []
    do { try body(&registry, clock(index), &effects) } catch { checker.note("publishing", "\(nodes[index].name): \(error)") }
    nodes[index].process?.registry = registry
    noteOwnRows(index)
    for effect in effects {
      switch effect {
      case .send(let message, let name): send(.registry(message), from: index, to: name)
      case .rejected(.ownRowAhead(let version), _):
        withRegistry(index) { [sign = sign(index)] registry, now, effects in
          try registry.raiseIncarnation(to: version.incarnation + 1, sign: sign, at: now, into: &effects)
        }
      case .compactionDue:
        withRegistry(index) { [sign = sign(index)] registry, now, effects in
          try registry.compact(sign: sign, at: now, into: &effects)
        }
      case .changed(let changes):
        for change in changes {
          if let row = change.new {
            if row.key.owner != nodes[index].name { checker.holds(nodes[index].name, row) }
          } else if let key = change.old?.key {
            checker.forgot(nodes[index].name, key)
          }
        }
      case .rejected: break
      }
    }
    feed(index, .registryDigest(nodes[index].process?.registry.digestHash ?? 0))
  }

  private mutating func noteOwnRows(_ index: Int) {
    guard let registry = nodes[index].process?.registry else { return }
    let name = nodes[index].name
    if let row = registry.row(.node(name)) { checker.wrote(row) }
    for placed in registry.workloads(live: []) where placed.owner == name {
      if let row = registry.row(.workload(name, namespace: placed.row.namespace, name: placed.row.name)) { checker.wrote(row) }
    }
    for number in 0..<Self.workloadsMax {
      guard let label = try? DNSLabel("w\(number)"), let space = try? DNSLabel("default") else { continue }
      if let row = registry.row(.workload(name, namespace: space, name: label)), row.isTombstone { checker.wrote(row) }
    }
  }

  static let workloadsMax = 4

  /// The authority doubles as the key: only the node itself signs with it.
  func sign(_ index: Int) -> Registry.Sign {
    let key = nodes[index].disk.authority
    return { payload in MembershipCluster.signature(of: payload, key: key) }
  }

  /// What a node accepts as signed. A chain of an owner's earlier life holds as well: others issued it, and it has not expired.
  private func verify(_ index: Int) -> Registry.Verify {
    let authorities = authorities
    return { signed, owner, certificates in
      guard let key = certificates.first, certificates.count == 1 else { return false }
      guard authorities[owner]?.contains(key) == true else { return false }
      return signed.signature == MembershipCluster.signature(of: signed.payload, key: key)
    }
  }

  mutating func receiveRows(_ message: RegistryMessage, from peer: NodeName, at index: Int) {
    let verify = verify(index)
    withRegistry(index) { registry, now, effects in
      registry.handle(message, from: peer, verify: verify, at: now, into: &effects)
    }
  }

  mutating func tickRegistry(_ index: Int) {
    guard let deadline = nodes[index].process?.registry.nextDeadline, deadline <= clock(index) else { return }
    withRegistry(index) { registry, now, effects in registry.tick(at: now, into: &effects) }
  }

  mutating func publishNode(_ index: Int) {
    let row = NodeRow(certificates: [nodes[index].disk.authority])
    withRegistry(index) { [sign = sign(index)] registry, now, effects in
      try registry.publish(node: row, sign: sign, at: now, into: &effects)
    }
  }

  /// Some node publishes, changes or withdraws a workload.
  mutating func changeWorkloads() {
    queue.add(.workloads, at: now + .milliseconds(isQuiet ? 400 : 150))
    guard !isStill else { return }
    let index = generator.index(below: nodes.count)
    guard let label = try? DNSLabel("w\(generator.index(below: Self.workloadsMax))"), let space = try? DNSLabel("default")
    else {
      return
    }
    let isWithdrawn = generator.chance(0.3)
    let health: WorkloadHealth = generator.chance(0.5) ? .healthy : .starting
    let sign = sign(index)
    withRegistry(index) { registry, now, effects in
      if isWithdrawn {
        try registry.withdraw(namespace: space, name: label, deletedAtMilliseconds: 1, sign: sign, at: now, into: &effects)
      } else {
        let row = WorkloadRow(
          name: label, namespace: space, service: label, serviceAccount: label, address: "10.1.0.1",
          ports: [.init(name: "http", port: 9080, appProtocol: "http")], health: health)
        try registry.publish(workload: row, sign: sign, at: now, into: &effects)
      }
    }
  }

  mutating func forgetTheRemoved(_ index: Int) {
    guard let process = nodes[index].process else { return }
    let known = Set(process.control.trust.anchors.map(\.node))
    guard known.contains(nodes[index].name) else { return }
    nodes[index].process?.registry.readmit(known)
    for member in process.swim.members where member.name != nodes[index].name && !known.contains(member.name) {
      guard !member.state.isLive else { continue }
      feed(index, .forget(member.name))
      withRegistry(index) { registry, _, effects in registry.forget(member.name, into: &effects) }
    }
    let live = Set(process.swim.members.filter(\.state.isLive).map(\.name))
    for owner in process.registry.ownersWithRows
    where owner != nodes[index].name && !known.contains(owner) && !live.contains(owner) {
      withRegistry(index) { registry, _, effects in registry.forget(owner, into: &effects) }
    }
  }
}
