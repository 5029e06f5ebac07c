import HTTPCodec
import MeshConfig
import Primitives
import Testing
import Traffic

// From Istio's YAML and the bytes of a request to the plan: Istio's VirtualService rules that need all the parts.

private func workload(_ app: String, _ version: String) throws -> WorkloadRecord {
  WorkloadRecord(
    node: try NodeName("n1"), name: "\(app)-\(version)", namespace: "default", service: app, serviceAccount: app,
    labels: ["app": app, "version": version], address: "127.0.0.1", meshAddress: "127.0.0.1", meshPort: 15008,
    ports: [WorkloadRecord.Port(name: "http", servicePort: nil, port: 9080, protocol: .http)],
    locality: Locality(parsing: "local/a/1"), health: .healthy)
}

private struct Mesh {
  let snapshot: MeshSnapshot

  init(_ yaml: String, policy: MeshSettings.OutboundPolicy = .allowAny) throws {
    let rules = """
      apiVersion: networking.istio.io/v1
      kind: DestinationRule
      metadata: {name: reviews}
      spec:
        host: reviews
        subsets:
        - {name: v1, labels: {version: v1}}
        - {name: v2, labels: {version: v2}}
      ---

      """
    let changes = ChangeSet([ConfigSource(name: "test.yaml", bytes: bytes(rules + yaml))])
    let problem = changes.findings.first { $0.severity == .error }
    #expect(problem == nil)
    var settings = MeshSettings(
      cluster: "test", trustDomain: "cluster.local", localNode: try NodeName("n1"), localAddress: "127.0.0.1",
      localLocality: Locality(parsing: "local/a/1"))
    settings.outboundPolicy = policy
    let workloads = try [("productpage", "v1"), ("ratings", "v1"), ("reviews", "v1"), ("reviews", "v2")].map {
      try workload($0.0, $0.1)
    }
    let objects = changes.objects.enumerated().map { StoredObject($0.element, created: UInt64($0.offset + 1)) }
    snapshot =
      MeshSnapshot.compile(
        revision: 1, registryVersion: 1, objects: objects, workloads: workloads, settings: settings
      ).snapshot
  }

  func table(of client: String) throws -> RouteTable {
    let local = snapshot.localWorkloads.first { snapshot.workloads[$0.workload].name.hasPrefix(client) }
    return snapshot.outbound[try #require(local).outbound]
  }

  /// Parses the request as the proxy does and routes it; `seed` decides the dice.
  func plan(_ head: String, from client: String = "productpage", port: UInt16? = nil, seed: UInt64 = 1) throws -> RoutePlan {
    var request = RequestHead()
    var parser = RequestParser()
    let raw = bytes(head + "\r\n\r\n")
    _ = try #require(try parser.parse(raw.span, from: 0, into: &request))
    var draws = SeededGenerator(seed: seed)
    let context = RequestContext(port: port ?? request.port ?? 80)
    return Router.route(request, context, in: try table(of: client), draws: &draws)
  }

  /// The cluster's name, or the outcome in words.
  func destination(_ head: String, from client: String = "productpage", port: UInt16? = nil, seed: UInt64 = 1) throws -> String
  {
    let outcome = try plan(head, from: client, port: port, seed: seed).outcome
    switch outcome {
    case .forward(let cluster, _), .passthrough(let cluster): return snapshot.clusters[cluster].name
    default: return "\(outcome)"
    }
  }
}

private func virtualService(_ http: String, hosts: String = "reviews") -> String {
  let body = http.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n")
  return """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: rules}
    spec:
      hosts: [\(hosts)]
      http:
    \(body)

    """
}

private let v1 = "outbound|9080|v1|reviews.default.svc.cluster.local"
private let v2 = "outbound|9080|v2|reviews.default.svc.cluster.local"
private let anyVersion = "outbound|9080||reviews.default.svc.cluster.local"

private func get(_ path: String = "/", host: String = "reviews:9080", _ fields: String...) -> String {
  (["GET \(path) HTTP/1.1", "Host: \(host)"] + fields).joined(separator: "\r\n")
}

@Test func `Bookinfo's user routing sends jason to v2 and everyone else to v1`() throws {
  let mesh = try Mesh(
    virtualService(
      """
      - match: [{headers: {end-user: {exact: jason}}}]
        route: [{destination: {host: reviews, subset: v2}}]
      - route: [{destination: {host: reviews, subset: v1}}]
      """))
  #expect(try mesh.destination(get("/reviews/0", "End-User: jason")) == v2)
  #expect(try mesh.destination(get("/reviews/0", "End-User: Jason")) == v1)
  #expect(try mesh.destination(get("/reviews/0")) == v1)
}

@Test(arguments: [
  "reviews:9080", "REVIEWS:9080", "reviews.default:9080", "reviews.default.svc:9080", "reviews.default.svc.cluster.local:9080",
  "reviews.default.svc.cluster.local.:9080",
])
func `a service answers to its short and long names`(host: String) throws {
  #expect(try Mesh("").destination(get(host: host)) == anyVersion)
}

@Test func `an unknown host passes through, or is refused when only the registry is allowed`() throws {
  #expect(try Mesh("").destination(get(host: "example.com")) == "PassthroughCluster")
  #expect(try Mesh("", policy: .registryOnly).plan(get(host: "example.com")).outcome == .blackHole)
}

@Test func `sourceLabels are decided when the table is compiled`() throws {
  let mesh = try Mesh(
    virtualService(
      """
      - match: [{sourceLabels: {app: ratings}}]
        route: [{destination: {host: reviews, subset: v2}}]
      - route: [{destination: {host: reviews, subset: v1}}]
      """))
  #expect(try mesh.destination(get(), from: "ratings") == v2)
  #expect(try mesh.destination(get(), from: "productpage") == v1)
}

@Test func `an absent percentage means no fault, and every mirror`() throws {
  let mesh = try Mesh(
    virtualService(
      """
      - fault: {abort: {httpStatus: 555}}
        mirror: {host: reviews, subset: v2}
        route: [{destination: {host: reviews, subset: v1}}]
      """))
  for seed in 0..<200 as Range<UInt64> {
    let plan = try mesh.plan(get(), seed: seed)
    #expect(plan.fault == .none)
    #expect(plan.mirrors == 1)
  }
}

@Test func `zero-weight destinations get nothing and the others share by weight`() throws {
  let mesh = try Mesh(
    virtualService(
      """
      - route:
        - {destination: {host: reviews, subset: v1}, weight: 0}
        - {destination: {host: reviews, subset: v2}, weight: 7}
      """))
  for seed in 0..<100 as Range<UInt64> { #expect(try mesh.destination(get(), seed: seed) == v2) }
}

@Test func `an unknown host of a route is 503 with flag NC`() throws {
  let mesh = try Mesh(virtualService("- route: [{destination: {host: nowhere}}]"))
  #expect(try mesh.plan(get()).outcome == .noCluster(destination: 0, isGatewayAPI: false))
}

@Test func `a VirtualService for an unregistered host works on port 80 only`() throws {
  let mesh = try Mesh(
    virtualService("- route: [{destination: {host: reviews, subset: v1}}]", hosts: "api.example.com"))
  #expect(try mesh.destination(get(host: "api.example.com")) == "outbound|9080|v1|reviews.default.svc.cluster.local")
  #expect(try mesh.destination(get(host: "api.example.com:9080")) == "PassthroughCluster")
}

@Test func `a rule without retries has Istio's default, and attempts 0 disables them`() throws {
  func retry(_ text: String) throws -> RetryPolicy? {
    let mesh = try Mesh(virtualService("- route: [{destination: {host: reviews, subset: v1}}]\n\(text)"))
    let reference = try #require(try mesh.plan(get()).route)
    return try mesh.table(of: "productpage")[reference].retry
  }
  #expect(try retry("") == .istioDefault)
  #expect(try (retry("  retries: {attempts: 0}")?.attempts ?? 0) == 0)
  #expect(try retry("  retries: {attempts: 3, retryOn: '5xx,418'}")?.statusCodes == [418])
}

@Test func `a request line with another spelling of the same path is routed by its canonical form`() throws {
  let mesh = try Mesh(
    virtualService(
      """
      - match: [{uri: {prefix: /admin}}]
        route: [{destination: {host: reviews, subset: v2}}]
      - route: [{destination: {host: reviews, subset: v1}}]
      """))
  #expect(try mesh.destination(get("/x/../admin")) == v2)
  #expect(try mesh.destination(get("/%61dmin")) == v2)
}
