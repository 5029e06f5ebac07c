import CLinux
import Cluster
import Glibc
import Nodes
import Primitives

/// The demo's processes: starts them, notices their deaths, starts them again, ends them all.
final class DemoCluster {
  let plan: DemoPlan
  private let program: String
  private let bookinfo: String
  private let sessionSecret: String
  private(set) var children: [Child] = []
  let logDirectory: String

  struct Child {
    enum Kind: Equatable {
      case node(String)
      case workload(DemoPlan.Workload)
    }
    let kind: Kind
    let arguments: [String]
    var process: ChildProcess?
    var lastExit: String?
    var restartAt: ContinuousClock.Instant?
    var name: String {
      switch kind {
      case .node(let name): name
      case .workload(let workload): workload.label
      }
    }
  }

  init(plan: DemoPlan) throws {
    self.plan = plan
    program = try DemoCluster.ownProgram()
    bookinfo = try DemoCluster.bookinfoProgram(beside: program)
    sessionSecret = hexString((0..<16).map { _ in UInt8.random(in: 0...255) })
    logDirectory = plan.file.resolved(".mesh/logs")
    try checkDataDirectories()
    try checkPortsAreFree()
    do { try createDirectories(logDirectory) } catch { throw CommandFailure("\(error)") }
    if access(plan.file.joinSecretPath, F_OK) != 0 {
      do { try JoinSecret.create(at: plan.file.joinSecretPath) } catch { throw CommandFailure("\(error)") }
    }
    children = childrenToStart()
  }

  private func childrenToStart() -> [Child] {
    let config = ["--config", plan.file.path]
    let nodes = plan.nodes.map { node in
      Child(
        kind: .node(node.name.string), arguments: [program, "start", "--node", node.name.string, "--workers", "1"] + config)
    }
    let workloads = plan.workloads.map { workload in
      let run = [
        "run", "--node", workload.node, "--service", workload.service, "--version", workload.version, "--port",
        "\(workload.port)",
        "--service-port", "9080", "--service-account", workload.serviceAccount, "--health-path", "/health", "--stop-timeout",
        "3s",
      ]
      let application = [
        bookinfo, workload.service, "--version", workload.version, "--port", "\(workload.port)", "--address", workload.address,
      ]
      return Child(kind: .workload(workload), arguments: [program] + run + config + ["--"] + application)
    }
    return nodes + workloads
  }

  func startAll() throws {
    for index in children.indices { try start(index) }
  }

  private func start(_ index: Int) throws {
    let child = children[index]
    var environment = currentEnvironment()
    environment["SESSION_SECRET"] = sessionSecret
    environment["CLUSTER_NAME"] = plan.file.cluster.string
    let log = open("\(logDirectory)/\(child.name).log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard log >= 0 else { throw CommandFailure("\(logDirectory)/\(child.name).log: \(errorText(errno))") }
    defer { close(log) }
    children[index].process = try ChildProcess(child.arguments, environment: environment, output: log, diesWithParent: true)
    children[index].restartAt = nil
  }

  /// Reaps children that ended; starts those again whose time has come. Returns what happened, in words.
  func supervise(restartAfter: Duration?) throws -> [String] {
    var events: [String] = []
    for index in children.indices {
      if let process = children[index].process, let reason = process.poll() {
        children[index].process = nil
        children[index].lastExit = reason.description
        children[index].restartAt = restartAfter.map { .now + $0 }
        let plan = restartAfter.map { "; starting it again in \(Int($0.inSeconds)) s" } ?? ""
        let log = "\(logDirectory)/\(children[index].name).log"
        let words = reason == .signal(SIGKILL) ? "" : lastLine(of: log).map { ": \($0)" } ?? ""
        events.append("\(children[index].name) ended (\(reason))\(words)\(plan); log: \(log)")
      }
      if children[index].process == nil, let at = children[index].restartAt, at <= .now {
        try start(index)
        events.append("\(children[index].name) started again")
      }
    }
    return events
  }

  func isRunning(_ name: String) -> Bool { children.contains { $0.name == name && $0.process != nil } }

  /// kill -9.
  func killNow(_ name: String) {
    children.first { $0.name == name }?.process?.signal(SIGKILL)
  }

  func restart(_ name: String) throws {
    guard let index = children.firstIndex(where: { $0.name == name }), children[index].process == nil else { return }
    try start(index)
  }

  /// Ends everything: workloads first, so they leave in order, then nodes; what does not end is killed.
  func stopAll() {
    let isNode: (Child) -> Bool = { if case .node = $0.kind { true } else { false } }
    stop(children.indices.filter { !isNode(children[$0]) }, within: .seconds(8))
    stop(children.indices.filter { isNode(children[$0]) }, within: .seconds(8))
  }

  private func stop(_ indices: [Int], within limit: Duration) {
    let deadline = ContinuousClock.now + limit
    for index in indices { children[index].process?.signal(SIGTERM) }
    while indices.contains(where: { children[$0].process != nil }) {
      for index in indices where children[index].process?.poll() != nil { children[index].process = nil }
      if ContinuousClock.now > deadline {
        for index in indices { children[index].process?.signal(SIGKILL) }
      }
      pause(.milliseconds(20))
    }
  }

  func client(_ node: String) -> AdminClient? {
    guard let entry = plan.nodes.first(where: { $0.name.string == node }) else { return nil }
    return AdminClient(node: node, socketPath: plan.file.adminSocketPath(of: entry))
  }

  /// The admin client of the first node that runs.
  var anyClient: AdminClient? { plan.nodes.first { isRunning($0.name.string) }.flatMap { client($0.name.string) } }
}

// MARK: - Checks before anything is started

extension DemoCluster {
  private static func ownProgram() throws -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { raw in
      raw.withMemoryRebound(to: CChar.self) { text in text.baseAddress.map { readlink("/proc/self/exe", $0, text.count) } ?? -1
      }
    }
    guard count > 0 else { throw CommandFailure("cannot find this program's own file: \(errorText(errno))") }
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  private static func bookinfoProgram(beside program: String) throws -> String {
    let directory = program.lastIndex(of: "/").map { String(program[..<$0]) } ?? "."
    let path = "\(directory)/BookinfoDemo"
    guard access(path, X_OK) == 0 else {
      throw CommandFailure("the demo's application is missing: \(path)\nbuild both programs with: make build")
    }
    return path
  }

  /// A directory left by another cluster or node is told before anything starts.
  private func checkDataDirectories() throws {
    for node in plan.nodes {
      let directory = plan.file.dataDirectory(of: node)
      guard let bytes = try? readFile("\(directory)/node.json", bytesMax: 4096) else { continue }
      let text = String(decoding: bytes, as: UTF8.self)
      guard text.contains("\"cluster\": \"\(plan.file.cluster)\""), text.contains("\"node\": \"\(node.name)\"") else {
        throw CommandFailure(
          """
          \(directory) holds the data of another node or cluster: \(text.filter { $0 != "\n" })
          remove it, or start over with: mesh-node demo --fresh
          """)
      }
    }
  }

  /// The last line of a log, for a person who wants to know why a process ended.
  private func lastLine(of path: String) -> String? {
    guard let bytes = try? readFile(path, bytesMax: 256 << 20) else { return nil }
    return bytes.split(separator: 0x0A).last.map { Terminal.clean(String(decoding: $0.suffix(300), as: UTF8.self)) }
  }

  private func checkPortsAreFree() throws {
    let ports = plan.file.ports
    var wanted: [(address: String, port: UInt16, what: String)] = []
    for node in plan.nodes {
      for (port, what) in [
        (ports.mesh, "mesh"), (ports.link, "cluster link"), (ports.metrics, "metrics"), (ports.health, "health"),
      ] {
        wanted.append((node.address, port, "\(what) port of \(node.name)"))
      }
      if node.gateway { wanted.append((node.address, DemoPlan.gatewayPort, "gateway of \(node.name)")) }
    }
    for workload in plan.workloads { wanted.append((workload.address, workload.port, workload.label)) }
    let taken = wanted.filter { !isFree($0.address, $0.port) }
    guard taken.isEmpty else {
      let list = taken.map { "  \($0.address):\($0.port)  \($0.what)" }.joined(separator: "\n")
      throw CommandFailure(
        "these ports are in use:\n\(list)\nIs another demo running? Find the program with: ss -ltnp | grep \(taken[0].port)")
    }
  }

  private func isFree(_ address: String, _ port: UInt16) -> Bool {
    let descriptor = blockingSocket(AF_INET)
    guard descriptor >= 0 else { return true }
    defer { close(descriptor) }
    var one: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = port.bigEndian
    guard inet_pton(AF_INET, address, &target.sin_addr) == 1 else { return false }
    return withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}
