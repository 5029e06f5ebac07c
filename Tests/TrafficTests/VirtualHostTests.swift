import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, general rules.

private let hosts = table([
  (["reviews", "reviews.default.svc.cluster.local"], [route("exact")]),
  (["*.example.com"], [route("wide")]),
  (["*.shop.example.com"], [route("narrow")]),
  (["api.shop.example.com"], [route("api")]),
])

@Test(arguments: [
  ("reviews", "exact"), ("REVIEWS", "exact"), ("reviews:9080", "exact"), ("reviews.default.svc.cluster.local", "exact"),
  ("a.example.com", "wide"), ("a.b.example.com", "wide"), ("A.Example.COM", "wide"), ("a.shop.example.com", "narrow"),
  ("api.shop.example.com", "api"), ("shop.example.com", "wide"),
])
func `an exact host wins, then the longest wildcard, and ports and case are ignored`(authority: String, expected: String) {
  #expect(routeName(TestRequest(authority: authority), hosts) == expected)
}

@Test(arguments: ["example.com", "xexample.com", "unknown", "reviews.example.org", ".example.com"])
func `a wildcard does not match the bare domain, and unknown hosts match nothing`(authority: String) {
  #expect(routeName(TestRequest(authority: authority), hosts) == nil)
}

@Test func `a star takes every host that nothing else claims`() {
  let table = table([(["*"], [route("any")]), (["reviews"], [route("reviews")])])
  #expect(routeName(TestRequest(authority: "reviews"), table) == "reviews")
  #expect(routeName(TestRequest(authority: "ratings"), table) == "any")
}

@Test(arguments: [
  (RouteTable.Fallback.notFound, RouteOutcome.notFound), (.blackHole, .blackHole),
  (.passthrough(7), .passthrough(cluster: 7)),
])
func `an unclaimed host or port gets the table's fallback`(fallback: RouteTable.Fallback, expected: RouteOutcome) {
  let table = table([(["reviews"], [route("reviews")])], fallback: fallback)
  var draws = SeededGenerator(seed: 1)
  let host = Router.route(TestRequest(authority: "x"), RequestContext(port: 80), in: table, draws: &draws)
  #expect(host.outcome == expected)
  let port = Router.route(TestRequest(authority: "reviews"), RequestContext(port: 81), in: table, draws: &draws)
  #expect(port.outcome == expected)
}

@Test func `a claimed host without a matching rule is not found, whatever the fallback`() {
  let only = route("only", [RouteMatch(path: .exact(bytes("/here")))])
  let table = table([(["reviews"], [only])], fallback: .passthrough(0))
  var draws = SeededGenerator(seed: 1)
  let plan = Router.route(TestRequest("GET", "/there"), RequestContext(port: 80), in: table, draws: &draws)
  #expect(plan.outcome == .notFound)
  #expect(plan.route == nil)
}

@Test func `hosts that must use https are redirected on plaintext only`() {
  let gateway = GatewayListener(
    port: 80, gateways: ["default/web"], localWorkload: 0, table: table([(["*"], [route("any")])]),
    httpsRedirectHosts: ["secure.example.com", "*.shop.com"])
  var draws = SeededGenerator(seed: 1)
  var facts = RouteFacts.none
  func outcome(_ authority: String, isHTTPS: Bool = false) -> RouteOutcome {
    Router.route(TestRequest(authority: authority), in: gateway, isHTTPS: isHTTPS, draws: &draws, facts: &facts).outcome
  }
  #expect(outcome("Secure.example.com:80") == .redirectToHTTPS)
  #expect(outcome("a.shop.com") == .redirectToHTTPS)
  #expect(outcome("secure.example.com", isHTTPS: true) == .forward(cluster: 0, destination: 0))
  #expect(outcome("open.example.com") == .forward(cluster: 0, destination: 0))
  var location: [UInt8] = []
  PathRewriting.appendHTTPSLocation(of: TestRequest("GET", "/a?b=c", authority: "secure.example.com:80"), to: &location)
  #expect(text(location) == "https://secure.example.com/a?b=c")
}
