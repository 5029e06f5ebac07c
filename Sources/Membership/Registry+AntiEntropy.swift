import Primitives

extension Registry {
  /// Live members besides this node, in any order, whenever they change.
  public mutating func peersChanged(_ live: [NodeName], at now: Instant) {
    let others = live.filter { $0 != owner }
    let isSorted = zip(others, others.dropFirst()).allSatisfy { $0 < $1 }
    let hadPeers = !peers.isEmpty
    peers = isSorted ? others : others.sorted()
    if !hadPeers, !peers.isEmpty, !hasSynchronised { nextCompareAt = now }
  }

  /// A peer showed a digest, by gossip: compare soon if it differs.
  public mutating func heard(digest: UInt64, from peer: NodeName, at now: Instant, into effects: inout [Effect]) {
    guard digest != digestHash, now >= compareAllowedAt, pulls[peer] == nil, peers.contains(peer) else { return }
    compare(with: peer, at: now, into: &effects)
    idleComparisons += 1
  }

  /// Does what is due.
  public mutating func tick(at now: Instant, into effects: inout [Effect]) {
    for peer in pulls.keys.sorted() {
      if let pull = pulls[peer], now >= pull.until { pulls[peer] = nil }
    }
    if now >= nextCompareAt {
      let base = configuration.compareInterval * scale(above: 32)
      nextCompareAt = now + generator.duration(in: (base * 3 / 4)...(base * 5 / 4))
      if !peers.isEmpty { compare(with: peers[generator.index(below: peers.count)], at: now, into: &effects) }
      announceCompaction(at: now, into: &effects)
    }
  }

  /// When to call `tick` at the latest.
  public var nextDeadline: Instant { pulls.values.reduce(nextCompareAt) { min($0, $1.until) } }

  private mutating func announceCompaction(at now: Instant, into effects: inout [Effect]) {
    guard !compactionAnnounced, let tombstones = owners[owner]?.tombstones, let oldest = tombstones.first else { return }
    guard tombstones.count > configuration.tombstonesMax || now >= oldest.storedAt + configuration.tombstoneLife else { return }
    compactionAnnounced = true
    effects.append(.compactionDue)
  }

  /// Comparing costs in proportion to the owners: it is done as much more seldom, so that what it costs in a second does not grow
  /// with the cluster. Differences show themselves by gossip meanwhile.
  private func scale(above owners: Int) -> Int { max(1, ownerNames.count / owners) }

  private mutating func compare(with peer: NodeName, at now: Instant, into effects: inout [Effect]) {
    let gap = configuration.compareGap * scale(above: 64) * (1 << min(idleComparisons, 6))
    compareAllowedAt = now + min(gap, configuration.compareInterval)
    pulls[peer] = Pull(until: now + configuration.pullTimeout)
    sendDigest(to: peer, wantsReply: true, into: &effects)
  }

  /// The last part asks for the answer; the parts before it are compared as they come.
  private func sendDigest(to peer: NodeName, wantsReply: Bool, into effects: inout [Effect]) {
    let all = digest
    let size = MembershipLimits.digestOwnersMax
    guard !all.isEmpty else {
      effects.append(.send(.digest([], wantsReply: wantsReply), to: peer))
      return
    }
    for start in stride(from: 0, to: all.count, by: size) {
      let end = min(start + size, all.count)
      effects.append(.send(.digest(Array(all[start..<end]), wantsReply: wantsReply && end == all.count), to: peer))
    }
  }

  /// All owners in short, sorted by name.
  public var digest: [RegistryMessage.OwnerDigest] {
    ownerNames.compactMap { name in
      owners[name].map { RegistryMessage.OwnerDigest(owner: name, version: $0.version, hash: $0.hash) }
    }
  }

  /// What to ask a peer for that showed this digest.
  ///
  /// A higher version there is asked for from ours on. At an equal version with another hash something in between was missed, so all is
  /// asked for. What is higher here is the peer's to ask for.
  public func missing(comparedTo theirs: [RegistryMessage.OwnerDigest]) -> [RegistryMessage.OwnerRequest] {
    theirs.compactMap { their in
      guard their.owner != owner else {
        // Rows of an earlier life that was ahead of this one: seeing them, this node goes on above them.
        let ours = RowVersion(incarnation: incarnation, sequence: sequence)
        return their.version > ours ? .init(owner: owner, after: ours) : nil
      }
      guard let ours = owners[their.owner] else {
        let known = forgotten[their.owner] ?? .zero
        return their.version > known ? .init(owner: their.owner, after: .zero) : nil
      }
      if their.version > ours.version { return .init(owner: their.owner, after: ours.version) }
      guard their.version == ours.version, their.hash != ours.hash, ours.equivocatedAt == nil else { return nil }
      return .init(owner: their.owner, after: .zero)
    }
  }

  /// One page of what was asked for: each owner's node row, then its rows in the order of their versions.
  public func difference(_ requests: [RegistryMessage.OwnerRequest]) -> RegistryMessage {
    var page: [SignedRow] = []
    var bytes = 0
    var continuations: [RegistryMessage.OwnerRequest] = []
    for request in requests.prefix(MembershipLimits.requestOwnersMax) {
      guard let rows = owners[request.owner] else { continue }
      guard bytes < MembershipLimits.pageBytesMax, page.count + 1 < MembershipLimits.rowsPerMessageMax else {
        continuations.append(request)
        continue
      }
      var sent: [SignedRow] = rows.node.map { [$0.signed] } ?? []
      var last = request.after
      for stored in rows.inOrder where stored.row.version > request.after && stored.row.key.kind != .node {
        let isFull =
          bytes + sent.reduce(0) { $0 + $1.bytes } + stored.signed.bytes > MembershipLimits.pageBytesMax
          || page.count + sent.count >= MembershipLimits.rowsPerMessageMax
        if isFull, sent.count > 1 || !page.isEmpty {
          continuations.append(.init(owner: request.owner, after: last))
          break
        }
        sent.append(stored.signed)
        last = stored.row.version
      }
      page += sent
      bytes += sent.reduce(0) { $0 + $1.bytes }
    }
    return .rows(page, continuations: continuations)
  }

  /// Takes a message from a peer over its authenticated link.
  public mutating func handle(
    _ message: RegistryMessage, from peer: NodeName, verify: Verify, at now: Instant, into effects: inout [Effect]
  ) {
    guard peer != owner else { return }
    switch message {
    case .digest(let theirs, let wantsReply):
      if wantsReply { sendDigest(to: peer, wantsReply: false, into: &effects) }
      ask(peer, for: missing(comparedTo: theirs), isAnswer: !wantsReply, at: now, into: &effects)
    case .request(let requests):
      effects.append(.send(difference(requests), to: peer))
    case .rows(let rows, let continuations):
      take(rows, from: peer, verify: verify, at: now, into: &effects)
      guard let pull = pulls[peer] else { return }
      ask(peer, for: continuations + pull.rest, isAnswer: true, at: now, into: &effects)
    }
  }

  /// Asks for what is missing, or takes note that nothing is.
  private mutating func ask(
    _ peer: NodeName, for requests: [RegistryMessage.OwnerRequest], isAnswer: Bool, at now: Instant,
    into effects: inout [Effect]
  ) {
    guard !requests.isEmpty else {
      if isAnswer, pulls.removeValue(forKey: peer) != nil { hasSynchronised = true }
      return
    }
    let size = MembershipLimits.requestOwnersMax
    let rest = Array(requests.dropFirst(size).prefix(MembershipLimits.ownersMax))
    pulls[peer] = Pull(until: now + configuration.pullTimeout, rest: rest)
    effects.append(.send(.request(Array(requests.prefix(size))), to: peer))
  }

  private mutating func take(
    _ rows: [SignedRow], from peer: NodeName, verify: Verify, at now: Instant, into effects: inout [Effect]
  ) {
    let result = merge(rows, verify: verify, at: now)
    for rejection in result.rejected { effects.append(.rejected(rejection, from: peer)) }
    guard !result.changed.isEmpty else { return }
    idleComparisons = 0
    effects.append(.changed(result.changed))
    guard peers.count > configuration.pushFanout else { return }
    let news = result.changed.compactMap { $0.new }.compactMap { signedRow($0.key) }
    send(news, toAsManyAs: configuration.forwardFanout, except: peer, into: &effects)
  }
}
