import Primitives

/// The membership protocol of one node: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar, Phillips, Currey 2017).
///
/// Rules of its own, because members may lie or stall:
/// - *First hand.* Messages on a link come from an authenticated owner. A third party's claim of an incarnation far above what the
///   owner said, or of another address, is not believed: the owner is asked to introduce itself.
/// - *No conviction on hearsay.* `suspect` and `dead` rumors only start or confirm a suspicion; it ends in `dead` only if a probe
///   of this node's own stayed without answer, and no word came from the member since.
/// - *A stalled node accuses nobody.* A timer that fires late gives every suspicion and probe the time that was missed.
public struct SWIM: Hashable, Sendable {
  public enum Input: Hashable, Sendable {
    /// The armed timer fired. Other inputs also do what is due.
    case tick
    /// An opened datagram and where it came from.
    case datagram(SWIMMessage, from: NodeAddress)
    /// A message on an authenticated link with its peer.
    case stream(SWIMMessage, from: NodeName)
    /// A link was opened; the handshake proved the peer's name and said its incarnation.
    case linkUp(NodeName, incarnation: UInt64)
    /// A link ended or could not be opened.
    case linkDown(NodeName, LinkDownReason)
    /// Bytes arrived from the member at that time, on whatever connection proves it lives.
    case evidenceOfLife(NodeName, at: Instant)
    /// Nodes to reach, now and whenever they are not members.
    case join([Seed])
    /// This node is going.
    case leave
    /// The member said on its link that it is going.
    case peerLeaving(NodeName, incarnation: UInt64)
    /// The cluster has removed a member that is dead or left: nothing is kept of it.
    case forget(NodeName)
    /// New metadata of this node, cut to the limit.
    case metadataChanged([UInt8])
    /// New `Registry.digestHash` of this node.
    case registryDigest(UInt64)
  }

  public enum LinkDownReason: UInt8, Hashable, Sendable {
    /// Closed in order.
    case closed
    /// Reset by the peer or its host: the process is likely gone.
    case reset
    /// Nobody listens there.
    case refused
    /// Nothing was heard in time.
    case timedOut
  }

  /// To be carried out in order. Sending may fail silently.
  public enum Effect: Hashable, Sendable {
    /// Seal and send; the encoding fits `MembershipLimits.datagramBytesMax`.
    case sendDatagram(SWIMMessage, to: NodeAddress)
    /// Send on the urgent lane of the link with the node, opening one to the address when there is none.
    case sendStream(SWIMMessage, to: NodeName, at: NodeAddress)
    case memberChanged(MemberChange)
    /// Persist before the next start; the local record carries it from now on.
    case incarnationRaised(UInt64)
    /// A member's registry differs from ours: pull from it.
    case registryDiffers(NodeName, digest: UInt64)
    /// Something a correct member does not say; count it.
    case claimRejected(ClaimRejection)
    /// The farewell was told often enough, or `leaveTimeout` passed: the process may stop.
    case leaveCompleted
  }

  public enum ClaimRejection: Hashable, Sendable {
    /// The message's sender is not the link's peer, or is this node.
    case senderMismatch(claimed: NodeName, peer: NodeName?)
    /// Too far above what the owner said; the owner was asked.
    case farIncarnation(NodeName, claimed: UInt64)
    /// A third party moved a member to another address; the owner was asked.
    case addressMoved(NodeName, to: NodeAddress)
    /// The accuser is unknown, not alive, or the accused itself.
    case accuser(NodeName, of: NodeName)
    /// The member table is full.
    case tableFull(NodeName)
  }

  public let configuration: SWIMConfiguration
  public internal(set) var local: MemberRecord
  public internal(set) var isLeaving = false
  public internal(set) var awareness: Awareness

  var generator: SeededGenerator
  var table = MemberTable()
  var localState = MemberState.alive
  var localSince: Instant
  var seeds: [Seed] = []
  var rumors = RumorQueue()
  var registryDigest: UInt64 = 0

  var probes: [Probe] = []
  var relays: [Relay] = []
  var nextSequence: UInt32
  /// The rest of this round of the random permutation; refilled when it is used up (SWIM §4.3).
  var probeOrder: [NodeName] = []

  var nextProbeAt: Instant
  var nextGossipAt: Instant = .zero
  var nextSynchroniseAt: Instant
  var nextKnockAt: Instant = .distantFuture
  var nextPurgeAt: Instant
  var leaveDeadline: Instant?
  /// Knocks so far: every fourth also tries the link, for networks that drop UDP.
  var knocks: UInt64 = 0

  /// A member of itself only, until it is told of seeds. `seed` decides every random choice.
  public init(local: MemberRecord, configuration: SWIMConfiguration = SWIMConfiguration(), seed: UInt64, at now: Instant) {
    var record = local
    record.metadata = Array(record.metadata.prefix(MembershipLimits.metadataBytesMax))
    self.local = record
    self.configuration = configuration
    awareness = Awareness(scoreMax: configuration.awarenessMax)
    generator = SeededGenerator(seed: seed)
    localSince = now
    nextSequence = UInt32(truncatingIfNeeded: generator.next())
    nextProbeAt = now + generator.duration(in: .zero...configuration.probeInterval)
    nextSynchroniseAt = now + generator.duration(in: .zero...configuration.synchroniseInterval)
    nextPurgeAt = now + configuration.tombstoneLife
  }

  /// As `init`, with others already known by hearsay to be alive; what is known of them is not told on. For large simulated clusters.
  package init(
    local: MemberRecord, knowing others: [MemberRecord], configuration: SWIMConfiguration, seed: UInt64, at now: Instant
  ) {
    self.init(local: local, configuration: configuration, seed: seed, at: now)
    table.reserve(others.count)
    for record in others where record.name != local.name {
      table.set(MemberTable.Entry(member: Member(record: record, state: .alive, since: now)))
    }
    nextSynchroniseAt = now + generator.duration(in: .zero...synchroniseInterval)
  }

  /// All members with this node, sorted by name.
  public var members: [Member] {
    var list = table.entries.map(\.member)
    let own = Member(record: local, state: localState, since: localSince)
    list.insert(own, at: list.firstIndex { local.name < $0.name } ?? list.endIndex)
    return list
  }

  /// One member, this node included.
  public func member(_ name: NodeName) -> Member? {
    name == local.name ? Member(record: local, state: localState, since: localSince) : table[name]?.member
  }

  /// Members alive or suspect, this node included.
  public var liveCount: Int { table.liveCount + 1 }

  /// How slow this node seems to itself: 0 healthy, up to `SWIMConfiguration.awarenessMax`.
  public var localHealthScore: Int { awareness.score }

  /// Takes one input, does everything that is due, and appends what the driver has to do. `now` never goes backwards.
  public mutating func handle(_ input: Input, at now: Instant, into effects: inout [Effect]) {
    noticeStall(at: now, into: &effects)
    switch input {
    case .tick: break
    case .datagram(let message, let address): receive(message, fromAddress: address, at: now, into: &effects)
    case .stream(let message, let peer): receive(message, fromPeer: peer, at: now, into: &effects)
    case .linkUp(let peer, let incarnation): linkOpened(with: peer, incarnation: incarnation, at: now, into: &effects)
    case .linkDown(let peer, let reason): linkEnded(with: peer, reason, at: now, into: &effects)
    case .evidenceOfLife(let name, let instant): table.heard(name, at: min(instant, now))
    case .join(let seeds): join(seeds, at: now, into: &effects)
    case .leave: leave(at: now, into: &effects)
    case .peerLeaving(let name, let incarnation):
      applyLeft(name, incarnation: incarnation, firstHand: true, from: name, at: now, into: &effects)
    case .forget(let name):
      if let member = table[name]?.member, !member.state.isLive { forget(member, into: &effects) }
    case .metadataChanged(let metadata): changeMetadata(metadata, at: now, into: &effects)
    case .registryDigest(let digest): registryDigest = digest
    }
    doWhatIsDue(at: now, into: &effects)
  }

  /// When to call `handle(.tick)` if nothing else happens before; nil once this node has left.
  public var nextDeadline: Instant? {
    if isLeaving, leaveDeadline == nil { return nil }
    var deadline = min(nextProbeAt, nextSynchroniseAt, nextKnockAt, nextPurgeAt)
    if let leaveDeadline { deadline = min(deadline, leaveDeadline) }
    if !rumors.isEmpty, table.liveCount > 0 { deadline = min(deadline, nextGossipAt) }
    for probe in probes { deadline = min(deadline, probe.nextDeadline) }
    for relay in relays { deadline = min(deadline, relay.nextDeadline) }
    for name in table.suspects {
      guard let suspicion = table[name]?.suspicion else { continue }
      deadline = min(deadline, suspicion.verifyAt ?? suspicion.deadline, suspicion.deadline)
    }
    return deadline
  }

  private mutating func doWhatIsDue(at now: Instant, into effects: inout [Effect]) {
    advanceProbes(at: now, into: &effects)
    advanceRelays(at: now, into: &effects)
    advanceSuspicions(at: now, into: &effects)
    if now >= nextProbeAt { startRegularProbe(at: now, into: &effects) }
    if now >= nextSynchroniseAt { synchroniseWithSomebody(at: now, into: &effects) }
    if now >= nextKnockAt { knock(at: now, into: &effects) }
    if now >= nextPurgeAt { purgeTombstones(at: now, into: &effects) }
    if !rumors.isEmpty, table.liveCount > 0, now >= nextGossipAt { gossip(at: now, into: &effects) }
    finishLeaving(at: now, into: &effects)
  }

  /// Lifeguard §IV.A by other means: a timer that fires late shows that this node did not run, so the answers it misses may be
  /// waiting in its own socket. What it missed is given back to everyone it was watching.
  private mutating func noticeStall(at now: Instant, into effects: inout [Effect]) {
    guard let due = nextDeadline, now > due + configuration.stallTolerance else { return }
    let late = now - due
    awareness.add(late > configuration.probeInterval * 2 ? 2 : 1)
    let allowance = late + configuration.probeTimeout
    for name in table.suspects { table.update(name) { $0.suspicion?.allow(allowance) } }
    for index in probes.indices { probes[index].postpone(by: allowance) }
    guard late >= configuration.suspicionMin, !isLeaving else { return }
    // Long enough to have been suspected: say so before anybody asks, and learn what happened meanwhile.
    raiseIncarnation(above: local.incarnation, at: now, into: &effects)
    nextSynchroniseAt = now
    nextKnockAt = min(nextKnockAt, now)
  }
}
