import Glibc

/// The restarts, the load beside them, and the verdict.
struct Campaign {
  private let mesh: Mesh
  private let workloadRestarts: Int
  private let nodeRestarts: Int
  private let rate: Int
  private let keepsFiles: Bool
  private let tally = Tally()

  init(_ options: Options) throws {
    workloadRestarts = try options.number("workloads", default: 1000)
    nodeRestarts = try options.number("nodes", default: 30)
    rate = max(1, try options.number("rate", default: 200))
    keepsFiles = options.flag("keep")
    mesh = try Mesh(
      program: try options.text("mesh-node"), own: Self.ownPath(),
      nodeOptions: options.text("node-options", default: "").split(separator: " ").map(String.init))
  }

  private static func ownPath() throws -> String {
    guard let path = realpath("/proc/self/exe", nil) else { throw Failure("/proc/self/exe cannot be read") }
    defer { free(path) }
    return String(cString: path)
  }

  /// True when nobody noticed anything.
  func run() throws -> Bool {
    defer { mesh.end(keepingFiles: keepsFiles) }
    say("starting three nodes and three instances in \(mesh.directory)")
    try mesh.start()
    try startClients()
    sleep(milliseconds: 1000)
    let began = nanoseconds()
    // Nodes at even distances between the workloads, so that both kinds of trouble meet.
    let total = workloadRestarts + nodeRestarts
    var nodesDone = 0
    for step in 0..<total {
      let isNode = nodesDone * total < nodeRestarts * (step + 1) && nodesDone < nodeRestarts
      if isNode {
        try mesh.restartNode(["n2", "n3"][nodesDone % 2])
        nodesDone += 1
      } else {
        try mesh.restartWorkload(mesh.names[(step - nodesDone) % mesh.names.count])
      }
      for failure in tally.takeNews() { say("  after restart \(step + 1): \(failure)") }
      if (step + 1) % 50 == 0 || isNode { progress(step + 1, total, nodesDone, began) }
    }
    sleep(milliseconds: 1000)
    tally.stop()
    return report(Double(nanoseconds() - began) / 1e9)
  }

  private func startClients() throws {
    let gateway = mesh.address("n1")
    guard let outbound = mesh.outboundPort("n1") else { throw Failure("the caller on n1 has no outbound port") }
    var clients: [(Client.Group, String, UInt16, method: String, keepsAlive: Bool)] = []
    for method in ["GET", "POST"] {
      for _ in 0..<6 {
        clients.append((.gateway, gateway, Mesh.gatewayPort, method, true))
        clients.append((.node, gateway, outbound, method, true))
      }
      for _ in 0..<2 {
        clients.append((.gateway, gateway, Mesh.gatewayPort, method, false))
        clients.append((.node, gateway, outbound, method, false))
      }
      for node in ["n2", "n3"] {
        guard let port = mesh.outboundPort(node) else { throw Failure("the caller on \(node) has no outbound port") }
        clients.append((.restarted, mesh.address(node), port, method, true))
        clients.append((.restarted, mesh.address(node), port, method, false))
      }
    }
    let period = UInt64(clients.count) * 1_000_000_000 / UInt64(rate)
    let start = nanoseconds()
    for (index, entry) in clients.enumerated() {
      let client = Client(
        "c\(index)", entry.0, entry.method, keepsAlive: entry.keepsAlive, to: entry.1, entry.2, period: period, tally)
      let first = start + period * UInt64(index) / UInt64(clients.count)
      tally.clientStarted()
      startThread { client.run(from: first) }
    }
  }

  private func progress(_ done: Int, _ total: Int, _ nodes: Int, _ began: UInt64) {
    let state = tally.now
    let succeeded = state.counts.values.reduce(0) { $0 + $1.succeeded }
    let failed = state.counts.values.reduce(0) { $0 + $1.failed }
    say(
      "\(done) of \(total) restarts (\(nodes) of nodes), \((nanoseconds() - began) / 1_000_000_000) s: "
        + "\(succeeded) requests answered, \(failed) failed")
  }

  private func report(_ seconds: Double) -> Bool {
    let state = tally.now
    let ledger = mesh.names.flatMap { text(of: "\(mesh.directory)/ledger-\($0)").split(separator: "\n").map(String.init) }
    var executions: [String: Int] = [:]
    for id in ledger { executions[id, default: 0] += 1 }
    let twice = executions.filter { $0.value > 1 }
    let lost = state.accepted.filter { executions[$0] == nil }
    let failed = state.counts.values.reduce(0) { $0 + $1.failed }
    say("")
    say("\(workloadRestarts) restarts of workloads and \(nodeRestarts) of nodes in \(Int(seconds)) s")
    for (name, count) in state.counts.sorted(by: { $0.key < $1.key }) {
      say("  \(name.padded(60)) \(String(count.succeeded).leftPadded(9)) answered \(String(count.failed).leftPadded(6)) failed")
    }
    for (reason, count) in state.reasons.sorted(by: { $0.key < $1.key }) { say("    \(count) × \(reason)") }
    say("  connections refused by a node that was away (not failures): \(state.away)")
    let sorted = state.latencies.sorted()
    if !sorted.isEmpty {
      let points = [50.0, 99, 99.9].map {
        "p\($0 == 99.9 ? "99.9" : String(Int($0))) \(milliseconds(sorted[Int(Double(sorted.count - 1) * $0 / 100)]))"
      }
      say(
        "  time from the planned start to the answer: \(points.joined(separator: ", ")), slowest \(milliseconds(state.slowest))"
      )
    }
    say(
      "  POSTs done twice: \(twice.count)\(twice.isEmpty ? "" : " (\(twice.keys.sorted().prefix(5).joined(separator: ", ")))")")
    say("  POSTs answered but not done: \(lost.count)")
    let isClean = failed == 0 && twice.isEmpty && lost.isEmpty
    say(isClean ? "passed: nobody noticed" : "FAILED")
    return isClean
  }

  private func milliseconds(_ nanoseconds: UInt64) -> String { "\(Double(nanoseconds / 10_000) / 100) ms" }
}

extension String {
  fileprivate func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
  fileprivate func leftPadded(_ width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
}
