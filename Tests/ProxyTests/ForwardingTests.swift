import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing

@Suite("Forwarding", .serialized) struct ForwardingTests {
  @Test func `a request reaches the origin and its answer comes back`() async throws {
    let origin = Origin.text("hello")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (response, statistics) = try await mesh.run { port in
      TestClient(port: port).request("GET /a?b=c HTTP/1.1\r\nHost: reviews\r\n\r\n")
    }
    #expect(response?.status == 200)
    #expect(response?.body == Array("hello".utf8))
    #expect(response?.header("server") == "envoy")
    #expect(origin.requests.first?.hasPrefix("GET /a?b=c HTTP/1.1\r\n") == true)
    #expect(statistics.counters.requests == 1)
    #expect(MeshTestStatistics.total(statistics, "istio_requests_total") == 1)
  }

  @Test func `one connection serves request after request, and one origin connection is enough`() async throws {
    let origin = Origin.text("x")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (statuses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return (0..<50).map { client.request("GET /\($0) HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 50))
    #expect(origin.connections == 1)
  }

  @Test func `pipelined requests are answered in order`() async throws {
    let origin = Origin.serving { HTTPResponse(status: 200, text: $0.path) }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (bodies, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      client.wire.send((0..<100).map { "GET /\($0) HTTP/1.1\r\nHost: reviews\r\n\r\n" }.joined())
      return (0..<100).map { _ in client.response().map { String(decoding: $0.body, as: UTF8.self) } }
    }
    #expect(bodies == (0..<100).map { "/\($0)" })
  }

  @Test func `a chunked body goes through, with trailers`() async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "X-Sum: 1\r\n\r\n").utf8))
      wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-end: 2\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (text, _) = try await mesh.run { port in
      let wire = Wire.connect(port: port)
      wire.send("POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
      wire.send("5;ext=1\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n")
      return wire.receiveAll()
    }
    #expect(text.contains("3\r\nabc\r\n0\r\nx-end: 2\r\n\r\n"))
    #expect(origin.requests.first?.contains("5\r\nhello\r\n0\r\n") == true)
    #expect(origin.requests.first?.contains("Content-Length") == false)
  }

  @Test func `an answer that ends with the connection becomes chunked`() async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (response, _) = try await mesh.run { port in
      TestClient(port: port).request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
    }
    #expect(response?.body == Array("until the end".utf8))
    #expect(response?.keepsAlive == true)
  }

  @Test(arguments: [100_000, 1 << 20, 20 << 20]) func `large bodies go up and come down`(size: Int) async throws {
    let origin = Origin.serving { HTTPResponse(status: 200, body: $0.body) }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (count, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      client.wire.send("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: \(size)\r\n\r\n")
      client.wire.send([UInt8](repeating: 0x61, count: size))
      return client.response()?.body.count
    }
    #expect(count == size)
  }

  @Test(arguments: ["HEAD", "GET"]) func `a response without a body leaves the connection usable`(method: String) async throws {
    let origin = Origin { _, wire in
      for _ in 0..<2 {
        _ = wire.receive(until: "\r\n\r\n")
        wire.send(method == "HEAD" ? "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" : "HTTP/1.1 204 No Content\r\n\r\n")
      }
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (statuses, _) = try await mesh.run { port in
      let client = TestClient(port: port, answering: method == "HEAD" ? .head : .get)
      return (0..<2).map { _ in client.request("\(method) / HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status }
    }
    #expect(statuses == (method == "HEAD" ? [200, 200] : [204, 204]))
    #expect(origin.connections == 1)
  }

  @Test func `100 Continue is passed on before the body is sent`() async throws {
    let origin = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 100 Continue\r\n\r\n")
      origin.record(wire.receive())
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (texts, _) = try await mesh.run { port in
      let wire = Wire.connect(port: port)
      wire.send("POST / HTTP/1.1\r\nHost: reviews\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
      let first = wire.receive(until: "\r\n\r\n")
      wire.send("ok")
      return [first, wire.receive(until: "\r\n\r\n")]
    }
    #expect(texts.first == "HTTP/1.1 100 Continue\r\n\r\n")
    #expect(texts.last?.hasPrefix("HTTP/1.1 200 OK\r\n") == true)
    #expect(origin.requests == ["ok"])
  }

  @Test func `an upgrade becomes a tunnel`() async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
      let bytes = wire.receive()
      wire.send(bytes.reversed())
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (texts, _) = try await mesh.run { port in
      let wire = Wire.connect(port: port)
      wire.send("GET / HTTP/1.1\r\nHost: reviews\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
      let head = wire.receive(until: "\r\n\r\n")
      wire.send("abc")
      return [head, wire.receiveAll()]
    }
    #expect(texts.first?.hasPrefix("HTTP/1.1 101 ") == true)
    #expect(texts.last == "cba")
  }

  @Test func `hop-by-hop fields stay, and what the mesh adds cannot be nominated away`() async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    _ = try await mesh.run { port in
      TestClient(port: port).request(
        "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: x-secret, x-request-id\r\nX-Secret: 1\r\nX-Request-Id: mine\r\nKeep-Alive: 5\r\nX-Mesh-Source: a\r\n\r\n"
      )
    }
    let request = origin.requests.first?.lowercased() ?? ""
    #expect(!request.contains("x-secret"))
    #expect(!request.contains("keep-alive"))
    #expect(!request.contains("x-mesh-source"))
    #expect(!request.contains("x-request-id: mine"))
    #expect(request.contains("x-request-id: "))
    #expect(request.contains("x-envoy-attempt-count: 1"))
  }
}
