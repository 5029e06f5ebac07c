import Dispatch
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Telemetry
import Testing

@Suite("Failures", .serialized) struct FailureTests {
  static let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"
  static let post = "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 2\r\n\r\nok"

  private func flags(_ statistics: ProxyStatistics) -> [String] {
    let family = statistics.metrics.first { $0.name == "istio_requests_total" }
    guard let family, let at = family.labelNames.firstIndex(of: "response_flags") else { return [] }
    return family.series.map { $0.labelValues[at] }
  }

  @Test func `no endpoint is 503 UH`() async throws {
    let (response, statistics) = try await TestMesh().run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 503)
    #expect(response?.body == Array("no healthy upstream".utf8))
    #expect(flags(statistics) == ["UH"])
  }

  @Test func `no route is 404 NR and no cluster 503 NC`() async throws {
    let (unknown, statistics) = try await TestMesh().run {
      TestClient(port: $0).request("GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
    }
    #expect(unknown?.status == 404)
    #expect(flags(statistics) == ["NR"])
    let mesh = TestMesh(routes: [TestMesh.route(TestMesh.forward((nil, 1)))])
    let (response, second) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 503)
    #expect(flags(second) == ["NC"])
  }

  @Test func `a refused connection is 503 UF, whatever the method`() async throws {
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(closedPort())])
    let (response, statistics) = try await mesh.run { TestClient(port: $0).request(Self.post) }
    #expect(response?.status == 503)
    #expect(flags(statistics) == ["UF,URX"])
    let text = response.map { String(decoding: $0.body, as: UTF8.self) } ?? ""
    #expect(text.contains("retried and the latest reset reason"))
    #expect(statistics.counters.retries == 2)
  }

  @Test func `a refused connection is tried at another endpoint, whatever the method`() async throws {
    let origin = Origin.text("alive")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(closedPort(), key: 1), TestMesh.endpoint(origin.port, key: 2)])
    let (statuses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return (0..<20).map { _ in client.request(Self.post)?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 20))
  }

  @Test func `a POST that was executed and then reset is executed once`() async throws {
    let executed = Mutex(0)
    let origin = Origin { _, wire in
      _ = wire.receive(until: "ok")
      executed.withLock { $0 += 1 }
      wire.reset()
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (statuses, _) = try await mesh.run { port in
      (0..<20).map { _ in TestClient(port: port).request(Self.post)?.status }
    }
    #expect(statuses == Array(repeating: 503, count: 20))
    #expect(executed.withLock { $0 } == 20)
  }

  @Test func `an idle connection that the application closed costs no request`() async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (statuses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return [Self.get, Self.post].map { text in (0..<50).map { _ in client.request(text)?.status } }
    }
    #expect(statuses[0] == Array(repeating: 200, count: 50))
    // Done twice, a POST may do harm: a close that crosses it on the wire costs it, once; then the close is expected.
    #expect(statuses[1].count { $0 != 200 } <= 1)
  }

  @Test func `an answer that is cut reaches the client as cut`() async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (response, statistics) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response == nil)
    #expect(flags(statistics) == ["UC"])
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "nonsense\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
  ]) func `a response that is no HTTP is 502 UPE`(bytes: String) async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send(bytes)
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (response, statistics) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 502)
    #expect(flags(statistics) == ["UPE"])
  }

  @Test func `surplus response bytes reach nobody`() async throws {
    let origin = Origin { _, wire in
      while !wire.receive(until: "\r\n\r\n").isEmpty {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
      }
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (bodies, _) = try await mesh.run { port in
      (0..<10).map { _ in TestClient(port: port).request(Self.get)?.body }
    }
    #expect(bodies == Array(repeating: [0x61], count: 10))
  }

  @Test func `the route's timeout is 504 UT`() async throws {
    let origin = Origin { _, wire in _ = wire.receive(until: "never") }
    var route = TestMesh.route()
    route.timeout = .milliseconds(60)
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)], routes: [route])
    let (response, statistics) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 504)
    #expect(response?.body == Array("upstream request timeout".utf8))
    #expect(flags(statistics) == ["UT"])
  }

  @Test func `an injected abort reaches no server`() async throws {
    let origin = Origin.text("never")
    var route = TestMesh.route()
    route.fault = FaultPolicy(
      delayDuration: .milliseconds(30), delayPartsPerMillion: 1_000_000, abort: .http(418), abortPartsPerMillion: 1_000_000)
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)], routes: [route])
    let (response, statistics) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 418)
    #expect(response?.body == Array("fault filter abort".utf8))
    #expect(flags(statistics) == ["DI,FI"])
    #expect(origin.connections == 0)
  }

  @Test func `a status named by retryOn is tried again`() async throws {
    let count = Mutex(0)
    let origin = Origin.serving { _ in
      HTTPResponse(
        status: count.withLock {
          $0 += 1; return $0
        } < 3 ? 503 : 200)
    }
    let policy = RetryPolicy(attempts: 3, conditions: .gatewayError, backoff: .milliseconds(1))
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)], routes: [TestMesh.route(retry: policy)])
    let (response, statistics) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 200)
    #expect(statistics.counters.retries == 2)
    #expect((origin.requests.last ?? "").contains("x-envoy-attempt-count: 3"))
  }

  @Test func `an application's own 503 is not tried again by default`() async throws {
    let origin = Origin.serving { _ in HTTPResponse(status: 503) }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (response, _) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(response?.status == 503)
    #expect(origin.requests.count == 1)
  }

  @Test func `a client that goes away cancels the work`() async throws {
    let ended = DispatchSemaphore(value: 0)
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      if wire.receive().isEmpty { ended.signal() }
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (isCancelled, statistics) = try await mesh.run { port in
      let wire = Wire.connect(port: port)
      wire.send(Self.get)
      origin.awaitConnection()
      wire.closeNow()
      return ended.wait(timeout: .now() + 10) == .success
    }
    #expect(isCancelled)
    #expect(flags(statistics) == ["DC"])
  }

  @Test func `requests beyond maxConnections wait, and beyond maxPendingRequests get 503 UO`() async throws {
    let release = DispatchSemaphore(value: 0)
    let origin = Origin { _, wire in
      while !wire.receive(until: "\r\n\r\n").isEmpty {
        _ = release.wait(timeout: .now() + 10)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    }
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    mesh.connectionPool.maxConnections = 1
    mesh.connectionPool.maxPendingRequests = 1
    let (statuses, _) = try await mesh.run { port in
      let clients = (0..<3).map { _ in TestClient(port: port) }
      clients[0].wire.send(Self.get)
      origin.awaitConnection()
      clients[1].wire.send(Self.get)
      clients[2].wire.send(Self.get)
      // One of the two waits, the other is refused at once; which, the kernel decides.
      var polled = [clients[1], clients[2]].map { $0.wire.hasBytes(within: 0) }
      while !polled.contains(true) { polled = [clients[1], clients[2]].map { $0.wire.hasBytes(within: 10) } }
      release.signal()
      release.signal()
      return clients.map { $0.response()?.status ?? 0 }.sorted()
    }
    #expect(statuses == [200, 200, 503])
    #expect(origin.connections == 1)
  }
}
