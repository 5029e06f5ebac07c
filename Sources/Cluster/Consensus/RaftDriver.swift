import Consensus
import Primitives
import Transport

/// Runs the Raft core: persists on the storage thread, sends over links, applies to the control state. Confined to the
/// control loop.
///
/// Effects are carried out strictly in order. A write waits on the storage thread, never here: a slow disk delays only
/// what depends on it, and the node goes on answering probes.
final class RaftDriver: TimerHandler, TurnHandler {
  struct Outputs {
    var send: (_ message: [UInt8], _ node: NodeName, _ isBulk: Bool) -> Void
    var applied: (AppliedEntry) -> Void
    /// Proposers are about to be told that their entries are applied.
    var settling: () -> Void
    var restored: () -> Void
    var leadershipChanged: () -> Void
    var failed: (String) -> Void
    /// What was said to have failed is over.
    var recovered: () -> Void
  }

  /// The state after the last applied entry: of this node's log, or pulled from others while it takes no part in the log.
  private(set) var state: ControlState
  /// What this node can give to those that follow.
  private(set) var recent: RecentEntries
  private var raft: Raft
  /// Makes a server of what the disk holds.
  private let makeRaft: (RecoveredState) -> Raft
  private let loop: EventLoop
  private let storage: NodeStorage
  private let outputs: Outputs
  private var timer: TimerToken?

  private var effects: [RaftEffect] = []
  private var nextEffect = 0
  private var isPersisting = false
  private var isPerforming = false
  private var hasFailed = false
  /// The disk is full: this server takes no part until there is room again.
  private var lacksRoom = false
  private var isStopped = false

  private var nextToken: UInt64 = 0
  private var proposals: [RequestToken: ProposalCompletion] = [:]
  private var accepted: [LogIndex: (term: Term, token: RequestToken)] = [:]
  /// Proposals of this turn, and those that came while the disk wrote: they share one write and one message to each follower.
  private var gathered: [Gathered] = []
  private var settled: [(completion: ProposalCompletion, result: Result<AppliedEntry, MeshError>)] = []
  private var reads: [RequestToken: ReadCompletion] = [:]
  private var snapshotIndex: LogIndex

  typealias ProposalCompletion = (Result<AppliedEntry, MeshError>) -> Void
  typealias ReadCompletion = (Result<LogIndex, MeshError>) -> Void

  private struct Gathered {
    let proposal: Proposal
    /// Where its proposer expects it, and what comes after it builds on that.
    let place: LogIndex?
  }

  /// Throws when the recovered snapshot cannot be read by this version.
  init(
    loop: EventLoop, local: NodeName, cluster: ClusterTag, configuration: ClusterConfiguration,
    storage: NodeStorage, seed: UInt64, outputs: Outputs
  ) throws(ControlStateError) {
    self.loop = loop
    self.storage = storage
    self.outputs = outputs
    state =
      try storage.recovered.snapshot.map { (snapshot) throws(ControlStateError) in try ControlState(restoring: snapshot.state) }
      ?? ControlState()
    // What was applied was committed: a later state than the log's snapshot is as good, and may be all there is.
    if let bytes = try? storage.value(StoredFact.controlState), let known = try? ControlState(restoring: bytes),
      known.applied.index > state.applied.index
    {
      state = known
    }
    recent = RecentEntries(after: state.head)
    snapshotIndex = storage.recovered.snapshot?.position.index ?? .zero
    var seeds = SeededGenerator(seed: seed)
    let makeRaft = { (recovered: RecoveredState) in
      Raft(
        local: local, cluster: cluster, recovered: recovered, configuration: configuration, seed: seeds.next(),
        now: EventLoop.monotonicNow())
    }
    self.makeRaft = makeRaft
    raft = makeRaft(storage.recovered)
    noteHistory()
  }

  /// What this node has from others says that there is a history: without a log of its own it begins none.
  private func noteHistory() {
    if state.applied.index > .zero { raft.handle(.historyKnown, at: EventLoop.monotonicNow(), into: &effects) }
  }

  func start() { arm() }

  func stop() {
    if let timer { loop.cancel(timer) }
    timer = nil
    isStopped = true
    fail(everyoneWith: MeshError(.unavailable, "this node is stopping"))
  }

  var status: RaftStatus { raft.status }
  var isLeader: Bool { raft.isLeader }
  /// False while this node's disk lets it promise nothing.
  var takesPart: Bool { !hasFailed && !lacksRoom }
  func holdsLease(at now: Instant) -> Bool { raft.holdsLease(at: now) }

  // MARK: Requests

  /// Where the next proposal comes to stand, unless this node ceases to lead.
  var nextPlace: LogIndex { raft.nextIndex.advanced(by: gathered.count) }

  /// Proposes a command; `completion` gets what the committed entry did. With a place it is proposed there or not at all.
  func propose(_ command: Command, at place: LogIndex? = nil, completion: @escaping ProposalCompletion) {
    guard !isStopped else { return completion(.failure(MeshError(.unavailable, "this node is stopping"))) }
    guard proposals.count < ClusterLimits.proposalsWaitingMax else {
      return completion(.failure(MeshError(.overloaded, "too many changes wait for the voters")))
    }
    let token = makeToken()
    proposals[token] = completion
    if gathered.isEmpty { loop.atEndOfTurn(self) }
    gathered.append(Gathered(proposal: Proposal(token: token, command: command.encoded()), place: place))
  }

  func turnEnded() {
    // What comes while the disk writes is written next, together.
    if !isPersisting { proposeGathered() }
  }

  private func proposeGathered() {
    guard !gathered.isEmpty else { return }
    let list = gathered
    gathered = []
    var next = raft.nextIndex
    var taken: [Proposal] = []
    var isDisplaced = false
    for item in list {
      isDisplaced = isDisplaced || (item.place.map { $0 != next } ?? false)
      if isDisplaced, item.place != nil {
        proposals.removeValue(forKey: item.proposal.token)?(.failure(Self.displaced))
      } else {
        taken.append(item.proposal)
        next = next.next
      }
    }
    feed(.propose(taken))
  }

  private static let displaced = MeshError(.conflict, "another entry came first; nothing was changed", retryable: true)

  /// Asks for the revision that holds all that was decided before this call; this node has to lead.
  func readRevision(completion: @escaping ReadCompletion) {
    guard !isStopped, !hasFailed else { return completion(.failure(MeshError(.unavailable, "this node decides nothing"))) }
    let token = makeToken()
    reads[token] = completion
    feed(.read(token))
  }

  /// Hands leadership to the follower that is furthest, before this node leaves.
  func transferLeadership() { feed(.transferLeadership(to: nil)) }

  /// Asks for a change of the members; what comes of it is seen in the configuration.
  func change(_ change: ConfigurationChange) {
    proposeGathered()
    feed(.changeConfiguration(makeToken(), change))
  }

  /// Takes committed entries that another node gave; false when they do not follow on the state.
  func follow(_ entries: [LogEntry]) {
    guard !hasFailed else { return }
    for entry in entries { take(entry) }
    tellProposers()
    noteHistory()
  }

  /// Takes a whole state that a voter gave.
  func follow(_ whole: ControlState) {
    guard !hasFailed else { return }
    state = whole
    recent = RecentEntries(after: whole.head)
    noteHistory()
    outputs.restored()
  }

  func receive(_ bytes: [UInt8], from peer: NodeName) {
    guard let message = try? RaftMessage(decoding: bytes) else { return }
    feed(.received(message, from: peer))
  }

  func feed(_ input: RaftInput) {
    guard !hasFailed || input == .storageFailed else { return refuse(input) }
    raft.handle(input, at: EventLoop.monotonicNow(), into: &effects)
    perform()
    arm()
  }

  private func makeToken() -> RequestToken {
    nextToken &+= 1
    return RequestToken(nextToken)
  }

  private func refuse(_ input: RaftInput) {
    guard case .propose(let list) = input else { return }
    for proposal in list {
      proposals.removeValue(forKey: proposal.token)?(.failure(MeshError(.unavailable, "the Raft storage of this node failed")))
    }
  }

  private func arm() {
    if let timer { loop.cancel(timer) }
    guard !isStopped else { return timer = nil }
    let deadline = raft.nextDeadline
    timer = deadline == .distantFuture ? nil : loop.schedule(at: deadline, self)
  }

  func timerFired(_ token: TimerToken) {
    timer = nil
    feed(.tick)
  }

  // MARK: Effects

  /// Carries out effects until one has to wait for the disk.
  private func perform() {
    guard !isPerforming else { return }
    isPerforming = true
    defer { isPerforming = false }
    while !isPersisting, nextEffect < effects.count {
      let effect = effects[nextEffect]
      nextEffect += 1
      perform(effect)
    }
    if nextEffect == effects.count {
      effects.removeAll(keepingCapacity: true)
      nextEffect = 0
    }
  }

  private func perform(_ effect: RaftEffect) {
    switch effect {
    case .persist(let persistence): persist(persistence)
    case .send(let message, let node): outputs.send(message.encoded(), node, message.isBulk)
    case .apply(let entries): apply(entries)
    case .installSnapshot(let snapshot): install(snapshot)
    case .becameLeader, .steppedDown, .leaderChanged: outputs.leadershipChanged()
    case .accepted(let token, let position): accept(token, at: position)
    case .rejected(let token, let reason): reject(token, reason)
    // Whatever was decided up to the index of the read has been applied by an effect before this one.
    case .readReady(let token, _): reads.removeValue(forKey: token)?(.success(state.revision))
    case .configurationChanged: outputs.leadershipChanged()
    case .failed(let failure):
      outputs.failed(failure.description)
      fail(everyoneWith: MeshError(.unavailable, failure.description))
    }
  }

  private func persist(_ persistence: Persistence) {
    isPersisting = true
    let done = LoopBound(self, on: loop)
    storage.write(persistence) { error in
      done.loop.post { done.value.persisted(error) }
    }
  }

  private func persisted(_ error: (any Error)?) {
    isPersisting = false
    if case .full? = error as? StorageError { return loseRoom() }
    if let error {
      // What was promised may be lost: nothing later may happen (RaftEffect's contract).
      effects.removeAll()
      nextEffect = 0
      hasFailed = true
      outputs.failed("writing the Raft log: \(error)")
      feed(.storageFailed)
      return
    }
    perform()
    if !isPersisting { proposeGathered() }
    arm()
  }

  // MARK: Full disks

  /// The disk has no room for a write. Nothing of it is there, and nothing that was to come after it happens: for the others it is as
  /// if this server had crashed, and it begins anew with what the disk holds once there is room.
  private func loseRoom() {
    effects.removeAll()
    nextEffect = 0
    lacksRoom = true
    outputs.failed("the disk of this node is full: it decides nothing with the others until there is room again")
    feed(.storageFull)
    // What would have told of it may be among the effects that were dropped.
    outputs.leadershipChanged()
    fail(
      everyoneWith: MeshError(.unavailable, "the disk of this node is full; the change may come into force all the same"))
    lookForRoom(after: ClusterLimits.roomIntervals.lowerBound)
  }

  private func lookForRoom(after interval: Duration) {
    let next = min(interval * 2, ClusterLimits.roomIntervals.upperBound)
    loop.schedule(after: interval) { [weak self] in
      guard let self, !isStopped, lacksRoom else { return }
      let done = LoopBound(self, on: loop)
      storage.recover { result in done.loop.post { done.value.foundRoom(result, next: next) } }
    }
  }

  private func foundRoom(_ result: Result<RecoveredState?, StorageError>, next: Duration) {
    guard !isStopped, lacksRoom else { return }
    switch result {
    case .success(nil), .failure(.full): lookForRoom(after: next)
    case .failure(let error):
      hasFailed = true
      outputs.failed("reading the Raft log again: \(error)")
    case .success(let recovered?):
      lacksRoom = false
      raft = makeRaft(recovered)
      noteHistory()
      snapshotIndex = recovered.snapshot?.position.index ?? .zero
      outputs.recovered()
      arm()
    }
  }

  private func apply(_ entries: [LogEntry]) {
    // What was pulled from others before this node's log had it is not applied twice.
    for entry in entries where entry.index > state.applied.index { take(entry) }
    tellProposers()
    compactIfDue()
  }

  private func take(_ entry: LogEntry) {
    guard !hasFailed else { return }
    let result: AppliedEntry
    do { result = try state.apply(entry) } catch { return stopApplying(error) }
    recent.append(entry, history: state.history)
    settle(result)
    outputs.applied(result)
  }

  private func accept(_ token: RequestToken, at position: LogPosition) {
    let displaced = accepted.updateValue((position.term, token), forKey: position.index)
    // This node led before and its entry at this index was replaced while it did not: that one is lost.
    if let displaced { proposals.removeValue(forKey: displaced.token)?(.failure(Self.lost)) }
  }

  private static let lost = MeshError(
    .conflict, "another leader's entry took this one's place; nothing was changed", retryable: true)

  private func settle(_ result: AppliedEntry) {
    guard let waiting = accepted.removeValue(forKey: result.position.index),
      let completion = proposals.removeValue(forKey: waiting.token)
    else { return }
    settled.append((completion, waiting.term == result.position.term ? .success(result) : .failure(Self.lost)))
  }

  /// Once everything that was decided together is applied and can be seen.
  private func tellProposers() {
    guard !settled.isEmpty else { return }
    outputs.settling()
    let list = settled
    settled = []
    for item in list { item.completion(item.result) }
  }

  private func compactIfDue() {
    let applied = state.applied.index
    guard applied <= raft.commitIndex, applied.number >= snapshotIndex.number &+ UInt64(ClusterLimits.entriesBetweenSnapshots)
    else { return }
    snapshotIndex = applied
    raft.handle(.compact(through: applied, state: state.snapshot()), at: EventLoop.monotonicNow(), into: &effects)
  }

  private func install(_ snapshot: Snapshot) {
    snapshotIndex = snapshot.position.index
    if snapshot.position.index > state.applied.index {
      do { state = try ControlState(restoring: snapshot.state) } catch { return stopApplying(error) }
      recent = RecentEntries(after: state.head)
    }
    // The entries of these proposals, or others in their place, are inside the snapshot: nobody will say which.
    for index in accepted.keys.filter({ $0 <= snapshotIndex }).sorted() {
      guard let waiting = accepted.removeValue(forKey: index) else { continue }
      proposals.removeValue(forKey: waiting.token)?(.failure(Self.unknown))
    }
    outputs.restored()
  }

  private static let unknown = MeshError(
    .timeout, "this node fell behind the other voters; the change may or may not have come into force")

  /// Later effects would build on a state that this node does not have.
  private func stopApplying(_ error: ControlStateError) {
    hasFailed = true
    effects.removeAll()
    nextEffect = 0
    outputs.failed(error.description)
    fail(everyoneWith: MeshError(.unavailable, error.description))
  }

  private func reject(_ token: RequestToken, _ reason: RejectionReason) {
    proposals.removeValue(forKey: token)?(.failure(MeshError(reason)))
    reads.removeValue(forKey: token)?(.failure(MeshError(reason)))
  }

  private func fail(everyoneWith error: MeshError) {
    let waiting = proposals.sorted { $0.key.number < $1.key.number }.map(\.value)
    let reading = reads.sorted { $0.key.number < $1.key.number }.map(\.value)
    proposals = [:]
    accepted = [:]
    gathered = []
    reads = [:]
    for completion in waiting { completion(.failure(error)) }
    for completion in reading { completion(.failure(error)) }
  }
}

extension MeshError {
  init(_ reason: RejectionReason) {
    switch reason {
    case .notLeader(let hint):
      self.init(.notHolder, "this node is not the Raft leader" + (hint.map { "; \($0) is" } ?? ""))
    case .transferring: self.init(.unavailable, "leadership is being handed over")
    case .overloaded: self.init(.overloaded, "too much waits for a majority of the voters")
    case .tooLarge(let bytes): self.init(.tooLarge, "the change has \(bytes) bytes; at most \(ConsensusLimits.commandBytesMax)")
    case .changeInProgress: self.init(.conflict, "another change of the voters is in progress", retryable: true)
    case .notCaughtUp: self.init(.conflict, "the node has not caught up yet", retryable: true)
    case .wouldLoseQuorum: self.init(.invalid, "the change would leave fewer live voters than a majority")
    case .invalidChange: self.init(.invalid, "the node is already so, or there are too many")
    }
  }
}
