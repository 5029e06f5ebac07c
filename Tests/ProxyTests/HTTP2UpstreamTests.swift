import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing
import Transport

@Suite("HTTP/2 endpoints", .serialized) struct HTTP2UpstreamTests {
  static func mesh(_ ports: UInt16..., protocol: PortProtocol = .http2) -> TestMesh {
    var mesh = TestMesh(endpoints: ports.enumerated().map { TestMesh.endpoint($1, key: UInt64($0 + 1)) })
    var cluster = mesh.cluster()
    cluster.protocol = `protocol`
    mesh.clusters = [cluster]
    return mesh
  }

  static let echo: @Sendable (HTTP2Peer, Int32) -> Void = { peer, id in
    peer.respond(id, headers: ["x-path": HTTP2Peer.line(peer.messages[id])], body: peer.messages[id]?.body ?? [])
  }

  @Test func `a client of HTTP/1 reaches an application that speaks HTTP/2`() async throws {
    let origin = Origin.http2(Self.echo)
    let (response, _) = try await Self.mesh(origin.port).run { port in
      TestClient(port: port).request("POST /a?b HTTP/1.1\r\nHost: reviews\r\nContent-Length: 5\r\n\r\nhello")
    }
    #expect(response?.status == 200)
    #expect(response?.body == Array("hello".utf8))
    #expect(response?.header("x-path") == "POST /a?b reviews")
    #expect(response?.keepsAlive == true)
  }

  @Test func `requests of many clients share one connection`() async throws {
    let origin = Origin.http2(Self.echo)
    let (statuses, statistics) = try await Self.mesh(origin.port).run { port in
      let clients = (0..<50).map { _ in TestClient(port: port) }
      for (index, client) in clients.enumerated() {
        client.wire.send("GET /\(index) HTTP/1.1\r\nHost: reviews\r\n\r\n")
      }
      return clients.map { $0.response()?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 50))
    #expect(origin.connections == 1)
    #expect(statistics.counters.upstreamConnects == 1)
  }

  @Test func `when a peer allows no more streams, another connection is made`() async throws {
    let held = Mutex(0)
    let origin = Origin { origin, wire in
      var limits = HTTP2Limits()
      limits.concurrentStreams = 2
      let peer = HTTP2Peer(.server, over: wire, limits: limits)
      var answered = 0
      peer.pump { peer in
        if answered == 0, peer.arrived.count == 1 {
          answered = 1
          peer.respond(peer.arrived[0], body: [])
        }
        guard peer.arrived.count - answered >= 2 || held.withLock({ $0 }) >= 4 else { return false }
        if answered < 3 { held.withLock { $0 += 2 } }
        while answered < peer.arrived.count {
          peer.respond(peer.arrived[answered], body: [])
          answered += 1
        }
        return false
      }
    }
    let (statuses, _) = try await Self.mesh(origin.port).run { port in
      // The first lets the peer say what it allows.
      let first = TestClient(port: port).request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status
      let clients = (0..<2).map { _ in TestClient(port: port) }
      for client in clients { client.wire.send("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n") }
      return [first] + clients.map { $0.response()?.status }
    }
    #expect(statuses == [200, 200, 200])
  }

  @Test func `streams keep bodies of unknown length, trailers, interim answers and HEAD`() async throws {
    let origin = Origin.http2 { peer, id in
      peer.interim(id, status: 103)
      if HTTP2Peer.line(peer.messages[id]).hasPrefix("HEAD") {
        peer.respond(id, headers: ["content-length": "7"])
      } else {
        let sum = peer.messages[id]?.trailers?["x-sum"] ?? "none"
        peer.respond(id, body: Array("abc".utf8), trailers: ["x-back": sum])
      }
    }
    let (texts, _) = try await Self.mesh(origin.port).run { port in
      let wire = Wire.connect(port: port)
      wire.send(
        "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 9\r\n\r\n"
      )
      let one = wire.receive(until: "x-back: 9\r\n\r\n")
      let head = Wire.connect(port: port)
      head.send("HEAD / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
      let client = HTTP2Peer.client(port: port)
      let id = client.open("POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n", ends: false)
      client.end(id, trailers: ["x-sum": "8"])
      let answer = client.message(id)
      return [one, head.receiveAll(), answer.text, answer.trailers?["x-back"] ?? "", "\(answer.interims)"]
    }
    #expect(texts[0].hasPrefix("HTTP/1.1 103 Early Hints\r\n"))
    #expect(texts[0].hasSuffix("3\r\nabc\r\n0\r\nx-back: 9\r\n\r\n"))
    #expect(texts[1].contains("HTTP/1.1 200 OK\r\n") && texts[1].contains("content-length: 7\r\n"))
    #expect(texts[1].hasSuffix("\r\n\r\n"))
    #expect(Array(texts[2...]) == ["abc", "8", "[103]"])
  }

  @Test(arguments: [1 << 20, 20 << 20]) func `large bodies go up and come down`(size: Int) async throws {
    let origin = Origin.http2(Self.echo)
    let (counts, _) = try await Self.mesh(origin.port).run { port in
      let body = [UInt8](repeating: 0x61, count: size)
      let head = "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: \(size)\r\n\r\n"
      let client = TestClient(port: port)
      client.wire.send(head)
      client.wire.send(body)
      return [client.response()?.body.count, HTTP2Peer.client(port: port).request(head, body: body).body.count]
    }
    #expect(counts == [size, size])
  }

  @Test(arguments: ["GET", "POST"]) func `what a peer did not process is sent elsewhere, once`(method: String) async throws {
    let refusing = Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      peer.pump { peer in
        for id in peer.arrived where peer.streams[id] != nil { peer.reset(id, .refusedStream) }
        return false
      }
    }
    let serving = Origin.http2(Self.echo)
    let (statuses, _) = try await Self.mesh(refusing.port, serving.port).run { port in
      (0..<10).map { _ in
        TestClient(port: port).request("\(method) / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n")?.status
      }
    }
    #expect(statuses == Array(repeating: 200, count: 10))
    #expect(serving.requests.count == 10)
  }

  @Test func `after GOAWAY requests go to another connection, and what is under way is finished`() async throws {
    let origin = Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      var answered: Set<Int32> = []
      peer.pump { peer in
        for id in peer.arrived where answered.insert(id).inserted {
          origin.record([])
          peer.session.finishShutdown()
          peer.flush()
          peer.respond(id, body: Array("late".utf8))
        }
        return false
      }
    }
    let (texts, _) = try await Self.mesh(origin.port).run { port in
      let client = TestClient(port: port)
      return (0..<5).map { _ in
        client.request("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n").map {
          String(decoding: $0.body, as: UTF8.self)
        }
      }
    }
    #expect(texts == Array(repeating: "late", count: 5))
    #expect(origin.connections == 5)
    #expect(origin.requests.count == 5)
  }

  @Test func `a stream reset before the answer is 503, after it the answer is cut`() async throws {
    let origin = Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      var seen: Set<Int32> = []
      peer.pump { peer in
        for id in peer.arrived where seen.insert(id).inserted {
          if HTTP2Peer.line(peer.messages[id]).contains("/after"), let stream = peer.streams[id] {
            var head = ResponseHead()
            head.begin(status: 200, framing: .none)
            peer.session.respond(stream, head, ends: false)
            peer.write(id, Array("part".utf8))
            peer.flush()
          }
          peer.reset(id, .internalError)
        }
        return false
      }
    }
    let (results, _) = try await Self.mesh(origin.port).run { port in
      let before = TestClient(port: port).request("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n")?.status
      let wire = Wire.connect(port: port)
      wire.send("POST /after HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n")
      let cut = wire.receiveAll()
      let stream = HTTP2Peer.client(port: port).request(
        "POST /after HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n")
      return ["\(before ?? 0)", cut.hasSuffix("0\r\n\r\n") ? "whole" : "cut", "\(stream.end?.code.description ?? "")"]
    }
    #expect(results == ["503", "cut", "INTERNAL_ERROR"])
  }

  @Test func `a client that takes nothing holds one window back, and others are served`() async throws {
    let size = 64 << 20
    let origin = Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      var answered: Set<Int32> = []
      peer.pump { peer in
        for id in peer.arrived where answered.insert(id).inserted {
          let isLarge = HTTP2Peer.line(peer.messages[id]).contains("/large")
          peer.respond(id, body: [UInt8](repeating: 0x62, count: isLarge ? size : 2))
        }
        if let id = peer.arrived.first, let stream = peer.streams[id] { origin.note(stream.pending) }
        return false
      }
    }
    let (statuses, _) = try await Self.mesh(origin.port).run { port in
      let slow = Wire.connect(port: port)
      slow.send("GET /large HTTP/1.1\r\nHost: reviews\r\n\r\n")
      _ = slow.hasBytes(within: 5000)
      let client = TestClient(port: port)
      return (0..<100).map { _ in client.request("GET /small HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 100))
    // All but one window, our buffers and the kernel's.
    #expect(origin.noted > size - (16 << 20))
  }

  @Test func `a WebSocket of an HTTP/1 client becomes an extended CONNECT`() async throws {
    let origin = Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      var accepted = false
      var echoed = 0
      peer.pump { peer in
        guard let id = peer.arrived.first, let stream = peer.streams[id] else { return false }
        if !accepted {
          accepted = true
          origin.record(Array(HTTP2Peer.line(peer.messages[id]).utf8))
          var head = ResponseHead()
          head.begin(status: 101, framing: .none)
          peer.session.respond(stream, head, ends: false)
        }
        let body = peer.messages[id]?.body ?? []
        if body.count > echoed {
          peer.write(id, body[echoed...].reversed())
          echoed = body.count
        }
        if peer.messages[id]?.isComplete == true { peer.end(id) }
        return false
      }
    }
    let (texts, _) = try await Self.mesh(origin.port).run { port in
      let wire = Wire.connect(port: port)
      wire.send(
        "GET /chat HTTP/1.1\r\nHost: reviews\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
      let head = wire.receive(until: "\r\n\r\n")
      wire.send("abc")
      let echo = wire.receive(until: "cba")
      wire.endWriting()
      return [head, echo, wire.receiveAll()]
    }
    #expect(texts[0].hasPrefix("HTTP/1.1 101 "))
    #expect(texts[0].lowercased().contains("upgrade: websocket\r\n"))
    #expect(texts[0].contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
    #expect(Array(texts[1...]) == ["cba", ""])
    #expect(origin.requests == ["GET /chat reviews"])
  }
}
