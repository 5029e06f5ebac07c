import Glibc
import Nodes
import Primitives

extension Command {
  static let demo = Command(
    "demo", .run, summary: "run three nodes, Bookinfo and a little traffic on this machine",
    discussion: """
      Starts n1, n2 and n3 as processes on 127.0.0.1, 127.0.0.2 and 127.0.0.3, Bookinfo's services behind them, and opens
      the page a few times a second. Kill what you like (the table shows the process ids): it is started again.
      Ctrl-C ends everything. --tour runs a scripted check of routing, faults and failover, and ends by itself.
      """,
    options: [
      .flag("tour", "check routing, fault injection and failover step by step, then end"),
      .value("rate", "N", "page views a second (default: 5)"),
      .value("restart-after", "TIME", "start killed processes again after this time (default: 10s)"),
      .flag("fresh", "remove the demo's data directories first"),
    ]
  ) { arguments in
    let file = try ClusterFile.load(arguments)
    let plan = try DemoPlan(file: file)
    if arguments.flag("fresh") || arguments.flag("tour") { try DemoData.remove(plan) }
    let demo = try DemoCluster(plan: plan)
    if arguments.flag("tour") { return try Tour(demo).run() }
    let rate = Double(try arguments.number("rate", default: 5, in: 1...1000))
    return try DemoSession(
      demo, rate: rate, restartAfter: try arguments.duration("restart-after", default: .seconds(10))
    ).run()
  }
}

/// The demo's data on disk.
enum DemoData {
  /// Removes the data directories of the demo's nodes, and nothing else.
  static func remove(_ plan: DemoPlan) throws {
    for node in plan.nodes {
      let directory = plan.file.dataDirectory(of: node)
      guard access(directory, F_OK) == 0 else { continue }
      guard access("\(directory)/node.json", F_OK) == 0 || isEmptyDirectory(directory) else {
        throw CommandFailure("\(directory) does not look like a node's data directory; remove it yourself")
      }
      try removeTree(directory)
    }
  }

  private static func isEmptyDirectory(_ path: String) -> Bool { (try? entries(path))?.isEmpty ?? false }

  private static func entries(_ path: String) throws -> [String] {
    guard let directory = opendir(path) else { throw CommandFailure("\(path): \(errorText(errno))") }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != "." && name != ".." { names.append(name) }
    }
    return names
  }

  private static func removeTree(_ path: String) throws {
    for name in try entries(path) {
      let child = "\(path)/\(name)"
      var info = stat()
      if lstat(child, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
        try removeTree(child)
      } else if unlink(child) != 0 {
        throw CommandFailure("\(child): \(errorText(errno))")
      }
    }
    guard rmdir(path) == 0 else { throw CommandFailure("\(path): \(errorText(errno))") }
  }
}

/// The demo until Ctrl-C: supervises the processes, generates traffic, shows what happens.
final class DemoSession {
  private let demo: DemoCluster
  private let rate: Double
  private let restartAfter: Duration
  private var screen = DemoScreen()

  init(_ demo: DemoCluster, rate: Double, restartAfter: Duration) {
    self.demo = demo
    self.rate = rate
    self.restartAfter = restartAfter
  }

  func run() throws -> ExitStatus {
    Terminal.line(
      "starting \(demo.plan.nodes.count) nodes and \(demo.plan.workloads.count) workloads, logs in \(demo.logDirectory)")
    defer {
      Terminal.line("ending the demo …")
      demo.stopAll()
    }
    try demo.startAll()
    screen.introduce(demo.plan)
    var traffic: TrafficGenerator?
    defer { traffic?.stop() }
    var nextShow = ContinuousClock.now
    while true {
      for signal in Signals.pending() where signal == SIGINT || signal == SIGTERM || signal == SIGHUP { return .done }
      for event in try demo.supervise(restartAfter: restartAfter) { screen.note(event) }
      if traffic == nil, isServing {
        screen.note("the page is served; generating \(Int(rate)) page views a second")
        traffic = TrafficGenerator(
          gateways: demo.plan.gateways.map { ($0.address, DemoPlan.gatewayPort) }, rate: rate, clients: 4)
      }
      if ContinuousClock.now >= nextShow {
        screen.show(DemoPicture(demo, traffic))
        nextShow = .now + (Terminal.isInteractive ? .seconds(1) : .seconds(5))
      }
      Signals.wait(on: [], timeout: .milliseconds(200))
    }
  }

  /// Whether every gateway answers with the page: traffic before that would count the start as failures.
  private var isServing: Bool {
    demo.plan.gateways.allSatisfy { gateway in
      PageClient(address: gateway.address, port: DemoPlan.gatewayPort, timeout: .seconds(1)).request("GET", "/productpage")?
        .status == 200
    }
  }
}
