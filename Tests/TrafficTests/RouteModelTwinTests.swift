import FoundationEssentials
import MeshConfig
import Primitives
import Testing

@testable import Traffic

/// HTTPRoutes and the VirtualServices that say the same have to decide alike; where the models differ, the difference is a test.
@Suite struct RouteModelTwinTests {
  private struct Rule {
    var name: String
    /// Exact path, or prefix of whole segments.
    var path: (isExact: Bool, value: String)
    var method: String?
    var headers: [(String, String)]
    var query: [(String, String)]

    /// Gateway API, HTTPRouteRule: exact paths, longer prefixes, a method, more headers, more query parameters.
    var rank: [Int] {
      let depth = path.value == "/" ? 0 : path.value.utf8.count
      return [path.isExact ? 0 : depth == 0 ? 2 : 1, -depth, method == nil ? 1 : 0, -headers.count, -query.count]
    }
  }

  private static func rule(_ index: Int, _ draws: inout SeededGenerator) -> Rule {
    func one<T>(_ list: [T]) -> T { list[draws.index(below: list.count)] }
    let paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]
    var headers: [(String, String)] = []
    var query: [(String, String)] = []
    for name in ["x", "y"] where draws.chance(0.3) { headers.append((name, one(["1", "2"]))) }
    for name in ["p", "q"] where draws.chance(0.2) { query.append((name, one(["1", "2"]))) }
    return Rule(
      name: "rule-\(index)", path: (draws.chance(0.4), one(paths)), method: draws.chance(0.3) ? one(["GET", "PUT"]) : nil,
      headers: headers, query: query)
  }

  private static let service = """
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: default}
    spec: {ports: [{port: 80, name: http}]}
    ---

    """

  private static func httpRoute(_ rules: [Rule]) -> String {
    let items = rules.map { rule in
      let type = rule.path.isExact ? "Exact" : "PathPrefix"
      let headers = rule.headers.map { "{name: \($0.0), value: '\($0.1)'}" }.joined(separator: ", ")
      let query = rule.query.map { "{name: \($0.0), value: '\($0.1)'}" }.joined(separator: ", ")
      let method = rule.method.map { ", method: \($0)" } ?? ""
      return """
        {name: \(rule.name), matches: [{path: {type: \(type), value: \(rule.path.value)}, headers: [\(headers)], \
        queryParams: [\(query)]\(method)}], backendRefs: [{name: web, port: 80}]}
        """
    }
    return """
      apiVersion: gateway.networking.k8s.io/v1
      kind: HTTPRoute
      metadata: {name: web, namespace: default}
      spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [\(items.joined(separator: ", "))]}
      """
  }

  private static func virtualService(_ rules: [Rule]) -> String {
    let items = rules.map { rule in
      let uri =
        rule.path.isExact
        ? "exact: '\(rule.path.value)'" : rule.path.value == "/" ? "prefix: /" : "regex: '\(rule.path.value)(/.*)?'"
      let headers = rule.headers.map { "\($0.0): {exact: '\($0.1)'}" }.joined(separator: ", ")
      let query = rule.query.map { "\($0.0): {exact: '\($0.1)'}" }.joined(separator: ", ")
      let method = rule.method.map { ", method: {exact: \($0)}" } ?? ""
      return """
        {name: \(rule.name), match: [{uri: {\(uri)}, headers: {\(headers)}, queryParams: {\(query)}\(method)}], \
        route: [{destination: {host: web}}]}
        """
    }
    return """
      apiVersion: networking.istio.io/v1
      kind: VirtualService
      metadata: {name: web, namespace: default}
      spec: {hosts: [web], http: [\(items.joined(separator: ", "))]}
      """
  }

  private static func table(_ text: String) throws -> RouteTable {
    let changeSet = ChangeSet([ConfigSource(name: "drawn", bytes: Array((service + text).utf8))])
    let errors = changeSet.findings.filter { $0.severity == .error }
    #expect(errors.isEmpty, "\(errors.map(\.description))")
    let node = try NodeName("n1")
    let client = WorkloadRecord(
      node: node, name: "client", namespace: "default", service: nil, serviceAccount: "client", labels: [:],
      address: "10.0.0.1", meshAddress: "127.0.0.1", meshPort: 15008, ports: [], locality: Locality(parsing: ""),
      health: .healthy)
    let objects = changeSet.objects.enumerated().map { StoredObject($0.element, created: UInt64($0.offset + 1)) }
    let settings = MeshSettings(
      cluster: "test", trustDomain: "cluster.local", localNode: node, localAddress: "127.0.0.1",
      localLocality: Locality(parsing: ""))
    let snapshot = MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: objects, workloads: [client], settings: settings
    ).snapshot
    return try #require(snapshot.outbound.first)
  }

  private static func decision(_ request: TestRequest, _ table: RouteTable) -> (name: String?, outcome: RouteOutcome) {
    var draws = SeededGenerator(seed: 1)
    let plan = Router.route(request, RequestContext(port: 80), in: table, draws: &draws)
    let route = plan.route.map { table.ports[$0.port].virtualHosts[$0.virtualHost].routes[$0.route] }
    return (route?.name, plan.outcome)
  }

  /// Sets of rules drawn, a hundred requests each; `MESH_ROUTE_MODELS=10000` makes a million decisions of each model.
  private static let models = ProcessInfo.processInfo.environment["MESH_ROUTE_MODELS"].flatMap(Int.init) ?? 40

  @Test func `both models decide alike when the rules are in the order of their precedence`() throws {
    for seed in 0..<Self.models where !(try decideAlike(seed: seed)) { return }
  }

  private func decideAlike(seed: Int) throws -> Bool {
    var draws = SeededGenerator(seed: UInt64(seed) + 1)
    let count = 1 + draws.index(below: 8)
    let rules = (0..<count).map { Self.rule($0, &draws) }
    let ordered = rules.enumerated().sorted { a, b in
      a.element.rank == b.element.rank ? a.offset < b.offset : a.element.rank.lexicographicallyPrecedes(b.element.rank)
    }.map(\.element)
    let gateway = try Self.table(Self.httpRoute(rules))
    let istio = try Self.table(Self.virtualService(ordered))
    let targets = ["/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/a/bc", "/a/b/c", "/a/b/c/d", "/b", "/c"]
    for _ in 0..<100 {
      var headers: [(String, String)] = []
      for name in ["x", "y"] where draws.chance(0.5) { headers.append((name, ["1", "2"][draws.index(below: 2)])) }
      var target = targets[draws.index(below: targets.count)]
      if draws.chance(0.5) { target += "?p=\(1 + draws.index(below: 2))&q=\(1 + draws.index(below: 2))" }
      let request = TestRequest(["GET", "PUT", "POST"][draws.index(below: 3)], target, authority: "web", headers: headers)
      let (left, right) = (Self.decision(request, gateway).name, Self.decision(request, istio).name)
      guard left == right else {
        Issue.record(
          "seed \(seed), \(target) \(headers): HTTPRoute \(left ?? "none"), VirtualService \(right ?? "none")")
        return false
      }
    }
    return true
  }

  private static let wide = Rule(name: "wide", path: (false, "/v2"), method: nil, headers: [], query: [])
  private static let narrow = Rule(name: "narrow", path: (true, "/v2/x"), method: nil, headers: [], query: [])

  @Test func `a VirtualService prefix is a string's, an HTTPRoute's is of segments`() throws {
    let request = TestRequest("GET", "/v2example", authority: "web")
    let istio = Self.virtualService([Self.wide]).replacing("regex: '/v2(/.*)?'", with: "prefix: /v2")
    #expect(Self.decision(request, try Self.table(istio)).name == "wide")
    #expect(Self.decision(request, try Self.table(Self.httpRoute([Self.wide]))).name == nil)
  }

  @Test func `a VirtualService goes by the order written, an HTTPRoute by precedence`() throws {
    let request = TestRequest("GET", "/v2/x", authority: "web")
    #expect(Self.decision(request, try Self.table(Self.virtualService([Self.wide, Self.narrow]))).name == "wide")
    #expect(Self.decision(request, try Self.table(Self.httpRoute([Self.wide, Self.narrow]))).name == "narrow")
  }

  @Test func `a backend that does not exist is 503 for a VirtualService and 500 for an HTTPRoute`() throws {
    let request = TestRequest("GET", "/v2", authority: "web")
    let istio = Self.virtualService([Self.wide]).replacing("host: web}", with: "host: nobody}")
    let gateway = Self.httpRoute([Self.wide]).replacing("[{name: web, port: 80}]}", with: "[{name: nobody, port: 80}]}")
    #expect(Self.decision(request, try Self.table(istio)).outcome == .noCluster(destination: 0, isGatewayAPI: false))
    #expect(Self.decision(request, try Self.table(gateway)).outcome == .noCluster(destination: 0, isGatewayAPI: true))
  }
}
