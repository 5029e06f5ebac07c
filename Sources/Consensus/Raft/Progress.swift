import Primitives

/// What a leader knows of one follower's log.
struct Progress: Sendable, Equatable {
  /// Highest index known to be on the follower. Invariant: match < next. Source: Raft thesis §3.5. Goes back only when the
  /// follower's disk lost entries.
  var match: LogIndex = .zero
  /// First index of the next append.
  var next: LogIndex
  var flow = Flow.probe(waiting: false)
  /// Heard from since the last check of the quorum.
  private(set) var isActive = true
  /// When it last answered; until it does, when this server began to lead or took it in.
  private(set) var heardAt: Instant
  /// The latest heartbeat round it answered: a time of the leader's own clock at which it still followed.
  var round: UInt64 = 0

  enum Flow: Sendable, Equatable {
    /// Where the logs part is unknown: one append at a time.
    case probe(waiting: Bool)
    /// Appends follow each other; `inflight` are the last indexes of those unanswered, ascending.
    case replicate(inflight: [LogIndex])
    /// What it lacks was compacted: a snapshot is on its way, answered up to `offset`. `quiet` counts heartbeats
    /// answered since the last chunk was, to send that one again.
    case snapshot(LogPosition, offset: Int, quiet: Int)
  }

  init(next: LogIndex, at now: Instant) {
    self.next = next
    heardAt = now
  }

  mutating func heard(at now: Instant) {
    isActive = true
    heardAt = now
  }

  /// Begins to watch anew whether it is heard.
  mutating func forgetActivity() { isActive = false }

  /// Takes the follower's word that it holds everything up to `index`; false when that is no news.
  mutating func matched(_ index: LogIndex) -> Bool {
    let isNews = index > match
    if isNews { match = index }
    if next <= match { next = match.next }
    switch flow {
    case .probe:
      flow = .replicate(inflight: [])
      next = match.next
    case .replicate(var inflight):
      inflight.removeAll { $0 <= index }
      flow = .replicate(inflight: inflight)
    case .snapshot(let position, _, _):
      if match >= position.index { flow = .replicate(inflight: []) }
    }
    return isNews
  }

  /// Goes back to probing from `hint`; false when the refusal answers an older append than the one in flight.
  mutating func conflicted(at index: LogIndex, hint: LogIndex) -> Bool {
    switch flow {
    case .replicate:
      // Where it has acknowledged already: an old answer, or its disk lost entries. A probe at that place tells which.
      next = index > match ? max(match.next, min(index, hint.next)) : match.next
    case .probe:
      guard index == next.previous else { return false }
      // It lacks what it said it held: its disk lost it. What it still holds has to be found out anew.
      if index <= match { match = .zero }
      next = max(match.next, min(index, hint.next))
    case .snapshot:
      return false
    }
    flow = .probe(waiting: false)
    return true
  }

  /// The follower's link broke or its answers stopped: nothing in flight can be counted on.
  mutating func lost() {
    isActive = false
    if case .snapshot(let position, _, _) = flow {
      flow = .snapshot(position, offset: 0, quiet: 0)
    } else {
      flow = .probe(waiting: false)
      next = match.next
    }
  }
}
