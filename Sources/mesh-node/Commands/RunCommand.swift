import Glibc
import Nodes
import Primitives

extension Command {
  static let run = Command(
    "run", .run, operands: "--service NAME --port PORT [-- COMMAND ...]",
    summary: "run or front an application as a workload of the mesh",
    discussion: """
      Starts COMMAND with http_proxy set to its own outbound port, registers it when it is healthy, and withdraws it before
      it stops. Without COMMAND, fronts an application that something else runs.
      examples:
        mesh-node run --service backend --version v1 --port 9000 -- python3 -m http.server 9000 --bind 127.0.0.1
        mesh-node run --service reviews --version v2 --port 9083 --service-port 9080 --node n2 -- ./reviews
        mesh-node run --service ratings --version v2 --port 9080 --forward 3306=mysqldb:3306 -- ./ratings
      """,
    options: [
      .value("service", "NAME", "the service it stands behind (label app)"),
      .value("version", "NAME", "its version, which subsets select (label version; default: v1)"),
      .value("port", "PORT", "where the application listens"),
      .value("service-port", "PORT", "the port clients use, when it is another one"),
      .value("port-name", "NAME", "name of the port (default: the protocol)"),
      .value("protocol", "NAME", "http, http2, grpc, tcp, or auto to go by the first bytes (default: http)"),
      .value("address", "IP", "where the application listens (default: the node's address)"),
      .value("namespace", short: "n", "NAME", "its namespace (default: default)"),
      .value("service-account", "NAME", "the account its identity names (default: default)"),
      .value("name", "NAME", "name of the workload (default: SERVICE-VERSION)"),
      .value("label", "KEY=VALUE", "a further label; repeatable"),
      .value(
        "forward", "PORT=HOST:PORT", "open PORT on the node for connections to HOST:PORT, whatever they speak; repeatable"),
      .value("weight", "N", "share of traffic relative to others (default: 1)"),
      .value("health-path", "PATH", "HTTP path that answers 200 when it is healthy (default: TCP connect)"),
      .value("health-grpc", "SERVICE", "ask by the gRPC health protocol for this service; '' asks for the server"),
      .value("health-exec", "ARGUMENT", "run this command and take exit code 0 for healthy; repeat for each argument"),
      .value("group", "NAME", "take labels, service account and probe from this WorkloadGroup where nothing else is said"),
      .value("health-delay", "TIME", "before the first health check (default: none)"),
      .value("health-period", "TIME", "between two health checks (default: 1s)"),
      .value("health-timeout", "TIME", "for one answer (default: 2s)"),
      .value("health-successes", "N", "good answers in a row that make it healthy (default: 1)"),
      .value("health-failures", "N", "bad answers in a row that make it unhealthy (default: 2)"),
      .value("stop-timeout", "TIME", "how long COMMAND may take to end after SIGTERM (default: 10s)"),
    ]
  ) { arguments in
    let file = try ClusterFile.load(arguments)
    let node = try file.chosenNode(arguments)
    let supervisor = WorkloadSupervisor(
      client: AdminClient(node: node.name.string, socketPath: file.adminSocketPath(of: node)),
      request: try WorkloadRequest(arguments), command: arguments.trailing ?? [],
      stopTimeout: try arguments.duration("stop-timeout", default: .seconds(10)))
    return try supervisor.run()
  }
}

extension WorkloadRequest {
  fileprivate init(_ arguments: Arguments) throws {
    guard let service = arguments.value("service") else { throw UsageError("say which service: --service NAME") }
    guard arguments.value("port") != nil else { throw UsageError("say where the application listens: --port PORT") }
    let ports: ClosedRange<UInt64> = 1...65535
    self.init(
      service: service, version: arguments.value("version") ?? "v1",
      port: UInt16(try arguments.number("port", default: 0, in: ports)),
      namespace: arguments.value("namespace") ?? "default", protocol: arguments.value("protocol") ?? "http")
    if arguments.value("service-port") != nil {
      servicePort = UInt16(try arguments.number("service-port", default: 0, in: ports))
    }
    portName = arguments.value("port-name")
    serviceAccount = arguments.value("service-account")
    address = arguments.value("address")
    name = arguments.value("name")
    healthPath = arguments.value("health-path")
    healthGRPC = arguments.value("health-grpc")
    let command = arguments.allValues("health-exec")
    healthCommand = command.isEmpty ? nil : command
    group = arguments.value("group")
    func seconds(_ name: String) throws -> Double? {
      arguments.value(name) == nil ? nil : try arguments.duration(name, default: .zero).inSeconds
    }
    func count(_ name: String) throws -> Int? {
      arguments.value(name) == nil ? nil : Int(try arguments.number(name, default: 1, in: 1...1000))
    }
    healthDelaySeconds = try seconds("health-delay")
    healthPeriodSeconds = try seconds("health-period")
    healthTimeoutSeconds = try seconds("health-timeout")
    healthSuccesses = try count("health-successes")
    healthFailures = try count("health-failures")
    weight = UInt32(try arguments.number("weight", default: 1, in: 1...10_000))
    forwards = try arguments.allValues("forward").map(Self.forward)
    for text in arguments.allValues("label") {
      guard let separator = text.firstIndex(of: "="), separator != text.startIndex else {
        throw UsageError("--label is KEY=VALUE, not '\(text)'")
      }
      labels[String(text[..<separator])] = String(text[text.index(after: separator)...])
    }
  }
}

extension WorkloadRequest {
  /// `3306=mysqldb:3306`
  fileprivate static func forward(_ text: String) throws(UsageError) -> Forward {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let colon = parts[1].lastIndex(of: ":"), colon != parts[1].startIndex,
      let port = parseDecimal(parts[0].utf8, max: 65_535), port > 0,
      let target = parseDecimal(parts[1][parts[1].index(after: colon)...].utf8, max: 65_535), target > 0
    else { throw UsageError("--forward is PORT=HOST:PORT, like 3306=mysqldb:3306, not '\(text)'") }
    var host = parts[1][..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    return Forward(port: UInt16(port), host: String(host), target: UInt16(target))
  }
}

/// Keeps one workload registered while its command runs; survives restarts of the node.
final class WorkloadSupervisor {
  private let client: AdminClient
  private var request: WorkloadRequest
  private let command: [String]
  private let stopTimeout: Duration
  private var stream: AdminStream?
  private var child: ChildProcess?
  private var registration: WorkloadEventLine?
  private var stopping = false
  private var stopDeadline: ContinuousClock.Instant?
  private var nextAttempt = ContinuousClock.now
  private var saidNodeIsAway = false

  init(client: AdminClient, request: WorkloadRequest, command: [String], stopTimeout: Duration) {
    self.client = client
    self.request = request
    self.command = command
    self.stopTimeout = stopTimeout
  }

  func run() throws -> ExitStatus {
    while true {
      for signal in Signals.pending() where signal == SIGTERM || signal == SIGINT || signal == SIGHUP { beginStop() }
      if let reason = child?.poll() { return commandEnded(reason) }
      if child == nil && stopping { return .done }
      if let deadline = stopDeadline, ContinuousClock.now >= deadline {
        child?.signal(SIGKILL)
        stopDeadline = nil
      }
      if stream == nil && !stopping && ContinuousClock.now >= nextAttempt { try register() }
      try readEvents()
      Signals.wait(on: stream.map { [$0.descriptor] } ?? [], timeout: .milliseconds(stream == nil || stopping ? 100 : 1000))
    }
  }

  private func register() throws {
    do {
      stream = try client.open("/v1/workloads", request)
      saidNodeIsAway = false
    } catch let error as CommandFailure {
      if registration == nil && child == nil && !saidNodeIsAway {
        Terminal.errorLine("\(error.message)\nwaiting for node \(client.node) …")
      }
      if registration != nil && !saidNodeIsAway {
        Terminal.errorLine("node \(client.node) is away; \(request.service) keeps running and will register again")
      }
      saidNodeIsAway = true
      nextAttempt = .now + .milliseconds(250)
    }
  }

  private func readEvents() throws {
    guard let stream else { return }
    do {
      for event in try stream.readAvailable(WorkloadEventLine.self) { try handle(event) }
    } catch let failure as AdminFailure {
      // A refusal for a reason of ours ends the command; a node that is starting or stopping is asked again.
      guard failure.code == "unavailable" else { throw failure }
    }
    if stream.hasEnded {
      self.stream = nil
      nextAttempt = .now + .milliseconds(250)
    }
  }

  private func handle(_ event: WorkloadEventLine) throws {
    Terminal.errorLine("\(event.workload) on \(event.node): \(event.event)\(event.detail.isEmpty ? "" : ", \(event.detail)")")
    guard event.event == "registered" else { return }
    registration = event
    request.outboundPort = event.outboundPort
    if child == nil, !command.isEmpty { try startCommand(event) }
  }

  private func startCommand(_ event: WorkloadEventLine) throws {
    var environment = currentEnvironment()
    if let address = event.outboundAddress, let port = event.outboundPort {
      environment["http_proxy"] = "http://\(address):\(port)"
    }
    environment["HOSTNAME"] = "\(event.workload)-\(event.node)"
    environment["MESH_NODE"] = event.node
    environment["MESH_WORKLOAD"] = event.workload
    child = try ChildProcess(command, environment: environment, diesWithParent: true)
  }

  /// Leave before stop: the workload is withdrawn, running requests finish, then the command is told to end.
  private func beginStop() {
    guard !stopping else {
      child?.signal(SIGKILL)
      return
    }
    stopping = true
    if let registration, stream != nil {
      let answer = try? client.post(
        "/v1/workloads/withdraw", ["workload": registration.workload, "namespace": request.namespace],
        as: [String: String].self,
        timeout: .seconds(15))
      Terminal.errorLine(
        "\(registration.workload) on \(registration.node): \(answer?["message"] ?? "withdrawn without an answer of the node")")
    }
    child?.signal(SIGTERM)
    stopDeadline = .now + stopTimeout
  }

  private func commandEnded(_ reason: ChildProcess.ExitReason) -> ExitStatus {
    if stopping { return .done }
    Terminal.errorLine("\(command[0]) ended (\(reason)); its workload is withdrawn")
    return reason == .status(0) ? .done : .failed
  }
}
