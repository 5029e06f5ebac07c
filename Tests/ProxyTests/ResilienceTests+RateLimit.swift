import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing

@Suite("Local rate limits", .serialized) struct RateLimitTests {
  private func mesh(_ origin: Origin, _ limit: LocalRateLimit?) -> TestMesh {
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port, isLocal: true, workload: 1)])
    mesh.workloads.append(TestMesh.facts("reviews", "default", "reviews"))
    let client = LocalWorkload(
      workload: 0, identity: TestMesh.identity("client"), address: "127.0.0.1", ports: [], outbound: 0, outboundPort: nil,
      isGateway: false, health: .healthy)
    var reviews = LocalWorkload(
      workload: 1, identity: TestMesh.identity("reviews"), address: "127.0.0.1", ports: [], outbound: 0, outboundPort: nil,
      isGateway: false, health: .healthy)
    reviews.rateLimit = limit
    mesh.locals = [client, reviews]
    return mesh
  }

  private var limit: LocalRateLimit {
    LocalRateLimit(
      bucket: LocalRateLimit.Bucket(maxTokens: 3, fillInterval: .seconds(3600)),
      responseHeaders: [HeaderOperations.Field(name: Array("x-local-rate-limit".utf8), value: Array("true".utf8))],
      addsStanding: true)
  }

  @Test func `requests beyond the bucket are 429 with the headers asked for, and never reach the application`() async throws {
    let origin = Origin.text("here")
    let (responses, statistics) = try await mesh(origin, limit).run { port in
      let client = TestClient(port: port)
      return (0..<5).map { _ in client.request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n") }
    }
    #expect(responses.map { $0?.status } == [200, 200, 200, 429, 429])
    let refused = try #require(responses[3])
    #expect(String(decoding: refused.body, as: UTF8.self) == "local_rate_limited")
    func header(_ name: String) -> String? { refused.headers.first { $0.name == name }?.value }
    #expect(header("x-local-rate-limit") == "true")
    #expect(header("x-ratelimit-limit") == "3" && header("x-ratelimit-remaining") == "0")
    #expect(origin.requests.count == 3)
    let family = statistics.metrics.first { $0.name == "istio_requests_total" }
    let at = family?.labelNames.firstIndex(of: "response_flags") ?? 0
    #expect(family?.series.contains { $0.labelValues[at] == "RL" } == true)
  }

  @Test func `all workers take from one bucket`() async throws {
    let origin = Origin.text("here")
    let (statuses, _) = try await mesh(origin, limit).run(workers: 3) { port in
      (0..<12).map { _ in TestClient(port: port).request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status }
    }
    #expect(statuses.count { $0 == 200 } == 3 && statuses.count { $0 == 429 } == 9)
  }
}
