import Primitives

extension ControlState {
  mutating func perform(_ command: Command, at position: LogPosition) -> AppliedEntry {
    let outcome: Outcome
    var touched: AppliedEntry.Touched = []
    switch command {
    case .noop: outcome = .unchanged(revision: revision)
    case .configuration(let change):
      outcome = answer(change, at: position.index)
      touched = .objects
    case .assignRole(let grant):
      outcome = assign(grant)
      touched = .roles
    case .releaseRole(let role, let epoch):
      outcome = release(role, epoch)
      touched = .roles
    case .addTrustAnchor(let node, let certificate):
      outcome = addAnchor(node, certificate, at: position.index)
      touched = .trust
    case .removeTrustAnchor(let fingerprint, let epoch):
      outcome = removeAnchor(fingerprint, epoch, at: position.index)
      touched = .trust
    case .allocateAddresses(let allocations, let epoch):
      outcome = allocate(allocations, epoch)
      touched = .addresses
    case .freeAddresses(let hosts, let epoch):
      outcome = free(hosts, epoch)
      touched = .addresses
    case .admitNode(let node):
      outcome = admit(node)
      touched = .nodes
    case .forgetNode(let name):
      outcome = forget(name, at: position.index)
      touched = [.nodes, .trust, .roles]
    case .createToken(let token):
      outcome = createToken(token)
      touched = .nodes
    case .revokeToken(let id):
      outcome = revokeToken(id)
      touched = .nodes
    case .joinByToken(let join):
      outcome = self.join(join, at: position.index)
      touched = [.nodes, .trust]
    case .setPosture(let node, let posture):
      outcome = setPosture(posture, of: node)
      touched = .nodes
    case .transferRole(let role, let node):
      outcome = prefer(node, for: role)
      touched = .roles
    case .addGossipKey(let key):
      outcome = addGossipKey(key)
      touched = .nodes
    }
    let isApplied = if case .applied = outcome { true } else { false }
    return AppliedEntry(position: position, outcome: outcome, touched: isApplied ? touched : [])
  }

  private func isStale(_ epoch: RoleEpoch, for role: Role) -> Bool { epoch != roles[role].epoch && !mutated(.forgetFences) }

  // MARK: Configuration

  private mutating func answer(_ change: ChangeSet, at index: LogIndex) -> Outcome {
    if let first = outcomes[change.requestID] { return first }
    let outcome = write(change, at: index)
    // A stale epoch is the proposer's matter, not the request's: it may come again under the next one.
    if case .staleEpoch = outcome { return outcome }
    outcomes.remember(outcome, for: change.requestID)
    return outcome
  }

  /// What the state will be once a change that was put into the log at `index` is applied, so that the next one can be decided before.
  /// Changes nothing but objects and revisions, and nothing at all where the change would be refused.
  public mutating func foresee(_ change: ChangeSet, at index: LogIndex) { _ = write(change, at: index) }

  private mutating func write(_ change: ChangeSet, at index: LogIndex) -> Outcome {
    if isStale(change.epoch, for: .configuration) { return .staleEpoch(current: roles[.configuration].epoch) }
    if let expected = change.expectedRevision, expected != revision { return .conflict(revision: revision) }
    let puts = change.puts.filter { objects[$0.key]?.bytes != $0.bytes }
    let deletes = change.deletes.filter { objects[$0] != nil }
    if let refusal = refusal(of: change, puts: puts, deletes: deletes) { return refusal }
    guard !puts.isEmpty || !deletes.isEmpty else { return .unchanged(revision: revision) }
    let changed = (puts.map(\.key) + deletes).sorted()
    revisions.append(
      ConfigurationRevision(
        number: index, previous: revision, author: change.author,
        changes: changed.map { ConfigurationRevision.Change(key: $0, before: objects[$0]) }))
    for key in deletes { objectBytes -= objects.removeValue(forKey: key)?.bytes.count ?? 0 }
    for put in puts {
      let old = objects[put.key]
      objects[put.key] = StoredObject(bytes: put.bytes, created: old?.created ?? index, version: index)
      objectBytes += put.bytes.count - (old?.bytes.count ?? 0)
    }
    revision = index
    return .applied(revision: index)
  }

  private func refusal(of change: ChangeSet, puts: [ObjectPut], deletes: [ObjectKey]) -> Outcome? {
    guard change.puts.count + change.deletes.count <= ConsensusLimits.changesMax else { return .limit(.changes) }
    let keys = change.puts.map(\.key) + change.deletes
    guard Set(keys).count == keys.count else { return .invalid(.duplicateKey) }
    guard change.puts.allSatisfy({ $0.bytes.count <= ConsensusLimits.objectBytesMax }) else { return .limit(.objectBytes) }
    let created = puts.count { objects[$0.key] == nil }
    guard objects.count + created - deletes.count <= ConsensusLimits.objectsMax else { return .limit(.objects) }
    let grown = puts.reduce(0) { $0 + $1.bytes.count - (objects[$1.key]?.bytes.count ?? 0) }
    let freed = deletes.reduce(0) { $0 + (objects[$1]?.bytes.count ?? 0) }
    guard objectBytes + grown - freed <= ConsensusLimits.objectsBytesMax else { return .limit(.allBytes) }
    return nil
  }

  // MARK: Roles

  private mutating func assign(_ grant: RoleGrant) -> Outcome {
    let current = roles[grant.role].epoch
    guard grant.epoch == current.next, grant.epoch > current else { return .staleEpoch(current: current) }
    roles[grant.role] = RoleState(holder: grant.holder, epoch: grant.epoch, assignedAt: grant.at, reason: grant.reason)
    return .applied(revision: revision)
  }

  /// The epoch stays: acts of the former holder are refused only once the next one has the role, and none comes between.
  private mutating func release(_ role: Role, _ epoch: RoleEpoch) -> Outcome {
    guard !isStale(epoch, for: role) else { return .staleEpoch(current: roles[role].epoch) }
    guard roles[role].holder != nil else { return .unchanged(revision: revision) }
    roles[role].holder = nil
    return .applied(revision: revision)
  }

  // MARK: Trust

  mutating func addAnchor(_ node: NodeName, _ certificate: [UInt8], at index: LogIndex) -> Outcome {
    guard !certificate.isEmpty else { return .invalid(.emptyCertificate) }
    let fingerprint = SHA256.digest(of: certificate)
    guard !trust.anchors.contains(where: { $0.fingerprint == fingerprint }) else { return .unchanged(revision: revision) }
    guard trust.anchors.count < ConsensusLimits.trustAnchorsMax,
      trust.anchors.count(where: { $0.node == node }) < ConsensusLimits.trustAnchorsPerNodeMax
    else { return .limit(.trustAnchors) }
    trust.anchors.append(TrustAnchor(node: node, certificate: certificate, fingerprint: fingerprint, added: index))
    trust.anchors.sort(by: TrustAnchor.precedes)
    trust.version = index
    return .applied(revision: revision)
  }

  private mutating func removeAnchor(_ fingerprint: Digest, _ epoch: RoleEpoch, at index: LogIndex) -> Outcome {
    if isStale(epoch, for: .certificateAuthority) { return .staleEpoch(current: roles[.certificateAuthority].epoch) }
    guard let at = trust.anchors.firstIndex(where: { $0.fingerprint == fingerprint }) else {
      return .unchanged(revision: revision)
    }
    trust.anchors.remove(at: at)
    trust.version = index
    return .applied(revision: revision)
  }

  // MARK: Addresses and nodes

  private mutating func allocate(_ allocations: [AddressAllocation], _ epoch: RoleEpoch) -> Outcome {
    if isStale(epoch, for: .discovery) { return .staleEpoch(current: roles[.discovery].epoch) }
    let new = allocations.filter { addresses[$0.host] != $0.address }
    guard !new.isEmpty else { return .unchanged(revision: revision) }
    guard addresses.count + new.count <= ConsensusLimits.serviceAddressesMax else { return .limit(.addresses) }
    var taken = Set(addresses.values)
    for allocation in new {
      // An address once given stays: applications and resolvers remember it.
      guard addresses[allocation.host] == nil, taken.insert(allocation.address).inserted else {
        return .invalid(.addressTaken)
      }
    }
    guard Set(new.map(\.host)).count == new.count else { return .invalid(.duplicateKey) }
    for allocation in new { addresses[allocation.host] = allocation.address }
    return .applied(revision: revision)
  }

  private mutating func free(_ hosts: [String], _ epoch: RoleEpoch) -> Outcome {
    if isStale(epoch, for: .discovery) { return .staleEpoch(current: roles[.discovery].epoch) }
    let known = hosts.filter { addresses[$0] != nil }
    for host in known { addresses[host] = nil }
    return known.isEmpty ? .unchanged(revision: revision) : .applied(revision: revision)
  }

  mutating func admit(_ node: AdmittedNode) -> Outcome {
    guard nodes[node.name] != node else { return .unchanged(revision: revision) }
    guard nodes[node.name] != nil || nodes.count < ConsensusLimits.nodesMax else { return .limit(.nodes) }
    nodes[node.name] = node
    return .applied(revision: revision)
  }

  /// Free addresses for hosts that have none: where the name's hash points, or the next free one after it, so that a
  /// host mostly gets the same address in every cluster. What the holder of the discovery role proposes.
  public func freeAddresses(for hosts: [String]) -> [AddressAllocation] {
    var taken = Set(addresses.values)
    var allocations: [AddressAllocation] = []
    for host in Set(hosts).subtracting(addresses.keys).sorted() {
      guard taken.count < ConsensusLimits.serviceAddressesMax, allocations.count < ConsensusLimits.allocationsMax else {
        break
      }
      let digest = SHA256.digest(of: Array(host.utf8)).bytes
      var candidate = UInt16(digest[0]) << 8 | UInt16(digest[1])
      while true {
        if let address = ServiceAddress(host: candidate), taken.insert(address).inserted {
          allocations.append(AddressAllocation(host: host, address: address))
          break
        }
        candidate &+= 1
      }
    }
    return allocations
  }
}
