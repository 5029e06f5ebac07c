import Consensus
import Primitives
import Simulation

/// A few Raft servers whose messages wait until a test delivers them, with a durable disk each and one shared clock.
struct RaftBench {
  var now = Instant(nanoseconds: 1_000_000_000)
  private(set) var servers: [NodeName: Raft] = [:]
  private(set) var disks: [NodeName: RecoveredState] = [:]
  /// Messages on their way, oldest first.
  var mail: [(from: NodeName, to: NodeName, message: RaftMessage)] = []
  /// One line for each effect since it was last taken.
  var trace: [String] = []
  private(set) var applied: [NodeName: [LogEntry]] = [:]
  private(set) var effects: [NodeName: [RaftEffect]] = [:]
  private var configuration = ClusterConfiguration()
  var settings = RaftSettings()
  private var nextToken: UInt64 = 0

  static let tag = ClusterTag(clusterName: "bench")

  init(voters: [String] = ["n1", "n2", "n3"], learners: [String] = [], settings: RaftSettings = RaftSettings()) {
    self.settings = settings
    configuration = ClusterConfiguration(voters: voters.map(name), learners: learners.map(name))
    for member in configuration.members { start(member) }
  }

  subscript(server: String) -> Raft { servers[name(server)] ?? unknown(server) }
  func log(_ server: String) -> [LogEntry] { disks[name(server)]?.entries ?? [] }
  func applied(_ server: String) -> [LogEntry] { applied[name(server)] ?? [] }
  func effects(_ server: String) -> [RaftEffect] { effects[name(server)] ?? [] }

  private func unknown(_ server: String) -> Raft {
    Raft(
      local: name(server), cluster: Self.tag, recovered: RecoveredState(), configuration: ClusterConfiguration(), seed: 0,
      now: now)
  }

  mutating func start(_ server: NodeName, configuration own: ClusterConfiguration? = nil) {
    let seed = UInt64(server.string.utf8.reduce(0) { $0 &* 31 &+ Int($1) })
    servers[server] = Raft(
      local: server, cluster: Self.tag, recovered: disks[server] ?? RecoveredState(), configuration: own ?? configuration,
      settings: settings, seed: seed, now: now)
  }

  mutating func setDisk(_ server: String, _ disk: RecoveredState) {
    disks[name(server)] = disk
    start(name(server))
  }

  mutating func crash(_ server: String) {
    servers[name(server)] = nil
    mail.removeAll { $0.to == name(server) }
  }

  mutating func feed(_ server: String, _ input: RaftInput) {
    let server = name(server)
    guard var raft = servers[server] else { return }
    var produced: [RaftEffect] = []
    raft.handle(input, at: now, into: &produced)
    servers[server] = raft
    effects[server] = produced
    for effect in produced { carryOut(effect, on: server) }
  }

  private mutating func carryOut(_ effect: RaftEffect, on server: NodeName) {
    trace.append(RaftTrace.line(effect, on: server))
    switch effect {
    case .persist(let persistence): disks[server, default: RecoveredState()].write(persistence)
    case .send(let message, let peer): mail.append((from: server, to: peer, message: message))
    case .apply(let entries): applied[server, default: []] += entries
    default: break
    }
  }

  /// Lets the server's own timer run out, and nobody else's.
  mutating func timeout(_ server: String) {
    now = max(now, self[server].nextDeadline)
    feed(server, .tick)
  }

  /// Delivers what waits and what that causes, but for messages `dropped` picks.
  mutating func deliver(dropping dropped: (NodeName, NodeName) -> Bool = { _, _ in false }) {
    var budget = 10_000
    while !mail.isEmpty, budget > 0 {
      budget -= 1
      let (from, to, message) = mail.removeFirst()
      if !dropped(from, to) { feed(to.string, .received(message, from: from)) }
    }
  }

  /// Delivers one message after the other until `isDone`, and loses the rest.
  mutating func deliver(until isDone: (RaftBench) -> Bool) {
    while !mail.isEmpty, !isDone(self) {
      let (from, to, message) = mail.removeFirst()
      feed(to.string, .received(message, from: from))
    }
    mail = []
  }

  mutating func elect(_ server: String) {
    timeout(server)
    deliver()
  }

  @discardableResult
  mutating func propose(_ server: String, _ text: String) -> RequestToken {
    nextToken += 1
    feed(server, .propose([Proposal(token: RequestToken(nextToken), command: Array(text.utf8))]))
    return RequestToken(nextToken)
  }

  mutating func receive(_ server: String, _ body: RaftMessage.Body, term: UInt64, from peer: String) {
    let message = RaftMessage(cluster: Self.tag, term: Term(term), body: body)
    feed(server, .received(message, from: name(peer)))
  }
}

/// Names in tests are literals.
func name(_ text: String) -> NodeName {
  guard let name = try? NodeName(text) else { preconditionFailure("'\(text)' is not a name") }
  return name
}

func entry(_ index: UInt64, _ term: UInt64, _ text: String = "") -> LogEntry {
  LogEntry(index: LogIndex(index), term: Term(term), payload: text.isEmpty ? .noop : .command(Array(text.utf8)))
}

func position(_ index: UInt64, _ term: UInt64) -> LogPosition { LogPosition(index: LogIndex(index), term: Term(term)) }

/// Effects and messages in words.
enum RaftTrace {
  static func line(_ effect: RaftEffect, on server: NodeName) -> String {
    switch effect {
    case .persist(let persistence): "\(server): persist \(words(persistence))"
    case .send(let message, let peer): "\(server) -> \(peer): term \(message.term) \(words(message.body))"
    case .apply(let entries): "\(server): apply \(entries.map(words).joined(separator: " "))"
    case .installSnapshot(let snapshot): "\(server): install the snapshot at \(snapshot.position)"
    case .becameLeader(let term): "\(server): leads term \(term)"
    case .steppedDown(let term): "\(server): steps down in term \(term)"
    case .leaderChanged(let leader, let term): "\(server): leader is \(leader?.string ?? "unknown") in term \(term)"
    case .accepted(let token, let position): "\(server): accepted \(token) at \(position)"
    case .rejected(let token, let reason): "\(server): rejected \(token) \(reason)"
    case .readReady(let token, let index): "\(server): read \(token) at \(index)"
    case .configurationChanged(let configuration, let index): "\(server): members \(configuration) at \(index)"
    case .failed(let failure): "\(server): failed: \(failure)"
    }
  }

  private static func words(_ persistence: Persistence) -> String {
    var parts: [String] = []
    if let hard = persistence.hardState {
      parts.append("term=\(hard.term) vote=\(hard.vote?.string ?? "-")")
      if hard.isFounder { parts.append("founder") }
      if let since = hard.newcomerSince { parts.append("newcomer-since=\(since)") }
    }
    if let snapshot = persistence.snapshot { parts.append("snapshot=\(snapshot.position)") }
    if persistence.resetsLog { parts.append("resets-log") }
    if let from = persistence.truncateFrom { parts.append("truncate-from=\(from)") }
    if !persistence.entries.isEmpty { parts.append(persistence.entries.map(words).joined(separator: " ")) }
    return parts.joined(separator: " ")
  }

  private static func words(_ entry: LogEntry) -> String {
    switch entry.payload {
    case .noop: "\(entry.position)"
    case .command(let bytes): "\(entry.position)'\(String(decoding: bytes, as: UTF8.self))'"
    case .configuration(let configuration): "\(entry.position)\(configuration)"
    }
  }

  private static func words(_ body: RaftMessage.Body) -> String {
    switch body {
    case .preVote(let last): "pre-vote? last \(last)"
    case .preVoteReply(let granted): granted ? "pre-vote granted" : "pre-vote refused"
    case .vote(let last, let forced): "vote? last \(last)\(forced ? " forced" : "")"
    case .voteReply(let granted): granted ? "vote granted" : "vote refused"
    case .append(let previous, let entries, let commit):
      "append after \(previous) [\(entries.map(words).joined(separator: " "))] commit \(commit)"
    case .appendReply(.matched(let index)): "matched \(index)"
    case .appendReply(.conflict(let index, let hint)): "conflict at \(index) hint \(hint)"
    case .heartbeat(let commit, _): "heartbeat commit \(commit)"
    case .heartbeatReply: "heartbeat heard"
    case .snapshotChunk(let chunk): "snapshot \(chunk.position) bytes \(chunk.offset)+\(chunk.bytes.count)/\(chunk.total)"
    case .snapshotReply(let position, let offset): "snapshot \(position) wants \(offset)"
    case .timeoutNow: "timeout now"
    }
  }
}
