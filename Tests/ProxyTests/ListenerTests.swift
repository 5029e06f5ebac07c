import Dispatch
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing
import Transport

@Suite("Listeners and states", .serialized) struct ListenerTests {
  static let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"

  @Test func `a port that is taken is reported and does not stop the rest`() async throws {
    let taken = Origin.text("other")
    let origin = Origin.text("ok")
    var state = TestMesh(endpoints: [TestMesh.endpoint(origin.port)]).state()
    state.listeners.append(ProxyListener(.meshInbound, on: .ip(.loopback, port: taken.port)))
    let runtime = try ProxyRuntime(workers: 2, serving: state)
    let result = await runtime.publish(state)
    #expect(result.failures.map(\.listener.kind) == [.meshInbound])
    let port = result.address(of: TestMesh.client)?.port ?? 0
    let response = await blocking { TestClient(port: port).request(Self.get) }
    #expect(response?.status == 200)
    #expect(origin.connections == 1)
    await runtime.stop()
  }

  private static let spread = Mutex<[Int]>([])

  @Test func `connections spread evenly over the workers`() async throws {
    let origin = Origin.text("ok")
    let state = TestMesh(endpoints: [TestMesh.endpoint(origin.port)]).state()
    let runtime = try ProxyRuntime(workers: 3, serving: state)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    await blocking {
      // One after the other: workers that accept at the same moment do not see each other's.
      let clients = (0..<12).map { _ in
        let client = TestClient(port: port)
        #expect(client.request(Self.get)?.status == 200)
        return client
      }
      let counted = DispatchSemaphore(value: 0)
      Task {
        let found = await runtime.statistics().connectionsByWorker
        Self.spread.withLock { $0 = found }
        counted.signal()
      }
      counted.wait()
      for client in clients { client.wire.closeNow() }
    }
    // The kernel alone gives each worker its four once in 15 times.
    #expect(Self.spread.withLock { $0 } == [4, 4, 4])
    #expect(origin.connections >= 3)
    await runtime.stop()
  }

  @Test func `a listener that goes lets its request finish and takes no other`() async throws {
    let release = DispatchSemaphore(value: 0)
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      _ = release.wait(timeout: .now() + 10)
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    }
    let state = TestMesh(endpoints: [TestMesh.endpoint(origin.port)]).state()
    let runtime = try ProxyRuntime(workers: 1, serving: state)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    async let answer = blocking { TestClient(port: port).request(Self.get) }
    await blocking { origin.awaitConnection() }
    var without = state
    without.listeners = []
    _ = await runtime.publish(without)
    release.signal()
    let response = await answer
    #expect(response?.body == Array("late".utf8))
    #expect(response?.keepsAlive == false)
    let refused = await blocking { Wire.connect(port: port).send(Self.get) && Wire.connect(port: port).receiveAll() != "" }
    #expect(!refused)
    #expect(await runtime.drain(within: .seconds(5)))
    await runtime.stop()
  }

  @Test func `a client that was told to keep its connection is served once more while the port drains`() async throws {
    let origin = Origin { _, wire in
      for part in ["HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", "half"] {
        if part.count > 4 { _ = wire.receive(until: "\r\n\r\n") }
        wire.send(part)
        if part.count > 4 { _ = Self.secondHalf.wait(timeout: .now() + 10) }
      }
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")
    }
    let state = TestMesh(endpoints: [TestMesh.endpoint(origin.port)]).state()
    let runtime = try ProxyRuntime(workers: 1, serving: state)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    let halfway = DispatchSemaphore(value: 0)
    async let answer = blocking { () -> String in
      let wire = Wire.connect(port: port)
      _ = wire.send(Self.get)
      _ = wire.receive(until: "half")
      halfway.signal()
      _ = wire.receive(until: "half")
      _ = wire.send(Self.get)
      return wire.receiveAll()
    }
    await blocking { halfway.wait() }
    // The head with its promise is out; now the port goes, and the rest of the response comes.
    var without = state
    without.listeners = []
    _ = await runtime.publish(without)
    Self.secondHalf.signal()
    let last = await answer
    #expect(last.hasPrefix("HTTP/1.1 200"))
    #expect(last.lowercased().contains("connection: close"))
    #expect(last.hasSuffix("last"))
    await runtime.stop()
  }

  private static let secondHalf = DispatchSemaphore(value: 0)

  @Test func `states change under load without an error`() async throws {
    let origins = (0..<3).map { _ in Origin.text("ok") }
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origins[0].port, key: 1)])
    let state = mesh.state()
    let runtime = try ProxyRuntime(workers: 2, serving: state)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    let over = Shared()
    let clients = (0..<4).map { _ in
      Task {
        await blocking { () -> (Int, Int) in
          let client = TestClient(port: port)
          var (good, bad) = (0, 0)
          while !over.value {
            if client.request(Self.get)?.status == 200 { good += 1 } else { bad += 1 }
            if bad > 0 { break }
          }
          return (good, bad)
        }
      }
    }
    for revision in 2..<30 {
      mesh.revision = UInt64(revision)
      mesh.endpoints = [TestMesh.endpoint(origins[revision % 3].port, key: UInt64(revision % 3) + 1)]
      var next = state
      next.snapshot = mesh.snapshot
      let result = await runtime.publish(next)
      #expect(result.revision == UInt64(revision))
    }
    over.end()
    for client in clients {
      let (good, bad) = await client.value
      #expect(bad == 0)
      #expect(good > 0)
    }
    await runtime.stop()
  }

  final class Shared: Sendable {
    private let flag = Mutex(false)
    var value: Bool { flag.withLock { $0 } }
    func end() { flag.withLock { $0 = true } }
  }

  @Test func `garbage on a port gets 400 or a closed connection, and the next client is served`() async throws {
    let origin = Origin.text("ok")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (results, _) = try await mesh.run { port in
      var draws = SeededGenerator(seed: 11)
      var answers: [String] = []
      for _ in 0..<100 {
        let wire = Wire.connect(port: port)
        let bytes = (0..<(1 + draws.index(below: 300))).map { _ in UInt8(draws.below(256)) }
        wire.send(bytes + Array("\r\n\r\n".utf8))
        answers.append(wire.receiveAll())
      }
      let good = TestClient(port: port).request(Self.get)?.status
      return (answers, good)
    }
    #expect(results.0.allSatisfy { $0.isEmpty || $0.hasPrefix("HTTP/1.1 4") || $0.hasPrefix("HTTP/1.1 505") })
    #expect(results.1 == 200)
    #expect(origin.requests.count == 1)
  }

  @Test func `a head that never ends is given up`() async throws {
    var options = ProxyOptions()
    options.headerTimeout = .milliseconds(80)
    let (answer, statistics) = try await TestMesh().run(options) { port in
      let wire = Wire.connect(port: port)
      wire.send("GET / HTTP/1.1\r\nHost: rev")
      return wire.receiveAll()
    }
    #expect(answer.hasPrefix("HTTP/1.1 408 "))
    #expect(statistics.counters.headerTimeouts == 1)
  }

  @Test func `an idle connection is closed`() async throws {
    let origin = Origin.text("ok")
    var options = ProxyOptions()
    options.idleTimeout = .milliseconds(50)
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (rest, _) = try await mesh.run(options) { port in
      let client = TestClient(port: port)
      _ = client.request(Self.get)
      return client.wire.receive()
    }
    #expect(rest.isEmpty)
  }

  @Test func `the access log has one line a request`() async throws {
    let origin = Origin.text("ok")
    let lines = Lines()
    var options = ProxyOptions()
    options.accessLog = { lines.add($0) }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    _ = try await mesh.run(options) { port in
      let client = TestClient(port: port)
      for path in ["/a", "/b\"%0a"] { _ = client.request("GET \(path) HTTP/1.1\r\nHost: reviews\r\n\r\n") }
    }
    let text = lines.text.split(separator: "\n")
    #expect(text.count == 2)
    #expect(text.first?.contains("\"GET /a HTTP/1.1\" 200 - via_upstream") == true)
    #expect(text.first?.contains("outbound|80||reviews.default.svc.cluster.local") == true)
  }

  final class Lines: Sendable {
    private let bytes = Mutex<[UInt8]>([])
    func add(_ more: [UInt8]) { bytes.withLock { $0 += more } }
    var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }
  }
}
