import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// `x-forwarded-client-cert` on a hop that stays on one node (Istio: what the server's sidecar would say).
@Suite("Hops on one node", .serialized) struct LocalIntroductionTests {
  private static let by = "By=spiffe://cluster.local/ns/default/sa/reviews;"
  private static let uri = "Subject=\"\";URI=spiffe://cluster.local/ns/default/sa/client"

  private static func mesh(_ endpoints: [Endpoint]) -> TestMesh {
    var mesh = TestMesh(endpoints: endpoints)
    mesh.workloads.append(TestMesh.facts("reviews-v1", "default", "reviews"))
    let snapshot = mesh.snapshot
    let reviews = LocalWorkload(
      workload: 1, identity: TestMesh.identity("reviews"), address: "127.0.0.1", ports: [], outbound: 0, outboundPort: nil,
      isGateway: false, health: .healthy)
    mesh.locals = [snapshot.localWorkloads[0], reviews]
    return mesh
  }

  @Test func `an application reads who calls it, whatever the caller says of itself`() async throws {
    let origin = Origin.text("inside")
    let mesh = Self.mesh([TestMesh.endpoint(origin.port, isLocal: true, workload: 1)])
    let (statuses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return (0..<2).map { _ in
        client.request("GET / HTTP/1.1\r\nHost: reviews\r\nx-forwarded-client-cert: By=me;URI=spiffe://evil\r\n\r\n")?.status
      }
    }
    #expect(statuses == [200, 200])
    #expect(origin.requests.allSatisfy { $0.contains("x-forwarded-client-cert: \(Self.by)\(Self.uri)\r\n") })
    #expect(origin.requests.allSatisfy { !$0.contains("evil") })
  }

  @Test func `a try that goes elsewhere does not take the words along`() async throws {
    let outside = Origin.text("outside")
    let mesh = Self.mesh([
      TestMesh.endpoint(closedPort(), key: 1, isLocal: true, workload: 1), TestMesh.endpoint(outside.port, key: 2),
    ])
    let (statuses, statistics) = try await mesh.run { port in
      (0..<8).map { _ in TestClient(port: port).request(MeshHopTests.get)?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 8))
    #expect(statistics.counters.retries > 0)
    #expect(outside.requests.allSatisfy { !$0.contains("x-forwarded-client-cert") })
  }
}
