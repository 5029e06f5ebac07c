import Consensus
import Primitives
import Transport

/// Keeps nodes outside of the consensus as new as the voters: the leader says how far the log is, those that follow pull, and
/// everybody gives what they ask for. Confined to the control loop.
final class FollowDriver: TimerHandler, TurnHandler {
  struct Outputs {
    var send: (_ message: [UInt8], _ node: NodeName, _ isBulk: Bool) -> Void
    /// Live members besides this node, sorted.
    var peers: () -> [NodeName]
    var apply: ([LogEntry]) -> Void
    var install: (ControlState) -> Void
    var diverged: () -> Void
    var leaderHeard: () -> Void
  }

  private let loop: EventLoop
  private let local: NodeName
  private let raft: RaftDriver
  private let outputs: Outputs
  private var follower: Follower
  private var states = StateServer()
  private var timer: TimerToken?
  private var nextAnnouncement = Instant.zero
  private var isAnnouncing = false
  /// Who last said how far the log is, and when.
  private var heard: (leader: NodeName, at: Instant)?
  private(set) var rejectedPeers: UInt64 = 0

  init(loop: EventLoop, local: NodeName, raft: RaftDriver, seed: UInt64, outputs: Outputs) {
    self.loop = loop
    self.local = local
    self.raft = raft
    self.outputs = outputs
    follower = Follower(local: local, seed: seed)
  }

  func start() { arm() }

  func stop() {
    if let timer { loop.cancel(timer) }
    timer = nil
  }

  /// The leader that this node follows from outside, while it is heard.
  var leader: NodeName? {
    guard let heard, EventLoop.monotonicNow() - heard.at < ClusterLimits.leaderSilence else { return nil }
    return heard.leader
  }

  func peersChanged() {
    let peers = outputs.peers()
    if let leader = heard?.leader, !peers.contains(leader) { heard = nil }
    feed(.peers(peers))
    announce()
  }

  /// What was said before may have been lost with the link before this one.
  func linkUp(_ peer: NodeName) {
    if raft.isLeader, !participants.contains(peer) { send(.head(raft.state.head), to: peer) }
  }

  /// Tells those outside how far the log is, once for everything that is applied in this turn of the loop.
  func announce() {
    guard raft.isLeader, !isAnnouncing else { return }
    isAnnouncing = true
    loop.atEndOfTurn(self)
  }

  func turnEnded() {
    isAnnouncing = false
    announceNow()
  }

  private func announceNow() {
    nextAnnouncement = EventLoop.monotonicNow() + ClusterLimits.headInterval
    guard raft.isLeader else { return }
    let members = participants
    let message = CatchUpMessage.head(raft.state.head).encoded()
    for peer in outputs.peers() where !members.contains(peer) { outputs.send(message, peer, false) }
  }

  /// Who hears from the log itself. A member whose disk is full follows from outside meanwhile.
  private var participants: Set<NodeName> {
    let status = raft.status
    return Set(status.configuration.members).subtracting(status.absentMembers(at: EventLoop.monotonicNow()))
  }

  func receive(_ bytes: [UInt8], from peer: NodeName) {
    guard let message = try? CatchUpMessage(decoding: bytes) else { return }
    let now = EventLoop.monotonicNow()
    switch message {
    case .pull(let after, let through):
      send(raft.recent.answer(after: after, through: through), to: peer)
    case .pullState(let index, let offset):
      send(states.answer(at: index, offset: offset, state: raft.state, now: now), to: peer)
    case .askHead: send(.reached(raft.state.head), to: peer)
    case .head:
      if believesAnyone || voters.contains(peer) {
        let isNew = heard?.leader != peer
        heard = (peer, now)
        if isNew { outputs.leaderHeard() }
      }
      feed(.received(message, from: peer))
    case .entries, .unavailable, .state, .reached: feed(.received(message, from: peer))
    }
  }

  private var voters: [NodeName] { raft.state.configuration.voters }
  /// A node that has no state yet has authenticated its peers, and knows nothing else.
  private var believesAnyone: Bool { voters.isEmpty }

  private func feed(_ input: Follower.Input) {
    var effects: [Follower.Effect] = []
    follower.handle(
      input, state: raft.state, voters: voters, believesAnyone: believesAnyone, at: EventLoop.monotonicNow(), into: &effects)
    for effect in effects {
      switch effect {
      case .send(let message, let peer): send(message, to: peer)
      case .apply(let entries): outputs.apply(entries)
      case .install(let state, let diverged):
        if diverged { outputs.diverged() }
        outputs.install(state)
      case .distrusted: rejectedPeers &+= 1
      }
    }
    arm()
  }

  private func send(_ message: CatchUpMessage, to peer: NodeName) { outputs.send(message.encoded(), peer, message.isBulk) }

  private func arm() {
    if let timer { loop.cancel(timer) }
    timer = loop.schedule(at: min(follower.nextDeadline, EventLoop.monotonicNow() + ClusterLimits.headInterval), self)
  }

  func timerFired(_ token: TimerToken) {
    timer = nil
    let now = EventLoop.monotonicNow()
    states.expire(at: now)
    if now >= nextAnnouncement { announceNow() }
    feed(.tick)
  }
}
