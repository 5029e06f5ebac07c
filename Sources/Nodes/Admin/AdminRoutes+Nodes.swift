import Cluster
import Consensus
import Membership
import MeshActors
import Primitives
import Transport

/// What operators do to nodes, tokens, roles and keys.
extension AdminRoutes {
  private static let patience: Duration = .seconds(15)
  private var cluster: ClusterRuntime { node.cluster }

  // MARK: Tokens

  func createToken(_ request: TokenRequest) async throws -> TokenReply {
    let range = 1...UInt64(30 * 24 * 3600)
    guard range.contains(request.ttlSeconds), (1...ConsensusLimits.tokenUsesMax).contains(request.uses) else {
      throw AdminFailure(
        code: "invalid", message: "a token lives 1 second to 30 days and lets in 1 to \(ConsensusLimits.tokenUsesMax) nodes")
    }
    let view = cluster.view
    let live = view.members.filter(\.state.isLive)
    // This node first: the others may come and go.
    let local = live.filter { $0.name == node.node.name }
    let contacts = (local + live.filter { $0.name != node.node.name }).map { Seed(name: $0.name, address: $0.address) }
    let token = node.file.newToken(contacts: contacts)
    // Whoever comes with a token has no join secret, from which the first gossip key is made.
    if view.control.gossipKeys.isEmpty { try await rotateGossipKey() }
    let now = node.parts.clock.milliseconds()
    try await commit(
      .createToken(
        JoinToken(
          id: token.id, verifier: token.key, createdAt: now, expiresAt: now + request.ttlSeconds * 1000, uses: request.uses,
          author: node.node.name.string)))
    return TokenReply(id: "\(token.id)", token: token.text, expires: Self.time(milliseconds: now + request.ttlSeconds * 1000))
  }

  func tokens() -> [TokenInfo] {
    let now = node.parts.clock.milliseconds()
    return cluster.view.control.tokens.map { token in
      TokenInfo(
        id: "\(token.id)", state: token.refusal(at: now).map { $0 == .tokenExpired ? "expired" : "used" } ?? "valid",
        usesLeft: Int(token.usesLeft), expires: Self.time(milliseconds: token.expiresAt), author: token.author,
        joined: token.joined.map(\.string))
    }
  }

  func revokeToken(_ request: NameRequest) async throws -> [String: String] {
    guard let id = JoinTokenID(parsing: request.name), cluster.view.control.token(id) != nil else {
      throw AdminFailure(code: "notFound", message: "there is no join token '\(request.name)'; see: mesh-node token list")
    }
    try await commit(.revokeToken(id))
    return ["message": "token \(id) lets nobody in any more; nodes that it let in stay"]
  }

  // MARK: Nodes

  private func member(_ text: String) throws -> NodeName {
    let control = cluster.view.control
    guard let name = try? NodeName(text),
      cluster.view.member(name) != nil || control.nodes[name] != nil
        || control.trust.anchors.contains(where: { $0.node == name })
    else { throw AdminFailure(code: "notFound", message: "there is no node '\(text)'; see: mesh-node members") }
    return name
  }

  func drain(_ request: NameRequest, isDraining: Bool) async throws -> [String: String] {
    let name = try member(request.name)
    try await commit(.setPosture(name, isDraining ? .draining : .active))
    guard isDraining else { return ["message": "\(name) takes traffic, roles and votes again"] }
    try await eventually("\(name) to give up its roles and its vote") { view in
      !Self.isBusy(name, view) || view.raft.configuration.voters == [name]
    }
    return ["message": "\(name) drains: its workloads get no new requests, its roles and vote have moved"]
  }

  private static func isBusy(_ name: NodeName, _ view: ClusterView) -> Bool {
    view.raft.configuration.isVoter(name) || !view.control.roles.roles(heldBy: name).isEmpty
  }

  func depart() async -> [String: String] {
    var words = "node \(node.node.name) withdraws its workloads, tells the others and stops"
    do { try await cluster.depart(within: Self.patience) } catch {
      words += "\nits vote and roles could not be moved first: \((error as? MeshError)?.message ?? "\(error)")"
    }
    await node.askToLeave()
    return ["message": words]
  }

  func forget(_ request: NameRequest) async throws -> [String: String] {
    let name = try member(request.name)
    guard name != node.node.name else {
      throw AdminFailure(code: "invalid", message: "\(name) is this node; end it with: mesh-node leave --node \(name)")
    }
    if let state = cluster.view.member(name)?.state, state.isLive {
      throw AdminFailure(
        code: "conflict", message: "\(name) is \(state); stop it first: mesh-node leave --node \(name), or end its process")
    }
    try await commit(.setPosture(name, .gone))
    do {
      try await eventually("\(name) to lose its vote") { !$0.raft.configuration.contains(name) }
    } catch {
      try? await commit(.setPosture(name, .active))
      throw error
    }
    try await commit(.forgetNode(name))
    // It knew the key.
    try await rotateGossipKey()
    return ["message": "\(name) is forgotten; it may come back as a new node with the join secret or a token"]
  }

  // MARK: Roles and keys

  func transferRole(_ request: TransferRequest) async throws -> [String: String] {
    guard let role = Role.allCases.first(where: { $0.description == request.role }) else {
      throw AdminFailure(
        code: "invalid",
        message: "there is no role '\(request.role)'; it is one of \(Role.allCases.map(\.description).joined(separator: ", "))")
    }
    let name = try member(request.node)
    guard cluster.view.member(name)?.state == .alive, cluster.view.control.posture(of: name) == .active else {
      throw AdminFailure(code: "conflict", message: "\(name) cannot take a role: it is not alive, or it drains")
    }
    try await commit(.transferRole(role, to: name))
    try await eventually("\(name) to hold the role \(role)") { $0.control.roles[role].holder == name }
    return ["message": "\(name) holds the role \(role), epoch \(cluster.view.control.roles[role].epoch)"]
  }

  @discardableResult
  func rotateGossipKey() async throws -> [String: String] {
    // Another node may add one at the same time: then that one is the new key.
    for _ in 0..<3 {
      let key = GossipKey(id: cluster.view.control.nextGossipKeyID, bytes: secureRandom(count: GossipKey.byteCount))
      switch try await cluster.propose(.addGossipKey(key), within: Self.patience) {
      case .applied: return ["message": "gossip is sealed with key \(key.id) from now on; the one before it is still accepted"]
      case .conflict: continue
      case let outcome: throw AdminFailure(code: "invalid", message: "the key was refused: \(outcome)")
      }
    }
    throw AdminFailure(code: "conflict", message: "other nodes change the key at the same time; try again")
  }

  // MARK: Helpers of the log

  private func commit(_ command: Command) async throws {
    switch try await cluster.propose(command, within: Self.patience) {
    case .applied, .unchanged: return
    case .invalid(let reason): throw AdminFailure(code: "invalid", message: reason.words)
    case .limit(let limit): throw AdminFailure(code: "tooLarge", message: "the cluster has as many as it may: \(limit)")
    case .conflict, .staleEpoch: throw AdminFailure(code: "conflict", message: "the cluster changed meanwhile; try again")
    }
  }

  private func eventually(_ what: String, _ condition: (ClusterView) -> Bool) async throws {
    let deadline = ContinuousClock.now + Self.patience
    while !condition(cluster.view) {
      guard ContinuousClock.now < deadline else {
        throw AdminFailure(code: "timeout", message: "waited \(Self.patience) for \(what); see: mesh-node status")
      }
      try await Task.sleep(for: .milliseconds(25))
    }
  }
}
