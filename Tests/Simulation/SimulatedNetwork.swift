import Primitives

/// What a network does to packets.
public struct NetworkConditions: Sendable {
  /// Probability that a datagram is lost.
  public var loss = 0.0
  /// Probability that a datagram arrives twice.
  public var duplication = 0.0
  /// One-way delay, drawn anew for each packet, so that a wide range reorders datagrams.
  public var delay: ClosedRange<Duration> = .microseconds(100)...(.milliseconds(2))

  public init() {}
  public init(loss: Double, duplication: Double = 0) {
    self.loss = loss
    self.duplication = duplication
  }
}

/// A faulty network, paused nodes and timers in virtual time, for nodes numbered from 0. The same seed gives the same run.
///
/// Datagrams are lost, doubled, delayed and reordered. Streams are reliable and ordered while the way is open, and fail at once
/// when it is not. A paused node gets nothing; what was sent to it waits and arrives in order when it resumes.
public struct SimulatedNetwork<Payload> {
  public enum Event {
    case datagram(Payload, from: Int, to: Int)
    case stream(Payload, from: Int, to: Int)
    /// A stream could not be delivered: the peer is down or cut off.
    case unreachable(Int, from: Int)
    case timer(Int)
    /// The node runs again; its waiting events follow.
    case resumed(Int)
  }

  /// How often each fault was done: a test of a fault has to show that it had an effect.
  public struct FaultCounts: Sendable {
    public var lost = 0
    public var duplicated = 0
    public var cut = 0
    public var delayedByPause = 0
  }

  public private(set) var now = Instant.zero
  public private(set) var faults = FaultCounts()
  public private(set) var datagramsSent = 0
  public var conditions: NetworkConditions

  private var generator: SeededGenerator
  private var queue = EventQueue<Event>()
  private var isDown: [Bool]
  private var pausedUntil: [Instant?]
  private var waiting: [[Event]]
  /// Directed.
  private var cuts: Set<Way> = []
  /// Latest arrival on each stream, which keeps it in order; those of the past are dropped now and then.
  private var lastArrival: [Way: Instant] = [:]
  private var arrivalsKept = 4096

  private struct Way: Hashable {
    let from: Int
    let to: Int
  }
  private var armed: [Instant?]

  public init(nodes: Int, conditions: NetworkConditions = NetworkConditions(), seed: UInt64) {
    self.conditions = conditions
    generator = SeededGenerator(seed: seed)
    isDown = Array(repeating: false, count: nodes)
    pausedUntil = Array(repeating: nil, count: nodes)
    waiting = Array(repeating: [], count: nodes)
    armed = Array(repeating: nil, count: nodes)
  }

  // MARK: Sending

  public mutating func sendDatagram(_ payload: Payload, from: Int, to: Int) {
    datagramsSent += 1
    if cuts.contains(Way(from: from, to: to)) {
      faults.cut += 1
      return
    }
    if generator.chance(conditions.loss) {
      faults.lost += 1
      return
    }
    queue.add(.datagram(payload, from: from, to: to), at: now + generator.duration(in: conditions.delay))
    if generator.chance(conditions.duplication) {
      faults.duplicated += 1
      queue.add(.datagram(payload, from: from, to: to), at: now + generator.duration(in: conditions.delay))
    }
  }

  public mutating func sendStream(_ payload: Payload, from: Int, to: Int) {
    let way = Way(from: from, to: to)
    let isCut = cuts.contains(way) || cuts.contains(Way(from: to, to: from))
    let arrival = max(now + generator.duration(in: conditions.delay), lastArrival[way] ?? .zero)
    guard !isDown[to], !isCut else {
      if isCut { faults.cut += 1 }
      queue.add(.unreachable(to, from: from), at: arrival)
      return
    }
    lastArrival[way] = arrival
    if lastArrival.count > arrivalsKept {
      lastArrival = lastArrival.filter { $0.value > now }
      arrivalsKept = max(4096, 2 * lastArrival.count)
    }
    queue.add(.stream(payload, from: from, to: to), at: arrival)
  }

  /// Arms the node's one timer. It may fire early; the node then arms it again.
  public mutating func arm(_ node: Int, at deadline: Instant?) {
    guard let deadline, deadline != .distantFuture else { return }
    if let current = armed[node], current <= deadline { return }
    armed[node] = deadline
    queue.add(.timer(node), at: max(deadline, now))
  }

  // MARK: Faults

  public mutating func takeDown(_ node: Int) {
    isDown[node] = true
    pausedUntil[node] = nil
    waiting[node] = []
    armed[node] = nil
  }

  public mutating func bringUp(_ node: Int) { isDown[node] = false }
  public func isUp(_ node: Int) -> Bool { !isDown[node] }
  public func isPaused(_ node: Int) -> Bool { pausedUntil[node] != nil }

  public mutating func pause(_ node: Int, for time: Duration) {
    guard !isDown[node] else { return }
    let until = max(now + time, pausedUntil[node] ?? .zero)
    pausedUntil[node] = until
    queue.add(.resumed(node), at: until)
  }

  /// Cuts the way in one direction.
  public mutating func cut(from: Int, to: Int) { cuts.insert(Way(from: from, to: to)) }

  /// Lets nodes talk only within their group.
  public mutating func partition(_ groups: [[Int]]) {
    cuts = []
    for from in isDown.indices {
      for to in isDown.indices where !groups.contains(where: { $0.contains(from) && $0.contains(to) }) {
        cuts.insert(Way(from: from, to: to))
      }
    }
  }

  public mutating func heal() { cuts = [] }

  // MARK: Time

  /// The next event up to `end`, or nil when there is none; time then stands at `end`.
  public mutating func next(until end: Instant) -> Event? {
    while let instant = queue.nextInstant, instant <= end, let (at, event) = queue.popFirst() {
      now = max(now, at)
      if let due = admit(event) { return due }
    }
    now = max(now, end)
    return nil
  }

  /// Drops what no longer applies and keeps back what is for a paused node.
  private mutating func admit(_ event: Event) -> Event? {
    switch event {
    case .resumed(let node):
      guard let until = pausedUntil[node], until <= now else { return nil }
      pausedUntil[node] = nil
      var held = waiting[node]
      waiting[node] = []
      // The operating system may run the timer first or the sockets first.
      if generator.chance(0.5), let timer = held.firstIndex(where: { if case .timer = $0 { true } else { false } }) {
        held.insert(held.remove(at: timer), at: 0)
      }
      for event in held { queue.add(event, at: now) }
      return event
    case .datagram(_, let from, let to), .stream(_, let from, let to):
      return cuts.contains(Way(from: from, to: to)) ? nil : hold(event, for: to)
    case .unreachable(_, let from): return hold(event, for: from)
    case .timer(let node):
      guard let due = armed[node], due <= now else { return nil }
      guard let event = hold(event, for: node) else { return nil }
      armed[node] = nil
      return event
    }
  }

  private mutating func hold(_ event: Event, for node: Int) -> Event? {
    if isDown[node] { return nil }
    guard pausedUntil[node] != nil else { return event }
    faults.delayedByPause += 1
    waiting[node].append(event)
    return nil
  }
}
