import Cluster
import FoundationEssentials
import Glibc
import Nodes
import Testing

/// Three nodes and Bookinfo as processes: productpage and details on n1, which is the gateway, reviews on n2, ratings on n3.
@BlockingThread
final class BookinfoMesh {
  struct Workload: Sendable {
    var service: String
    var version: String
    var node: Int
    var port: UInt16
    var environment: [String: String] = [:]
  }

  /// Loopback addresses of this test process alone, so that runs beside each other do not meet.
  nonisolated let prefix = "127.\(64 + getpid() % 128).\(getpid() / 128 % 256)"
  nonisolated let directory: String
  private var processes: [SpawnedProcess] = []
  private var applied: Set<ObjectName> = []

  struct ObjectName: Hashable {
    var kind: String
    var namespace: String
    var name: String
  }

  nonisolated func address(_ node: Int) -> String { "\(prefix).\(node)" }
  /// Where the stub of a service outside the mesh listens.
  nonisolated var outside: String { "\(prefix).9" }

  init() throws {
    directory = FileManager.default.temporaryDirectory.path + "/bookinfo-conformance-\(getpid())"
    try FileManager.default.createDirectory(atPath: "\(directory)/logs", withIntermediateDirectories: true)
    try writeClusterFile()
    if Conformance.isPrivileged { try BookService.writeCertificates(in: directory) }
    for node in 1...3 { try startNode(node) }
    for workload in Self.workloads { try start(workload) }
    _ = try eventually("three nodes serve") { try? status(3).members.alive == 3 ? true : nil }
    _ = try apply(kubernetes: "bookinfo.yaml")
    try awaitEndpoints(Self.workloads)
  }

  private static let workloads = [
    Workload(service: "productpage", version: "v1", node: 1, port: 9080),
    Workload(service: "details", version: "v1", node: 1, port: 9081),
    Workload(service: "reviews", version: "v1", node: 2, port: 9083),
    Workload(service: "reviews", version: "v2", node: 2, port: 9084),
    Workload(service: "reviews", version: "v3", node: 2, port: 9085),
    Workload(service: "ratings", version: "v1", node: 3, port: 9082),
  ]

  func stop() {
    for process in processes.reversed() { kill(process.pid, SIGTERM) }
    for process in processes.reversed() { process.stop() }
    try? FileManager.default.removeItem(atPath: directory)
  }

  // MARK: Processes

  private func writeClusterFile() throws {
    let nodes = (1...3).map { node in
      """
      {"name": "n\(node)", "address": "\(address(node))", "locality": "local/\("abc".dropFirst(node - 1).prefix(1))/1"\
      \(node == 1 ? ", \"gateway\": true" : "")}
      """
    }
    let text = """
      {"cluster": "conformance", "dataDirectory": "\(directory)/{node}", "joinSecretFile": "\(directory)/join-secret",
       "nodes": [\(nodes.joined(separator: ", "))]}
      """
    try text.write(toFile: "\(directory)/cluster.json", atomically: true, encoding: .utf8)
    try JoinSecret.create(at: "\(directory)/join-secret")
  }

  /// The gateway's node has its own /etc/hosts and trusts the stub's authority, where that is possible.
  private func startNode(_ node: Int) throws {
    var arguments = [Conformance.meshNode, "start", "--node", "n\(node)", "--workers", "1"] + config
    var environment: [String: String] = [:]
    if node == 1, Conformance.isPrivileged {
      let hosts = "\(directory)/hosts"
      try "127.0.0.1 localhost\n\(outside) \(BookService.host)\n".write(toFile: hosts, atomically: true, encoding: .utf8)
      arguments = ["unshare", "--mount", "sh", "-c", "mount --bind '\(hosts)' /etc/hosts && exec \"$0\" \"$@\""] + arguments
      environment["SSL_CERT_FILE"] = BookService.authority(in: directory)
    }
    processes.append(
      try SpawnedProcess(
        arguments, environment: environment, log: log(of: "n\(node)-access"), errors: log(of: "n\(node)")))
  }

  private var config: [String] { ["--config", "\(directory)/cluster.json"] }

  nonisolated func log(of name: String) -> String { "\(directory)/logs/\(name).log" }

  @discardableResult
  func start(_ workload: Workload) throws -> SpawnedProcess {
    let (name, port) = ("\(workload.service)-\(workload.version)", "\(workload.port)")
    let run =
      ["run", "--node", "n\(workload.node)", "--service", workload.service, "--version", workload.version]
      + ["--port", port, "--service-port", "9080", "--service-account", "bookinfo-\(workload.service)"]
      + ["--health-path", "/health", "--stop-timeout", "3s"] + config
    let application = [
      Conformance.bookinfoDemo, workload.service, "--version", workload.version, "--port", port, "--address",
      address(workload.node),
    ]
    let process = try SpawnedProcess(
      [Conformance.meshNode] + run + ["--"] + application, environment: workload.environment, log: log(of: name))
    processes.append(process)
    return process
  }

  /// Runs `body` while a further workload is in the mesh.
  func with<Result>(_ workload: Workload, _ body: () throws -> Result) throws -> Result {
    let process = try start(workload)
    defer {
      process.stop()
      processes.removeAll { $0.pid == process.pid }
    }
    try awaitEndpoints([workload])
    return try body()
  }

  /// Waits until every node sees these workloads healthy.
  private func awaitEndpoints(_ wanted: [Workload]) throws {
    for node in 1...3 {
      var seen: [String] = []
      _ = try eventually(
        "n\(node) sees \(wanted.map { "\($0.service)-\($0.version)" }) healthy",
        {
          let services = (try? ask(["services"], as: [ServiceInfo].self, node: node)) ?? []
          seen = services.flatMap { service in service.endpoints.map { "\(service.name) \($0.version) \($0.health)" } }
          return wanted.allSatisfy { seen.contains("\($0.service) \($0.version) healthy") } ? true : nil
        }, saw: { "it sees \(seen)" })
    }
  }

  // MARK: The command line

  /// Runs `mesh-node` and gives what it prints.
  func command(_ arguments: [String], node: Int = 1) throws -> String {
    let log = "\(directory)/command.out"
    unlink(log)
    let process = try SpawnedProcess([Conformance.meshNode] + arguments + ["--node", "n\(node)"] + config, log: log)
    let code = process.wait()
    guard code == 0 else { throw ConformanceFailure("mesh-node \(arguments): exit code \(code)\n\(process.output)") }
    return process.output
  }

  private func ask<Answer: Decodable>(_ arguments: [String], as type: Answer.Type, node: Int = 1) throws -> Answer {
    try JSONDecoder().decode(type, from: Data(command(arguments + ["-o", "json"], node: node).utf8))
  }

  func status(_ node: Int) throws -> NodeStatus { try ask(["status"], as: NodeStatus.self, node: node) }

  func clusters(_ node: Int) throws -> [ClusterConfigInfo] {
    try ask(["config", "clusters"], as: [ClusterConfigInfo].self, node: node)
  }

  // MARK: Configuration

  /// Applies files of `networking`, all as one change, and waits until every node serves them.
  @discardableResult
  func apply(_ files: [String]) throws -> ApplyReport {
    try apply(paths: files.map { "networking/\($0).yaml" })
  }

  func apply(kubernetes file: String) throws -> ApplyReport { try apply(paths: ["platform/kube/\(file)"]) }

  private func apply(paths: [String]) throws -> ApplyReport {
    let folder = try #require(Conformance.bookinfo)
    let files = paths.flatMap { ["-f", "\(folder)/\($0)"] }
    let report = try ask(["apply", "--wait"] + files, as: ApplyReport.self)
    for change in report.changes where change.action != "skipped" {
      applied.insert(ObjectName(kind: change.kind, namespace: change.namespace, name: change.name))
    }
    #expect(report.serving.sorted() == ["n1", "n2", "n3"], "\(paths)")
    #expect(report.findings.filter { $0.level == "error" }.isEmpty, "\(paths)")
    return report
  }

  /// The mesh with the gateway and these files of `networking`, applied one after the other, and nothing else.
  func use(_ files: String...) throws {
    let networking = applied.filter { !["Service", "ServiceAccount"].contains($0.kind) }
    for (namespace, objects) in Dictionary(grouping: networking, by: \.namespace) {
      _ = try command(["delete", "--wait", "-n", namespace] + objects.map { "\($0.kind)/\($0.name)" })
    }
    applied.subtract(networking)
    for file in ["bookinfo-gateway"] + files { try apply([file]) }
  }

  // MARK: What can be observed

  func visitor(port: UInt16 = 8080) -> Visitor { Visitor(address: address(1), port: port) }

  /// Lines of a node's access log, which is on its standard output, that contain all of `words`.
  func accessLog(_ node: Int, _ words: String...) -> [Substring] {
    let text = (try? String(contentsOfFile: log(of: "n\(node)-access"), encoding: .utf8)) ?? ""
    return text.split(separator: "\n").filter { line in words.allSatisfy(line.contains) }
  }

  /// Requests that reached workloads of `app` on a node, by its metrics; only those whose series carry `label`, if given.
  func requests(_ node: Int, to app: String, _ label: String = "") throws -> Int {
    let labels = ["reporter=\"destination\"", "destination_app=\"\(app)\"", label].filter { !$0.isEmpty }
    let page = try Visitor(address: address(node), port: 15020).get("/metrics").text
    return page.split(separator: "\n").filter { line in
      line.hasPrefix("istio_requests_total{") && labels.allSatisfy(line.contains)
    }.compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.reduce(0) { $0 + Int($1) }
  }
}

/// Starts the mesh before a suite's tests and ends it after them.
struct RunningMesh: SuiteTrait, TestScoping {
  @TaskLocal static var current: BookinfoMesh?

  func provideScope(for test: Test, testCase: Test.Case?, performing body: @Sendable () async throws -> Void) async throws {
    let mesh = try await BookinfoMesh()
    do {
      try await Self.$current.withValue(mesh) { try await body() }
    } catch {
      await mesh.stop()
      throw error
    }
    await mesh.stop()
  }
}
