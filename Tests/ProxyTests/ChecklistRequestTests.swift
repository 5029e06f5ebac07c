import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// One string for everybody: what routing evaluated is byte for byte what the application got and what the log says; and
/// fields whose word counts are believed from nobody who may not say it.
@Suite("Checklist E, H: requests", .serialized) struct ChecklistRequestTests {
  /// Targets as sent, and as everybody has to see them.
  static let targets: [(raw: String, path: String, query: String)] = [
    ("//admin", "//admin", ""), ("/./admin", "/admin", ""), ("/x/../admin", "/admin", ""), ("/../../admin", "/admin", ""),
    ("/%2e%2e/admin", "/admin", ""), ("/x/%2E./admin", "/admin", ""), ("/x/.%2e/admin", "/admin", ""),
    ("/admin%2f", "/admin%2f", ""), ("/admin%2F", "/admin%2F", ""), ("/a%5cb", "/a%5cb", ""), ("/a\\b", "/a/b", ""),
    ("/x\\..\\admin", "/admin", ""), ("/%61dmin", "/admin", ""), ("/%41", "/A", ""), ("/%7Ex", "/~x", ""),
    ("/%252e%252e/admin", "/%252e%252e/admin", ""), ("/%", "/%", ""), ("/%zz", "/%zz", ""), ("/%%341", "/%%341", ""),
    ("/admin/.", "/admin/", ""), ("/admin/..", "/", ""), ("/admin/", "/admin/", ""), ("/..;/admin", "/..;/admin", ""),
    ("/admin;x=y", "/admin;x=y", ""), ("/admin;/../x", "/x", ""), ("/\"q\"", "/%22q%22", ""),
    ("/a{b}|c^", "/a%7Bb%7D%7Cc%5E", ""), ("/\u{E9}", "/%C3%A9", ""), ("/e\u{301}", "/e%CC%81", ""),
    ("/\u{212A}", "/%E2%84%AA", ""), ("/admin?x=/../y", "/admin", "?x=/../y"), ("/admin?", "/admin", "?"),
    ("/admin?a?b=%41", "/admin", "?a?b=%41"), ("/x/..?admin", "/", "?admin"), ("/%3fadmin", "/%3fadmin", ""), ("/*", "/*", ""),
    ("/...", "/...", ""), ("/.%01x", "/.%01x", ""),
  ]

  /// The request line of an origin that speaks either version, with `x-evaluated` where it speaks HTTP/1.
  private static func seen(_ doors: Doors) -> [(target: String, evaluated: String?)] {
    doors.plain.requests.map { request in
      let lines = request.split(separator: "\r\n")
      let evaluated = lines.first { $0.hasPrefix("x-evaluated: ") }?.dropFirst(13)
      return (String(lines[0].split(separator: " ")[1]), evaluated.map(String.init))
    }
  }

  @Test(arguments: [false, true]) func `E1, E3, E4: routing, application and log see one path, which is canonical`(http2: Bool)
    async throws
  {
    let targets = Self.targets
    let plan = Doors.Plan(paths: Array(Set(targets.map(\.path))).sorted())
    for way in Doors.Way.allCases {
      let (_, doors, _) = try await Doors.open(plan) { doors in
        for target in targets {
          let wire = doors.connect(way, http2: http2)
          if http2 {
            wire.send(RawHTTP2.request(RawHTTP2.get(target.raw)))
            #expect(RawHTTP2.outcome(wire) == "200", "\(target.raw)")
          } else {
            wire.send("GET \(target.raw) HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
            #expect(wire.receiveAll().hasPrefix("HTTP/1.1 200 "), "\(target.raw)")
          }
        }
      }
      let seen = Self.seen(doors)
      #expect(seen.map(\.target) == targets.map { $0.path + $0.query })
      #expect(seen.map(\.evaluated) == targets.map(\.path))
      for (line, target) in zip(doors.logLines, targets) {
        #expect(line.contains("\"GET \(target.path + target.query) HTTP/\(http2 ? "2" : "1.1")\""), "\(line)")
      }
    }
  }

  @Test func `E1: towards an application that speaks HTTP/2 the path is the same`() async throws {
    let targets = Self.targets
    let (_, doors, _) = try await Doors.open { doors in
      for target in targets {
        _ = doors.answer(.outbound, "GET \(target.raw) HTTP/1.1\r\nHost: ratings\r\nConnection: close\r\n\r\n")
      }
    }
    #expect(doors.binary.requests == targets.map { "GET \($0.path + $0.query) ratings" })
  }

  @Test func `E2, E8: a fragment, and NUL anywhere, are refused before anything is decided`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        "GET /a#b HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET /a?b#c HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "GET http://reviews#/a HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET /%00 HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews\r\nX: a\0b\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews\r\nX\0: b\r\n\r\n",
      ])
  }

  @Test func `E5: host in any case, with port or with a trailing dot, is one authority for everybody`() async throws {
    let authorities = [
      ("Reviews", "reviews"), ("REVIEWS.", "reviews"), ("reviews:8080", "reviews:8080"), ("ReViews.:8080", "reviews:8080"),
      ("reviews:08080", "reviews:8080"),
    ]
    let plan = Doors.Plan(authorities: ["reviews", "reviews:8080"])
    let (_, doors, _) = try await Doors.open(plan) { doors in
      for (raw, _) in authorities {
        #expect(
          doors.answer(.outbound, "GET / HTTP/1.1\r\nHost: \(raw)\r\nConnection: close\r\n\r\n").hasPrefix("HTTP/1.1 200 "))
        let wire = doors.connect(.outbound)
        wire.send(RawHTTP2.request([(":method", "GET"), (":scheme", "http"), (":authority", raw), (":path", "/")]))
        #expect(RawHTTP2.outcome(wire) == "200")
        #expect(
          doors.answer(.outbound, "GET http://\(raw)/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").hasPrefix(
            "HTTP/1.1 200 "))
      }
    }
    let expected = authorities.flatMap { [$0.1, $0.1, $0.1] }
    for (request, authority) in zip(doors.plain.requests, expected) {
      #expect(request.lowercased().contains("\r\nhost: \(authority)\r\n"), "\(request)")
      #expect(request.contains("x-evaluated: \(authority)\r\n"), "\(request)")
    }
    for (line, authority) in zip(doors.logLines, expected) { #expect(line.contains("\"\(authority)\""), "\(line)") }
    #expect(doors.plain.requests.count == expected.count && doors.logLines.count == expected.count)
  }

  @Test func `E6, E7, M8: values are compared as bytes, and all of a field's together`() async throws {
    let plan = Doors.Plan(route: {
      $0.matches = [RouteMatch(headers: [FieldMatch(name: Array("x".utf8), match: .exact([0xFF]))])]
    })
    let values: [[UInt8]] = [[0xFF], [0xFE], Array("\u{FFFD}".utf8), [0xFF, 0x2C, 0xFF]]
    let (statuses, _, _) = try await Doors.open(plan) { doors in
      (values + [[0xFF, 0x0D, 0x0A] + Array("X: b".utf8)]).map { value -> Substring in
        doors.answer(
          .outbound, Array("GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nX: ".utf8) + value + Array("\r\n\r\n".utf8)
        ).dropFirst(9).prefix(3)
      }
    }
    #expect(statuses == ["200", "404", "404", "404", "404"])
  }

  @Test func `E14: however a ClientHello is cut, and whatever it offers, the same server is chosen`() async throws {
    let (answers, _, statistics) = try await Doors.open { doors in
      let contexts = [doors.browser, try? TLSContext.client(identity: nil, trust: .nobody, protocols: [], minimum: .tls13)]
      return contexts.compactMap { $0 }.map { context -> String in
        let wire = Wire.secured(port: doors.secured, context, serverName: "REVIEWS")
        wire.send("GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
        return String(wire.receiveAll().prefix(12))
      }
    }
    #expect(answers == ["HTTP/1.1 200", "HTTP/1.1 200"])
    #expect(statistics.counters.handshakeFailures == 0)
  }

  @Test func `E15: a server name inside the mesh opens nothing at a gateway or another workload's door`() async throws {
    let names = [
      "outbound_.80_._.reviews.default.svc.cluster.local", "80.reviews-v1.default.workload.mesh", "reviews.default", "*",
      "reviewsx",
    ]
    let (answers, doors, statistics) = try await Doors.open { doors in
      names.map { name -> String in
        let wire = Wire.secured(port: doors.secured, doors.browser, serverName: name)
        wire.send("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        return wire.receiveAll()
      }
    }
    #expect(answers.allSatisfy { $0.isEmpty })
    #expect(doors.recorded.isEmpty && statistics.counters.handshakeFailures == UInt64(names.count))
  }

  @Test func `E16: OPTIONS star has no path that a rule by path could mean`() async throws {
    let (answers, doors, _) = try await Doors.open(Doors.Plan(paths: ["/", "", "/*"])) { doors in
      Doors.Way.allCases.map { doors.answer($0, "OPTIONS * HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n") }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 200 ") })
    for request in doors.plain.requests {
      #expect(request.hasPrefix("OPTIONS * HTTP/1.1\r\n") && !request.contains("x-evaluated"))
    }
  }

  // MARK: Who may say what

  private static let trusted = [
    "x-envoy-original-path", "x-envoy-decorator-operation", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id",
    "x-mesh-not-processed", "x-mesh-source", "x-envoy-attempt-count",
  ]
  private static let ofGateways = [
    "x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms", "x-envoy-external-address", "X-ENVOY-anything", "x-request-id",
    "x-forwarded-client-cert",
  ]

  @Test func `H1: what only the mesh may say is taken from clients, and more of it at gateways`() async throws {
    let names = Self.trusted + Self.ofGateways
    let lines = names.map { "\($0): evil\r\n" }.joined()
    let (_, doors, _) = try await Doors.open { doors in
      for way in Doors.Way.allCases {
        _ = doors.answer(way, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\(lines)\r\n")
        let wire = doors.connect(way, http2: true)
        wire.send(RawHTTP2.request(RawHTTP2.get("/") + names.map { ($0.lowercased(), "evil") }))
        _ = RawHTTP2.outcome(wire)
      }
    }
    #expect(doors.plain.requests.count == 6)
    for (index, request) in doors.plain.requests.enumerated() {
      let gone = index < 2 ? Self.trusted + ["x-forwarded-client-cert"] : names
      for name in gone { #expect(!request.lowercased().contains("\(name.lowercased()): evil"), "\(name) at door \(index / 2)") }
    }
  }

  @Test func `H1: what only the mesh may say does not leave it`() async throws {
    let plan = Doors.Plan(script: { _, wire in
      while !wire.receive(until: "\r\n\r\n").isEmpty {
        wire.send(
          "HTTP/1.1 200 OK\r\nX-Mesh-Source: a\r\nX-Mesh-Not-Processed: a\r\nX-Envoy-Peer-Metadata: a\r\nX-Envoy-Decorator-Operation: a\r\nContent-Length: 0\r\n\r\n"
        )
      }
    })
    let (answers, _, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { doors.answer($0, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n").lowercased() }
    }
    for answer in answers {
      #expect(answer.hasPrefix("http/1.1 200 "))
      for name in ["x-mesh", "metadata", "decorator"] { #expect(!answer.contains(name)) }
    }
  }

  @Test func `H2: a gateway adds whom it sees behind all that was claimed, in one field, and says itself how it was reached`()
    async throws
  {
    let (_, doors, _) = try await Doors.open { doors in
      for way in [Doors.Way.gateway, .secured] {
        _ = doors.answer(
          way,
          "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Proto: https\r\n\r\n"
        )
      }
    }
    for (request, scheme) in zip(doors.plain.requests, ["http", "https"]) {
      #expect(request.contains("x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1\r\n"), "\(request)")
      #expect(request.lowercased().times("x-forwarded-for:") == 1)
      #expect(request.lowercased().times("x-forwarded-proto:") == 1 && request.contains("x-forwarded-proto: \(scheme)\r\n"))
    }
  }

  @Test func `H3, H4: what a client sends stays on its one line of the log, and is never a format`() async throws {
    let agents = [
      "a\"b", "a\\\"b", "%START_TIME%", "%%REQ(authorization)%%", "\u{2028}x", "a\tb", "{\"injected\":1}", "' - - \"",
    ]
    let (_, doors, _) = try await Doors.open { doors in
      for agent in agents {
        _ = doors.answer(
          .gateway,
          "GET /%22%0A?\"q\"=%0D%0A HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nUser-Agent: \(agent)\r\nAuthorization: secret\r\n\r\n"
        )
      }
      _ = doors.answer(
        .gateway,
        Array("GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nUser-Agent: ".utf8) + [0xFF, 0xFE, 0x80]
          + Array("\r\n\r\n".utf8))
      _ = doors.answer(.gateway, "GET /\u{1B}[2J HTTP/1.1\r\nHost: rev\"iews\r\n\r\n")
    }
    #expect(doors.logLines.count == agents.count + 2)
    let fields = doors.logLines.map { $0.replacing("\\\"", with: "").filter { $0 == "\"" }.count }
    #expect(Set(fields.dropLast()).count == 1, "\(doors.log.text)")
    #expect(!doors.log.text.contains("secret") && doors.log.text.contains("%START_TIME%"))
    #expect(!doors.log.text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
  }
}
