import Primitives

/// Who belongs to the cluster: tokens, joins, postures, gossip keys, and the forgetting of the dead.
extension ControlState {
  public func token(_ id: JoinTokenID) -> JoinToken? { tokens.first { $0.id == id } }
  public func posture(of node: NodeName) -> NodePosture { postures[node] ?? .active }

  /// The id that the next gossip key has to have.
  public var nextGossipKeyID: UInt8 { GossipKey.id(after: gossipKeys.last?.id) }

  mutating func createToken(_ token: JoinToken) -> Outcome {
    guard token.verifier.count == JoinToken.verifierBytes, token.expiresAt > token.createdAt, token.joined.isEmpty,
      (1...ConsensusLimits.tokenUsesMax).contains(token.usesLeft)
    else { return .invalid(.malformedToken) }
    if let known = self.token(token.id) { return known == token ? .unchanged(revision: revision) : .invalid(.duplicateKey) }
    // What has expired is of no use to anybody; the newcomer's time is the log's word for now.
    tokens.removeAll { $0.expiresAt <= token.createdAt }
    guard tokens.count < ConsensusLimits.tokensMax else { return .limit(.tokens) }
    tokens.append(token)
    tokens.sort { $0.id < $1.id }
    return .applied(revision: revision)
  }

  mutating func revokeToken(_ id: JoinTokenID) -> Outcome {
    guard let index = tokens.firstIndex(where: { $0.id == id }) else { return .unchanged(revision: revision) }
    tokens.remove(at: index)
    return .applied(revision: revision)
  }

  /// Admits a node and trusts its authority, once for each use of the token.
  mutating func join(_ join: TokenJoin, at index: LogIndex) -> Outcome {
    let name = join.node.name
    let anchors = trust.anchors.filter { $0.node == name }
    if anchors.contains(where: { $0.certificate == join.certificate }) {
      return nodes[name] == join.node ? .unchanged(revision: revision) : admit(join.node)
    }
    guard anchors.isEmpty else { return .invalid(.nameInUse) }
    guard let slot = tokens.firstIndex(where: { $0.id == join.token }) else { return .invalid(.tokenUnknown) }
    if let reason = tokens[slot].refusal(at: join.at) { return .invalid(reason) }
    guard nodes[name] != nil || nodes.count < ConsensusLimits.nodesMax else { return .limit(.nodes) }
    let outcome = addAnchor(name, join.certificate, at: index)
    guard case .applied = outcome else { return outcome }
    nodes[name] = join.node
    postures[name] = nil
    tokens[slot].usesLeft -= 1
    tokens[slot].joined.append(name)
    return outcome
  }

  /// Removes everything that lets the node be taken for a member; it may come back as a new one under its name.
  mutating func forget(_ name: NodeName, at index: LogIndex) -> Outcome {
    let hasAnchors = trust.anchors.contains { $0.node == name }
    guard nodes[name] != nil || hasAnchors || postures[name] != nil else { return .unchanged(revision: revision) }
    nodes[name] = nil
    postures[name] = nil
    if hasAnchors {
      trust.anchors.removeAll { $0.node == name }
      trust.version = index
    }
    for role in Role.allCases {
      if roles[role].preferred == name { roles[role].preferred = nil }
      // Its lease cannot be renewed without its certificate; the next assignment raises the epoch.
      if roles[role].holder == name { roles[role].holder = nil }
    }
    return .applied(revision: revision)
  }

  mutating func setPosture(_ posture: NodePosture, of node: NodeName) -> Outcome {
    guard self.posture(of: node) != posture else { return .unchanged(revision: revision) }
    guard postures[node] != nil || postures.count < ConsensusLimits.nodesMax else { return .limit(.nodes) }
    postures[node] = posture == .active ? nil : posture
    return .applied(revision: revision)
  }

  /// Asks for a role to be moved; the leader moves it once the present lease is surely over.
  mutating func prefer(_ holder: NodeName, for role: Role) -> Outcome {
    guard roles[role].holder != holder else {
      roles[role].preferred = nil
      return .unchanged(revision: revision)
    }
    guard trust.anchors.contains(where: { $0.node == holder }) else { return .invalid(.unknownNode) }
    guard roles[role].preferred != holder else { return .unchanged(revision: revision) }
    roles[role].preferred = holder
    return .applied(revision: revision)
  }

  /// Adds the key that follows the last one; the two newest are kept, so that nobody is shut out while it spreads.
  mutating func addGossipKey(_ key: GossipKey) -> Outcome {
    guard key.bytes.count == GossipKey.byteCount else { return .invalid(.malformedKey) }
    guard key.id == nextGossipKeyID else { return .conflict(revision: revision) }
    gossipKeys.append(key)
    if gossipKeys.count > ConsensusLimits.gossipKeysMax { gossipKeys.removeFirst() }
    return .applied(revision: revision)
  }
}
