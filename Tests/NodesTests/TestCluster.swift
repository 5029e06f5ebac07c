import FoundationEssentials
import Glibc
import Nodes
import Testing

/// A cluster of real processes in a directory and on loopback addresses of its own.
///
/// Whatever happens to the test process, a watcher ends the cluster's processes and removes the directory.
final class TestCluster {
  let directory: String
  /// Addresses of n1, n2, ...
  let addresses: [String]
  private(set) var processes: [String: RunningProcess] = [:]
  private let lifeline: Int32
  private let network: String
  /// Directories of nodes that do not live in the cluster's own.
  private var homes: [String: String] = [:]
  private var commands = 0
  /// What the nodes' environment has besides the test's own, as `NAME=value`.
  var environment: [String] = []

  /// Port of the gateway in the test's configuration.
  static let gatewayPort: UInt16 = 8080
  static let ports = MeshPorts()

  /// - Parameter settings: further keys of cluster.json, each followed by a comma.
  init(nodes: Int = 3, settings: String = "") throws {
    directory = try makeTemporaryDirectory()
    let network = "127.\(Int.random(in: 1...254)).\(Int.random(in: 0...254))"
    self.network = network
    addresses = (1...nodes).map { "\(network).\($0)" }
    lifeline = try Self.startWatcher(directory)
    let list = addresses.enumerated().map { index, address in
      #"    { "name": "n\#(index + 1)", "address": "\#(address)", "locality": "local/z\#(index + 1)", "gateway": true }"#
    }
    try write(
      """
      {
        "cluster": "proof",
        "config": ["seed"], \(settings)
        "nodes": [
      \(list.joined(separator: ",\n"))
        ]
      }
      """, to: clusterFile)
    mkdir("\(directory)/seed", 0o700)
    try write(TestConfiguration.services, to: "\(directory)/seed/services.yaml")
  }

  var clusterFile: String { "\(directory)/cluster.json" }

  deinit { end() }

  /// Kills every process and removes the directory.
  func end() {
    for process in processes.values { process.signal(SIGCONT) }
    for process in processes.values { process.signal(SIGKILL) }
    for process in processes.values { _ = try? process.ended(within: .seconds(10)) }
    processes = [:]
    close(lifeline)
  }

  /// A shell that waits for the end of this process or of the cluster, then kills what runs from `directory`.
  private static func startWatcher(_ directory: String) throws -> Int32 {
    let pipe = "\(directory)/lifeline"
    guard mkfifo(pipe, 0o600) == 0 else { throw Unexpected("mkfifo: \(String(cString: strerror(errno)))") }
    // The directory is an argument, so that the script's own command line does not look like a process of the cluster.
    let script = """
      trap '' INT HUP TERM
      cat "$1/lifeline" > /dev/null
      for entry in /proc/[0-9]*; do
        if tr '\\0' ' ' < $entry/cmdline 2> /dev/null | grep -q -- "--config $1/"; then kill -9 ${entry#/proc/}; fi
      done
      rm -rf "$1"
      """
    // The shell's own shell: an orphan at once, so that nobody has to wait for it.
    let shell = try RunningProcess(["/bin/sh", "-c", "(\(script)) &", "watcher", directory], log: "/dev/null")
    try shell.ended()
    let writer = open(pipe, O_WRONLY | O_CLOEXEC)
    guard writer >= 0 else { throw Unexpected("\(pipe): \(String(cString: strerror(errno)))") }
    return writer
  }

  // MARK: Processes

  /// Of a node of the cluster file, or of another one by its number.
  func address(_ node: String) -> String { "\(network).\(node.dropFirst())" }
  var names: [String] { addresses.indices.map { "n\($0 + 1)" } }

  func initialize() throws {
    let result = try command(["init"])
    guard result.status == 0 else { throw Unexpected("init: \(result.errors)") }
  }

  @discardableResult
  func start(_ node: String, file: String? = nil) throws -> RunningProcess {
    let prefix = environment.isEmpty ? [] : ["/usr/bin/env"] + environment
    let process = try RunningProcess(
      prefix + [Programs.meshNode, "start", "--node", node, "--workers", "1", "--config", file ?? clusterFile],
      log: logPath(node))
    processes[node] = process
    return process
  }

  /// A directory of its own for a node, as on another host.
  func home(of node: String) throws -> String {
    if let home = homes[node] { return home }
    let home = "\(directory)/\(node)"
    guard mkdir(home, 0o700) == 0 else { throw Unexpected("mkdir \(home): \(String(cString: strerror(errno)))") }
    homes[node] = home
    return home
  }

  /// Starts a node that no cluster file of the others names, on a host of its own.
  @discardableResult
  func join(_ node: String, token: String, options: [String] = []) throws -> RunningProcess {
    let process = try RunningProcess(
      [
        Programs.meshNode, "start", "--node", node, "--workers", "1", "--config", "\(home(of: node))/cluster.json", "--address",
        address(node), "--token", token,
      ] + options, log: logPath(node))
    processes[node] = process
    return process
  }

  /// The cluster file of a node.
  func file(of node: String) -> String { homes[node].map { "\($0)/cluster.json" } ?? clusterFile }
  func dataDirectory(_ node: String) -> String { "\(homes[node] ?? directory)/.mesh/\(node)" }

  /// Starts the nodes that are not running and waits until they agree on members, a leader and the first configuration.
  func startAll() throws {
    for node in names where processes[node]?.isRunning != true { try start(node) }
    try waitUntilFormed()
  }

  func waitUntilFormed() throws {
    try eventually("all nodes to be ready and alive to each other") {
      try names.allSatisfy { node in
        let status = try status(node)
        return status.ready && status.members.alive == names.count && status.consensus.leader != nil
          && status.servedRevision > 0
      }
    }
  }

  /// `mesh-node run` of a Bookinfo service, registered and healthy.
  @discardableResult
  func run(_ service: String, version: String = "v1", on node: String, port: UInt16) throws -> RunningProcess {
    let process = try launch(service, version: version, on: node, port: port)
    try eventually("\(service)-\(version) on \(node) to be healthy") {
      try process.isRunning && endpoints(of: service, at: node).contains { $0.node == node && $0.health == "healthy" }
    }
    return process
  }

  /// `mesh-node run` of a Bookinfo service, without waiting for it.
  func launch(
    _ service: String, version: String = "v1", on node: String, port: UInt16, options: [String] = [],
    command: [String]? = nil
  ) throws -> RunningProcess {
    let application =
      command ?? [Programs.bookinfo, service, "--version", version, "--port", "\(port)", "--address", address(node)]
    let process = try RunningProcess(
      [
        Programs.meshNode, "run", "--node", node, "--config", clusterFile, "--service", service, "--version", version,
        "--port", "\(port)", "--service-port", "9080", "--service-account", "bookinfo-\(service)", "--stop-timeout", "3s",
      ] + options + ["--"] + application, log: logPath("\(service)-\(version)@\(node)"))
    processes["\(service)-\(version)@\(node)"] = process
    return process
  }

  /// Sends a signal that ends a process, and waits for that.
  @discardableResult
  func end(_ name: String, with signal: Int32 = SIGKILL) throws -> Int32 {
    guard let process = processes[name] else { throw Unexpected("there is no process \(name)") }
    process.signal(signal)
    return try process.ended()
  }

  func process(_ name: String) throws -> RunningProcess {
    guard let process = processes[name] else { throw Unexpected("there is no process \(name)") }
    return process
  }

  func logPath(_ name: String) -> String { "\(directory)/\(name).log" }
  func log(_ name: String) -> String { text(of: logPath(name)) }

  // MARK: Questions

  struct CommandResult {
    var status: Int32
    var output: String
    var errors: String
  }

  /// Runs a command of `mesh-node` to its end.
  /// - Parameter environment: `NAME=value` each, beside what the tests have.
  func command(
    _ arguments: [String], node: String? = nil, input: String? = nil, file: String? = nil, environment: [String] = []
  ) throws -> CommandResult {
    commands += 1
    let stem = "\(directory)/command-\(commands)"
    if let input { try write(input, to: "\(stem).in") }
    let process = try RunningProcess(
      ["/usr/bin/env"] + environment + [Programs.meshNode] + arguments + ["--config", file ?? clusterFile]
        + (node.map { ["--node", $0] } ?? []),
      log: "\(stem).out", errors: "\(stem).err", input: input == nil ? "/dev/null" : "\(stem).in")
    let status = try process.ended()
    return CommandResult(status: status, output: text(of: "\(stem).out"), errors: text(of: "\(stem).err"))
  }

  /// What a node answers on its admin socket.
  func ask<Value: Decodable>(_ node: String, _ path: String, as type: Value.Type = Value.self) throws -> Value {
    let answer = try RawClient(path: "\(dataDirectory(node))/admin.sock").request("GET", path)
    guard answer.status == 200 else { throw Unexpected("\(node) \(path): \(answer.status) \(answer.body)") }
    return try JSONDecoder().decode(Value.self, from: Data(answer.body.utf8))
  }

  func status(_ node: String) throws -> NodeStatus { try ask(node, "/v1/status") }
  func certificates(_ node: String) throws -> [CertificateInfo] { try ask(node, "/v1/certificates") }

  /// How `node` sees another one: alive, suspect, dead or left; nil when it does not know it.
  func state(of other: String, at node: String) throws -> String? {
    try ask(node, "/v1/members", as: [MemberInfo].self).first { $0.name == other }?.state
  }

  func endpoints(of service: String, at node: String) throws -> [EndpointInfo] {
    try ask(node, "/v1/services", as: [ServiceInfo].self).first { $0.name == service }?.endpoints ?? []
  }

  /// One request through a node's gateway on a new connection.
  func get(_ path: String, through node: String) throws -> Answer {
    try RawClient(address(node), Self.gatewayPort).request("GET", path, headers: ["connection: close"])
  }

  func waitUntilServed(_ path: String, through node: String) throws {
    try eventually("\(path) to be served through \(node)") { try get(path, through: node).status == 200 }
  }

  /// Numbers of a node's metrics page: name and labels as written → value.
  func metrics(_ node: String) throws -> String {
    let answer = try RawClient(address(node), Self.ports.metrics).request("GET", "/metrics")
    guard answer.status == 200 else { throw Unexpected("metrics of \(node): \(answer.status)") }
    return answer.body
  }
}

/// What the clusters of these tests are configured with.
enum TestConfiguration {
  /// Three services, and a gateway that routes to each by path.
  static let services =
    ["details", "reviews", "ratings"].map(service).joined(separator: "---\n") + """
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
          - match: [{ uri: { prefix: /details } }]
            route: [{ destination: { host: details, port: { number: 9080 } } }]
          - match: [{ uri: { prefix: /reviews } }]
            route: [{ destination: { host: reviews, port: { number: 9080 } } }]
          - match: [{ uri: { prefix: /ratings } }]
            route: [{ destination: { host: ratings, port: { number: 9080 } } }]

      """

  private static func service(_ name: String) -> String {
    """
    apiVersion: v1
    kind: ServiceAccount
    metadata: { name: bookinfo-\(name) }
    ---
    apiVersion: v1
    kind: Service
    metadata: { name: \(name) }
    spec:
      selector: { app: \(name) }
      ports: [{ name: http, port: 9080 }]

    """
  }

  /// A rule that changes nothing a request would notice.
  static func rule(_ name: String, connections: Int = 100) -> String {
    """
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: { name: \(name) }
    spec:
      host: details
      trafficPolicy: { connectionPool: { tcp: { maxConnections: \(connections) } } }

    """
  }
}
