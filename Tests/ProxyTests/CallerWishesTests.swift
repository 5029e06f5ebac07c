import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing
import Transport

/// What callers ask for by Envoy's header fields: believed inside the mesh, taken away at its edge.
@Suite("Callers' wishes", .serialized) struct CallerWishesTests {
  /// Answers the first tries as told, and then with 200.
  private static func failing(_ times: Int = 1, _ answer: @escaping @Sendable () -> HTTPResponse) -> Origin {
    let count = Counter()
    return Origin.serving { _ in count.next() <= times ? answer() : HTTPResponse(status: 200, text: "fine") }
  }

  private final class Counter: Sendable {
    private let count = Mutex(0)
    func next() -> Int {
      count.withLock {
        $0 += 1
        return $0
      }
    }
  }

  private static func response(_ status: Int, _ fields: [(String, String)] = []) -> HTTPResponse {
    HTTPResponse(status: status, headers: fields.map { HTTPField($0.0, $0.1) })
  }

  private func ask(
    _ origin: Origin, _ fields: String, method: String = "GET", mesh change: (inout TestMesh) -> Void = { _ in }
  ) async throws -> HTTPResponse? {
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    change(&mesh)
    return try await mesh.run { port in
      TestClient(port: port).request("\(method) / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\(fields)\r\n")
    }.0
  }

  @Test(arguments: ["GET", "POST"])
  func `a caller's conditions and number of retries come on top of the route's`(method: String) async throws {
    let origin = Self.failing(3) { Self.response(500) }
    let answer = try await ask(origin, "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\n", method: method)
    #expect(answer?.status == 200)
    #expect(origin.requests.count == 4)
    #expect(origin.requests.allSatisfy { !$0.contains("x-envoy-retry-on") && !$0.contains("x-envoy-max-retries") })
    #expect(origin.requests.last?.contains("x-envoy-attempt-count: 4") == true)
    let tired = Self.failing(3) { Self.response(500) }
    #expect(try await ask(tired, "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 1\r\n", method: method)?.status == 500)
    #expect(tired.requests.count == 2)
  }

  @Test(arguments: [
    ("x-envoy-retry-on: gateway-error\r\n", 503, [("x", "y")], true),
    ("x-envoy-retry-on: gateway-error\r\n", 500, [("x", "y")], false),
    ("x-envoy-retry-on: retriable-4xx\r\n", 409, [("x", "y")], true),
    ("x-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 404, 410\r\n", 410, [("x", "y")], true),
    ("x-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 404,410\r\n", 411, [("x", "y")], false),
    (
      "x-envoy-retry-on: retriable-headers\r\nx-envoy-retriable-header-names: x-again, x-more\r\n", 200, [("x-more", "1")], true
    ),
    ("x-envoy-retry-on: retriable-headers\r\n", 503, [("x-more", "1")], false),
    ("x-envoy-retry-on: envoy-ratelimited\r\n", 429, [("x-envoy-ratelimited", "true")], true),
    ("x-envoy-retry-on: 5xx\r\n", 503, [("x-envoy-ratelimited", "true")], false),
    ("x-envoy-retry-on: 5xx\r\n", 503, [("x-envoy-overloaded", "true")], false),
    ("content-type: application/grpc\r\nx-envoy-retry-grpc-on: resource-exhausted\r\n", 200, [("grpc-status", "8")], true),
    ("content-type: application/grpc\r\nx-envoy-retry-grpc-on: internal\r\n", 200, [("grpc-status", "8")], false),
    (
      "content-type: application/grpc\r\nx-envoy-retry-grpc-on: deadline-exceeded,internal\r\n", 200, [("grpc-status", "13")],
      true
    ),
    // Words of one field have no meaning in the other.
    ("content-type: application/grpc\r\nx-envoy-retry-on: resource-exhausted\r\n", 200, [("grpc-status", "8")], false),
    ("x-envoy-retry-grpc-on: 5xx\r\n", 500, [("x", "y")], false),
    ("x-envoy-retry-on: nonsense, ,5xx\r\n", 500, [("x", "y")], true),
  ])
  func `each condition`(fields: String, status: Int, answer: [(String, String)], isRetried: Bool) async throws {
    let origin = Self.failing { Self.response(status, answer) }
    _ = try await ask(origin, fields)
    #expect(origin.requests.count == (isRetried ? 2 : 1))
  }

  @Test func `a reset, a refused connection and an unsent request`() async throws {
    let count = Counter()
    let origin = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      guard count.next() > 1 else { return wire.reset() }
      wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
      _ = wire.receive()
    }
    #expect(try await ask(origin, "x-envoy-retry-on: reset\r\n", method: "POST")?.status == 200)
    #expect(count.next() == 3)
    let again = Counter()
    let other = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      _ = again.next()
      wire.reset()
    }
    // What was sent is no request before its first byte.
    #expect(try await ask(other, "x-envoy-retry-on: reset-before-request\r\n", method: "POST")?.status == 503)
    #expect(again.next() == 2)
  }

  @Test func `a caller's time limit takes the place of the route's, and the server is told of it`() async throws {
    let silent = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      _ = wire.receive()
    }
    let answer = try await ask(silent, "x-envoy-upstream-rq-timeout-ms: 150\r\n") { mesh in
      var route = TestMesh.route()
      route.timeout = .seconds(60)
      mesh.routes = [route]
    }
    #expect(answer?.status == 504)
    let request = try #require(silent.requests.first)
    #expect(!request.contains("x-envoy-upstream-rq-timeout-ms"))
    let said = request.split(separator: "\r\n").first { $0.hasPrefix("x-envoy-expected-rq-timeout-ms: ") }
    let limit = said.flatMap { Int($0.split(separator: " ").last ?? "") } ?? 0
    #expect((1...150).contains(limit))
  }

  @Test func `a caller's limit for each try, and what is told of a route's own`() async throws {
    let count = Counter()
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      if count.next() > 1 { wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") }
      _ = wire.receive()
    }
    let answer = try await ask(
      origin, "x-envoy-retry-on: 5xx\r\nx-envoy-upstream-rq-per-try-timeout-ms: 100\r\n")
    #expect(answer?.status == 200)
    #expect(origin.requests.count == 2)
    #expect(origin.requests.allSatisfy { $0.contains("x-envoy-expected-rq-timeout-ms: 100\r\n") })
    let plain = Origin.text("fine")
    _ = try await ask(plain, "")
    #expect(plain.requests.first?.contains("x-envoy-expected-rq-timeout-ms") == false)
  }

  @Test func `a gateway takes the fields away, and inside nobody asks on behalf of an outsider`() async throws {
    let fields = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 5\r\nx-envoy-upstream-rq-timeout-ms: 1\r\n"
    let edge = Self.failing { Self.response(500) }
    let answer = try await ask(edge, fields) { mesh in
      let table = mesh.table(port: 8080)
      mesh.gateway = GatewayListener(port: 8080, gateways: ["default/edge"], localWorkload: 0, table: table)
    }
    #expect(answer?.status == 500)
    #expect(edge.requests.count == 1)
    #expect(edge.requests.allSatisfy { !$0.contains("x-envoy-retry-on") && !$0.contains("x-envoy-expected") })
    for (forwarded, tries) in [("203.0.113.7", 1), ("10.1.2.3", 2), ("10.1.2.3, 10.1.2.4", 1)] {
      let origin = Self.failing { Self.response(500) }
      _ = try await ask(origin, "x-forwarded-for: \(forwarded)\r\nx-envoy-retry-on: 5xx\r\n")
      #expect(origin.requests.count == tries)
      #expect(origin.requests.allSatisfy { !$0.contains("x-envoy-retry-on") })
    }
  }

  @Test func `answers carry a date, the time the server took, and no operation name`() async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nx-envoy-decorator-operation: secret\r\ncontent-length: 0\r\n\r\n")
      _ = wire.receive()
    }
    let answer = try await ask(origin, "x-envoy-decorator-operation: mine\r\n")
    #expect(answer?.header("x-envoy-decorator-operation") == nil)
    #expect(answer?.header("x-envoy-upstream-service-time") != nil)
    let date = try #require(answer?.header("date"))
    #expect(date.count == 29 && date.hasSuffix(" GMT"))
    let kept = Self.failing(9) { Self.response(200, [("date", "Sun, 06 Nov 1994 08:49:37 GMT")]) }
    #expect(try await ask(kept, "")?.header("date") == "Sun, 06 Nov 1994 08:49:37 GMT")
    let missing = Origin.text("x")
    let own = try await ask(missing, "") { $0.endpoints = [TestMesh.endpoint(closedPort())] }
    #expect(own?.status == 503)
    #expect(own?.header("date")?.hasSuffix(" GMT") == true)
    #expect(own?.header("server") == "envoy")
  }
}
