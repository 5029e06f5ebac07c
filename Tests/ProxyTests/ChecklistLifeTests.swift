import Dispatch
import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// Every request ends once: one answer, one log line, and nothing of it left, in whatever order its ends come.
@Suite("Checklist L: life cycle", .serialized) struct ChecklistLifeTests {
  private static let get = "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n"

  /// Nothing open but what idles in the pool, and one line for each request.
  private func expectSettled(_ doors: Doors, _ statistics: ProxyStatistics, lines: Int, idle: Int = 0) {
    #expect(statistics.openConnections == 0)
    #expect(statistics.counters.upstreamConnections <= idle)
    #expect(doors.logLines.count == lines, "\(doors.log.text)")
  }

  @Test func `L1: tries that time out around their back-off give one answer`() async throws {
    let plan = Doors.Plan(
      script: { _, wire in _ = wire.receiveAll() },
      route: { route in
        route.timeout = .milliseconds(70)
        var retry = RetryPolicy(attempts: 10, conditions: .gatewayError, backoff: .milliseconds(5))
        retry.perTryTimeout = .milliseconds(10)
        route.retry = retry
      })
    let (answers, doors, statistics) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { doors.answer($0, Self.get) }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 504 ") && $0.times("HTTP/1.1 ") == 1 }, "\(answers)")
    expectSettled(doors, statistics, lines: 3)
  }

  @Test func `L2: an application that breaks off after our own answer adds nothing to it`() async throws {
    // One for each request, as some may time out before they are at the application.
    let answered = (0..<3).map { _ in DispatchSemaphore(value: 0) }
    let plan = Doors.Plan(
      script: { _, wire in
        let head = wire.receive(until: "\r\n\r\n")
        guard let number = answered.indices.first(where: { head.hasPrefix("GET /\($0) ") }) else { return }
        _ = answered[number].wait(timeout: .now() + 10)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        wire.reset()
      },
      route: { route in
        route.timeout = .milliseconds(30)
        route.retry = nil
      })
    let (answers, doors, statistics) = try await Doors.open(plan) { doors in
      answered.enumerated().map { number, answered -> String in
        let wire = doors.connect(.gateway)
        wire.send("GET /\(number) HTTP/1.1\r\nHost: reviews\r\n\r\n")
        let first = wire.receive(until: "upstream request timeout")
        answered.signal()
        wire.send("GET /none HTTP/1.1\r\nHost: nobody\r\nConnection: close\r\n\r\n")
        return first + wire.receiveAll()
      }
    }
    for answer in answers {
      #expect(answer.hasPrefix("HTTP/1.1 504 ") && answer.times("HTTP/1.1 ") == 2 && !answer.contains("evil"), "\(answer)")
    }
    expectSettled(doors, statistics, lines: 6)
  }

  @Test func `L3, C14: clients that leave at any point are logged once, and their work ends`() async throws {
    let plan = Doors.Plan(script: { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
      let block = [UInt8](repeating: 1, count: 1 << 18)
      while wire.send(block) {}
    })
    let (_, doors, statistics) = try await Doors.open(plan) { doors in
      for way in Doors.Way.allCases {
        for after in [0, 1, 100_000] {
          let wire = doors.connect(way)
          wire.send("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 2\r\n\r\na")
          var received = 0
          if after == 0 { doors.plain.awaitConnection() }
          while received < after {
            let bytes = wire.receive()
            if bytes.isEmpty { break }
            received += bytes.count
          }
          if after > 0 { doors.plain.awaitConnection() }
          wire.reset()
          wire.closeNow()
        }
      }
    }
    expectSettled(doors, statistics, lines: 9)
  }

  @Test func `L7: a client that leaves while its server is being connected to leaves no socket behind`() async throws {
    // A listener whose queue is full answers no SYN.
    let (_, statistics) = try await Self.unanswered { port in
      for _ in 0..<5 {
        let wire = Wire.connect(port: port)
        wire.send(Self.get)
        _ = wire.hasBytes(within: 10)
        wire.reset()
        wire.closeNow()
      }
    }
    #expect(statistics.openConnections == 0 && statistics.counters.upstreamConnections == 0)
  }

  private static func unanswered(_ body: @escaping @Sendable (UInt16) -> Void) async throws -> (Void, ProxyStatistics) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(listener, $0, length)
        listen(listener, 0)
        getsockname(listener, $0, &length)
      }
    }
    let port = UInt16(bigEndian: address.sin_port)
    let fillers = (0..<4).map { _ in Wire.connectingTo(port) }
    defer { for filler in fillers { close(filler) } }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(port)])
    return try await mesh.serve(TestMesh.client) { body($0) }
  }

  @Test func `L8: a request ends by the configuration it began with`() async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      origin.awaitPermission()
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    func state(_ word: String, revision: UInt64) -> ProxyState {
      var route = TestMesh.route()
      route.requestHeaders.set = [.init(name: Array("x-word".utf8), value: Array(word.utf8))]
      route.responseHeaders.set = route.requestHeaders.set
      return TestMesh(endpoints: [TestMesh.endpoint(origin.port)], routes: [route], revision: revision).state()
    }
    let first = state("first", revision: 1)
    let runtime = try ProxyRuntime(workers: 1, serving: first, seed: 7)
    let port = await runtime.publish(first).address(of: TestMesh.client)?.port ?? 0
    let client = TestClient(port: port)
    client.wire.send("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
    origin.awaitConnection()
    while origin.requests.isEmpty { try await Task.sleep(for: .milliseconds(1)) }
    _ = await runtime.publish(state("second", revision: 2))
    origin.permit()
    origin.permit()
    #expect(client.response()?.header("x-word") == "first")
    #expect(client.request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")?.header("x-word") == "second")
    #expect(origin.requests.map { $0.contains("x-word: first") } == [true, false])
    await runtime.stop()
  }
}

extension Wire {
  /// A socket that begins to connect, and whose success nobody waits for.
  fileprivate static func connectingTo(_ port: UInt16) -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
    _ = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    return descriptor
  }
}
