import FoundationEssentials
import MeshConfig
import Primitives
import Testing
import Traffic

private func snapshot() throws -> MeshSnapshot {
  let node = try NodeName("n1")
  let locality = Locality(parsing: "local/a/1")
  let facts = WorkloadFacts(
    name: "reviews-v1", namespace: "default", node: node, serviceAccount: "reviews",
    principal: "spiffe://cluster.local/ns/default/sa/reviews", app: "reviews", version: "v1", canonicalService: "reviews",
    canonicalRevision: "v1", labels: [:])
  var first = endpoint(1)
  first.workload = 0
  return MeshSnapshot(
    revision: 1, registryVersion: 1,
    settings: MeshSettings(
      cluster: "test", trustDomain: "cluster.local", localNode: node, localAddress: "127.0.0.1", localLocality: locality),
    services: [], clusters: [cluster([first, endpoint(2, health: .unhealthy)])], workloads: [facts], outbound: [],
    localWorkloads: [], gateways: [])
}

private func bookinfo() -> RouteTable {
  let jason = RouteMatch(
    headers: [FieldMatch(name: bytes("end-user"), match: .exact(bytes("jason")))])
  var v2 = route("v2", [jason])
  v2.timeout = .seconds(1)
  var v1 = route("v1")
  v1.action = .forward([
    WeightedDestination(cluster: 0, clusterName: "outbound|9080|v1|reviews", weight: 90),
    WeightedDestination(cluster: nil, clusterName: "outbound|9080|v9|reviews", weight: 10),
  ])
  v1.retry = .istioDefault
  v1.fault = FaultPolicy(
    delayDuration: .seconds(7), delayPartsPerMillion: 500_000, abort: .http(555), abortPartsPerMillion: 1)
  return table(port: 9080, [(["reviews"], [v2, v1, route("last")])])
}

private func explain(_ request: TestRequest, port: UInt16 = 9080) throws -> Explanation {
  Explanation(request, RequestContext(port: port), in: bookinfo(), try snapshot())
}

@Test func `an explanation names the deciding rule and why the others lost`() throws {
  let it = try explain(TestRequest(headers: [("end-user", "ann")]))
  #expect(it.virtualHost == "reviews:9080")
  #expect(it.rules.map(\.isDeciding) == [false, true])
  #expect(it.rules[0].reasons == ["header end-user is not exactly 'jason'"])
  #expect(it.rulesNotReached == 1)
  #expect(it.split.map(\.percent) == [90, 10])
  #expect(it.split.map(\.exists) == [true, false])
  #expect(it.verdict.kind == .forward)
  #expect(it.clusters[0].endpoints.map(\.isEligible) == [true, false])
  #expect(it.clusters[0].endpoints[0].workload == "default/reviews-v1")
}

@Test func `an explanation decides as the router does`() throws {
  #expect(try explain(TestRequest(headers: [("end-user", "jason")])).rules.last?.name == "v2")
  #expect(try explain(TestRequest(authority: "ratings")).verdict.status == 404)
  #expect(try explain(TestRequest(), port: 1).verdict.flags == "NR")
}

@Test func `an explanation reads well`() throws {
  let text = try explain(TestRequest("GET", "/reviews/0", authority: "reviews:9080")).text
  let expected = """
    GET /reviews/0 for reviews:9080, port 9080
    virtual host  reviews:9080
      ✗ route v2 (VirtualService default/rules http[0])
          header end-user is not exactly 'jason'
      ✓ route v1 (VirtualService default/rules http[0])
          has no conditions
        1 more not reached
    verdict       forwarded to outbound|9080||reviews.default.svc.cluster.local
      90 % → outbound|9080|v1|reviews
      10 % → outbound|9080|v9|reviews (does not exist)
    timeout       none
    retries       2 on connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable
    delay         7.0 s for 50.0 %
    abort         status 555 for 0.0001 %
    cluster       outbound|9080||reviews.default.svc.cluster.local: LEAST_REQUEST, TLS automatic
      ✓ 10.0.0.1:9080         healthy     priority 0 weight 1 r/z/0 default/reviews-v1 on n1
      ✗ 10.0.0.2:9080         unhealthy   priority 0 weight 1 r/z/0

    """
  #expect(text == expected)
}

@Test func `an explanation survives JSON`() throws {
  let it = try explain(TestRequest())
  let data = try JSONEncoder().encode(it)
  #expect(try JSONDecoder().decode(Explanation.self, from: data) == it)
}
