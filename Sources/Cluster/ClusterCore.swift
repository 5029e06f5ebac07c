import Consensus
import Membership
import Primitives
import Transport

/// Wires the drivers of membership, registry, consensus and roles to each other and to the links. Confined to the control
/// loop.
final class ClusterCore: TurnHandler {
  let local: ClusterLocal
  let loop: EventLoop
  let links: LinkNetwork
  private let storage: NodeStorage
  let clock: WallClock
  private let publication: ClusterPublication
  private let verifier: RowVerifier
  private let signing: RowSigning
  let raft: RaftDriver
  let roles: RoleDriver
  private let follow: FollowDriver
  private let voters: VoterDriver
  let membership: MembershipDriver
  let registry: RegistryDriver

  private(set) var forward: ClusterRuntime.Forward?
  private var nodeRow: NodeRow
  private var registryVersion: UInt64 = 0
  private var failure: String?
  private var pending: ClusterChange = []
  private var isPublishing = false
  private var isReporting = false
  private var leaveWaiters: [CheckedContinuation<Void, Never>] = []
  /// The term in which the roles were last told that this node leads; nil while it does not.
  private var ledTerm: Term?
  /// Live members without a row here, since when.
  var rowlessSince: [NodeName: Instant] = [:]
  private(set) var isLeaving = false
  /// This process is asked to go for good: its posture is meant.
  var isDeparting = false
  /// Workloads as they were published, before a posture changed how they look to others.
  private(set) var workloads: [RowKey: WorkloadRow] = [:]
  var posture = NodePosture.active
  /// Seconds by which others' wall clocks were ahead when their links opened, where that was more than is tolerated.
  var clockLeads: [NodeName: Int64] = [:]
  private(set) var isStopped = false

  init(
    loop: EventLoop, local: ClusterLocal, links: LinkNetwork, storage: NodeStorage, joinSecret: JoinSecret?,
    identity: NodeIdentity, trust: Transport.TrustBundle, rememberedRows: SavedRows?, clock: WallClock, seed: UInt64,
    publication: ClusterPublication
  ) throws {
    self.loop = loop
    self.local = local
    self.links = links
    self.storage = storage
    self.clock = clock
    self.publication = publication
    var seeds = SeededGenerator(seed: seed)
    let wiring = Wiring()
    verifier = RowVerifier(trust: trust) { clock.seconds }
    let signing = RowSigning(identity.key)
    self.signing = signing
    nodeRow = NodeRow(
      certificates: identity.chain.map(\.der), meshPort: local.meshPort, trustBundleVersion: trust.version)
    raft = try RaftDriver(
      loop: loop, local: local.name, cluster: ClusterTag(clusterName: local.cluster.string), configuration: local.configuration,
      storage: storage, seed: seeds.next(), outputs: wiring.raftOutputs)
    follow = FollowDriver(
      loop: loop, local: local.name, raft: raft, seed: seeds.next(), outputs: wiring.followOutputs)
    voters = VoterDriver(loop: loop, local: local, raft: raft) { wiring.core?.membership.members ?? [] }
    roles = RoleDriver(
      loop: loop, local: local.name, wallMilliseconds: clock.milliseconds, outputs: wiring.roleOutputs)
    membership = try MembershipDriver(
      loop: loop, bind: try ClusterCore.socketAddress(local.address),
      local: MemberRecord(
        name: local.name, address: local.address, incarnation: local.incarnation, locality: local.locality),
      seal: GossipSeal(joinSecret: joinSecret?.bytes, cluster: local.cluster, life: local.incarnation), seed: seeds.next(),
      outputs: wiring.membershipOutputs)
    let now = EventLoop.monotonicNow()
    var rows = Registry(owner: local.name, incarnation: local.incarnation, seed: seeds.next(), at: now)
    rememberedRows?.restore(into: &rows, trust: trust, wallSeconds: clock.seconds, at: now)
    registry = RegistryDriver(
      loop: loop, registry: rows,
      sign: { signing.key.sign($0) }, verifier: verifier, outputs: wiring.registryOutputs)
    wiring.core = self
    membership.take(raft.state.gossipKeys)
    posture = raft.state.posture(of: local.name)
    publishNow(.all)
  }

  private static func socketAddress(_ address: NodeAddress) throws -> SocketAddress {
    guard let socketAddress = SocketAddress(address) else { throw FileError("'\(address)' is not an address") }
    return socketAddress
  }

  func start(forward: @escaping ClusterRuntime.Forward) throws {
    self.forward = forward
    let bound = LoopBound(self, on: loop)
    links.onFrame([.raft, .membership, .registry, .lease, .catchUp]) { peer, frame in
      bound.value.received(frame, from: peer.node)
    }
    try membership.start(seeds: local.seeds)
    try registry.publish(node: nodeRow)
    registry.start()
    raft.start()
    follow.start()
    voters.start()
    roles.start()
    keepHouse()
    roles.rolesApplied(raft.state.roles)
    membersChanged()
  }

  func stop() {
    isStopped = true
    membership.stop()
    registry.stop()
    roles.stop()
    voters.stop()
    follow.stop()
    raft.stop()
  }

  // MARK: Links

  private func received(_ frame: Frame, from node: NodeName) {
    membership.feed(.evidenceOfLife(node, at: EventLoop.monotonicNow()))
    switch frame.kind {
    case .raft: raft.receive(frame.body, from: node)
    case .membership: membership.receive(frame.body, from: node)
    case .registry: registry.receive(frame.body, from: node)
    case .lease: roles.receive(frame.body, from: node)
    case .catchUp: follow.receive(frame.body, from: node)
    default: break
    }
  }

  func send(_ kind: FrameKind, _ lane: Lane, _ body: [UInt8], to node: NodeName) {
    guard let link = links.link(to: node) else { return }
    _ = links.send(Frame(kind: kind, lane: lane, body: body), on: link)
  }

  func received(_ event: LinkEvent) {
    switch event {
    case .up(let node, let incarnation, _, _):
      membership.feed(.linkUp(node, incarnation: incarnation))
      follow.linkUp(node)
    case .down(let node, let reason):
      clockLeads[node] = nil
      membership.feed(.linkDown(node, Self.downReason(reason)))
      raft.feed(.peerUnreachable(node))
    case .leaving(let node, _):
      if let incarnation = membership.members.first(where: { $0.name == node })?.incarnation {
        membership.feed(.peerLeaving(node, incarnation: incarnation))
      }
    case .joining(let node, let token, let authority, let address):
      joining(node, token: token, authority: authority, address: address)
    case .clockDiffers(let node, let seconds): noteClock(of: node, lead: seconds)
    case .introduced, .refused, .failed: break
    }
  }

  /// The link layer says why in words for people; only a reset tells that the process is gone.
  private static func downReason(_ text: String) -> SWIM.LinkDownReason {
    if text.contains("refused") { return .refused }
    if text.contains("reset") { return .reset }
    return text.contains("nothing was heard") || text.contains("timed out") ? .timedOut : .closed
  }

  // MARK: Membership

  func sendStream(_ message: [UInt8], to node: NodeName, at address: NodeAddress) {
    if let target = SocketAddress(address) { links.learn(node, at: target) }
    send(.membership, .urgent, message, to: node)
  }

  func memberChanged(_ change: MemberChange) {
    if let new = change.new, let address = SocketAddress(new.address) { links.learn(new.name, at: address) }
    membersChanged()
  }

  private func membersChanged() {
    let members = membership.members
    registry.peersChanged(members.filter(\.state.isLive).map(\.name))
    follow.peersChanged()
    candidatesChanged()
    publish(.members)
  }

  func incarnationRaised(_ incarnation: UInt64) {
    storage.set(StoredFact.incarnation, StoredFact.bytes(incarnation))
    publish(.members)
  }

  func leaveCompleted() {
    let waiters = leaveWaiters
    leaveWaiters = []
    for waiter in waiters { waiter.resume() }
  }

  nonisolated(nonsending) func leave() async {
    isLeaving = true
    takeRolesOrNot()
    membersChanged()
    if raft.isLeader { raft.transferLeadership() }
    await withCheckedContinuation { continuation in
      leaveWaiters.append(continuation)
      membership.feed(.leave)
    }
  }

  // MARK: Registry

  func registryDigest(_ digest: UInt64) { membership.feed(.registryDigest(digest)) }

  func registryDiffers(_ node: NodeName, _ digest: UInt64) { registry.heard(digest: digest, from: node) }

  func registryChanged() {
    registryVersion &+= 1
    candidatesChanged()
    publish(.registry)
  }

  func publish(workload: WorkloadRow) throws {
    try registry.publish(workload: shown(workload))
    workloads[.workload(local.name, namespace: workload.namespace, name: workload.name)] = workload
  }

  func withdraw(namespace: DNSLabel, name: DNSLabel) throws {
    workloads[.workload(local.name, namespace: namespace, name: name)] = nil
    try registry.withdraw(namespace: namespace, name: name, deletedAtMilliseconds: clock.milliseconds())
  }

  func signedRow(namespace: DNSLabel, name: DNSLabel) -> [UInt8]? {
    registry.registry.signedRow(.workload(local.name, namespace: namespace, name: name)).map { signed in
      RegistryMessage.rows([signed], continuations: []).encoded()
    }
  }

  func verifiedWorkload(_ row: [UInt8], of node: NodeName) -> WorkloadRow? {
    guard case .rows(let rows, _)? = try? RegistryMessage(decoding: row), rows.count == 1, let signed = rows.first,
      let claimed = try? Row(payload: signed.payload), claimed.key.owner == node,
      case .workload(let workload) = claimed.content,
      membership.members.first(where: { $0.name == node })?.state.isLive == true,
      case .node(let owner)? = registry.registry.row(.node(node))?.content, claimed.version >= owner.floor,
      verifier.verify(signed, node, owner.certificates)
    else { return nil }
    // The row may not have come here yet; once a newer one has, that one counts.
    guard let known = registry.registry.row(claimed.key), known.version > claimed.version else { return workload }
    guard case .workload(let current) = known.content, current.serviceAccount == workload.serviceAccount else { return nil }
    return current
  }

  func report(revisionServed: UInt64) {
    guard nodeRow.revisionServed != revisionServed else { return }
    nodeRow.revisionServed = revisionServed
    guard !isReporting else { return }
    isReporting = true
    // For people who look: a signed row for each of many changes would cost every node more than the changes themselves.
    loop.schedule(after: ClusterLimits.reportInterval) { [weak self] in
      guard let self, !isStopped else { return }
      isReporting = false
      try? registry.publish(node: nodeRow)
    }
  }

  func renewed(_ identity: NodeIdentity) throws {
    signing.key = identity.key
    nodeRow.certificates = identity.chain.map(\.der)
    try registry.publish(node: nodeRow)
  }

  func trustChanged(_ trust: Transport.TrustBundle) {
    verifier.update(trust)
    nodeRow.trustBundleVersion = trust.version
    try? registry.publish(node: nodeRow)
  }

  // MARK: Consensus and roles

  func applied(_ entry: AppliedEntry) {
    if entry.touched.contains(.nodes) { nodesChanged() }
    if entry.touched.contains(.roles) { roles.rolesApplied(raft.state.roles) }
    if !entry.touched.isDisjoint(with: [.trust, .nodes]) { candidatesChanged() }
    follow.announce()
    if !entry.touched.isEmpty { publish(ClusterChange(entry.touched)) }
    // Raft's own entries say who votes: what waits for that looks at what was published.
    if entry.outcome == nil { publish(.raft) }
  }

  func restored() {
    nodesChanged()
    roles.rolesApplied(raft.state.roles)
    candidatesChanged()
    publish(.all)
  }

  func leadershipChanged() {
    let term = raft.isLeader ? raft.status.term : nil
    if term != ledTerm {
      let led = ledTerm
      ledTerm = term
      // Another node may have led between two terms of this one: what was known of leases is then void.
      if led != nil { roles.feed(RoleAssignmentInput.steppedDown) }
      if term != nil { roles.feed(RoleAssignmentInput.becameLeader) }
    }
    publish(.raft)
  }

  func failed(_ text: String) {
    failure = text
    takeRolesOrNot()
    publish(.raft)
  }

  func recovered() {
    failure = nil
    takeRolesOrNot()
    publish(.raft)
  }

  /// A node that goes, or cannot promise anything, gives its roles back and takes none.
  func takeRolesOrNot() {
    roles.feed(posture == .active && !isLeaving && raft.takesPart ? RoleLeaseInput.staying : .leaving)
  }

  func epoch(of role: Role) -> RoleEpoch? { roles.epoch(of: role) }
  /// Who leads: heard as a member of the consensus, or from outside of it.
  var leader: NodeName? { raftStatus.leader }

  var raftStatus: RaftStatus {
    let status = raft.status
    if let leader = follow.leader {
      return status.following(leader: leader, configuration: raft.state.configuration)
    }
    guard status.configuration.voters.isEmpty else { return status }
    return status.following(leader: nil, configuration: raft.state.configuration)
  }

  var livePeers: [NodeName] { membership.members.filter { $0.state.isLive && $0.name != local.name }.map(\.name) }

  func diverged() {
    failure = "what this node knew had parted from the voters' log, as after a recovery without quorum; it took theirs"
  }
  /// Whether this node leads for sure, and has applied all that is decided: that may have moved a role on.
  func leaderHoldsLease() -> Bool {
    raft.holdsLease(at: EventLoop.monotonicNow()) && raft.state.applied.index >= raft.status.commitIndex
  }

  /// Puts into the log what this node decided as the leader. Dropped when it leads no more: its successor knows of renewals that it
  /// does not.
  func proposeAsLeader(_ command: Command) {
    guard raft.isLeader, raft.status.term == ledTerm else { return }
    raft.propose(command) { _ in }
  }

  /// What no one waits for: dropped when no leader is known, and decided again by the core that asked.
  func proposeQuietly(_ command: Command) {
    if raft.isLeader {
      raft.propose(command) { _ in }
    } else if let leader, let forward {
      Task { _ = try? await forward(command, leader, .now + .seconds(5)) }
    }
  }
}

/// The key that signs rows, which a renewal may replace.
final class RowSigning {
  var key: PrivateKey
  init(_ key: PrivateKey) { self.key = key }
}

extension ClusterChange {
  init(_ touched: AppliedEntry.Touched) {
    self = []
    if touched.contains(.objects) { insert(.objects) }
    if touched.contains(.roles) { insert(.roles) }
    if touched.contains(.trust) { insert(.trust) }
    if touched.contains(.addresses) { insert(.addresses) }
    if touched.contains(.nodes) { insert(.members) }
  }
}

extension ClusterCore {
  // MARK: Publishing

  /// Publishes once for everything that happens in this turn of the loop.
  func publish(_ change: ClusterChange) {
    pending.formUnion(change)
    guard !isPublishing else { return }
    isPublishing = true
    loop.atEndOfTurn(self)
  }

  func turnEnded() {
    isPublishing = false
    publishPending()
  }

  /// Publishes at once what changed: somebody is about to be told that it did.
  func publishPending() {
    guard !pending.isEmpty else { return }
    let change = pending
    pending = []
    publishNow(change)
  }

  private func publishNow(_ change: ClusterChange) {
    publication.publish(
      ClusterView(
        members: membership.members, raft: raftStatus, control: raft.state,
        heldRoles: Role.allCases.filter { roles.epoch(of: $0) != nil }, registry: registry.registry,
        registryVersion: registryVersion, localHealthScore: membership.localHealthScore,
        clockLeads: clockLeads.filter { member in membership.members.contains { $0.name == member.key && $0.state.isLive } },
        failure: failure), change)
  }
}

/// Facts of this node alone that outlive the process.
public enum StoredFact {
  /// The highest incarnation this node used.
  public static let incarnation = "incarnation"
  /// The control state as last applied, to serve from while no voter is reachable.
  public static let controlState = "control-state"
  /// The registry rows as last known, likewise.
  public static let registryRows = "registry-rows"

  public static func bytes(_ number: UInt64) -> [UInt8] {
    var writer = ByteWriter(reserving: 8)
    writer.uint64(number)
    return writer.bytes
  }

  public static func number(_ bytes: [UInt8]?) -> UInt64? {
    guard let bytes else { return nil }
    var reader = ByteReader(bytes)
    return try? reader.uint64()
  }
}
