import Consensus
import Primitives

/// How soon a change that three voters have decided is applied by nodes that follow from outside of the consensus.
///
/// Each node handles one message after the other, and its line carries so many bytes a second.
public struct FanOutRun {
  private struct Node {
    var state: ControlState
    var recent: RecentEntries
    var states = StateServer()
    var follower: Follower
    var inbox: [(message: CatchUpMessage, from: Int)] = []
    var timer = Instant.distantFuture
    var lineFreeAt = Instant.zero
  }

  private enum Event {
    case deliver(CatchUpMessage, from: Int, to: Int)
    case ready(Int)
    case tick(Int)
    case decide
  }

  /// Time a node takes for one message: what a link's frame, a copy of the state and an answer cost.
  public static let service: Duration = .microseconds(50)
  /// Bytes a second on each node's line: 1 Gbit.
  public static let lineBytes = 125_000_000

  private let names: [NodeName]
  private var nodes: [Node]
  private var queue = EventQueue<Event>()
  private var generator: SeededGenerator
  private var now = Instant.zero
  private var decidedAt: [LogIndex: Instant] = [:]
  private var left: Int
  private let objectBytes: Int
  /// From being decided to being applied, for each node and change.
  public private(set) var delays: [Duration] = []
  /// Bytes that the leader sent.
  public private(set) var leaderBytes = 0
  public private(set) var totalBytes = 0

  public init(nodes count: Int, changes: Int, objectBytes: Int, seed: UInt64) {
    names = (0..<count).compactMap { try? NodeName("n\($0)") }
    generator = SeededGenerator(seed: seed)
    self.objectBytes = objectBytes
    left = changes
    var state = ControlState()
    var entries: [LogEntry] = []
    let voters = ClusterConfiguration(voters: Array(names.prefix(3)))
    let grant = RoleGrant(role: .configuration, holder: names[0], epoch: RoleEpoch.zero.next, at: 0, reason: "")
    for payload in [LogEntry.Payload.configuration(voters), .command(Command.assignRole(grant).encoded())] {
      let entry = LogEntry(index: LogIndex(UInt64(entries.count + 1)), term: Term(1), payload: payload)
      entries.append(entry)
      _ = try? state.apply(entry)
    }
    nodes = []
    for (number, name) in names.enumerated() {
      let follower = Follower(local: name, seed: seed &+ UInt64(number))
      nodes.append(Node(state: state, recent: RecentEntries(after: state.head), follower: follower))
    }
    for index in 3..<count { feed(index, .peers(names.filter { $0 != names[index] })) }
    queue.add(.decide, at: now + .milliseconds(100))
  }

  /// Runs to the end; the number of nodes that did not come so far.
  public mutating func run() -> Int {
    while let (at, event) = queue.popFirst(), now < Instant(nanoseconds: 600_000_000_000) {
      now = max(now, at)
      switch event {
      case .decide: decide()
      case .ready(let index): takeNext(index)
      case .tick(let index):
        guard nodes[index].timer <= now else { continue }
        nodes[index].timer = .distantFuture
        feed(index, .tick)
      case .deliver(let message, let sender, let receiver): deliver(message, from: sender, to: receiver)
      }
    }
    return nodes.count { $0.state.history != nodes[0].state.history }
  }

  private mutating func decide() {
    guard left > 0 else { return }
    left -= 1
    let number = UInt64(left + 1)
    let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: "t\(number % 50)")
    let change = ChangeSet(
      puts: [ObjectPut(key: key, bytes: [UInt8](repeating: UInt8(number & 0xFF), count: objectBytes))],
      requestID: RequestID(high: 0, low: number), epoch: nodes[0].state.roles[.configuration].epoch, author: "")
    let entry = LogEntry(
      index: nodes[0].state.applied.index.next, term: Term(1), payload: .command(Command.configuration(change).encoded()))
    decidedAt[entry.index] = now
    for index in 0..<3 { apply(entry, on: index) }
    for index in 3..<nodes.count { send(.head(nodes[0].state.head), from: 0, to: index) }
    queue.add(.decide, at: now + generator.duration(in: .milliseconds(200) ... .seconds(2)))
  }

  private mutating func apply(_ entry: LogEntry, on index: Int) {
    guard (try? nodes[index].state.apply(entry)) != nil else { return }
    nodes[index].recent.append(entry, history: nodes[index].state.history)
    if let decided = decidedAt[entry.index] { delays.append(now - decided) }
  }

  private mutating func send(_ message: CatchUpMessage, from: Int, to: Int) {
    let bytes = message.encoded().count + 60
    if from == 0 { leaderBytes += bytes }
    totalBytes += bytes
    let start = max(now, nodes[from].lineFreeAt)
    nodes[from].lineFreeAt = start + .nanoseconds(Int64(bytes) * 1_000_000_000 / Int64(Self.lineBytes))
    let delay = generator.duration(in: .microseconds(100) ... .milliseconds(2))
    queue.add(.deliver(message, from: from, to: to), at: nodes[from].lineFreeAt + delay)
  }

  private mutating func deliver(_ message: CatchUpMessage, from sender: Int, to receiver: Int) {
    nodes[receiver].inbox.append((message, sender))
    if nodes[receiver].inbox.count == 1 { queue.add(.ready(receiver), at: now + Self.service) }
  }

  /// One after the other.
  private mutating func takeNext(_ receiver: Int) {
    let (message, sender) = nodes[receiver].inbox.removeFirst()
    if !nodes[receiver].inbox.isEmpty { queue.add(.ready(receiver), at: now + Self.service) }
    switch message {
    case .pull(let after, let through):
      send(nodes[receiver].recent.answer(after: after, through: through), from: receiver, to: sender)
    case .pullState(let place, let offset):
      let answer = nodes[receiver].states.answer(at: place, offset: offset, state: nodes[receiver].state, now: now)
      send(answer, from: receiver, to: sender)
    case .askHead: send(.reached(nodes[receiver].state.head), from: receiver, to: sender)
    default: feed(receiver, .received(message, from: names[sender]))
    }
  }

  private mutating func feed(_ index: Int, _ input: Follower.Input) {
    var effects: [Follower.Effect] = []
    let state = nodes[index].state
    nodes[index].follower.handle(
      input, state: state, voters: state.configuration.voters, believesAnyone: false, at: now, into: &effects)
    for effect in effects {
      switch effect {
      case .send(let message, let peer):
        if let to = parseDecimal(peer.string.utf8.dropFirst()) { send(message, from: index, to: Int(to)) }
      case .apply(let entries): for entry in entries { apply(entry, on: index) }
      case .install(let whole, _):
        nodes[index].state = whole
        nodes[index].recent = RecentEntries(after: whole.head)
      case .distrusted: break
      }
    }
    let deadline = nodes[index].follower.nextDeadline
    guard deadline < nodes[index].timer else { return }
    nodes[index].timer = deadline
    queue.add(.tick(index), at: deadline)
  }
}
