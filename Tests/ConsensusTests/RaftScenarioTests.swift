import Consensus
import FoundationEssentials
import Primitives
import Testing

/// Runs the files in `Scenarios`: prose, a command, `----`, the trace it has to cause.
/// With MESH_REWRITE_SCENARIOS=1 the traces are written anew; review the difference.
struct RaftScenarioTests {
  private static let directory =
    String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.endIndex)) + "/Scenarios"
  static let names = [
    "election", "prevote", "checkquorum", "conflict", "commit-rule", "snapshot", "transfer", "membership",
  ]

  @Test(arguments: names) func `a scenario causes exactly the trace written in its file`(_ scenario: String) throws {
    let path = "\(Self.directory)/\(scenario).txt"
    let text = String(decoding: try #require(FileManager.default.contents(atPath: path)), as: UTF8.self)
    var runner = ScenarioRunner()
    let actual = runner.run(text)
    if ProcessInfo.processInfo.environment["MESH_REWRITE_SCENARIOS"] == "1" {
      try Data(actual.utf8).write(to: URL(filePath: path))
    } else {
      #expect(actual == text)
    }
  }
}

/// Rewrites a scenario's text with the traces its commands cause.
struct ScenarioRunner {
  private var bench = RaftBench(voters: [])

  mutating func run(_ text: String) -> String {
    var output: [String] = []
    for block in text.split(separator: "\n\n").map({ $0.split(separator: "\n").map(String.init) }) {
      let commands = block.prefix { $0 != "----" }
      output.append(contentsOf: commands)
      guard block.contains("----") else {
        output.append("")
        continue
      }
      bench.trace = []
      for command in commands where !command.hasPrefix("#") { perform(command.split(separator: " ").map(String.init)) }
      output.append("----")
      output.append(contentsOf: bench.trace.isEmpty ? ["nothing"] : bench.trace)
      output.append("")
    }
    return output.joined(separator: "\n")
  }

  private mutating func perform(_ words: [String]) {
    guard let verb = words.first else { return }
    let arguments = Array(words.dropFirst())
    switch (verb, arguments.count) {
    case ("start", 1...): start(arguments)
    case ("timeout", 1): bench.timeout(arguments[0])
    case ("advance", 1): bench.now = bench.now + .milliseconds(Int(arguments[0]) ?? 0)
    case ("tick", 1): bench.feed(arguments[0], .tick)
    case ("deliver", 0): bench.deliver()
    case ("deliver", 2) where arguments[0] == "without":
      let lost = arguments[1]
      bench.deliver { $0.string == lost || $1.string == lost }
    case ("drop", 0): bench.mail = []
    case ("propose", 2): bench.propose(arguments[0], arguments[1])
    case ("read", 1): bench.feed(arguments[0], .read(RequestToken(99)))
    case ("transfer", 2): bench.feed(arguments[0], .transferLeadership(to: name(arguments[1])))
    case ("unreachable", 2): bench.feed(arguments[0], .peerUnreachable(name(arguments[1])))
    case ("change", 3): change(arguments[0], arguments[1], name(arguments[2]))
    case ("compact", 1):
      let commit = bench[arguments[0]].commitIndex
      bench.feed(arguments[0], .compact(through: commit, state: Array("state at \(commit)".utf8)))
    case ("crash", 1): bench.crash(arguments[0])
    case ("restart", 1): bench.start(name(arguments[0]))
    case ("log", 2...): setLog(arguments)
    default: bench.trace.append("unknown command: \(words.joined(separator: " "))")
    }
  }

  /// `start n1 n2 n3 learners n4`, with small batches so that traces show them.
  private mutating func start(_ arguments: [String]) {
    let parts = arguments.split(separator: "learners", maxSplits: 1).map(Array.init)
    var settings = RaftSettings()
    settings.trailingEntries = 0
    settings.chunkBytes = 8
    bench = RaftBench(voters: parts.first ?? [], learners: parts.count > 1 ? parts[1] : [], settings: settings)
  }

  /// `log n1 term TERM entries 1 2 2`: the terms of a log read from disk.
  private mutating func setLog(_ arguments: [String]) {
    let numbers = arguments.compactMap { UInt64($0) }
    let members = ClusterConfiguration(voters: bench.serverNames)
    let entries = numbers.dropFirst().enumerated().map { offset, term in
      LogEntry(
        index: LogIndex(UInt64(offset + 1)), term: Term(term),
        payload: offset == 0 ? .configuration(members) : .command(Array("t\(term)".utf8)))
    }
    bench.setDisk(arguments[0], RecoveredState(hardState: HardState(term: Term(numbers.first ?? 0)), entries: entries))
  }

  private mutating func change(_ server: String, _ verb: String, _ node: NodeName) {
    let change: ConfigurationChange =
      switch verb {
      case "add": .addLearner(node)
      case "promote": .promote(node)
      default: .remove(node)
      }
    if verb == "add" { bench.start(node, configuration: ClusterConfiguration()) }
    bench.feed(server, .changeConfiguration(RequestToken(50), change))
  }
}

extension RaftBench {
  var serverNames: [NodeName] { servers.keys.sorted() }
}
