import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, VirtualService.

private func plans(_ route: Route, _ request: TestRequest = TestRequest(), count: Int = 1, seed: UInt64 = 1) -> [RoutePlan] {
  let table = table([(["*"], [route])])
  var draws = SeededGenerator(seed: seed)
  return (0..<count).map { _ in Router.route(request, RequestContext(port: 80), in: table, draws: &draws) }
}

private func split(_ weights: [UInt32]) -> Route {
  var it = route("split")
  it.action = .forward(
    weights.enumerated().map { WeightedDestination(cluster: $0, clusterName: "c\($0)", weight: $1) })
  return it
}

@Test(arguments: [[80, 20], [1, 1, 2], [999, 1], [0, 5, 5], [30, 0, 70]] as [[UInt32]])
func `traffic is split in proportion to the weights`(weights: [UInt32]) {
  let trials = 50_000
  var counts = [Int](repeating: 0, count: weights.count)
  for plan in plans(split(weights), count: trials, seed: UInt64(weights[0])) {
    if case .forward(let cluster, let destination) = plan.outcome {
      #expect(cluster == destination)
      counts[cluster] += 1
    }
  }
  let total = Double(weights.reduce(0, +))
  for (index, weight) in weights.enumerated() {
    #expect(isPlausible(counts[index], of: trials, p: Double(weight) / total), "weight \(weight): \(counts[index])")
    if weight == 0 { #expect(counts[index] == 0) }
  }
}

@Test func `a lone destination gets everything even with weight 0`() {
  #expect(plans(split([0]), count: 100).allSatisfy { $0.outcome == .forward(cluster: 0, destination: 0) })
}

@Test func `an unknown destination of a VirtualService is 503 and of an HTTPRoute 500`() {
  #expect(plans(route("gone", to: nil))[0].outcome == .noCluster(destination: 0, isGatewayAPI: false))
  #expect(plans(route("gone", to: nil, kind: "HTTPRoute"))[0].outcome == .noCluster(destination: 0, isGatewayAPI: true))
  #expect(LocalReply(.noCluster(isGatewayAPI: false)).status == 503)
  #expect(LocalReply(.noCluster(isGatewayAPI: true)).status == 500)
}

@Test func `redirects and direct responses roll no dice`() {
  var it = route("redirect")
  it.fault = FaultPolicy(
    delayDuration: .seconds(1), delayPartsPerMillion: 1_000_000, abort: .http(500), abortPartsPerMillion: 1_000_000)
  it.action = .directResponse(status: 200, body: [])
  #expect(plans(it)[0] == RoutePlan(route: plans(it)[0].route, outcome: .directResponse))
}

@Test(arguments: [0, 1, 100, 123_456, 500_000, 999_999, 1_000_000] as [UInt32])
func `delay and abort roll their dice independently with a grain of one in a million`(partsPerMillion: UInt32) {
  var it = route("fault")
  it.fault = FaultPolicy(
    delayDuration: .seconds(7), delayPartsPerMillion: partsPerMillion, abort: .http(555),
    abortPartsPerMillion: partsPerMillion)
  let trials = 40_000
  let faults = plans(it, count: trials, seed: UInt64(partsPerMillion)).map(\.fault)
  let p = Double(partsPerMillion) / 1_000_000
  #expect(isPlausible(faults.count { $0.delay == .seconds(7) }, of: trials, p: p))
  #expect(isPlausible(faults.count { $0.abort == .http(555) }, of: trials, p: p))
  #expect(isPlausible(faults.count { $0.delay != nil && $0.abort != nil }, of: trials, p: p * p))
}

@Test func `a percentage of 0 is no fault and draws nothing`() {
  var it = split([1, 1])
  let without = plans(it, count: 200).map(\.outcome)
  it.fault = FaultPolicy(delayDuration: .seconds(7), delayPartsPerMillion: 0, abort: .http(500), abortPartsPerMillion: 0)
  let plans = plans(it, count: 200)
  #expect(plans.allSatisfy { $0.fault == .none })
  #expect(plans.map(\.outcome) == without)
}

@Test func `each mirror has its own percentage, and one without a cluster is left out`() {
  var it = route("mirrored")
  it.mirrors = [
    MirrorPolicy(cluster: 1, clusterName: "a", partsPerMillion: 1_000_000),
    MirrorPolicy(cluster: 2, clusterName: "b", partsPerMillion: 0),
    MirrorPolicy(cluster: nil, clusterName: "c", partsPerMillion: 1_000_000),
    MirrorPolicy(cluster: 3, clusterName: "d", partsPerMillion: 250_000),
  ]
  let masks = plans(it, count: 20_000).map(\.mirrors)
  #expect(masks.allSatisfy { $0 & 0b0111 == 0b0001 })
  #expect(isPlausible(masks.count { $0 & 0b1000 != 0 }, of: 20_000, p: 0.25))
}

@Test func `the same seed gives the same plans`() {
  #expect(plans(split([1, 2, 3]), count: 100, seed: 9) == plans(split([1, 2, 3]), count: 100, seed: 9))
}

// MARK: CORS

private func cors(forwardUnmatched: Bool = true, methods: [String] = ["GET", "POST"]) throws -> Route {
  var it = route("cors")
  it.cors = CORSPolicy(
    allowOrigins: [.exact(bytes("https://a.com")), .regex(try pattern("https://.*\\.b\\.com"))], allowMethods: methods,
    allowHeaders: ["x-a", "x-b"], exposeHeaders: ["x-c"], maxAge: .seconds(600), allowCredentials: true,
    forwardUnmatchedPreflights: forwardUnmatched)
  return it
}

private func preflight(_ origin: String) -> TestRequest {
  TestRequest("OPTIONS", headers: [("origin", origin), ("access-control-request-method", "PUT")])
}

@Test func `a preflight of an allowed origin is answered by the proxy`() throws {
  #expect(plans(try cors(), preflight("https://a.com"))[0].outcome == .preflight(isOriginAllowed: true))
  #expect(plans(try cors(), preflight("https://x.b.com"))[0].outcome == .preflight(isOriginAllowed: true))
}

@Test func `an unmatched preflight is forwarded, or answered without allow headers`() throws {
  #expect(plans(try cors(), preflight("https://evil.com"))[0].outcome == .forward(cluster: 0, destination: 0))
  #expect(
    plans(try cors(forwardUnmatched: false), preflight("https://evil.com"))[0].outcome
      == .preflight(isOriginAllowed: false))
}

@Test func `OPTIONS without a requested method is no preflight, and a request of an allowed origin is marked`() throws {
  let plain = plans(try cors(), TestRequest("OPTIONS", headers: [("origin", "https://a.com")]))[0]
  #expect(plain.outcome == .forward(cluster: 0, destination: 0))
  #expect(plain.isOriginAllowed)
  #expect(!plans(try cors(), TestRequest(headers: [("origin", "https://evil.com")]))[0].isOriginAllowed)
  #expect(!plans(try cors())[0].isOriginAllowed)
}

@Test func `the origin is echoed, and a star echoes what was asked`() throws {
  let policy = try #require(try cors(methods: ["*"]).cors)
  func lines(_ fields: [HeaderOperations.Field]) -> [String] {
    fields.map { "\(String(decoding: $0.name, as: UTF8.self)): \(String(decoding: $0.value, as: UTF8.self))" }
  }
  #expect(
    lines(CORS.preflightHeaders(preflight("https://a.com"), policy)) == [
      "access-control-allow-origin: https://a.com", "access-control-allow-credentials: true",
      "access-control-allow-methods: PUT", "access-control-allow-headers: x-a,x-b", "access-control-max-age: 600",
    ])
  #expect(
    lines(CORS.responseHeaders(preflight("https://a.com"), policy)) == [
      "access-control-allow-origin: https://a.com", "access-control-allow-credentials: true",
      "access-control-expose-headers: x-c",
    ])
}
