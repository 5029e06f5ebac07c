import Dispatch
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing

/// Limits of a DestinationRule hold for the node, whatever worker a client meets.
@Suite("Limits per node", .serialized) struct NodeLimitTests {
  static let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"

  /// An application that answers when it is told to.
  private func held(_ release: DispatchSemaphore) -> Origin {
    Origin { _, wire in
      while !wire.receive(until: "\r\n\r\n").isEmpty {
        _ = release.wait(timeout: .now() + 10)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    }
  }

  @Test func `http2MaxRequests counts the requests of all workers`() async throws {
    let release = DispatchSemaphore(value: 0)
    let origin = held(release)
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    mesh.connectionPool.maxRequests = 4
    let (statuses, _) = try await mesh.run(workers: 3) { port in
      let clients = (0..<12).map { _ in TestClient(port: port) }
      for client in clients { client.wire.send(Self.get) }
      // Eight are refused at once, the rest wait for the application.
      var refused: [Int] = []
      while refused.count < 8 { refused = clients.indices.filter { clients[$0].wire.hasBytes(within: 1) } }
      for _ in 0..<12 { release.signal() }
      return clients.map { $0.response()?.status ?? 0 }.sorted()
    }
    #expect(statuses == Array(repeating: 200, count: 4) + Array(repeating: 503, count: 8))
  }

  @Test func `maxConnections is kept by all workers but for the first connection of each`() async throws {
    let release = DispatchSemaphore(value: 0)
    let origin = held(release)
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    mesh.connectionPool.maxConnections = 2
    let (statuses, _) = try await mesh.run(workers: 3) { port in
      let clients = (0..<20).map { _ in TestClient(port: port) }
      for client in clients { client.wire.send(Self.get) }
      for _ in 0..<20 { release.signal() }
      return clients.map { $0.response()?.status ?? 0 }
    }
    #expect(statuses == Array(repeating: 200, count: 20), "those beyond wait")
    #expect(origin.connections <= 4)
  }

  @Test func `an upstream connection ends after idleTimeout and after maxConnectionDuration`() async throws {
    for change in [
      { (pool: inout ConnectionPoolPolicy) in pool.idleTimeout = .milliseconds(50) },
      { (pool: inout ConnectionPoolPolicy) in pool.maxConnectionDuration = .milliseconds(50) },
    ] {
      let closed = DispatchSemaphore(value: 0)
      let origin = Origin { _, wire in
        while !wire.receive(until: "\r\n\r\n").isEmpty { wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") }
        closed.signal()
      }
      var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
      change(&mesh.connectionPool)
      let (isClosed, _) = try await mesh.run { port in
        guard TestClient(port: port).request(Self.get)?.status == 200 else { return false }
        return closed.wait(timeout: .now() + 5) == .success
      }
      #expect(isClosed)
    }
  }

  @Test func `an endpoint that one worker ejects is left alone by all`() async throws {
    let bad = Origin.serving { _ in HTTPResponse(status: 500) }
    let good = Origin.text("good")
    var mesh = TestMesh()
    var cluster = mesh.cluster(endpoints: [TestMesh.endpoint(bad.port, key: 1), TestMesh.endpoint(good.port, key: 2)])
    cluster.outlierDetection = OutlierPolicy(consecutive5xx: 3, maxEjectionPercent: 100)
    mesh.clusters = [cluster]
    let (last, _) = try await mesh.run(workers: 3) { port in
      for _ in 0..<60 { _ = TestClient(port: port).request(Self.get) }
      return (0..<30).map { _ in TestClient(port: port).request(Self.get)?.status }
    }
    #expect(last == Array(repeating: 200, count: 30))
    #expect(bad.requests.count <= 3 + 2, "as many as were under way")
  }

  @Test func `a mirror that never answers delays nobody`() async throws {
    let origin = Origin.text("here")
    let stuck = Origin { _, wire in while !wire.receive().isEmpty {} }
    var route = TestMesh.route()
    route.mirrors = [MirrorPolicy(cluster: 1, clusterName: "shadow", partsPerMillion: 1_000_000)]
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)], routes: [route])
    mesh.clusters = [mesh.cluster(), mesh.cluster("shadow", endpoints: [TestMesh.endpoint(stuck.port, key: 9)])]
    let (statuses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return (0..<1_500).map { _ in client.request(Self.get)?.status }
    }
    #expect(statuses.allSatisfy { $0 == 200 })
    #expect(stuck.connections > 0)
  }
}
