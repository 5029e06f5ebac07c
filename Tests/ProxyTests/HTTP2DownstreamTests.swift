import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

@Suite("HTTP/2 clients", .serialized) struct HTTP2DownstreamTests {
  @Test func `prior knowledge is seen on a port without TLS`() async throws {
    let origin = Origin.text("hello")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answer, statistics) = try await mesh.run { port in
      HTTP2Peer.client(port: port).request(HTTP2Peer.get("/a?b=c"))
    }
    #expect(answer.status == 200)
    #expect(answer.text == "hello")
    #expect(answer.header("server") == "envoy")
    #expect(answer.header("connection") == nil)
    #expect(origin.requests.first?.hasPrefix("GET /a?b=c HTTP/1.1\r\nhost: reviews\r\n") == true)
    #expect(statistics.counters.http2Connections == 1)
  }

  @Test func `the preface may come byte by byte, and what only begins like it is HTTP/1`() async throws {
    let origin = Origin.text("x")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answers, _) = try await mesh.run { port in
      let slow = HTTP2Peer.client(port: port)
      let id = slow.open(HTTP2Peer.get())
      var bytes: [UInt8] = []
      slow.session.send(into: &bytes)
      for byte in bytes { slow.wire.send([byte]) }
      let first = slow.message(id).status
      let second = TestClient(port: port).request("PRIVATE / HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status
      let third = TestClient(port: port).request("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n")?.status
      let fourth = TestClient(port: port).request("PRI * HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status
      return [first, second, third, fourth]
    }
    #expect(answers == [200, 200, 200, 400])
  }

  @Test func `many streams are many exchanges, answered as they are done`() async throws {
    let origin = Origin.serving { HTTPResponse(status: 200, text: $0.path) }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (texts, statistics) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      let ids = (0..<100).map { client.open(HTTP2Peer.get("/\($0)")) }
      client.pump { client in ids.allSatisfy { client.messages[$0]?.isComplete == true } }
      return ids.map { client.messages[$0]?.text }
    }
    #expect(texts == (0..<100).map { "/\($0)" })
    #expect(statistics.counters.requests == 100)
    #expect(statistics.counters.connectionsAccepted == 1)
  }

  @Test(arguments: [0, 1, 100_000, 5 << 20]) func `bodies go up and come down`(size: Int) async throws {
    let origin = Origin.serving { HTTPResponse(status: 200, body: $0.body) }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (count, _) = try await mesh.run { port in
      HTTP2Peer.client(port: port).request(
        "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: \(size)\r\n\r\n", body: [UInt8](repeating: 0x61, count: size)
      ).body.count
    }
    #expect(count == size)
  }

  @Test func `a body of unknown length and its trailers pass to HTTP/1, and back`() async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "x-sum: 1\r\n\r\n").utf8))
      wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n3\r\nabc\r\n0\r\nX-Back: 2\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answer, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      let id = client.open(
        "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n", ends: false)
      client.write(id, Array("hello".utf8))
      client.end(id, trailers: ["x-sum": "1", "content-length": "5"])
      return client.message(id)
    }
    let request = origin.requests.first ?? ""
    #expect(request.contains("transfer-encoding: chunked\r\n"))
    #expect(request.hasSuffix("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"))
    #expect(answer.text == "abc")
    #expect(answer.trailers == ["x-back": "2"])
  }

  @Test func `interim responses pass, and HEAD has no body`() async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
      _ = wire.receive()
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answer, _) = try await mesh.run { port in
      HTTP2Peer.client(port: port).request("HEAD / HTTP/1.1\r\nHost: reviews\r\n\r\n")
    }
    #expect(answer.interims == [103])
    #expect(answer.status == 200)
    #expect(answer.header("content-length") == "5")
    #expect(answer.isComplete && answer.body.isEmpty)
  }

  @Test func `100 Continue is passed on before the body is sent`() async throws {
    let origin = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 100 Continue\r\n\r\n")
      origin.record(wire.receive())
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answer, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      let id = client.open(
        "POST / HTTP/1.1\r\nHost: reviews\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", ends: false)
      client.pump { $0.messages[id]?.interims == [100] }
      client.write(id, Array("ok".utf8))
      client.end(id)
      return client.message(id)
    }
    #expect(answer.status == 200)
    #expect(origin.requests == ["ok"])
  }

  @Test func `a cut answer is a reset stream, and the connection goes on`() async throws {
    let origin = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      if origin.connections == 1 {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
      } else {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
      }
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answers, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      return [client.request(HTTP2Peer.get()), client.request(HTTP2Peer.get())]
    }
    #expect(answers[0].end?.code == .internalError)
    #expect(!answers[0].isComplete)
    #expect(answers[1].text == "ok")
  }

  @Test func `a client that resets its stream ends the try upstream`() async throws {
    let origin = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
      origin.record(wire.receive())
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    _ = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      let id = client.open(HTTP2Peer.get())
      client.pump { $0.messages[id]?.status == 200 }
      client.reset(id)
      client.flush()
      while origin.requests.isEmpty { if !client.wire.hasBytes(within: 5) { continue } else { break } }
    }
    #expect(origin.requests == [""])
  }

  @Test func `a local reply before the body is complete ends the stream, not the connection`() async throws {
    let mesh = TestMesh(routes: [])
    let (statuses, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      let id = client.open("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 10\r\n\r\n", ends: false)
      client.write(id, Array("12345".utf8))
      let first = client.message(id)
      client.pump { $0.messages[id]?.end != nil }
      return [first.status, client.messages[id]?.end?.code == .noError ? 1 : 0, client.request(HTTP2Peer.get()).status]
    }
    #expect(statuses == [404, 1, 404])
  }

  @Test func `a port that closes says so twice, and finishes what is under way`() async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      _ = wire.receive(until: "go")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let state = mesh.state()
    let runtime = try ProxyRuntime(workers: 1, serving: state, seed: 7)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    let client = HTTP2Peer.client(port: port)
    let id = client.open("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 2\r\n\r\n", ends: false)
    client.flush()
    while origin.requests.isEmpty { await Task.yield() }
    var without = state
    without.listeners = []
    _ = await runtime.publish(without)
    client.pump { $0.goAway != nil }
    #expect(client.goAway?.lastStream == .max)
    client.pump { $0.goAway?.lastStream != .max }
    #expect(client.goAway?.lastStream == id)
    client.write(id, Array("go".utf8))
    client.end(id)
    #expect(client.message(id).text == "done")
    #expect(client.pump { $0.isLost } == false || client.isLost)
    await runtime.stop()
  }

  @Test func `what a client does not take is not read from the origin`() async throws {
    let size = 64 << 20
    let origin = Origin { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
      let block = [UInt8](repeating: 0x62, count: 1 << 20)
      var sent = 0
      while sent < size, wire.canWrite(within: 300), wire.send(block) { sent += block.count }
      origin.record(Array("\(sent)".utf8))
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (taken, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      client.consumes = false
      let id = client.open(HTTP2Peer.get())
      client.pump { ($0.messages[id]?.body.count ?? 0) >= 256 * 1024 }
      while origin.requests.isEmpty { if client.wire.hasBytes(within: 20) { break } }
      return client.messages[id]?.body.count
    }
    #expect(taken == 256 * 1024)
    // What the kernel's two sockets and our buffers hold, and no more.
    #expect((Int(origin.requests.first ?? "") ?? size) < 16 << 20)
  }

  @Test func `what an origin does not take is not read from the client`() async throws {
    let origin = Origin { origin, wire in
      let first = wire.receive(until: "\r\n\r\n")
      origin.awaitPermission()
      // The body is of one letter that stands nowhere else.
      var count = first.utf8.count { $0 == 0x7E }
      while true {
        let part = wire.receive()
        if part.isEmpty { break }
        count += part.count
        if count >= 32 << 20 { break }
      }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (result, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      let size = 32 << 20
      let id = client.open("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: \(size)\r\n\r\n", ends: false)
      client.write(id, [UInt8](repeating: 0x7E, count: size))
      client.end(id)
      client.flush()
      while client.wire.hasBytes(within: 300) {
        client.receive(client.wire.receive())
        client.flush()
      }
      let left = client.streams[id]?.pending ?? 0
      origin.permit()
      return [left, client.message(id).status ?? 0]
    }
    #expect(result[0] > 16 << 20)
    #expect(result[1] == 200)
  }

  @Test func `an extended CONNECT becomes a WebSocket over HTTP/1`() async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
      let bytes = wire.receive()
      wire.send(bytes.reversed())
      _ = wire.receive()
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answer, _) = try await mesh.run { port in
      let client = HTTP2Peer.client(port: port)
      // The peer's settings allow it.
      _ = client.request("GET /missing HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
      let id = client.open(
        "GET /chat HTTP/1.1\r\nHost: reviews\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", ends: false)
      client.pump { $0.messages[id]?.text == "hi" || $0.messages[id]?.end != nil }
      client.write(id, Array("abc".utf8))
      client.pump { $0.messages[id]?.text == "hicba" || $0.messages[id]?.end != nil }
      client.end(id)
      return client.message(id)
    }
    #expect(answer.status == 101)
    #expect(answer.text == "hicba")
    #expect(answer.isComplete)
    let request = origin.requests.first?.lowercased() ?? ""
    #expect(request.hasPrefix("get /chat http/1.1\r\n"))
    #expect(request.contains("upgrade: websocket\r\n"))
    #expect(request.contains("connection: upgrade\r\n"))
    #expect(request.contains("sec-websocket-key: "))
  }
}
