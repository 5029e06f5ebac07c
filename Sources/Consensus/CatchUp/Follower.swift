import Primitives

/// Keeps the control state of a node that takes no part in the log's consensus as new as the voters'.
///
/// Voters say how far they are and what the history's digest is there. A node that slept while the voters were replaced hears only
/// nodes that it does not know for voters; it then asks those it does know, who are followers by now and know who took their place. The entries in between are pulled from any peer, put on a
/// copy, and believed only when the copy's history is what the voter said. A whole state is taken from a voter only.
public struct Follower: Sendable, Equatable {
  public enum Input: Sendable, Equatable {
    case tick
    /// Live members besides this node that a link leads to, sorted.
    case peers([NodeName])
    case received(CatchUpMessage, from: NodeName)
  }

  public enum Effect: Sendable, Equatable {
    case send(CatchUpMessage, to: NodeName)
    /// Committed entries that follow on the present state.
    case apply([LogEntry])
    /// Takes the place of the present state; `diverged` when that was not an earlier one of the same history.
    case install(ControlState, diverged: Bool)
    /// The peer gave entries that are not the voters'.
    case distrusted(NodeName)
  }

  private struct Pull: Sendable, Equatable {
    let peer: NodeName
    var until: Instant
    /// Not yet known to be the voters'.
    var trial: ControlState
    var entries: [LogEntry] = []
    var bytes = 0
  }

  private struct Transfer: Sendable, Equatable {
    let voter: NodeName
    var until: Instant
    var index: LogIndex?
    var total = 0
    var bytes: [UInt8] = []
  }

  public let local: NodeName
  private var generator: SeededGenerator
  private var peers: [NodeName] = []
  /// The furthest that a voter has said, and who did.
  private var target: (head: CatchUpMessage.Head, voter: NodeName)? {
    get { targetHead.flatMap { head in targetVoter.map { (head, $0) } } }
    set { (targetHead, targetVoter) = (newValue?.head, newValue?.voter) }
  }
  private var targetHead: CatchUpMessage.Head?
  private var targetVoter: NodeName?
  private var pull: Pull?
  private var transfer: Transfer?
  private var distrusted: [NodeName: Instant] = [:]
  /// When the known voters may be asked again how far they are.
  private var nextQuestion = Instant.zero
  /// When somebody whose word counts last said how far the log is.
  private var heardAt = Instant.zero

  public static let patience: Duration = .seconds(2)
  /// Without a word for this long the voters are asked: more than two beats of a leader that has nothing new to say.
  public static let silence: Duration = .seconds(7)
  static let distrustTime: Duration = .seconds(60)
  /// As many as there may be voters.
  static let askedAtOnce = 7

  public init(local: NodeName, seed: UInt64) {
    self.local = local
    generator = SeededGenerator(seed: seed)
  }

  /// - Parameter state: this node's control state now.
  /// - Parameter believesAnyone: true on a node that has no state yet and so knows no voter: it believes the members it has
  ///   authenticated.
  public mutating func handle(
    _ input: Input, state: ControlState, voters: [NodeName], believesAnyone: Bool, at now: Instant,
    into effects: inout [Effect]
  ) {
    switch input {
    case .tick:
      if now - heardAt > Self.silence { ask(believesAnyone ? peers : voters, at: now, into: &effects) }
    case .peers(let live): peers = live
    case .received(.head(let head), let peer), .received(.reached(let head), let peer):
      if believesAnyone || voters.contains(peer) {
        heardAt = now
        if head.index > targetHead?.index ?? .zero { target = (head, peer) }
      } else if head.index > state.applied.index {
        ask(voters, at: now, into: &effects)
      }
    case .received(.entries(let entries, let after), let peer):
      take(entries, after: after, from: peer, state, at: now, into: &effects)
    case .received(.unavailable(let after), let peer):
      guard let pull, pull.peer == peer, pull.trial.applied.index == after else { break }
      self.pull = nil
      beginTransfer(at: now, into: &effects)
    case .received(.state(let piece), let peer): take(piece, from: peer, state, at: now, into: &effects)
    case .received(.pull, _), .received(.pullState, _), .received(.askHead, _): break
    }
    expire(at: now)
    if let target, target.head.index <= state.applied.index, !isDiverged(state, target.head) { self.target = nil }
    advance(state, at: now, into: &effects)
  }

  /// Nobody whose word counts says anything, or somebody else says that there is more: those whose word counts are asked.
  private mutating func ask(_ others: [NodeName], at now: Instant, into effects: inout [Effect]) {
    guard now >= nextQuestion else { return }
    nextQuestion = now + Self.patience / 2
    var live = others.filter { peers.contains($0) }
    generator.shuffle(&live)
    for peer in live.prefix(Self.askedAtOnce) { effects.append(.send(.askHead, to: peer)) }
  }

  /// Entries another way (a log that this node takes part in) may have brought the state further than a pull.
  private func isDiverged(_ state: ControlState, _ head: CatchUpMessage.Head) -> Bool {
    state.applied.index == head.index && state.history != head.digest
  }

  public var nextDeadline: Instant { min(pull?.until ?? .distantFuture, transfer?.until ?? .distantFuture) }

  private mutating func expire(at now: Instant) {
    if let pull, now >= pull.until {
      // Silence is no lie, but the next attempt goes to the voter itself.
      distrusted[pull.peer] = now + Self.patience
      self.pull = nil
    }
    if let transfer, now >= transfer.until { self.transfer = nil }
    distrusted = distrusted.filter { $0.value > now }
  }

  private mutating func advance(_ state: ControlState, at now: Instant, into effects: inout [Effect]) {
    guard let target, pull == nil, transfer == nil, !mutated(.neverPull) else { return }
    let gap = target.head.index.distance(from: state.applied.index)
    guard gap > 0, gap <= ConsensusLimits.recentEntriesMax else { return beginTransfer(at: now, into: &effects) }
    let peer = source(target.voter)
    pull = Pull(peer: peer, until: now + Self.patience, trial: state)
    effects.append(.send(.pull(after: state.head, through: target.head.index), to: peer))
  }

  /// In a small cluster the voter; in a large one every other pull goes to anybody, so that voters are not asked by all.
  private mutating func source(_ voter: NodeName) -> NodeName {
    guard peers.count > 16, generator.chance(0.5) else { return voter }
    let others = peers.filter { distrusted[$0] == nil }
    return others.isEmpty ? voter : others[generator.index(below: others.count)]
  }

  // MARK: Entries

  private mutating func take(
    _ entries: [LogEntry], after: LogIndex, from peer: NodeName, _ state: ControlState, at now: Instant,
    into effects: inout [Effect]
  ) {
    guard var pull, pull.peer == peer, pull.trial.applied.index == after, let target else { return }
    self.pull = nil
    guard !entries.isEmpty else {
      if peer != target.voter { distrusted[peer] = now + Self.patience }
      return
    }
    for entry in entries.prefix(while: { $0.index <= target.head.index }) {
      guard (try? pull.trial.apply(entry)) != nil else { return distrust(peer, at: now, into: &effects) }
      pull.entries.append(entry)
      pull.bytes += entry.cost
    }
    guard pull.trial.applied.index >= target.head.index else {
      guard pull.bytes <= ConsensusLimits.recentBytesMax else { return beginTransfer(at: now, into: &effects) }
      pull.until = now + Self.patience
      effects.append(.send(.pull(after: pull.trial.head, through: target.head.index), to: peer))
      self.pull = pull
      return
    }
    guard pull.trial.history == target.head.digest else { return distrust(peer, at: now, into: &effects) }
    // The log of a node that has just become a learner may have brought some of them meanwhile.
    let news = pull.entries.filter { $0.index > state.applied.index }
    self.target = nil
    if !news.isEmpty { effects.append(.apply(news)) }
  }

  private mutating func distrust(_ peer: NodeName, at now: Instant, into effects: inout [Effect]) {
    effects.append(.distrusted(peer))
    distrusted[peer] = now + Self.distrustTime
    // The voter's own entries do not lead to its own digest: only its whole state can tell where the histories part.
    if peer == targetVoter { beginTransfer(at: now, into: &effects) }
  }

  // MARK: States

  private mutating func beginTransfer(at now: Instant, into effects: inout [Effect]) {
    guard let voter = targetVoter, transfer == nil else { return }
    transfer = Transfer(voter: voter, until: now + Self.patience)
    effects.append(.send(.pullState(at: nil, offset: 0), to: voter))
  }

  private mutating func take(
    _ piece: CatchUpMessage.StatePiece, from peer: NodeName, _ state: ControlState, at now: Instant,
    into effects: inout [Effect]
  ) {
    guard var transfer, transfer.voter == peer else { return }
    if transfer.index != piece.index {
      guard piece.offset == 0 else { return }
      transfer = Transfer(voter: peer, until: now, index: piece.index, total: piece.total)
    }
    guard piece.total == transfer.total, piece.offset == transfer.bytes.count, piece.total <= ConsensusLimits.snapshotBytesMax
    else { return }
    transfer.bytes += piece.bytes
    transfer.until = now + Self.patience
    guard transfer.bytes.count == transfer.total else {
      self.transfer = transfer
      if !piece.bytes.isEmpty {
        effects.append(.send(.pullState(at: piece.index, offset: transfer.bytes.count), to: peer))
      }
      return
    }
    self.transfer = nil
    target = nil
    guard let arrived = try? ControlState(restoring: transfer.bytes) else {
      return effects.append(.distrusted(peer))
    }
    // The log that this node takes part in may have been quicker: nothing that it has decided is taken back.
    guard arrived.applied.index >= state.applied.index else { return }
    let isSamePlace = arrived.applied.index == state.applied.index
    if isSamePlace, arrived.history == state.history { return }
    // Histories that part at one place: as after a recovery without quorum.
    effects.append(.install(arrived, diverged: isSamePlace))
  }
}

/// Serves whole states to followers; the bytes are made once for all that ask within a few seconds.
public struct StateServer: Sendable, Equatable {
  private var bytes: [UInt8] = []
  private var index: LogIndex?
  private var madeAt = Instant.zero
  static let life: Duration = .seconds(10)

  public init() {}

  public mutating func answer(at asked: LogIndex?, offset: Int, state: ControlState, now: Instant) -> CatchUpMessage {
    if asked == nil || asked != index || index == nil {
      if index != state.applied.index || now - madeAt > Self.life {
        bytes = state.snapshot()
        index = state.applied.index
        madeAt = now
      }
    }
    let start = asked == index ? min(offset, bytes.count) : 0
    let end = min(bytes.count, start + ConsensusLimits.chunkBytesMax)
    return .state(
      CatchUpMessage.StatePiece(
        index: index ?? .zero, total: bytes.count, offset: start, bytes: Array(bytes[start..<end])))
  }

  /// Frees the bytes once nobody has asked for a while.
  public mutating func expire(at now: Instant) {
    if index != nil, now - madeAt > Self.life { self = StateServer() }
  }
}
