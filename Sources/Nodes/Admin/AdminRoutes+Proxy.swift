import HTTPCodec
import MeshActors
import MeshConfig
import Primitives
import Proxy
import Traffic
import Transport

/// What the proxy works from, and what it would do.
extension AdminRoutes {
  private func snapshot() async throws -> MeshSnapshot {
    guard let snapshot = await node.snapshots.serving?.snapshot else {
      throw AdminFailure(code: "unavailable", message: "the proxy of node \(node.node.name) has no snapshot yet")
    }
    return snapshot
  }

  // MARK: Explain

  func explain(_ request: ExplainRequest) async throws -> ExplainAnswer {
    let snapshot = try await snapshot()
    let target = try ExplainTarget(request)
    let table: RouteTable
    let port: UInt16
    if let gateway = request.gatewayPort {
      guard let listener = snapshot.gateways.first(where: { $0.port == gateway }) else {
        let open = snapshot.gateways.map(\.place.name).joined(separator: ", ")
        throw AdminFailure(
          code: "notFound",
          message:
            "node \(node.node.name) opens no gateway port \(gateway)\(open.isEmpty ? "" : "; it opens \(open)"); try --node")
      }
      (table, port) = (listener.table, gateway)
    } else {
      (table, port) = (try outboundTable(request, snapshot), target.port)
    }
    let explanation = Explanation(target.head, RequestContext(port: port), in: table, snapshot)
    let host = explanation.virtualHost.map { String($0.prefix { $0 != ":" }) }
    return ExplainAnswer(
      text: explanation.text, explanation: explanation, notes: await notes(about: host.map { [$0] } ?? []))
  }

  /// What of the configuration has no effect on this node and has to do with some of these names.
  func notes(about names: [String]) async -> [String] {
    let findings = await node.snapshots.serving?.findings ?? []
    return findings.filter { finding in
      names.contains { !$0.isEmpty && (finding.reason.contains($0) || finding.object.hasSuffix(" \($0)")) }
    }.map { "\($0.object)\($0.path.isEmpty ? "" : " \($0.path)"): \($0.reason)" }
  }

  /// The routes of the named workload, or of one of the named service, on this node.
  private func outboundTable(_ request: ExplainRequest, _ snapshot: MeshSnapshot) throws -> RouteTable {
    let name = request.from ?? ""
    let local = snapshot.localWorkloads.filter { !$0.isGateway }
    let match = local.first { workload in
      let facts = snapshot.workloads[workload.workload]
      return facts.namespace == request.namespace && (facts.name == name || facts.app == name)
    }
    if let match { return snapshot.outbound[match.outbound] }
    let elsewhere = snapshot.workloads.filter { $0.namespace == request.namespace && ($0.name == name || $0.app == name) }
    if let other = elsewhere.first {
      throw AdminFailure(
        code: "notFound", message: "\(name) does not run on node \(node.node.name); ask where it runs: --node \(other.node)")
    }
    let names = local.map { snapshot.workloads[$0.workload].name }.sorted().joined(separator: ", ")
    throw AdminFailure(
      code: "notFound",
      message: "there is no workload or service '\(name)' in namespace \(request.namespace); "
        + (names.isEmpty ? "none runs here: ask another node with --node" : "here run \(names)"))
  }

  // MARK: Config

  func listenerConfig() async throws -> [ListenerConfigInfo] {
    guard let serving = await node.snapshots.serving else { return [] }
    let own = [
      ListenerConfigInfo(
        address: node.node.address, port: node.file.ports.link, kind: "cluster", detail: "links (TCP) and gossip (UDP)"),
      ListenerConfigInfo(address: node.node.address, port: node.file.ports.metrics, kind: "metrics", detail: "/metrics"),
      ListenerConfigInfo(address: node.node.address, port: node.file.ports.health, kind: "health", detail: "/healthz/ready"),
    ]
    let traffic = serving.listeners.map { status in
      let info = ListenerInfo(status)
      let address = status.address ?? status.listener.address
      return ListenerConfigInfo(
        address: address.port == nil ? "\(address)" : node.node.address, port: address.port ?? 0, kind: info.kind,
        detail: status.error.map { "error: \($0)" } ?? info.detail)
    }
    return (own + traffic).sorted { ($0.port, $0.kind) < ($1.port, $1.kind) }
  }

  func routeConfig() async throws -> [RouteConfigInfo] {
    let snapshot = try await snapshot()
    var list: [RouteConfigInfo] = []
    for local in snapshot.localWorkloads where !local.isGateway {
      list += rows(snapshot.outbound[local.outbound], from: snapshot.workloads[local.workload].name, snapshot)
    }
    for gateway in snapshot.gateways { list += rows(gateway.table, from: "gateway:\(gateway.place.name)", snapshot) }
    return list
  }

  private func rows(_ table: RouteTable, from: String, _ snapshot: MeshSnapshot) -> [RouteConfigInfo] {
    table.ports.flatMap { port in
      port.virtualHosts.flatMap { host in
        host.routes.map { route in
          RouteConfigInfo(
            table: from, port: port.port, virtualHost: host.name, domains: host.domains, match: RouteWords.match(route),
            destination: RouteWords.destination(route), origin: route.origin?.description ?? "default")
        }
      }
    }
  }

  func clusterConfig() async throws -> [ClusterConfigInfo] {
    let clusters = try await snapshot().clusters
    return clusters.indices.map { index in
      let cluster = clusters.glimpse(index)
      return ClusterConfigInfo(
        host: cluster.host.isEmpty ? cluster.name : cluster.host, port: cluster.port, subset: cluster.subset ?? "",
        direction: "outbound",
        discovery: RouteWords.discovery(cluster.discovery), loadBalancer: RouteWords.algorithm(cluster.loadBalancer.algorithm),
        tls: RouteWords.tls(cluster.tls), endpoints: cluster.endpoints.count, destinationRule: cluster.destinationRule ?? "",
        inUse: clusters.ifInUse(index) != nil)
    }
  }

  func endpointConfig() async throws -> [EndpointConfigInfo] {
    let snapshot = try await snapshot()
    return snapshot.clusters.flatMap { cluster in
      cluster.endpoints.map { endpoint in
        let via =
          endpoint.isLocal ? "in process" : endpoint.mesh.map { "mTLS \($0.address):\($0.port)" } ?? "direct"
        return EndpointConfigInfo(
          endpoint: "\(endpoint.address):\(endpoint.port)", via: via, status: endpoint.health.rawValue,
          workload: endpoint.workload.map { snapshot.workloads[$0].key } ?? "", cluster: cluster.name, weight: endpoint.weight,
          locality: endpoint.locality.description)
      }
    }
  }
}

/// The answer of `explain`: for people and for programs.
public struct ExplainAnswer: Codable, Sendable {
  public var text: String
  public var explanation: Explanation
  /// Rules that were written for the host and are not in force, and why.
  public var notes: [String]
}

/// The request that `explain` is asked about, as the parser of real requests reads it.
private struct ExplainTarget {
  let head: RequestHead
  let port: UInt16

  init(_ request: ExplainRequest) throws {
    let text = request.url.hasPrefix("http://") ? request.url : "http://\(request.url)"
    let rest = text.dropFirst("http://".count)
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    var path = String(rest.dropFirst(authority.count))
    if !path.hasPrefix("/") { path = "/" + path }
    var lines = ["\(request.method) \(path) HTTP/1.1", "host: \(authority)"]
    lines += request.headers.map { "\($0.name): \($0.value)" }
    let bytes = Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
    var parser = RequestParser()
    var head = RequestHead()
    do throws(MessageError) {
      guard try parser.parse(bytes.span, from: 0, into: &head) != nil else { throw MessageError(.endedEarly) }
    } catch {
      throw AdminFailure(code: "invalid", message: "a proxy would refuse this request: \(error)")
    }
    self.head = head
    port = head.port ?? 80
  }
}

extension ListenerInfo {
  init(_ status: ListenerStatus) {
    let address = "\(status.address ?? status.listener.address)"
    let error = status.error.map { "\($0)" }
    switch status.listener.kind {
    case .outbound(let workload): self.init(kind: "outbound", address: address, detail: "calls of \(workload)", error: error)
    case .gateway: self.init(kind: "gateway", address: address, detail: "ingress", error: error)
    case .forward(let workload, let host, let port):
      self.init(kind: "forward", address: address, detail: "\(workload) to \(host):\(port)", error: error)
    case .sidecar(let workload, _, _):
      self.init(kind: "sidecar", address: address, detail: "opened by the Sidecar of \(workload)", error: error)
    case .meshInbound: self.init(kind: "mesh", address: address, detail: "mTLS from other nodes", error: error)
    }
  }
}

/// Parts of the snapshot in words.
enum RouteWords {
  static func match(_ route: Route) -> String {
    guard !route.matches.isEmpty else { return "*" }
    return route.matches.map(one).joined(separator: " | ")
  }

  private static func one(_ match: RouteMatch) -> String {
    var parts: [String] = []
    switch match.path {
    case .exact(let bytes): parts.append(text(bytes))
    case .prefix(let bytes), .segmentPrefix(let bytes): parts.append("\(text(bytes))*")
    case .regex(let pattern): parts.append("~\(pattern.source)")
    case nil: break
    }
    if let method = match.method { parts.append("method\(value(method))") }
    if let authority = match.authority { parts.append("authority\(value(authority))") }
    if let scheme = match.scheme { parts.append("scheme\(value(scheme))") }
    parts += match.headers.map { "\(text($0.name))\(value($0.match))" }
    parts += match.withoutHeaders.map { "not \(text($0.name))\(value($0.match))" }
    parts += match.queryParameters.map { "?\(text($0.name))\(value($0.match))" }
    return parts.isEmpty ? "*" : parts.joined(separator: " & ")
  }

  private static func value(_ match: StringMatch) -> String {
    switch match {
    case .exact(let bytes): "=\(text(bytes))"
    case .prefix(let bytes): "=\(text(bytes))*"
    case .regex(let pattern): "~\(pattern.source)"
    case .present: " present"
    }
  }

  static func destination(_ route: Route) -> String {
    switch route.action {
    case .forward(let destinations):
      destinations.map { destination in
        let share = destinations.count > 1 ? " \(destination.weight)" : ""
        return destination.clusterName + share + (destination.cluster == nil ? " (missing)" : "")
      }.joined(separator: ", ")
    case .redirect(let redirect): "redirect \(redirect.status)"
    case .directResponse(let status, _): "answer \(status)"
    }
  }

  static func discovery(_ discovery: Cluster.Discovery) -> String {
    switch discovery {
    case .listed: "EDS"
    case .dns: "STRICT_DNS"
    case .logicalDNS: "LOGICAL_DNS"
    case .originalDestination: "ORIGINAL_DST"
    }
  }

  static func algorithm(_ algorithm: LoadBalancerPolicy.Algorithm) -> String {
    switch algorithm {
    case .leastRequest: "LEAST_REQUEST"
    case .roundRobin: "ROUND_ROBIN"
    case .random: "RANDOM"
    case .passthrough: "PASSTHROUGH"
    case .consistentHash: "CONSISTENT_HASH"
    }
  }

  static func tls(_ tls: UpstreamTLS) -> String {
    switch tls {
    case .automatic: "auto"
    case .disabled: "DISABLE"
    case .istioMutual: "ISTIO_MUTUAL"
    case .simple: "SIMPLE"
    case .mutual: "MUTUAL"
    }
  }

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
