import Dispatch
import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing

/// What a connection carries after, beside or instead of a request: upgrades, tunnels, early answers, surplus bytes.
@Suite("Checklist A: connections", .serialized) struct ChecklistConnectionTests {
  private static let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"

  private static func upgrade(_ name: String, _ fields: String = "") -> String {
    "GET /first HTTP/1.1\r\nHost: reviews\r\nConnection: upgrade\(fields.isEmpty ? "" : ", http2-settings")\r\nUpgrade: \(name)\r\n\(fields)\r\n"
  }

  @Test func `A14: an upgrade to another HTTP or to TLS is not heeded, and the request is served as it is`() async throws {
    let names = ["h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "tls", "websocket, h2c", "h2c,websocket"]
    let (answers, doors, _) = try await Doors.open { doors in
      names.flatMap { name in
        Doors.Way.allCases.map { way in
          let wire = doors.connect(way)
          wire.send(Self.upgrade(name, "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"))
          let first = wire.receive(until: "\r\n\r\n")
          wire.send("GET /second HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
          return [first, wire.receiveAll()]
        }
      }
    }
    #expect(answers.allSatisfy { $0.allSatisfy { $0.hasPrefix("HTTP/1.1 200 ") } })
    #expect(doors.plain.requests.count == names.count * 6)
    for request in doors.plain.requests {
      #expect(!request.lowercased().contains("upgrade") && !request.lowercased().contains("http2-settings"))
    }
  }

  @Test func `A14: an extended CONNECT to another HTTP is 501`() async throws {
    for name in ["h2c", "HTTP/2.0", "TLS/1.0"] {
      let (status, doors, _) = try await Doors.open { doors in
        let wire = doors.connect(.outbound)
        wire.send(
          RawHTTP2.request(
            [(":method", "CONNECT"), (":protocol", name), (":scheme", "http"), (":authority", "reviews"), (":path", "/")],
            ends: false))
        return RawHTTP2.outcome(wire)
      }
      #expect(status == (name == "h2c" ? "other" : "reset"))
      #expect(doors.recorded.isEmpty)
    }
  }

  @Test func `A14: bytes sent before the server agreed wait, and die with a refusal`() async throws {
    let plan = Doors.Plan(script: { origin, wire in
      while true {
        let head = wire.receive(until: "\r\n\r\n")
        if head.isEmpty { return }
        origin.record(Array(head.utf8))
        // Whatever came with the head, or comes now, was forwarded too early.
        let early = wire.hasBytes(within: 50)
        wire.send("HTTP/1.1 \(early ? 500 : 403) No\r\nContent-Length: 0\r\n\r\n")
      }
    })
    let (answers, doors, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { doors.answer($0, Self.upgrade("websocket") + Doors.smuggled) }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 403 ") && $0.times("HTTP/1.1 ") == 1 })
    #expect(doors.plain.requests.count == 3)
    #expect(!doors.recorded.contains { $0.contains("smuggled") })
  }

  @Test func `A14: a connection that was upgraded serves nobody else`() async throws {
    let plan = Doors.Plan(script: { origin, wire in
      let head = wire.receive(until: "\r\n\r\n")
      origin.record(Array(head.utf8))
      guard head.contains("upgrade") else {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return
      }
      wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
      origin.record(Array(wire.receiveAll().utf8))
    })
    let (answer, doors, _) = try await Doors.open(plan) { doors in
      let wire = doors.connect(.outbound)
      wire.send(Self.upgrade("websocket"))
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("last words")
      wire.endWriting()
      _ = wire.receiveAll()
      return TestClient(port: doors.outbound).request(Self.get)?.status
    }
    #expect(answer == 200)
    #expect(doors.plain.connections == 2)
    #expect(doors.plain.requests.contains("last words"))
  }

  @Test func `A15: an upgrade or CONNECT with a body is refused`() async throws {
    try await Doors.expectRefusal(
      400,
      ["Content-Length: 1", "Transfer-Encoding: chunked"].flatMap { framing in
        [
          "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\(framing)\r\n\r\na",
          "CONNECT reviews:80 HTTP/1.1\r\nHost: reviews:80\r\n\(framing)\r\n\r\na",
        ]
      })
  }

  @Test func `A16: CONNECT is refused where it is not configured, and bytes behind it are no request`() async throws {
    try await Doors.expectRefusal(405, ["CONNECT reviews:80 HTTP/1.1\r\nHost: reviews:80\r\n\r\n"], ways: [.gateway, .secured])
    try await Doors.expectRefusal(
      400, ["CONNECT reviews HTTP/1.1\r\nHost: reviews\r\n\r\n", "CONNECT / HTTP/1.1\r\nHost: reviews\r\n\r\n"])
    let (answer, doors, _) = try await Doors.open {
      $0.answer(.outbound, "CONNECT nobody:80 HTTP/1.1\r\nHost: nobody:80\r\n\r\n" + Doors.smuggled)
    }
    #expect(answer.hasPrefix("HTTP/1.1 404 ") && answer.times("HTTP/1.1 ") == 1)
    #expect(doors.recorded.isEmpty)
  }

  @Test func `A17: what a client sends behind an early answer is never a request`() async throws {
    let plan = Doors.Plan(script: { origin, wire in
      let head = wire.receive(until: "\r\n\r\n")
      if head.isEmpty { return }
      origin.record(Array(head.utf8))
      wire.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
      // A second request on this connection would be recorded.
      let rest = wire.receiveAll()
      if rest.contains("HTTP/1.1") { origin.record(Array(rest.utf8)) }
    })
    let (answers, doors, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { way -> String in
        let wire = doors.connect(way)
        wire.send("POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 1000\r\n\r\n")
        let first = wire.receive(until: "\r\n\r\n")
        wire.send(Doors.smuggled)
        return first + wire.receiveAll()
      }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 413 ") && $0.times("HTTP/1.1 ") == 1 }, "\(answers)")
    #expect(doors.plain.requests.count == 3 && !doors.recorded.contains { $0.contains("smuggled") })
    #expect(doors.plain.connections == 3)
  }

  @Test func `A18: with Expect the body is delimited, or the connection ends`() async throws {
    let expect = "POST / HTTP/1.1\r\nHost: reviews\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    // The body at once.
    let (atOnce, doors, _) = try await Doors.open { doors in
      Doors.Way.allCases.map { way -> String in
        doors.answer(way, expect + "body" + "GET /next HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
      }
    }
    #expect(atOnce.allSatisfy { $0.times("HTTP/1.1 200 ") == 2 })
    #expect(doors.plain.requests.filter { $0.hasPrefix("GET /next ") }.count == 3)
    // Never, as the final answer came first: whether what follows is the body nobody knows.
    let refusing = Doors.Plan(script: { origin, wire in
      let head = wire.receive(until: "\r\n\r\n")
      if head.isEmpty { return }
      origin.record(Array(head.utf8))
      wire.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    })
    let (after, refused, _) = try await Doors.open(refusing) { doors in
      Doors.Way.allCases.map { way -> String in
        let wire = doors.connect(way)
        wire.send(expect)
        let first = wire.receive(until: "\r\n\r\n")
        wire.send(Doors.smuggled)
        return first + wire.receiveAll()
      }
    }
    #expect(
      after.allSatisfy { $0.hasPrefix("HTTP/1.1 417 ") && $0.times("HTTP/1.1 ") == 1 && $0.contains("connection: close") })
    #expect(!refused.recorded.contains { $0.contains("smuggled") })
    try await Doors.expectRefusal(417, ["GET / HTTP/1.1\r\nHost: reviews\r\nExpect: cake\r\n\r\n"])
  }

  // MARK: Answers

  static let brokenAnswers = [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 +20 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 200 O\0K\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "nonsense\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n",
    String(repeating: "HTTP/1.1 103 Early Hints\r\n\r\n", count: 9),
  ]

  @Test func `A19: an answer that is no valid HTTP is 502, and its connection is not used again`() async throws {
    for broken in Self.brokenAnswers {
      let plan = Doors.Plan(script: { origin, wire in
        let head = wire.receive(until: "\r\n\r\n")
        origin.record(Array(head.utf8))
        wire.send(head.hasPrefix("GET /next") ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" : broken)
      })
      let (statuses, doors, _) = try await Doors.open(plan) { doors in
        ["/", "/next"].map { path -> Int? in
          let client = TestClient(port: doors.outbound)
          return client.request("GET \(path) HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status
        }
      }
      #expect(statuses == [502, 200], "\(broken)")
      #expect(doors.plain.connections == 2, "\(broken)")
    }
  }

  @Test func `A19: what follows a complete answer reaches nobody, in the same packet or while the connection lies idle`()
    async throws
  {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    let answers = [
      "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\(evil)",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\(evil)",
    ]
    for answer in answers {
      let plan = Doors.Plan(script: { origin, wire in
        _ = wire.receive(until: "\r\n\r\n")
        wire.send(answer)
        // Ended by the proxy, not used again.
        origin.record(Array(wire.receiveAll().utf8))
      })
      let (answered, doors, _) = try await Doors.open(plan) { doors in
        (0..<3).map { _ in doors.answer(.outbound, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n") }
      }
      #expect(answered.allSatisfy { !$0.contains("evil") && $0.times("HTTP/1.1 ") == 1 }, "\(answer)")
      if answer.contains(" 204 ") { #expect(answered.allSatisfy { !$0.lowercased().contains("content-length") }) }
      #expect(doors.plain.connections == 3)
    }
    let late = Doors.Plan(script: { origin, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      origin.awaitPermission()
      wire.send(evil)
      origin.note(wire.receive().isEmpty ? 1 : 2)
      origin.permit()
    })
    let (closed, _, _) = try await Doors.open(late) { doors in
      _ = TestClient(port: doors.outbound).request(Self.get)
      doors.plain.permit()
      // The proxy closes the connection as soon as it speaks out of turn.
      while doors.plain.noted == 0 { poll(nil, 0, 2) }
      return doors.plain.noted
    }
    #expect(closed == 1)
  }

  @Test func `A19: interim answers pass without what concerns one connection, and no more than eight of them`() async throws {
    let plan = Doors.Plan(script: { _, wire in
      while !wire.receive(until: "\r\n\r\n").isEmpty {
        wire.send(
          "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nX-Mesh-Not-Processed: true\r\nKeep-Alive: 5\r\n\r\n"
        )
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    })
    let (answers, _, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { doors.answer($0, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n") }
    }
    for answer in answers {
      #expect(answer.hasPrefix("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 "), "\(answer)")
    }
    let flood = Origin.http2 { peer, id in
      for _ in 0..<9 { peer.interim(id, status: 103) }
      peer.respond(id, body: [])
    }
    let (status, _) = try await HTTP2UpstreamTests.mesh(flood.port, protocol: .http2).run {
      TestClient(port: $0).request(Self.get)?.status
    }
    #expect(status == 502)
  }

  // MARK: What we write

  @Test func `A20: values of configuration that would split a message are not written`() async throws {
    let split = Array("a\r\nx-split: 1\r\n\r\nGET /smuggled HTTP/1.1\r\n".utf8)
    let plan = Doors.Plan(route: { route in
      route.requestHeaders.set = [.init(name: Array("x-set".utf8), value: split), .init(name: split, value: Array("1".utf8))]
      route.requestHeaders.add = [.init(name: Array("x-add".utf8), value: split)]
      route.responseHeaders.set = [.init(name: Array("x-set".utf8), value: split), .init(name: split, value: Array("1".utf8))]
      route.responseHeaders.add = [.init(name: Array("content-length".utf8), value: Array("7".utf8))]
      route.rewrite = RewritePolicy(uri: .replace(Array("/a\r\nX: 1".utf8)), authority: split)
    })
    let (answers, doors, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { doors.answer($0, "GET /kept HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n") }
    }
    for text in answers + doors.plain.requests { #expect(!text.contains("split") && !text.contains("smuggled"), "\(text)") }
    #expect(answers.allSatisfy { $0.lowercased().times("content-length") == 1 && $0.contains("ontent-Length: 0") })
    #expect(
      doors.plain.requests.allSatisfy {
        $0.hasPrefix("GET /kept HTTP/1.1\r\nhost: reviews\r\n") || $0.contains("\r\nHost: reviews\r\n")
      })
    let redirect = Doors.Plan(route: { route in
      route.action = .redirect(
        RedirectPolicy(uri: split, prefixRewrite: nil, authority: split, scheme: nil, port: nil, status: 302))
    })
    let (moved, _, _) = try await Doors.open(redirect) {
      $0.answer(.outbound, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
    }
    #expect(moved.hasPrefix("HTTP/1.1 302 ") && !moved.contains("split"))
  }

  // MARK: PROXY protocol, pipelining

  @Test func `A21: a PROXY header is taken where it is configured, whole or not at all, and nowhere else`() async throws {
    let request = "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n"
    let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
    @Sendable func binary(_ command: UInt8, _ family: UInt8, _ payload: [UInt8]) -> [UInt8] {
      signature + [command, family, UInt8(payload.count >> 8), UInt8(payload.count & 255)] + payload
    }
    let ends: [UInt8] = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0, 80]
    let refused: [[UInt8]] = [
      Array("PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n".utf8), Array("PROXY TCP4 203.0.113.009 192.0.2.1 4711 80\r\n".utf8),
      Array("PROXY TCP4 203.0.113.9 192.0.2.1 +471 80\r\n".utf8), Array("PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\n".utf8),
      Array("PROXY TCP5 203.0.113.9 192.0.2.1 4711 80\r\n".utf8),
      Array(("PROXY UNKNOWN " + String(repeating: "x", count: 200)).utf8), binary(0x21, 0x11, ends + [0x02, 0xFF, 0xFF, 0x61]),
      binary(0x21, 0x11, ends + [0x02, 0, 2, 0xFF, 0xFE]), binary(0x21, 0x11, ends + [0x03, 0, 4, 1, 2, 3, 4]),
      binary(0x21, 0x11, Array(ends.dropLast())), binary(0x22, 0x11, ends), binary(0x21, 0x77, ends),
      signature + [0x21, 0x11, 0xFF, 0xFF] + ends,
    ]
    let (answers, doors, statistics) = try await Doors.open(Doors.Plan(expectsProxyProtocol: true)) { doors in
      refused.map { doors.answer(.gateway, $0 + Array(request.utf8)) } + [
        doors.answer(.gateway, binary(0x20, 0x11, [1, 2, 3]) + Array(request.utf8))
      ]
    }
    #expect(answers.dropLast().allSatisfy { $0.isEmpty }, "\(answers)")
    // LOCAL: nothing it says is used, and the stream begins right behind it.
    #expect(answers.last?.hasPrefix("HTTP/1.1 200 ") == true)
    #expect(doors.plain.requests.count == 1 && doors.plain.requests[0].contains("x-forwarded-for: 127.0.0.1\r\n"))
    #expect(statistics.counters.handshakeFailures == UInt64(refused.count))
    try await Doors.expectRefusal(
      400, ["PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n" + request], ways: [.outbound, .gateway, .secured])
  }

  @Test func `A22: of pipelined requests each is answered in turn, or the connection ends`() async throws {
    let next = "GET /next HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n"
    let (answers, doors, _) = try await Doors.open { doors in
      Doors.Way.allCases.map { way in
        [
          // No route: the connection is sound, and the next is served.
          doors.answer(way, "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" + next),
          // An unread body of a request that was answered.
          doors.answer(way, "POST / HTTP/1.1\r\nHost: nobody\r\nContent-Length: 4\r\n\r\nGET " + next),
          doors.answer(
            way, "POST / HTTP/1.1\r\nHost: nobody\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n" + next),
        ]
      }
    }
    for answer in answers.flatMap({ $0 }) {
      let statuses = answer.split(separator: "HTTP/1.1 ").map { $0.prefix(3) }
      #expect(["404", "421"].contains(statuses.first) && (statuses.count == 1 || statuses.dropFirst() == ["200"]), "\(answer)")
    }
    #expect(doors.recorded.allSatisfy { $0.hasPrefix("GET /next HTTP/1.1\r\n") })
  }
}
