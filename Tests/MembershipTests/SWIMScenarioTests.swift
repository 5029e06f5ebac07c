import FoundationEssentials
import Membership
import Primitives
import Testing

/// Runs the files in `Scenarios`: prose, commands, `----`, the trace they have to cause.
/// With MESH_REWRITE_SCENARIOS=1 the traces are written anew; review the difference.
struct SWIMScenarioTests {
  private static let directory =
    String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.endIndex)) + "/Scenarios"

  @Test(arguments: ["indirect", "suspicion", "refutation", "hearsay", "stall", "leave", "restart", "knock"])
  func `a scenario causes exactly the trace written in its file`(_ scenario: String) throws {
    let path = "\(Self.directory)/\(scenario).txt"
    let text = String(decoding: try #require(FileManager.default.contents(atPath: path)), as: UTF8.self)
    var runner = SWIMScenario()
    let actual = runner.run(text)
    if ProcessInfo.processInfo.environment["MESH_REWRITE_SCENARIOS"] == "1" {
      try Data(actual.utf8).write(to: URL(filePath: path))
    } else {
      #expect(actual == text)
    }
  }
}

/// A few members with one clock. Messages take a millisecond unless their way is cut.
///
/// Not shown: a ping that is answered with nothing to tell, and a message that is not delivered anywhere.
struct SWIMScenario {
  private struct Node {
    var swim: SWIM
    let record: MemberRecord
    var pausedUntil = Instant.zero
    var isUp = true
  }

  private struct Mail {
    let at: Instant
    let from: String
    let to: String
    let message: SWIMMessage
    let isStream: Bool
  }

  private var nodes: [String: Node] = [:]
  private var names: [String] { nodes.keys.sorted() }
  private var mail: [Mail] = []
  private var cuts: Set<[String]> = []
  private var now = Instant(nanoseconds: 1_000_000_000)
  private var began = Instant.zero
  private var trace: [String] = []
  private static let firstIncarnation: UInt64 = 100

  mutating func run(_ text: String) -> String {
    var output: [String] = []
    for block in text.split(separator: "\n\n").map({ $0.split(separator: "\n").map(String.init) }) {
      let commands = block.prefix { $0 != "----" }
      output.append(contentsOf: commands)
      if block.contains("----") {
        trace = []
        began = now
        for command in commands where !command.hasPrefix("#") { perform(command.split(separator: " ").map(String.init)) }
        output.append("----")
        output.append(contentsOf: trace.isEmpty ? ["nothing"] : trace)
      }
      output.append("")
    }
    return output.joined(separator: "\n")
  }

  private mutating func perform(_ words: [String]) {
    let arguments = Array(words.dropFirst())
    switch (words.first ?? "", arguments.count) {
    case ("start", 2...): start(arguments)
    case ("run", 1): run(for: .milliseconds(Int(arguments[0]) ?? 0))
    case ("cut", 2): cuts.insert(arguments)
    case ("heal", 0): cuts = []
    case ("kill", 1): nodes[arguments[0]]?.isUp = false
    case ("pause", 2): nodes[arguments[0]]?.pausedUntil = now + .milliseconds(Int(arguments[1]) ?? 0)
    case ("leave", 1): feed(arguments[0], .leave)
    case ("restart", 1): restart(arguments[0])
    case ("reset", 2): feed(arguments[0], .linkDown(label(arguments[1]), .reset))
    // tell n1 from n2 suspect|dead n3 by n4
    case ("tell", 6): tell(arguments)
    default: trace.append("unknown command: \(words.joined(separator: " "))")
    }
  }

  private func label(_ text: String) -> NodeName {
    guard let name = try? NodeName(text) else { preconditionFailure("'\(text)' is not a name") }
    return name
  }

  /// All know each other first hand, and what they had to tell of it is told.
  private mutating func start(_ arguments: [String]) {
    for (number, name) in arguments.enumerated() {
      let record = MemberRecord(
        name: label(name), address: NodeAddress(host: "10.0.0.\(number + 1)", port: 15010), incarnation: Self.firstIncarnation)
      nodes[name] = Node(swim: SWIM(local: record, seed: UInt64(number + 1), at: now), record: record)
    }
    for name in arguments {
      feed(name, .join(arguments.compactMap { nodes[$0]?.record }.map { Seed(name: $0.name, address: $0.address) }))
    }
    run(for: .seconds(9))
    began = now
    trace = []
  }

  private mutating func restart(_ name: String) {
    guard let old = nodes[name] else { return }
    let record = MemberRecord(name: old.record.name, address: old.record.address, incarnation: Self.firstIncarnation + 1000)
    nodes[name] = Node(swim: SWIM(local: record, seed: 99, at: now), record: record)
    feed(name, .join(names.compactMap { nodes[$0]?.record }.map { Seed(name: $0.name, address: $0.address) }))
  }

  private mutating func tell(_ words: [String]) {
    guard let sender = nodes[words[2]]?.record, let accused = nodes[words[4]]?.swim.local else { return }
    let accuser = label(words[5])
    let rumor: Rumor =
      words[3] == "dead"
      ? .dead(accused.name, incarnation: accused.incarnation, accuser: accuser)
      : .suspect(accused.name, incarnation: accused.incarnation, accuser: accuser)
    let message = SWIMMessage(sender: sender.name, registryDigest: 0, body: .gossip, rumors: [rumor])
    feed(words[0], .datagram(message, from: sender.address))
  }

  // MARK: Time

  private mutating func run(for time: Duration) {
    let end = now + time
    for _ in 0..<100_000 {
      var next = end
      for letter in mail { next = min(next, max(letter.at, nodes[letter.to]?.pausedUntil ?? .zero)) }
      for name in names { next = min(next, due(name) ?? end) }
      now = max(now, next)
      guard now < end else { return }
      if let name = names.first(where: { due($0).map { $0 <= now } == true }) {
        feed(name, .tick)
      } else if let place = mail.firstIndex(where: { max($0.at, nodes[$0.to]?.pausedUntil ?? .zero) <= now }) {
        deliver(mail.remove(at: place))
      }
    }
  }

  private func due(_ name: String) -> Instant? {
    guard let node = nodes[name], node.isUp, let deadline = node.swim.nextDeadline else { return nil }
    return max(deadline, node.pausedUntil)
  }

  private mutating func deliver(_ letter: Mail) {
    guard let sender = nodes[letter.from]?.record else { return }
    let name = sender.name
    feed(letter.to, letter.isStream ? .stream(letter.message, from: name) : .datagram(letter.message, from: sender.address))
  }

  private mutating func feed(_ name: String, _ input: SWIM.Input) {
    guard var node = nodes[name], node.isUp, node.pausedUntil <= now else { return }
    var effects: [SWIM.Effect] = []
    node.swim.handle(input, at: now, into: &effects)
    nodes[name] = node
    for effect in effects { carryOut(effect, of: name) }
  }

  private mutating func carryOut(_ effect: SWIM.Effect, of name: String) {
    switch effect {
    case .sendDatagram(let message, let address):
      guard let to = names.first(where: { nodes[$0]?.record.address == address }) else { return }
      send(message, from: name, to: to, isStream: false)
    case .sendStream(let message, let to, _): send(message, from: name, to: to.string, isStream: true)
    case .memberChanged(let change):
      let words = [change.old, change.new].map { $0.map { "\($0.state)" } ?? "unknown" }
      let raised = change.new.map { raise($0.incarnation) } ?? ""
      if words[0] != words[1] || !raised.isEmpty {
        note("\(name): \(change.name?.string ?? "") \(words[0]) -> \(words[1])\(raised)")
      }
    case .incarnationRaised(let incarnation): note("\(name): raises its incarnation\(raise(incarnation))")
    case .claimRejected(let rejection): note("\(name): rejects \(rejection)")
    case .leaveCompleted: note("\(name): has left")
    case .registryDiffers: break
    }
  }

  private mutating func send(_ message: SWIMMessage, from: String, to: String, isStream: Bool) {
    let isLost = cuts.contains([from, to]) || nodes[to]?.isUp != true
    if !isOrdinary(message) || isLost {
      note("\(from) \(isStream ? "=>" : "->") \(to): \(words(message))\(isLost ? " (lost)" : "")")
    }
    if !isLost { mail.append(Mail(at: now + .milliseconds(1), from: from, to: to, message: message, isStream: isStream)) }
  }

  private func isOrdinary(_ message: SWIMMessage) -> Bool {
    guard message.rumors.isEmpty else { return false }
    return switch message.body {
    case .ping, .acknowledgement, .synchronisation: true
    default: false
    }
  }

  // MARK: Words

  private mutating func note(_ text: String) {
    let passed = (now.nanoseconds - began.nanoseconds) / 1_000_000
    trace.append("\(passed) \(text)")
  }

  private func raise(_ incarnation: UInt64) -> String {
    incarnation > Self.firstIncarnation ? " +\(incarnation - Self.firstIncarnation)" : ""
  }

  private func words(_ message: SWIMMessage) -> String {
    let body =
      switch message.body {
      case .ping: "ping"
      case .pingRequest(_, let target): "ping \(target) for me"
      case .acknowledgement: "ack"
      case .negativeAcknowledgement: "nack"
      case .gossip: "gossip"
      case .introduction(let record, let wantsReply):
        "I am \(record.name)\(raise(record.incarnation))\(wantsReply ? ", you?" : "")"
      case .synchronisation(let claims, let wantsReply): "all I know: \(claims.count)\(wantsReply ? ", you?" : "")"
      }
    let rumors = message.rumors.map { rumor in
      switch rumor {
      case .alive(let record): "\(record.name) alive\(raise(record.incarnation))"
      case .suspect(let name, let incarnation, let accuser): "\(name) suspect\(raise(incarnation)) by \(accuser)"
      case .dead(let name, let incarnation, let accuser): "\(name) dead\(raise(incarnation)) by \(accuser)"
      case .left(let name, let incarnation): "\(name) left\(raise(incarnation))"
      }
    }
    return rumors.isEmpty ? body : "\(body) [\(rumors.joined(separator: ", "))]"
  }
}
