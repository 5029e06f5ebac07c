import Cluster
import Consensus
import FoundationEssentials
import HTTPCodec
import Membership
import MeshActors
import MeshConfig
import Primitives
import Synchronization
import Telemetry
import Transport

/// Registration of workloads and the list of services.
extension AdminRoutes {
  /// Takes a workload in for as long as the client keeps the connection.
  func register(_ request: HTTPRequest, _ exchange: HTTPExchange) async throws {
    var body: WorkloadRequest
    do { body = try JSONDecoder().decode(WorkloadRequest.self, from: Data(request.body)) } catch {
      throw AdminFailure(code: "invalid", message: "the registration cannot be read: \(error)")
    }
    if let group = body.group { try fill(&body, from: group) }
    let registration = try WorkloadRegistration(body, nodeAddress: node.node.address)
    let name = node.node.name.string
    let stream = RegistrationStream(exchange)
    let token = try await node.workloads.register(registration) { event in
      stream.send(WorkloadEventLine(event, registration.name.string, name))
    }
    let workloads = node.workloads
    exchange.openStream { Task { await workloads.ended(registration.key, token: token) } }
    stream.open()
  }

  /// Takes from a WorkloadGroup what the request leaves open (Istio, WorkloadGroup).
  private func fill(_ request: inout WorkloadRequest, from name: String) throws {
    for (_, stored) in node.cluster.view.control.sortedObjects {
      guard let object = try? MeshObject.decode(canonical: stored.bytes), object.key.name == name,
        object.key.namespace == request.namespace, case .workloadGroup(let group) = object.spec
      else { continue }
      return try request.fill(from: group)
    }
    throw AdminFailure(
      code: "notFound",
      message: "there is no WorkloadGroup \(request.namespace)/\(name): apply one, or register without --group")
  }

  func withdraw(_ body: [String: String]) async throws -> [String: String] {
    guard let name = body["workload"].flatMap({ try? DNSLabel($0) }),
      let namespace = try? DNSLabel(body["namespace"] ?? "default")
    else { throw AdminFailure(code: "invalid", message: "name the workload to withdraw") }
    try await node.workloads.withdraw(WorkloadKey(namespace: namespace, name: name))
    return ["message": "withdrawn"]
  }

  func services() async -> [ServiceInfo] {
    guard let snapshot = await node.snapshots.serving?.snapshot else { return [] }
    let addresses = node.cluster.view.control.addresses
    return snapshot.services.enumerated().map { index, service in
      ServiceInfo(
        name: service.name, namespace: service.namespace, host: service.host,
        ports: service.ports.map { "\($0.number)/\($0.protocol.rawValue)" },
        address: service.addresses.first ?? addresses[service.host].map { "\($0)" },
        endpoints: endpoints(of: index, snapshot))
    }
  }

  /// Endpoints of every port, each address once, by workload.
  private func endpoints(of service: Int, _ snapshot: MeshSnapshot) -> [EndpointInfo] {
    var seen: Set<String> = []
    var list: [EndpointInfo] = []
    for cluster in snapshot.clusters where cluster.service == service && cluster.subset == nil {
      for endpoint in cluster.endpoints {
        let facts = endpoint.workload.map { snapshot.workloads[$0] }
        guard seen.insert("\(endpoint.address):\(endpoint.port)").inserted else { continue }
        list.append(
          EndpointInfo(
            workload: facts?.name ?? "-", version: facts?.version ?? "-", node: facts?.node.string ?? "-",
            address: "\(endpoint.address):\(endpoint.port)", health: endpoint.health.rawValue,
            locality: endpoint.locality.description))
      }
    }
    return list.sorted { ($0.workload, $0.node, $0.address) < ($1.workload, $1.node, $1.address) }
  }
}

/// Events of a registration, kept until the stream is open.
private final class RegistrationStream: Sendable {
  private struct State {
    var isOpen = false
    var waiting: [[UInt8]] = []
  }
  private let exchange: HTTPExchange
  private let state = Mutex(State())

  init(_ exchange: HTTPExchange) { self.exchange = exchange }

  func send(_ event: WorkloadEventLine) {
    guard let line = try? JSONEncoder().encode(event) else { return }
    state.withLock { state in
      if state.isOpen { exchange.send(Array(line)) } else { state.waiting.append(Array(line)) }
    }
  }

  func open() {
    state.withLock { state in
      state.isOpen = true
      for line in state.waiting { exchange.send(line) }
      state.waiting = []
    }
  }
}

extension WorkloadRegistration {
  init(_ request: WorkloadRequest, nodeAddress: String) throws {
    func label(_ what: String, _ text: String) throws -> DNSLabel {
      do { return try DNSLabel(text) } catch { throw AdminFailure(code: "invalid", message: "\(what): \(error.description)") }
    }
    guard let known = PortProtocol(rawValue: request.protocol) else {
      throw AdminFailure(code: "invalid", message: "protocol '\(request.protocol)' is not one of http, http2, grpc, tcp, auto")
    }
    let address = request.address ?? nodeAddress
    guard IPAddress(address) != nil else { throw AdminFailure(code: "invalid", message: "'\(address)' is not an IP address") }
    for forward in request.forwards ?? [] where forward.port == 0 || forward.target == 0 || forward.host.isEmpty {
      throw AdminFailure(code: "invalid", message: "a forward needs a port, a host and the host's port")
    }
    guard request.port > 0 else { throw AdminFailure(code: "invalid", message: "the port must not be 0") }
    var labels = request.labels.sorted { $0.key < $1.key }.map { WorkloadRow.Label(key: $0.key, value: $0.value) }
    if request.labels["app"] == nil { labels.append(WorkloadRow.Label(key: "app", value: request.service)) }
    if request.labels["version"] == nil { labels.append(WorkloadRow.Label(key: "version", value: request.version)) }
    guard (request.locality ?? "").utf8.count <= MembershipLimits.localityBytesMax,
      (request.otherPorts ?? [:]).count < MembershipLimits.portsMax
    else { throw AdminFailure(code: "invalid", message: "the locality is too long, or there are too many ports") }
    self.init(
      name: try label("the workload's name", request.name ?? "\(request.service)-\(request.version)"),
      namespace: try label("the namespace", request.namespace), service: try label("the service", request.service),
      serviceAccount: try label("the service account", request.serviceAccount ?? "default"), labels: labels, address: address,
      port: WorkloadRow.Port(
        name: request.portName ?? request.protocol, servicePort: request.servicePort, port: request.port,
        appProtocol: known.rawValue),
      weight: request.weight, healthCheck: try HealthCheck(request), outboundPort: request.outboundPort,
      forwards: (request.forwards ?? []).map { PortForward(port: $0.port, host: $0.host.lowercased(), target: $0.target) })
    locality = request.locality
    otherPorts = (request.otherPorts ?? [:]).sorted { $0.key < $1.key }.map { name, number in
      WorkloadRow.Port(
        name: name, servicePort: nil, port: number, appProtocol: PortProtocol(portName: name, number: number).rawValue)
    }
  }
}

extension HealthCheck {
  fileprivate init(_ request: WorkloadRequest) throws {
    let ways = [request.healthPath != nil, request.healthGRPC != nil, request.healthCommand != nil].count { $0 }
    guard ways <= 1 else {
      throw AdminFailure(code: "invalid", message: "a health check asks by HTTP, by gRPC or by a command, not by several")
    }
    if let command = request.healthCommand {
      let bytes = command.reduce(0) { $0 + $1.utf8.count + 1 }
      guard command.first?.isEmpty == false, command.count <= Self.commandArgumentsMax, bytes <= Self.commandBytesMax,
        command.allSatisfy({ !$0.utf8.contains(0) })
      else {
        throw AdminFailure(
          code: "invalid",
          message:
            "the command of a health check has 1 to \(Self.commandArgumentsMax) arguments of \(Self.commandBytesMax) bytes")
      }
      self.init(.command(command))
    } else {
      self.init(request.healthGRPC.map { .grpc(service: $0) } ?? request.healthPath.map { .http(path: $0) } ?? .tcp)
    }
    func duration(_ seconds: Double?, _ fallback: Duration) throws -> Duration {
      guard let seconds else { return fallback }
      guard seconds >= 0.01, seconds <= 86_400 else {
        throw AdminFailure(code: "invalid", message: "times of the health check lie between 10 ms and a day")
      }
      return .milliseconds(Int64(seconds * 1000))
    }
    if let delay = request.healthDelaySeconds, delay > 0 { initialDelay = try duration(delay, .zero) }
    period = try duration(request.healthPeriodSeconds, period)
    timeout = try duration(request.healthTimeoutSeconds, timeout)
    successThreshold = min(max(1, request.healthSuccesses ?? successThreshold), 1000)
    failureThreshold = min(max(1, request.healthFailures ?? failureThreshold), 1000)
  }
}

extension WorkloadEventLine {
  init(_ event: MeshActors.WorkloadEvent, _ workload: String, _ node: String) {
    self.init(event: "", workload: workload, node: node, detail: "", outboundAddress: nil, outboundPort: nil)
    switch event {
    case .registered(let address, let port):
      self.event = "registered"
      detail = "outbound proxy http://\(address):\(port)"
      outboundAddress = address
      outboundPort = port
    case .healthy: self.event = "healthy"
    case .unhealthy(let reason):
      self.event = "unhealthy"
      detail = reason
    case .withdrawn: self.event = "withdrawn"
    }
  }
}
