import Nodes
import Primitives

/// What the demo shows at one moment.
struct DemoPicture {
  var members: [MemberInfo] = []
  var roles: [RoleInfo] = []
  var processes: [(name: String, pid: String, state: String)] = []
  var requestsPerSecond = 0.0
  var failuresPerSecond = 0.0
  var totals: (sent: Int, failed: Int) = (0, 0)
  var split: [(ReviewsSeen, Int)] = []
  var median: Duration = .zero

  private static let window: Duration = .seconds(10)

  init(_ demo: DemoCluster, _ traffic: TrafficGenerator?) {
    if let client = demo.anyClient {
      members = (try? client.get("/v1/members", timeout: .seconds(1))) ?? []
      roles = (try? client.get("/v1/roles", timeout: .seconds(1))) ?? []
    }
    processes = demo.children.map { child in
      (child.name, child.process.map { "\($0.pid)" } ?? "-", child.process == nil ? "dead" : "alive")
    }
    guard let traffic else { return }
    let recent = traffic.samples(since: .now - Self.window)
    totals = traffic.counts
    requestsPerSecond = Double(recent.count) / Self.window.inSeconds
    failuresPerSecond = Double(recent.filter { !$0.succeeded }.count) / Self.window.inSeconds
    for kind in ReviewsSeen.allCases {
      let count = recent.filter { $0.reviews == kind }.count
      if count > 0 { split.append((kind, count)) }
    }
    median = recent.map(\.elapsed).sorted().dropFirst(recent.count / 2).first ?? .zero
  }
}

/// The live table of the demo: redrawn in place on a terminal, plain lines elsewhere.
struct DemoScreen {
  private var notes: [String] = []
  private var addresses = ""
  private static let notesShown = 6

  mutating func introduce(_ plan: DemoPlan) {
    let gateways = plan.gateways.map { "http://\($0.address):\(DemoPlan.gatewayPort)/productpage" }
    addresses = gateways.joined(separator: "   ")
    Terminal.line()
    Terminal.line("  open         \(gateways.joined(separator: "   or   "))")
    Terminal.line("  inspect      mesh-node members | roles | services | status | certificates")
    Terminal.line("  route        mesh-node apply --wait -f Sources/BookinfoDemo/Config/examples/reviews-90-10.yaml")
    Terminal.line("  understand   mesh-node explain --from productpage GET http://reviews:9080/reviews/0")
    Terminal.line("  break        kill -9 the process of a node; watch members and roles")
    Terminal.line("  end          Ctrl-C")
    Terminal.line()
  }

  mutating func note(_ text: String) {
    notes.append(text)
    if notes.count > Self.notesShown { notes.removeFirst() }
    if !Terminal.isInteractive { Terminal.line(text) }
  }

  func show(_ picture: DemoPicture) {
    guard Terminal.isInteractive else { return Terminal.line(summary(picture)) }
    var lines = memberLines(picture.members) + [""] + roleLines(picture.roles) + [""]
    var processes = Table("PROCESS", "PID", "STATE", states: [2])
    for process in picture.processes { processes.row(process.name, process.pid, process.state) }
    lines += processes.lines + ["", "  \(summary(picture))", ""]
    lines += notes.map { "  \(Terminal.styled($0, .yellow))" }
    Terminal.write(
      "\u{1B}[H\u{1B}[2J" + "mesh-node demo: Ctrl-C ends it    open  \(addresses)\n\n" + lines.joined(separator: "\n") + "\n")
  }

  private func summary(_ picture: DemoPicture) -> String {
    let alive = picture.members.filter { $0.state == "alive" }.count
    if picture.members.isEmpty { return "the nodes are starting" }
    let total = picture.split.map(\.1).reduce(0, +)
    let split = picture.split.map { "\($0.0.rawValue) \(total == 0 ? 0 : $0.1 * 100 / total)%" }.joined(separator: ", ")
    let roles = picture.roles.map { "\($0.role)=\($0.holder ?? "none")/\($0.epoch)" }.joined(separator: " ")
    return "\(alive) alive · \(roles) · \(oneDecimal(picture.requestsPerSecond)) pages/s, "
      + "\(oneDecimal(picture.failuresPerSecond)) failed/s, median \(oneDecimal(picture.median.inMilliseconds)) ms · "
      + "\(picture.totals.sent) pages, \(picture.totals.failed) failed · \(split)"
  }
}
