import Cluster
import Consensus
import Distributed
import Membership
import MeshConfig
import Primitives
import Transport

/// Orders configuration: validates changes where this node holds the configuration role, and takes proposals for the log
/// where it leads Raft.
public distributed actor ConfigActor: MeshActor {
  public static let name = "config"
  public static let targets = ActorTargets.config

  /// Writes come from any node: people use the node they are at.
  public static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private let cluster: ClusterRuntime
  /// What the names of services end in.
  private let domain: String
  /// Whether objects may direct what other namespaces send to hosts that are not their own namespace's.
  private let isolatesTenants: Bool
  private var decoded = DecodedObjects()
  private var order = SubmissionOrder()
  private var foresight = Foresight()

  public init(cluster: ClusterRuntime, domain: String, isolatesTenants: Bool = false, actorSystem: SocketActorSystem) {
    self.isolatesTenants = isolatesTenants
    self.cluster = cluster
    self.domain = domain
    self.actorSystem = actorSystem
  }

  /// Validates a change against the state it would be applied to, and commits it as one entry.
  ///
  /// Throws `notHolder` when this node may not act under the configuration role at this moment.
  public distributed func submit(_ change: ConfigChange) async throws -> ConfigReply {
    // The state may come out other than it was foreseen; the entry then says so, and everything is decided again.
    for attempt in 0..<Self.attemptsMax {
      switch try await handOver(change, attempt) {
      case .answered(let reply): return reply
      case .placed(let placed): if let reply = try await settle(placed) { return reply }
      case .overtaken: continue
      }
    }
    throw MeshError(.conflict, "other changes kept coming first; try again", retryable: true)
  }

  private static let attemptsMax = 8

  private enum HandedOver {
    case answered(ConfigReply)
    case placed(Placed)
    case overtaken
  }

  private struct Placed {
    let proposal: PlacedProposal
    let decision: ConfigurationDecision
    let generation: UInt64
  }

  /// Decides on a change, one after another, and puts it into the log behind those that are on their way.
  private func handOver(_ change: ConfigChange, _ attempt: Int) async throws -> HandedOver {
    if try !order.tryTake() { await withCheckedContinuation { order.wait($0) } }
    defer { order.leave() }
    let role = cluster.view.control.roles[.configuration]
    guard role.holder == cluster.local.name else { throw notHolder() }
    // What it sealed nobody could open, and what others sealed it could not judge.
    guard cluster.secrets.isShared else {
      throw MeshError(.unavailable, "\(cluster.local.name) joined just now and has no key of the Secrets yet")
    }
    let decision = decide(change, on: foresight.base(cluster.view.control))
    guard !change.dryRun, decision.reply.isAccepted else { return .answered(decision.reply) }
    // That nothing changes is decided by the log as well: only so is it known that no other holder has changed it meanwhile.
    let entry = Consensus.ChangeSet(
      puts: decision.puts, deletes: decision.deletes, expectedRevision: LogIndex(decision.reply.revision),
      requestID: RequestID(high: change.requestHigh, low: change.requestLow &+ UInt64(attempt)), epoch: role.epoch,
      author: change.author)
    guard cluster.view.raft.duty == .leader else {
      return try await commit(entry).map { .answered(decision.reply(at: $0.number)) } ?? .overtaken
    }
    let proposal = try await cluster.place(entry)
    let generation = foresight.note(entry, at: proposal.place, over: cluster.view.control)
    return .placed(Placed(proposal: proposal, decision: decision, generation: generation))
  }

  /// Waits until a change stands; nil when it has to be decided again.
  private func settle(_ placed: Placed) async throws -> ConfigReply? {
    do {
      let outcome = try await placed.proposal.outcome()
      guard let revision = try revision(of: outcome) else {
        startAfresh()
        return nil
      }
      let isForeseen = revision == placed.proposal.place || !placed.decision.changesAnything
      if isForeseen { foresight.settle(placed.generation) } else { startAfresh() }
      await reach(revision)
      return placed.decision.reply(at: revision.number)
    } catch let error as MeshError where error.code == .conflict {
      startAfresh()
      return nil
    } catch {
      startAfresh()
      throw error
    }
  }

  /// Something did not come as foreseen. What was decided on it is refused by the log; what comes next is decided on what is there.
  private func startAfresh() {
    foresight.forget()
    decoded = DecodedObjects()
  }

  /// Commits through another node that leads Raft: where an operator has moved the role away from the leader.
  private func commit(_ entry: Consensus.ChangeSet) async throws -> LogIndex? {
    let outcome = try await cluster.propose(.configuration(entry))
    let revision = try revision(of: outcome)
    if case .conflict(let current) = outcome { await reach(current) }
    if let revision { await reach(revision) }
    return revision
  }

  /// The revision that holds the change; nil when it was decided on another one.
  private func revision(of outcome: Outcome) throws -> LogIndex? {
    switch outcome {
    case .applied(let revision), .unchanged(let revision): return revision
    case .conflict: return nil
    case .staleEpoch: throw notHolder()
    case .limit(let limit): throw MeshError(.tooLarge, "the configuration would pass a limit: \(limit)")
    case .invalid(let reason): throw MeshError(.invalid, "the change contradicts the state: \(reason)")
    }
  }

  private func decide(_ change: ConfigChange, on state: ControlState) -> ConfigurationDecision {
    if let number = change.rollbackTo { return ConfigurationDecision(rollingBack: LogIndex(number), state) }
    return ConfigurationDecision(
      change, state, decoded.objects(of: state, secrets: cluster.secrets), references, cluster.secrets)
  }

  /// Puts a command of another node into the log; this node has to lead Raft. Returns what the committed entry did.
  public distributed func propose(_ command: [UInt8]) async throws -> ProposalReply {
    guard let decoded = try? Command(decoding: command) else {
      throw MeshError(.badArguments, "the command cannot be read; the nodes may run different versions")
    }
    try authorize(decoded, by: RemoteCall.caller)
    return ProposalReply(try await cluster.proposeHere(decoded))
  }

  /// The revision that holds all that was decided before this call; this node has to lead Raft.
  public distributed func decidedRevision() async throws -> UInt64 { try await cluster.decidedRevision().number }

  /// The key that opens the configuration's Secrets, for a member that joined with a token.
  public distributed func secretsKey() async throws -> [UInt8] {
    if let caller = RemoteCall.caller, !isMember(caller) || cluster.view.control.posture(of: caller) == .gone {
      throw MeshError(.unauthorized, "\(caller) is no member of the cluster")
    }
    guard let key = cluster.secrets.sharedKey else {
      throw MeshError(.unavailable, "\(cluster.local.name) has not been given the key of the Secrets itself")
    }
    return key
  }

  /// Waits until this node has applied what the leader has, so that the next change is decided on it.
  private func reach(_ revision: LogIndex) async {
    guard cluster.view.control.revision < revision else { return }
    for await _ in cluster.changes(of: .objects) where cluster.view.control.revision >= revision { return }
  }

  private var references: ReferenceRules.Settings {
    var settings = ReferenceRules.Settings(domain: domain)
    settings.isolatesTenants = isolatesTenants
    for placed in cluster.view.registry.workloads(live: []) where !placed.row.isGateway {
      settings.registeredHosts.insert("\(placed.row.service).\(placed.row.namespace).svc.\(settings.domain)")
    }
    return settings
  }

  private func notHolder() -> MeshError {
    let holder = cluster.view.control.roles[.configuration].holder
    return MeshError(.notHolder, holder.map { "\($0) holds the configuration role" } ?? "nobody holds the configuration role")
  }

  /// A certificate that nobody could use would only fill the bundle.
  private func isAuthority(_ der: [UInt8]) -> Bool { (try? Certificate(der: der))?.isAuthority == true }

  private func isMember(_ node: NodeName) -> Bool { cluster.view.control.trust.anchors.contains { $0.node == node } }

  /// What a node may put into the log is decided by its certificate's name.
  private func authorize(_ command: Command, by caller: NodeName?) throws(MeshError) {
    guard let caller else { return }
    let isAllowed =
      switch command {
      case .configuration: try isHolder(caller, of: .configuration)
      case .releaseRole(let role, _): try isHolder(caller, of: role)
      case .addTrustAnchor(let node, let certificate):
        node == caller && cluster.mayAnnounceAuthority(node) && isAuthority(certificate)
      // A member vouches that the node proved the token to it, and that this is the authority it offered.
      case .joinByToken(let join): isMember(caller) && isAuthority(join.certificate)
      case .removeTrustAnchor: try isHolder(caller, of: .certificateAuthority)
      case .allocateAddresses, .freeAddresses: try isHolder(caller, of: .discovery)
      case .admitNode(let node): node.name == caller
      // What operators ask for, on whichever node they are.
      case .createToken, .revokeToken, .setPosture, .forgetNode, .transferRole, .addGossipKey: isMember(caller)
      case .assignRole: false
      case .noop: true
      }
    guard isAllowed else { throw MeshError(.unauthorized, "\(caller) may not propose this command") }
  }

  /// A member that acts under a role it has lost does nothing forbidden: it, or this node, has not heard the latest.
  private func isHolder(_ caller: NodeName, of role: Role) throws(MeshError) -> Bool {
    let holder = cluster.view.control.roles[role].holder
    if holder == caller { return true }
    guard isMember(caller) else { return false }
    let words = holder.map { "\($0) holds the role \(role), not \(caller)" } ?? "nobody holds the role \(role)"
    throw MeshError(.staleEpoch, words)
  }
}

/// The outcome of a proposal, on the wire.
public struct ProposalReply: Codable, Sendable {
  public enum Kind: UInt8, Codable, Sendable { case applied, unchanged, conflict, staleEpoch, limit, invalid }
  public var kind: Kind
  /// The revision, the current epoch, or the number of the limit or reason.
  public var number: UInt64

  public init(_ outcome: Outcome) {
    switch outcome {
    case .applied(let revision): (kind, number) = (.applied, revision.number)
    case .unchanged(let revision): (kind, number) = (.unchanged, revision.number)
    case .conflict(let revision): (kind, number) = (.conflict, revision.number)
    case .staleEpoch(let epoch): (kind, number) = (.staleEpoch, epoch.number)
    case .limit(let limit): (kind, number) = (.limit, UInt64(limit.rawValue))
    case .invalid(let reason): (kind, number) = (.invalid, UInt64(reason.rawValue))
    }
  }

  public var outcome: Outcome {
    switch kind {
    case .applied: .applied(revision: LogIndex(number))
    case .unchanged: .unchanged(revision: LogIndex(number))
    case .conflict: .conflict(revision: LogIndex(number))
    case .staleEpoch: .staleEpoch(current: RoleEpoch(number))
    case .limit: .limit(Outcome.Limit(rawValue: UInt8(truncatingIfNeeded: number)) ?? .allBytes)
    case .invalid: .invalid(Outcome.Reason(rawValue: UInt8(truncatingIfNeeded: number)) ?? .duplicateKey)
    }
  }
}
