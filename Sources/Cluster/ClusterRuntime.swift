import Consensus
import Membership
import Primitives
import Synchronization
import Transport

/// This node's part in the cluster: membership, registry, consensus and roles, over one link network.
///
/// The actor runs on the control loop, where the drivers are confined. `view` can be read from anywhere at any time.
public actor ClusterRuntime {
  public nonisolated let local: ClusterLocal
  public nonisolated let links: LinkNetwork
  /// Seals and opens the Secrets of the configuration. A node that joined with a token opens none until a member has given it the key.
  public nonisolated var secrets: SecretSeal { seal.withLock { $0 } }
  private nonisolated let loop: EventLoop
  public nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

  private nonisolated let seal: Mutex<SecretSeal>
  private nonisolated let publication: ClusterPublication
  private let core: ClusterCore

  /// Everything is made, nothing is started. Throws when the gossip port is taken or what is on the disk cannot be used.
  public init(
    loop: EventLoop, local: ClusterLocal, links: LinkNetwork, storage: NodeStorage, joinSecret: JoinSecret?,
    secretsKey: [UInt8]? = nil, identity: NodeIdentity, trust: Transport.TrustBundle, rememberedRows: SavedRows?,
    clock: WallClock, seed: UInt64
  ) throws {
    self.loop = loop
    self.local = local
    self.links = links
    let known = joinSecret.map { SecretSeal(joinSecret: $0.bytes, cluster: local.cluster) }
    seal = Mutex(known ?? SecretSeal(key: secretsKey, cluster: local.cluster))
    publication = ClusterPublication()
    core = try ClusterCore(
      loop: loop, local: local, links: links, storage: storage, joinSecret: joinSecret, identity: identity, trust: trust,
      rememberedRows: rememberedRows, clock: clock, seed: seed, publication: publication)
  }

  /// Carries a command to the node that leads Raft, by a remote call.
  public typealias Forward =
    @Sendable (_ command: Command, _ leader: NodeName, _ deadline: ContinuousClock.Instant) async throws -> Outcome

  /// Starts gossip, consensus and registry. Links have to listen already.
  public func start(forward: @escaping Forward) throws { try core.start(forward: forward) }

  public func stop() { core.stop() }

  // MARK: Looking

  public nonisolated var view: ClusterView { publication.view }

  /// What changed, coalesced: a slow reader sees one change that names everything since its last. Of what is not wanted nobody is told.
  public nonisolated func changes(of wanted: ClusterChange = .all) -> AsyncStream<ClusterChange> {
    publication.changes(of: wanted)
  }

  /// The epoch under which this node may act at this very moment, or nil.
  public func epoch(of role: Role) -> RoleEpoch? { core.epoch(of: role) }

  /// The workload of a row that `node` signed and has not replaced or withdrawn, as far as is known here; or nil.
  public func verifiedWorkload(_ row: [UInt8], of node: NodeName) -> WorkloadRow? { core.verifiedWorkload(row, of: node) }

  /// Whether the node may put its own authority into the trust bundle: the cluster file names it, or it was admitted before.
  public nonisolated func mayAnnounceAuthority(_ node: NodeName) -> Bool {
    let control = view.control
    guard control.posture(of: node) != .gone else { return false }
    return local.seeds.contains { $0.name == node } || control.nodes[node] != nil
      || control.trust.anchors.contains { $0.node == node }
  }

  /// What this node says to a join token that a stranger came with.
  public nonisolated func answer(
    to token: UInt64, of node: NodeName, offering authorities: [[UInt8]], at milliseconds: UInt64
  ) -> LinkTokenAnswer {
    let control = view.control
    guard let known = control.token(JoinTokenID(token)) else { return .refused(Outcome.Reason.tokenUnknown.words) }
    let anchors = control.trust.anchors.filter { $0.node == node }
    // It was let in before, and may not have heard of it yet.
    if anchors.contains(where: { authorities.contains($0.certificate) }) { return .key(known.verifier) }
    guard anchors.isEmpty else { return .refused(Outcome.Reason.nameInUse.words) }
    if let reason = known.refusal(at: milliseconds) { return .refused(reason.words) }
    return .key(known.verifier)
  }

  // MARK: Acting

  /// Takes the key of the cluster's Secrets that a member gave.
  public nonisolated func take(secretsKey: [UInt8]) {
    seal.withLock { $0 = SecretSeal(key: secretsKey, cluster: local.cluster) }
  }

  /// Puts a command into the log through whoever leads Raft, and returns what it did once it is committed here or there.
  ///
  /// Waits for a leader and a majority for at most `limit`. Throws `noQuorum` when too few voters are alive to decide, and
  /// `timeout` when it is not known whether the command was committed.
  public func propose(_ command: Command, within limit: Duration = .seconds(10)) async throws -> Outcome {
    try await core.propose(command, deadline: .now + limit)
  }

  /// As `propose`, where this node has to be the leader.
  public func proposeHere(_ command: Command, within limit: Duration = .seconds(10)) async throws -> Outcome {
    try await core.proposeHere(command, deadline: .now + limit)
  }

  /// Puts a change into the log of this node, which has to lead Raft and hold the configuration role under the change's epoch. Returns
  /// where it stands, before it is decided.
  public func place(_ change: ChangeSet, within limit: Duration = .seconds(10)) throws -> PlacedProposal {
    try core.place(change, deadline: .now + limit)
  }

  /// The revision that holds all that was decided before this call (Raft thesis 6.4); this node has to be the leader.
  public func decidedRevision(within limit: Duration = .seconds(10)) async throws -> LogIndex {
    try await core.decidedRevision(deadline: .now + limit)
  }

  /// Gossip that arrived and was not used, since the start.
  public var gossipRefusals: GossipRefusals { core.membership.refusals }

  public func publish(workload: WorkloadRow) throws { try core.publish(workload: workload) }

  public func withdraw(namespace: DNSLabel, name: DNSLabel) throws { try core.withdraw(namespace: namespace, name: name) }

  /// The row of a local workload as it travels, to show that this node hosts it.
  public func signedRow(namespace: DNSLabel, name: DNSLabel) -> [UInt8]? { core.signedRow(namespace: namespace, name: name) }

  /// Tells the others what this node serves and trusts.
  public func report(revisionServed: UInt64) { core.report(revisionServed: revisionServed) }

  /// Uses a renewed certificate for links and rows from now on.
  public func renewed(_ identity: NodeIdentity) throws { try core.renewed(identity) }

  public func trustChanged(_ trust: Transport.TrustBundle) { core.trustChanged(trust) }

  public func received(_ event: LinkEvent) { core.received(event) }

  /// The operator wants this node to go for good: its workloads look to others as leaving, its roles move, and another node takes
  /// its vote. Returns when it has neither role nor vote; throws when that did not come about in time.
  public func depart(within limit: Duration) async throws {
    core.isDeparting = true
    let deadline = ContinuousClock.now + limit
    _ = try await core.propose(.setPosture(local.name, .leaving), deadline: deadline)
    while ContinuousClock.now < deadline {
      let view = view
      let votes = view.raft.configuration.voters
      if !votes.contains(local.name) || votes == [local.name], view.control.roles.roles(heldBy: local.name).isEmpty { return }
      try await Task.sleep(for: ClusterLimits.leaderPoll)
    }
    throw MeshError(
      .timeout, "\(local.name) still has a role or a vote after \(limit); it stops, and the others treat it as dead")
  }

  /// Gives the roles back, says goodbye, and returns when the others were told or the time for it is over.
  public func leave() async { await core.leave() }
}

/// What a node is told at its start and says of itself.
public struct ClusterLocal: Sendable {
  public var name: NodeName
  public var cluster: DNSLabel
  public var trustDomain: String
  public var address: NodeAddress
  public var locality: String
  public var incarnation: UInt64
  public var meshPort: UInt16
  public var seeds: [Seed]
  /// Who takes part in consensus while the log says nothing else.
  public var configuration: ClusterConfiguration
  /// Voters that the cluster should have: 1, 3, 5 or 7.
  public var votersWanted = 3
  /// How long a voter may be dead before another node gets its vote.
  public var voterPatience: Duration = .seconds(30)
  public init(
    name: NodeName, cluster: DNSLabel, trustDomain: String, address: NodeAddress, locality: String, incarnation: UInt64,
    meshPort: UInt16, seeds: [Seed], configuration: ClusterConfiguration
  ) {
    self.name = name
    self.cluster = cluster
    self.trustDomain = trustDomain
    self.address = address
    self.locality = locality
    self.incarnation = incarnation
    self.meshPort = meshPort
    self.seeds = seeds
    self.configuration = configuration
  }
}

/// Gossip that arrived and was not used.
public struct GossipRefusals: Hashable, Sendable {
  /// Sealed with no key that is accepted (any more), or changed on their way.
  public var strangers: UInt64 = 0
  /// Came before.
  public var replays: UInt64 = 0
  /// Opened, but no message of a version that this node reads.
  public var unreadable: UInt64 = 0
  /// Things that a correct member does not say.
  public var claims: UInt64 = 0

  public init() {}
}

/// The wall clock, for certificates and for people; nothing else is decided by it.
public struct WallClock: Sendable {
  public let milliseconds: @Sendable () -> UInt64
  public init(milliseconds: @escaping @Sendable () -> UInt64) { self.milliseconds = milliseconds }
  public var seconds: Int64 { Int64(clamping: milliseconds() / 1000) }
}

/// The published view and those who wait for changes of it.
final class ClusterPublication: Sendable {
  private struct State {
    var view: ClusterView?
    var watchers: [UInt64: (wanted: ClusterChange, continuation: AsyncStream<ClusterChange>.Continuation)] = [:]
    var nextWatcher: UInt64 = 0
  }
  private let state = Mutex(State())

  /// Set once before anyone can read it.
  var view: ClusterView {
    state.withLock { state in
      guard let view = state.view else { preconditionFailure("the cluster publishes its view before it is handed out") }
      return view
    }
  }

  /// By one thread at a time. Nobody is told within the lock: a task that is cancelled holds one of its own, which telling it takes, while
  /// the end of its stream takes this one.
  func publish(_ view: ClusterView, _ change: ClusterChange) {
    let told = state.withLock { state in
      state.view = view
      return state.watchers.values.filter { !change.isDisjoint(with: $0.wanted) }.map(\.continuation)
    }
    for continuation in told {
      // The buffer holds one element; what was not read yet is joined to what comes in its place.
      if case .dropped(let unread) = continuation.yield(change) { continuation.yield(change.union(unread)) }
    }
  }

  func changes(of wanted: ClusterChange) -> AsyncStream<ClusterChange> {
    let (stream, continuation) = AsyncStream.makeStream(of: ClusterChange.self, bufferingPolicy: .bufferingNewest(1))
    let id = state.withLock { state in
      state.nextWatcher &+= 1
      state.watchers[state.nextWatcher] = (wanted, continuation)
      return state.nextWatcher
    }
    // What happened before somebody asked is news to them.
    continuation.yield(.all)
    continuation.onTermination = { [weak self] _ in
      self?.state.withLock { $0.watchers[id] = nil }
    }
    return stream
  }
}
