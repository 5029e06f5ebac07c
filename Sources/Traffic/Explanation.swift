import HTTPCodec
import MeshConfig
import Primitives

/// Why a request would go where it goes: every rule that was looked at, and what would apply to it.
public struct Explanation: Hashable, Sendable, Codable {
  public var method: String
  public var target: String
  public var authority: String
  public var port: UInt16
  /// The virtual host that claims the authority; nil when none does.
  public var virtualHost: String?
  public var rules: [Rule]
  /// Rules after the deciding one, which were not looked at.
  public var rulesNotReached: Int
  public var verdict: Verdict
  public var split: [Share]
  /// Policies of the deciding rule, as words.
  public var policies: [Policy]
  /// Endpoints of each cluster that may get the request.
  public var clusters: [ClusterView]

  public struct Rule: Hashable, Sendable, Codable {
    public var name: String
    /// `VirtualService default/reviews http[0]`; nil for a service's default route.
    public var origin: String?
    public var isDeciding: Bool
    /// Why it won, or for each alternative why it lost.
    public var reasons: [String]
  }

  public struct Verdict: Hashable, Sendable, Codable {
    public var kind: Kind
    /// One sentence for people.
    public var sentence: String
    /// The status the client would see when the mesh answers itself.
    public var status: UInt16?
    public var flags: String
    public enum Kind: String, Hashable, Sendable, Codable {
      case forward, redirect, directResponse, notFound, noCluster, blackHole, passthrough
    }
  }

  public struct Share: Hashable, Sendable, Codable {
    public var cluster: String
    public var percent: Double
    public var exists: Bool
  }

  public struct Policy: Hashable, Sendable, Codable {
    public var name: String
    public var value: String
  }

  public struct ClusterView: Hashable, Sendable, Codable {
    public var name: String
    public var loadBalancer: String
    public var tls: String
    public var destinationRule: String?
    public var endpoints: [EndpointView]
    /// Endpoints beyond the limit of the list.
    public var endpointsNotShown: Int
  }

  public struct EndpointView: Hashable, Sendable, Codable {
    public var address: String
    public var workload: String?
    public var node: String?
    public var locality: String
    public var priority: Int
    public var weight: UInt32
    public var health: EndpointHealth
    public var isEligible: Bool
  }
}

extension Explanation {
  /// Explains a request by the same functions that route it. Dice are not rolled: chances are shown as percentages.
  public init(_ request: some RequestView, _ context: RequestContext, in table: RouteTable, _ snapshot: MeshSnapshot) {
    method = request.text(request.methodName)
    target = request.text(request.target)
    authority = request.text(request.authority)
    port = context.port
    rules = []
    rulesNotReached = 0
    split = []
    policies = []
    clusters = []
    guard let found = Router.find(request, context, in: table), let portIndex = table.index(ofPort: context.port) else {
      verdict = Self.verdict(of: table.fallback)
      return
    }
    let host = table.ports[portIndex].virtualHosts[found.virtualHost]
    virtualHost = host.name
    let deciding = found.route?.route
    let reached = host.routes.prefix((deciding ?? host.routes.count) + 1)
    rules = reached.prefix(TrafficLimits.explainedRulesMax).enumerated().map { index, route in
      Self.rule(route, request, context, isDeciding: index == deciding)
    }
    rulesNotReached = host.routes.count - reached.count
    guard let reference = found.route else {
      verdict = Self.verdict(.noRoute, .notFound, "no rule of virtual host \(host.name) matches")
      return
    }
    let route = table[reference]
    verdict = Self.verdict(of: route, request, context, reference, snapshot)
    policies = Self.policies(of: route, request, match: reference.match)
    if case .forward(let destinations) = route.action {
      split = Self.split(destinations)
      clusters = Set(destinations.compactMap(\.cluster)).sorted().map { ClusterView(snapshot.clusters.glimpse($0), snapshot) }
    }
  }

  private static func rule(
    _ route: Route, _ request: some RequestView, _ context: RequestContext, isDeciding: Bool
  ) -> Rule {
    let reasons = route.matches.map { match -> String in
      let failure = request.withBytes { match.failure(request, context, $0) }
      return failure.map { match.sentence(for: $0) } ?? "matches: \(match.conditions)"
    }
    return Rule(
      name: route.name, origin: route.origin?.description, isDeciding: isDeciding,
      reasons: reasons.isEmpty ? ["has no conditions"] : reasons)
  }

  private static func split(_ destinations: [WeightedDestination]) -> [Share] {
    let total = destinations.reduce(0.0) { $0 + Double($1.weight) }
    return destinations.map { destination in
      let percent = destinations.count == 1 ? 100 : total > 0 ? 100 * Double(destination.weight) / total : 0
      return Share(cluster: destination.clusterName, percent: percent, exists: destination.cluster != nil)
    }
  }

  private static func verdict(of fallback: RouteTable.Fallback) -> Verdict {
    switch fallback {
    case .passthrough:
      Verdict(
        kind: .passthrough, sentence: "no virtual host claims this host and port: sent to its own address (ALLOW_ANY)",
        status: nil, flags: "-")
    case .blackHole: verdict(.blackHole, .blackHole, "no virtual host claims this host and port (REGISTRY_ONLY)")
    case .notFound: verdict(.noRoute, .notFound, "no virtual host of this gateway port claims this host")
    }
  }

  private static func verdict(_ error: ProxyError, _ kind: Verdict.Kind, _ sentence: String) -> Verdict {
    let reply = LocalReply(error)
    return Verdict(kind: kind, sentence: sentence, status: reply.status, flags: reply.flags.text)
  }

  private static func verdict(
    of route: Route, _ request: some RequestView, _ context: RequestContext, _ reference: RouteReference,
    _ snapshot: MeshSnapshot
  ) -> Verdict {
    switch route.action {
    case .directResponse(let status, let body):
      return Verdict(kind: .directResponse, sentence: "answered with \(body.count) bytes", status: status, flags: "-")
    case .redirect(let redirect):
      var location: [UInt8] = []
      PathRewriting.appendLocation(of: request, context, route, redirect, match: reference.match, to: &location)
      let text = String(decoding: location, as: UTF8.self)
      return Verdict(kind: .redirect, sentence: "redirected to \(text)", status: redirect.status, flags: "-")
    case .forward(let destinations):
      let existing = destinations.compactMap(\.cluster)
      let isGatewayAPI = route.origin?.isGatewayAPI ?? false
      if existing.isEmpty {
        let names = destinations.map(\.clusterName).joined(separator: ", ")
        return verdict(.noCluster(isGatewayAPI: isGatewayAPI), .noCluster, "no such destination: \(names)")
      }
      let healthy = existing.contains { cluster in
        let cluster = snapshot.clusters.glimpse(cluster)
        return cluster.discovery == .originalDestination || cluster.endpoints.contains { $0.health == .healthy }
      }
      if !healthy { return verdict(.noHealthyUpstream, .forward, "forwarded, but no endpoint is healthy") }
      let names = existing.map { snapshot.clusters.name($0) }.joined(separator: ", ")
      return Verdict(kind: .forward, sentence: "forwarded to \(names)", status: nil, flags: "-")
    }
  }
}

extension Explanation {
  private static func policies(of route: Route, _ request: some RequestView, match: Int?) -> [Policy] {
    var list: [Policy] = []
    func add(_ name: String, _ value: String?) { if let value { list.append(Policy(name: name, value: value)) } }
    if case .forward = route.action {
      add("timeout", route.timeout.map { "\($0.inSeconds) s" } ?? "none")
      add("retries", route.retry.map(text) ?? "none")
    }
    if let fault = route.fault {
      add("delay", fault.delayDuration.map { "\($0.inSeconds) s for \(percent(fault.delayPartsPerMillion))" })
      add("abort", fault.abort.map { "\(text($0)) for \(percent(fault.abortPartsPerMillion))" })
    }
    for mirror in route.mirrors { add("mirror", "\(mirror.clusterName) for \(percent(mirror.partsPerMillion))") }
    add("path becomes", PathRewriting.path(of: request, route, match: match).map { String(decoding: $0, as: UTF8.self) })
    add("authority becomes", route.authority(destination: 0).map { String(decoding: $0, as: UTF8.self) })
    add("request headers", text(route.requestHeaders))
    add("response headers", text(route.responseHeaders))
    if route.cors != nil { add("cors", "yes") }
    return list
  }

  private static func percent(_ partsPerMillion: UInt32) -> String { "\(Double(partsPerMillion) / 10_000) %" }

  private static func text(_ retry: RetryPolicy) -> String {
    if retry.attempts <= 0 { return "none" }
    let perTry = retry.perTryTimeout.map { ", \($0.inSeconds) s a try" } ?? ""
    let words = retry.conditions.words + retry.statusCodes.map(String.init)
    return "\(retry.attempts) on \(words.joined(separator: ","))\(perTry)"
  }

  private static func text(_ abort: FaultPolicy.Abort) -> String {
    switch abort {
    case .http(let status): "status \(status)"
    case .grpc(let status): "gRPC status \(status)"
    }
  }

  private static func text(_ operations: HeaderOperations) -> String? {
    func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
    let words =
      operations.remove.map { "-\(text($0))" } + operations.set.map { "\(text($0.name))=\(text($0.value))" }
      + operations.add.map { "+\(text($0.name))=\(text($0.value))" }
    return words.isEmpty ? nil : words.joined(separator: " ")
  }
}

extension Explanation.ClusterView {
  init(_ cluster: Cluster, _ snapshot: MeshSnapshot) {
    let anyHealthy = cluster.endpoints.contains { $0.health == .healthy }
    let shown = cluster.endpoints.prefix(TrafficLimits.explainedEndpointsMax)
    self.init(
      name: cluster.name, loadBalancer: cluster.loadBalancer.algorithm.word, tls: cluster.tls.word,
      destinationRule: cluster.destinationRule,
      endpoints: shown.map { endpoint in
        let facts = endpoint.workload.flatMap {
          snapshot.workloads.indices.contains($0) ? snapshot.workloads[$0] : nil
        }
        return Explanation.EndpointView(
          address: "\(endpoint.address):\(endpoint.port)", workload: facts.map { "\($0.namespace)/\($0.name)" },
          node: facts?.node.string, locality: endpoint.locality.description, priority: endpoint.priority,
          weight: endpoint.weight, health: endpoint.health,
          isEligible: endpoint.health == .healthy || !anyHealthy && endpoint.health == .unreachable)
      }, endpointsNotShown: cluster.endpoints.count - shown.count)
  }
}

extension RouteMatch {
  /// All that has to hold, in one line.
  fileprivate var conditions: String {
    var parts: [String] = []
    func add(_ name: String, _ match: StringMatch?) { if let match { parts.append("\(name) \(match.words)") } }
    if let path { parts.append("path \(path.words)") }
    add("scheme", scheme)
    add("method", method)
    add("authority", authority)
    for field in headers { add("header \(field.nameText)", field.match) }
    for field in withoutHeaders { add("header \(field.nameText) not", field.match) }
    for field in queryParameters { add("query parameter \(field.nameText)", field.match) }
    return parts.isEmpty ? "everything" : parts.joined(separator: ", ")
  }
}

extension RequestView {
  /// Bytes of a range as text for people.
  func text(_ range: Range<Int>) -> String {
    withBytes { bytes in
      var copy: [UInt8] = []
      copy.append(bytes.extracting(range))
      return String(decoding: copy, as: UTF8.self)
    }
  }
}
