import FoundationEssentials
import Glibc

/// Three nodes and three instances of the service `echo`, as real processes, in a directory and on addresses of their own.
final class Mesh {
  let directory: String
  let names = ["n1", "n2", "n3"]
  private let program: String
  private let own: String
  private let nodeOptions: [String]
  private let subnet: String
  private var nodes: [String: Process] = [:]
  private var workloads: [String: Process] = [:]
  private var callers: [String: Process] = [:]
  private var starts = 0

  static let gatewayPort: UInt16 = 8080
  static let applicationPort: UInt16 = 9000

  init(program: String, own: String, nodeOptions: [String]) throws {
    var template = Array("/tmp/mesh-rolling-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Failure("mkdtemp: \(String(cString: strerror(errno)))") }
    directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    self.program = program
    self.own = own
    self.nodeOptions = nodeOptions
    subnet = "127.\(Int.random(in: 20...250)).\(Int.random(in: 1...250))"
    let list = names.map {
      #"{ "name": "\#($0)", "address": "\#(address($0))", "locality": "local/\#($0)/1", "gateway": \#($0 == "n1") }"#
    }
    mkdir("\(directory)/config", 0o700)
    try write(
      """
      { "cluster": "rolling", "config": ["config"], "nodes": [ \(list.joined(separator: ", ")) ] }
      """, to: file)
    try write(Self.configuration, to: "\(directory)/config/echo.yaml")
  }

  private var file: String { "\(directory)/cluster.json" }
  func address(_ node: String) -> String { "\(subnet).\(node.dropFirst())" }
  private func log(_ name: String) -> String { "\(directory)/\(name).log" }

  // MARK: Processes

  func start() throws {
    let initialize = try Process([program, "init", "--config", file], log: log("init"))
    try wait("mesh-node init") { !initialize.isRunning }
    for node in names { try startNode(node) }
    try wait("the nodes to form a cluster") {
      names.allSatisfy { node in
        guard let status = status(node) else { return false }
        return status.ready && status.members.alive == names.count && status.servedRevision > 0
      }
    }
    for node in names {
      try startWorkload(node)
      try startCaller(node)
    }
    for node in names { try waitUntilKnown(at: node) }
  }

  private func startNode(_ node: String) throws {
    nodes[node] = try Process([program, "start", "--node", node, "--config", file] + nodeOptions, log: log(node))
  }

  /// The application of a node, as a workload.
  private func startWorkload(_ node: String) throws {
    starts += 1
    let process = try Process(
      [
        program, "run", "--node", node, "--config", file, "--service", "echo", "--name", "echo-\(node)", "--port",
        "\(Self.applicationPort)", "--service-port", "80", "--", own, "origin", "--name", "echo-\(node)", "--address",
        address(node), "--port", "\(Self.applicationPort)", "--ledger", "\(directory)/ledger-\(node)",
      ], log: log("echo-\(node)-\(starts)"))
    workloads[node] = process
    try wait("echo on \(node) to be healthy") {
      guard process.isRunning else { throw Failure("it ended; see \(process.log)") }
      return text(of: process.log).contains(": healthy")
    }
  }

  /// A workload that only calls others.
  private func startCaller(_ node: String) throws {
    let process = try Process(
      [
        program, "run", "--node", node, "--config", file, "--service", "caller", "--name", "caller-\(node)", "--port", "9100",
        "--", own, "origin", "--name", "caller", "--address", address(node), "--port", "9100", "--ledger", "/dev/null",
      ], log: log("caller-\(node)"))
    callers[node] = process
    try wait("the caller on \(node) to be registered") { outboundPort(node) != nil }
  }

  /// The port through which the caller of a node reaches the mesh.
  func outboundPort(_ node: String) -> UInt16? {
    let line = text(of: log("caller-\(node)")).split(separator: "\n").last { $0.contains("outbound proxy http://") }
    return line?.split(separator: ":").last.flatMap { UInt16($0) }
  }

  func restartWorkload(_ node: String) throws {
    try workloads[node]?.stop()
    try startWorkload(node)
  }

  /// Stops a node in order and starts it again; its workloads go on running and register anew.
  func restartNode(_ node: String) throws {
    try nodes[node]?.stop()
    try startNode(node)
    try wait("\(node) to be ready and to know all workloads") {
      guard nodes[node]?.isRunning == true else { throw Failure("it ended; see \(log(node))") }
      return status(node)?.ready == true
    }
    for name in names { try waitUntilKnown(at: name) }
  }

  private func waitUntilKnown(at node: String) throws {
    try wait("\(node) to know three healthy instances") {
      guard let services: [Service] = ask(node, "/v1/services"),
        let echo = services.first(where: { $0.name == "echo" })
      else { return false }
      return echo.endpoints.count { $0.health == "healthy" } == names.count
    }
  }

  func end(keepingFiles: Bool) {
    for process in [workloads, callers, nodes].flatMap(\.values) { process.kill() }
    guard !keepingFiles else { return }
    if let remove = try? Process(["/bin/rm", "-rf", directory], log: "/dev/null") {
      while remove.isRunning { sleep(milliseconds: 10) }
    }
  }

  // MARK: Questions

  private struct Status: Decodable {
    struct Members: Decodable { var alive: Int }
    var ready: Bool
    var servedRevision: UInt64
    var members: Members
  }
  private struct Service: Decodable {
    struct Endpoint: Decodable { var health: String }
    var name: String
    var endpoints: [Endpoint]
  }

  private func status(_ node: String) -> Status? { ask(node, "/v1/status") }

  private func ask<Value: Decodable>(_ node: String, _ path: String) -> Value? {
    guard let descriptor = Network.connect(unix: "\(directory)/.mesh/\(node)/admin.sock") else { return nil }
    defer { close(descriptor) }
    guard Network.send(descriptor, "GET \(path) HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n") == nil else {
      return nil
    }
    var reader = MessageReader(descriptor)
    guard case .message(let answer) = reader.next() else { return nil }
    return try? JSONDecoder().decode(Value.self, from: Data(answer.body.utf8))
  }

  private func wait(_ what: String, _ condition: () throws -> Bool) throws {
    let end = nanoseconds() + 60_000_000_000
    while try !condition() {
      guard nanoseconds() < end else { throw Failure("waited 60 s for \(what); logs are in \(directory)") }
      sleep(milliseconds: 20)
    }
  }

  private static let configuration = """
    apiVersion: v1
    kind: Service
    metadata: { name: echo }
    spec:
      selector: { app: echo }
      ports: [{ name: http, port: 80 }]
    ---
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: { name: entrance }
    spec:
      selector: { istio: ingressgateway }
      servers:
        - port: { number: 8080, name: http, protocol: HTTP }
          hosts: ["*"]
    ---
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: { name: entrance }
    spec:
      hosts: ["*"]
      gateways: [entrance]
      http:
        - route: [{ destination: { host: echo } }]

    """
}
