import HTTPCodec
import MeshConfig
import Primitives
import Testing
import Transport

@testable import Proxy

/// What keeps the node alive when clients take more than there is (slowloris, connection floods, memory).
@Suite("Overload", .serialized) struct OverloadTests {
  static let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"
  private let source = IPAddress("192.0.2.7")

  private func guardian(
    memory: Int = 1_000, connections: Int = 100, perSource: Int = 100, descriptors: Int = 1_000
  ) -> OverloadGuard {
    OverloadGuard(
      OverloadLimits(
        memoryBytes: memory, connections: connections, connectionsPerSource: perSource, descriptors: descriptors))
  }

  private func options(_ change: (inout OverloadLimits) -> Void) -> ProxyOptions {
    var options = ProxyOptions()
    change(&options.overload)
    return options
  }

  @Test(arguments: [(0, 0), (849, 0), (850, 1), (949, 1), (950, 2), (979, 2), (980, 3), (5_000, 3)])
  func `memory has four levels`(bytes: Int, level: Int) {
    #expect(guardian().measured(memoryBytes: bytes).rawValue == level)
  }

  @Test func `connections are counted for the node and for each source`() {
    let guardian = guardian(connections: 3, perSource: 2)
    for _ in 0..<2 {
      #expect(guardian.admission(from: source, descriptor: 9) == .admitted)
      guardian.began(from: source)
    }
    #expect(guardian.admission(from: source, descriptor: 9) == .sourceFull)
    #expect(guardian.admission(from: IPAddress("192.0.2.8"), descriptor: 9) == .admitted)
    guardian.began(from: IPAddress.loopback)
    #expect(guardian.admission(from: IPAddress("192.0.2.8"), descriptor: 9) == .full)
    guardian.ended(from: source)
    #expect(guardian.admission(from: source, descriptor: 9) == .admitted)
  }

  @Test func `programs of this host have no share of their own`() {
    let guardian = guardian(perSource: 1)
    for _ in 0..<5 {
      #expect(guardian.admission(from: .loopback, descriptor: 9) == .admitted)
      guardian.began(from: .loopback)
    }
  }

  @Test func `descriptors near the limit are kept for the cluster`() {
    #expect(guardian(descriptors: 64).admission(from: source, descriptor: 63) == .admitted)
    #expect(guardian(descriptors: 64).admission(from: source, descriptor: 64) == .full)
  }

  @Test func `the process's own limits are sound`() {
    let limits = OverloadLimits.ofThisProcess()
    #expect(limits.memoryBytes > 64 << 20)
    #expect(limits.connections >= 64 && limits.connectionsPerSource <= max(32, limits.connections))
    #expect(MemoryGauge.residentBytes() > 1 << 20 && MemoryGauge.residentBytes() < limits.memoryBytes)
  }

  @Test func `without memory requests are answered 503 OM at once, and the node lives on`() async throws {
    let origin = Origin.text("never")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    // A few percent above the limit at which requests are refused, and below the one at which connections are.
    let now = MemoryGauge.residentBytes()
    let options = options { $0.memoryBytes = now / 100 * 104 }
    let (responses, statistics) = try await mesh.run(options) { port in
      (0..<3).map { _ in TestClient(port: port).request(Self.get) }
    }
    for response in responses {
      // The process grows as it runs: beyond the next level connections are closed without an answer.
      guard let response else { continue }
      #expect(response.status == 503 && response.headers.contains { $0.name == "x-envoy-overloaded" })
    }
    #expect(origin.connections == 0)
    #expect(statistics.counters.requests + statistics.counters.connectionsRefused == 3)
  }

  @Test func `when the node is full the client that has been idle longest makes room`() async throws {
    let origin = Origin.text("here")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (result, statistics) = try await mesh.run(options { $0.connections = 8 }) { port in
      let first = TestClient(port: port)
      let answered = first.request(Self.get)?.status
      var held: [TestClient] = []
      let others = (0..<30).map { _ -> Int? in
        held.append(TestClient(port: port))
        return held.last?.request(Self.get)?.status
      }
      return (answered, others, first.wire.receive())
    }
    #expect(result.0 == 200)
    #expect(result.1.allSatisfy { $0 == 200 }, "a client that comes is worth more than one that is idle")
    #expect(result.2.isEmpty, "the oldest is closed")
    #expect(statistics.counters.connectionsEvicted > 0)
  }

  @Test func `heads that never end do not keep others out`() async throws {
    let origin = Origin.text("here")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (statuses, statistics) = try await mesh.run(options { $0.connections = 8 }) { port in
      let slow = (0..<50).map { _ in Wire.connect(port: port) }
      for wire in slow { wire.send("GET / HTTP/1.1\r\nHost: rev") }
      return (0..<5).map { _ in TestClient(port: port).request(Self.get)?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 5))
    #expect(statistics.counters.connectionsEvicted >= 8)
  }
}
