import Dispatch
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing

/// What peers could make us keep, unpack or repeat, and what an application may not turn a request into.
@Suite("Checklist A, D: growth and switches", .serialized) struct ChecklistGrowthTests {
  private static func post(_ size: Int) -> [UInt8] {
    Array("POST / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nContent-Length: \(size)\r\n\r\n".utf8)
      + [UInt8](repeating: 0x62, count: size)
  }

  @Test(arguments: ["h2c", "TLS/1.0", "other", "websocket, other"])
  func `A14: a server that switches to what nobody asked for is 502`(name: String) async throws {
    let plan = Doors.Plan(script: { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: \(name)\r\nConnection: upgrade\r\n\r\n")
      _ = wire.receiveAll()
    })
    let (answers, _, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map {
        doors.answer($0, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
      }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 502 ") && $0.times("HTTP/1.1 ") == 1 }, "\(answers)")
  }

  @Test func `D1: what is compressed passes as it is, in both directions`() async throws {
    // The beginning of a gzip file, and nothing that could be unpacked.
    let body = [0x1F, 0x8B, 8, 0] + [UInt8](repeating: 0xFF, count: 1000)
    let plan = Doors.Plan(script: { origin, wire in
      var bytes: [UInt8] = []
      while bytes.count < body.count || !bytes.suffix(body.count).elementsEqual(body) {
        let part = wire.receive()
        if part.isEmpty { return }
        bytes += part
      }
      origin.record(bytes)
      wire.send(Array("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: \(body.count)\r\n\r\n".utf8) + body)
    })
    let (bodies, doors, _) = try await Doors.open(plan) { doors -> [[UInt8]?] in
      let client = TestClient(port: doors.gateway)
      client.wire.send(
        Array("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Encoding: gzip\r\nContent-Length: \(body.count)\r\n\r\n".utf8) + body
      )
      return [client.response()?.body]
    }
    #expect(bodies == [body])
    #expect(doors.plain.recordedBytes.first?.suffix(body.count) == body[...])
  }

  @Test func `D6: a body beyond what is kept is neither repeated nor mirrored`() async throws {
    let answered = Mutex(0)
    let first = Origin { origin, wire in
      var reader = RequestReader()
      while true {
        let bytes = wire.receive()
        if bytes.isEmpty { return }
        reader.receive(bytes)
        while let request = try? reader.next() {
          origin.record(Array("\(request.body.count)".utf8))
          answered.withLock { $0 += 1 }
          wire.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        }
      }
    }
    let mirrored = DispatchSemaphore(value: 0)
    let second = Origin.serving { _ in
      mirrored.signal()
      return HTTPResponse(status: 200)
    }
    var mesh = TestMesh()
    mesh.clusters = [
      mesh.cluster("reviews", endpoints: [TestMesh.endpoint(first.port, key: 1)]),
      mesh.cluster("other", endpoints: [TestMesh.endpoint(second.port, key: 2)]),
    ]
    var route = TestMesh.route(
      TestMesh.forward((0, 1)), retry: RetryPolicy(attempts: 2, conditions: .gatewayError, backoff: .milliseconds(1)))
    route.mirrors = [MirrorPolicy(cluster: 1, clusterName: "other", partsPerMillion: 1_000_000)]
    mesh.routes = [route]
    let large = 200_000
    _ = try await mesh.run { port in
      for size in [large, 100] {
        let client = TestClient(port: port)
        client.wire.send(Self.post(size))
        #expect(client.response()?.status == 503)
      }
      _ = mirrored.wait(timeout: .now() + 10)
    }
    // The small one is tried three times, the large one once.
    #expect(first.requests.filter { $0 == "\(large)" }.count == 1)
    #expect(first.requests.filter { $0 == "100" }.count == 3)
    #expect(second.requests.count == 1 && second.requests[0].utf8.count < 1000)
  }

  @Test func `A gRPC-Web text that ends within its digits is an error, never a shorter message`() async throws {
    let (answers, doors, _) = try await Doors.open { doors in
      ["AAAAAAA", "AAAA=", "A"].map { text in
        doors.answer(
          .gateway,
          "POST /a.B/C HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nContent-Type: application/grpc-web-text\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)"
        )
      }
    }
    #expect(answers.allSatisfy { !$0.contains("grpc-status: 0") && $0.times("HTTP/1.1 ") == 1 }, "\(answers)")
    #expect(!doors.plain.requests.contains { $0.hasSuffix("0\r\n\r\n") && $0.contains("a.B") })
  }
}
