import Glibc
import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing

/// HTTP/2 at every door: what may cross to HTTP/1 (RFC 9113 8 and 10.3), and what one connection may cost (10.5).
@Suite("Checklist B, C: streams", .serialized) struct ChecklistStreamTests {
  typealias Fields = [(String, String)]

  /// More that is malformed than the translation tests have: id, fields, whether it may be answered 400 instead of a reset.
  static let malformed: [(String, Fields)] = [
    ("B1 blank in a name", RawHTTP2.get("/") + [("x y", "1")]),
    ("B1 control byte in a name", RawHTTP2.get("/") + [("x\u{1}", "1")]),
    ("B1 no ASCII in a name", RawHTTP2.get("/") + [("\u{212A}", "1")]), ("B1 DEL", RawHTTP2.get("/") + [("x", "a\u{7F}")]),
    ("B1 leading blank", RawHTTP2.get("/") + [("x", " 1")]), ("B1 trailing tab", RawHTTP2.get("/") + [("x", "1\t")]),
    ("B1 lone LF", RawHTTP2.get("/") + [("x", "1\nhost: evil")]), ("B1 lone CR", RawHTTP2.get("/") + [("x", "1\rhost: evil")]),
    ("B2 no method", [(":scheme", "http"), (":authority", "reviews"), (":path", "/")]),
    ("B2 no scheme", [(":method", "GET"), (":authority", "reviews"), (":path", "/")]),
    ("B2 status", [(":status", "200")] + RawHTTP2.get("/")),
    ("B2 two authorities", RawHTTP2.get("/") + [(":authority", "reviews")]),
    ("B2 method no token", [(":method", "GET /x"), (":scheme", "http"), (":authority", "reviews"), (":path", "/")]),
    ("B3 keep-alive", RawHTTP2.get("/") + [("keep-alive", "5")]),
    ("B3 upgrade", RawHTTP2.get("/") + [("upgrade", "websocket")]),
    ("B3 proxy-connection", RawHTTP2.get("/") + [("proxy-connection", "close")]),
    ("B3 te list", RawHTTP2.get("/") + [("te", "trailers, gzip")]),
    ("B4 signed length", RawHTTP2.get("/") + [("content-length", "+0")]),
    ("B4 two lengths", RawHTTP2.get("/") + [("content-length", "0"), ("content-length", "0")]),
    ("B5 two hosts", RawHTTP2.get("/") + [("host", "reviews"), ("host", "reviews")]), ("B7 blank", RawHTTP2.get("/a b")),
    ("B7 DEL", RawHTTP2.get("/\u{7F}")), ("B7 tab", RawHTTP2.get("/\t")),
  ]

  @Test func `B1 to B7: a malformed request is refused at every door, and reaches no application`() async throws {
    let cases = TranslationTests.refused.map { ($0.0, $0.1) } + Self.malformed
    let (outcomes, doors, _) = try await Doors.open { doors in
      cases.map { _, fields -> [String] in
        let toRatings = fields.map { ($0.0, $0.1 == "reviews" ? "ratings" : $0.1) }
        return [doors.connect(.gateway), doors.connect(.secured, http2: true), doors.connectMesh()].map { wire in
          wire.send(RawHTTP2.request(fields))
          return RawHTTP2.outcome(wire)
        }
          + [Doors.Way.outbound, .gateway].map { way in
            let wire = doors.connect(way)
            wire.send(RawHTTP2.request(toRatings))
            return RawHTTP2.outcome(wire)
          }
      }
    }
    for (outcome, (id, _)) in zip(outcomes, cases) {
      #expect(outcome.allSatisfy { $0 == "reset" || $0 == "400" } && Set(outcome).count == 1, "\(id): \(outcome)")
    }
    #expect(doors.recorded.isEmpty)
  }

  @Test func `B4: a body that disagrees with its length is cut for the application, at every door`() async throws {
    let head: Fields = [
      (":method", "POST"), (":scheme", "http"), (":authority", "reviews"), (":path", "/"), ("content-length", "5"),
    ]
    let (outcomes, doors, _) = try await Doors.open { doors in
      [doors.connect(.gateway), doors.connect(.secured, http2: true), doors.connectMesh()].flatMap { first -> [String] in
        first.send(RawHTTP2.request(head, ends: false) + RawHTTP2.frame(0, 1, 1, Array("abc".utf8)))
        return [RawHTTP2.outcome(first)]
      }
    }
    #expect(outcomes == ["reset", "reset", "reset"])
    #expect(!doors.plain.requests.contains { $0.hasSuffix("abc\r\n") || $0.hasSuffix("abcde") })
  }

  @Test func `B6: the scheme says nothing about how a request came`() async throws {
    let (statuses, doors, _) = try await Doors.open { doors in
      [(Doors.Way.gateway, "HTTPS"), (.gateway, "http"), (.secured, "hTTp"), (.secured, "https")].map { way, scheme in
        let wire = doors.connect(way, http2: true)
        wire.send(
          RawHTTP2.request([
            (":method", "GET"), (":scheme", scheme), (":authority", "reviews"), (":path", "/"), ("x-forwarded-proto", "gopher"),
          ]))
        return RawHTTP2.outcome(wire)
      }
    }
    #expect(statuses == ["200", "200", "200", "200"])
    let said = doors.plain.requests.map { $0.contains("x-forwarded-proto: https\r\n") ? "https" : "http" }
    #expect(said == ["http", "http", "https", "https"])
    #expect(!doors.plain.requests.contains { $0.contains("gopher") })
  }

  @Test func `B8: a Connection field takes away what it names, never what the mesh adds, and no framing`() async throws {
    try await Doors.expectRefusal(
      400,
      ["content-length", "transfer-encoding", "Host", "x, Content-Length", "a b", "\u{212A}"].map {
        "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: \($0)\r\n\r\n"
      })
    let nominated = [
      "authorization", "cookie", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-attempt-count",
      "x-forwarded-client-cert", "x-mesh-source", "te", "x-own",
    ]
    let (answers, doors, _) = try await Doors.open { doors in
      Doors.Way.allCases.map { way in
        doors.answer(
          way,
          "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close, \(nominated.joined(separator: " ,"))\r\nX-Own: evil\r\n"
            + nominated.dropLast().map { "\($0): evil\r\n" }.joined() + "\r\n")
      }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 200 ") })
    for request in doors.plain.requests {
      #expect(!request.contains("evil"), "\(request)")
      for name in ["x-forwarded-proto: http", "x-request-id: ", "x-envoy-attempt-count: 1\r\n"] {
        #expect(request.contains(name))
      }
    }
    #expect(doors.plain.requests.dropFirst().allSatisfy { $0.contains("x-forwarded-for: 127.0.0.1\r\n") })
  }

  @Test func `B8: an answer's Connection field takes away what it names, never what the mesh adds`() async throws {
    let plan = Doors.Plan(script: { _, wire in
      while !wire.receive(until: "\r\n\r\n").isEmpty {
        wire.send(
          "HTTP/1.1 200 OK\r\nConnection: server, x-envoy-upstream-service-time, x-hop\r\nX-Hop: 1\r\nServer: evil\r\nContent-Length: 0\r\n\r\n"
        )
      }
    })
    let (answers, _, _) = try await Doors.open(plan) { doors in
      Doors.Way.allCases.map { doors.answer($0, "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n") }
    }
    for answer in answers {
      #expect(!answer.contains("evil") && !answer.contains("X-Hop"))
      #expect(answer.contains("server: ") && answer.contains("x-envoy-upstream-service-time: "))
    }
  }

  @Test func `B9: names with an underscore are refused at gateways, and are never equal to those with a hyphen elsewhere`()
    async throws
  {
    try await Doors.expectRefusal(
      400,
      ["GET / HTTP/1.1\r\nHost: reviews\r\nX_A: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews\r\nContent_Length: 1\r\n\r\na"],
      ways: [.gateway, .secured])
    let (outcomes, doors, _) = try await Doors.open { doors in
      [doors.connect(.gateway), doors.connect(.secured, http2: true), doors.connect(.outbound), doors.connectMesh()].map {
        wire in
        wire.send(RawHTTP2.request(RawHTTP2.get("/") + [("x_mesh_source", "a"), ("content_length", "7"), ("x-a", "1")]))
        return RawHTTP2.outcome(wire)
      }
    }
    #expect(outcomes == ["400", "400", "200", "200"])
    #expect(doors.plain.requests.allSatisfy { $0.contains("x_mesh_source: a\r\n") && $0.contains("content_length: 7\r\n") })
  }

  // MARK: Exhaustion

  private static func stream(_ id: UInt32) -> [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: id >> UInt32($0)) } }

  private static func frame(_ type: UInt8, _ flags: UInt8, _ id: UInt32, _ payload: [UInt8]) -> [UInt8] {
    [UInt8(payload.count >> 16), UInt8(payload.count >> 8 & 255), UInt8(payload.count & 255), type, flags] + stream(id)
      + payload
  }

  private static func block(_ fields: Fields) -> [UInt8] {
    var bytes: [UInt8] = []
    for (name, value) in fields {
      bytes += [0, UInt8(name.utf8.count)]
      bytes += Array(name.utf8)
      bytes.append(UInt8(value.utf8.count))
      bytes += Array(value.utf8)
    }
    return bytes
  }

  /// Attacks, each as the frames behind the preface.
  private static let floods: [(String, [UInt8])] = resetFloods + frameFloods + brokenFrames

  private static func flood(_ count: Int = 3000, _ frames: (UInt32) -> [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    for index in 0..<count { bytes += frames(UInt32(2 * index + 1)) }
    return bytes
  }

  private static let getBlock = block(RawHTTP2.get("/"))
  private static let openGet = frame(1, 1, 1, getBlock)

  private static let resetFloods: [(String, [UInt8])] = [
    ("C1 opened and reset", flood { frame(1, 5, $0, getBlock) + frame(3, 0, $0, [0, 0, 0, 8]) }),
    ("C2 resets provoked by window updates", flood { frame(1, 4, $0, getBlock) + frame(8, 0, $0, [0, 0, 0, 0]) }),
    ("C2 malformed", flood { frame(1, 5, $0, getBlock + block([("X", "1")])) }),
  ]

  private static let frameFloods: [(String, [UInt8])] = [
    ("C3 continuation", openGet + flood { _ in frame(9, 0, 1, block([("x", "1")])) }),
    ("C3 empty continuation", openGet + flood { _ in frame(9, 0, 1, []) }),
    ("C4 ping", flood { _ in frame(6, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]) }), ("C4 settings", flood { _ in frame(4, 0, 0, []) }),
    ("C4 priority", flood { _ in frame(2, 0, 1, [0, 0, 0, 0, 1]) }),
    ("C4 window update", flood { _ in frame(8, 0, 0, [0, 0, 0, 1]) }),
    ("C4 empty data", frame(1, 4, 1, getBlock) + flood { _ in frame(0, 0, 1, []) }),
  ]

  private static let brokenFrames: [(String, [UInt8])] = [
    ("C7 table above the setting", frame(1, 5, 1, [0x3F, 0xE1, 0xFF, 0x7F] + getBlock)),
    ("C7 integer without end", frame(1, 5, 1, [UInt8](repeating: 0xFF, count: 21))),
    ("C7 index of nothing", frame(1, 5, 1, [0x80])),
    ("C7 Huffman padding", frame(1, 5, 1, [0x00, 0x82, 0x00, 0x00, 0x01, 0x61])),
    ("C10 window", frame(8, 0, 0, [0x7F, 0xFF, 0xFF, 0xFF])), ("C10 initial window", frame(4, 0, 0, [0, 4, 0x80, 0, 0, 0])),
  ]

  @Test func `C1 to C4, C7, C10: floods and broken frames end their connection and no other`() async throws {
    let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + Self.frame(4, 0, 0, [])
    let (outcomes, _, statistics) = try await Doors.open { doors in
      Self.floods.map { id, frames -> String in
        let wire = doors.connect(.gateway)
        let other = HTTP2Peer(.client, over: doors.connect(.gateway))
        let first = other.request(HTTP2Peer.get()).status
        wire.send(preface + frames)
        while !wire.receive().isEmpty {}
        let second = other.request(HTTP2Peer.get()).status
        return "\(id) \(first ?? 0) \(second ?? 0)"
      }
    }
    #expect(outcomes == Self.floods.map { "\($0.0) 200 200" })
    #expect(statistics.counters.http2Errors > 0 && statistics.openConnections == 0)
  }

  @Test func `C5, C6: the decoded size of a head is limited, counted before cookies are joined or fields dropped`() async throws
  {
    let crumb = String(repeating: "c", count: 4000)
    // One literal that enters the table, then references to it.
    let name = Array("cookie".utf8)
    var bomb = Self.block(RawHTTP2.get("/")) + [0x40, UInt8(name.count)] + name
    bomb += [0x7F, UInt8((crumb.utf8.count - 127) & 127 | 128), UInt8((crumb.utf8.count - 127) >> 7)] + Array(crumb.utf8)
    bomb += [UInt8](repeating: 0xBE, count: 2000)
    let many = Self.block(RawHTTP2.get("/")) + (0..<120).flatMap { _ in Self.block([("x", "1")]) }
    let sections = [bomb, many]
    let (outcomes, doors, _) = try await Doors.open { doors in
      sections.map { section -> String in
        let wire = doors.connect(.gateway)
        wire.send(RawHTTP2.preface + Self.frame(1, 5, 1, section))
        return RawHTTP2.outcome(wire)
      }
    }
    #expect(outcomes.allSatisfy { $0 == "other" || $0 == "reset" || $0 == "goaway" }, "\(outcomes)")
    #expect(doors.recorded.isEmpty)
  }

  @Test func `C8: a client that takes nothing of an answer is given up, and what it held is free`() async throws {
    var options = ProxyOptions()
    options.stalledTimeout = .milliseconds(100)
    let plan = Doors.Plan(
      options: options,
      script: { _, wire in
        while !wire.receive(until: "\r\n\r\n").isEmpty {
          wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
          let block = [UInt8](repeating: 1, count: 1 << 20)
          for _ in 0..<100 { guard wire.send(block) else { return } }
        }
      })
    let (ended, _, statistics) = try await Doors.open(plan) { doors in
      [false, true].map { http2 -> Bool in
        let wire = doors.connect(.gateway)
        if http2 {
          wire.send(RawHTTP2.request(RawHTTP2.get("/")))
        } else {
          wire.send("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        }
        // POLLRDHUP: nothing is read before the proxy has given up.
        doors.plain.awaitConnection()
        var event = pollfd(fd: wire.descriptor, events: 0x2000, revents: 0)
        if !http2 { return poll(&event, 1, 8_000) > 0 }
        return RawHTTP2.outcomeOfBody(wire) == "reset"
      }
    }
    #expect(ended == [true, true])
    #expect(statistics.openConnections == 0 && statistics.counters.upstreamConnections == 0)
  }

  @Test func `C11: trailers without END_STREAM are a stream error at every door`() async throws {
    let head: Fields = [(":method", "POST"), (":scheme", "http"), (":authority", "reviews"), (":path", "/")]
    let (outcomes, doors, _) = try await Doors.open { doors in
      [doors.connect(.gateway), doors.connect(.secured, http2: true), doors.connectMesh()].map { wire in
        wire.send(RawHTTP2.request(head, ends: false) + Self.frame(1, 4, 1, Self.block([("x-sum", "1")])))
        return RawHTTP2.outcome(wire)
      }
    }
    #expect(outcomes == ["reset", "reset", "reset"])
    #expect(!doors.plain.requests.contains { $0.contains("x-sum") })
  }

  @Test func `C12, C13: heads and handshakes that never end are given up at their deadlines`() async throws {
    var options = ProxyOptions()
    options.headerTimeout = .milliseconds(60)
    options.handshakeTimeout = .milliseconds(60)
    let hello = TCPForwardingTests.hello("reviews")
    let starts: [@Sendable (Doors) -> (Wire, [UInt8])] = [
      { (Wire.connect(port: $0.gateway), Array("GET / HTTP/1.1\r\nHost: rev".utf8)) },
      { (Wire.connect(port: $0.gateway), Array("PRI * HT".utf8)) }, { (Wire.connect(port: $0.secured), []) },
      { (Wire.connect(port: $0.secured), Array(hello.prefix(20))) }, { (Wire.connect(port: $0.mesh), Array(hello.prefix(7))) },
    ]
    let (answers, _, statistics) = try await Doors.open(Doors.Plan(options: options)) { doors in
      starts.map { start -> String in
        let (wire, bytes) = start(doors)
        for byte in bytes { wire.send([byte]) }
        return String(wire.receiveAll().prefix(13))
      }
    }
    #expect(answers == ["HTTP/1.1 408 ", "HTTP/1.1 408 ", "", "", ""])
    #expect(statistics.counters.handshakeFailures == 3 && statistics.counters.headerTimeouts == 2)
  }

  @Test func `C12: bodies in chunks of one byte cost no more than their bytes`() async throws {
    let (answer, doors, _) = try await Doors.open { doors in
      let body = String(repeating: "1\r\nx\r\n", count: 5_000) + "0\r\n\r\n"
      return doors.answer(
        .gateway, "POST / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    }
    #expect(answer.hasPrefix("HTTP/1.1 200 "))
    #expect((doors.plain.requests.first ?? "").filter { $0 == "x" }.count >= 5_000)
  }

  @Test func `Ten thousand streams of one connection leave its memory as it was`() async throws {
    let plan = Doors.Plan(route: { $0.action = .directResponse(status: 204, body: []) })
    let (grown, _, statistics) = try await Doors.open(plan) { doors -> Int in
      let client = HTTP2Peer(.client, over: doors.connect(.gateway))
      var resident = 0
      for round in 0..<100 {
        let ids = (0..<100).map { _ in client.open(HTTP2Peer.get()) }
        client.pump { client in ids.allSatisfy { client.messages[$0]?.isComplete == true } }
        if round == 20 { resident = residentBytes() }
      }
      return residentBytes() - resident
    }
    #expect(statistics.counters.requests == 10_000)
    // The client's own notes of each message grow too.
    #expect(grown < 48 << 20)
  }
}

private func residentBytes() -> Int {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var line = [UInt8](repeating: 0, count: 128)
  let count = fread(&line, 1, line.count, file)
  let words = line.prefix(count).split(separator: 0x20)
  let pages = words.count > 1 ? Int(String(decoding: words[1], as: UTF8.self)) ?? 0 : 0
  return pages * sysconf(Int32(_SC_PAGESIZE))
}

extension RawHTTP2 {
  /// Whether stream 1 is reset behind its head, when whole frames are skipped until then.
  static func outcomeOfBody(_ wire: Wire) -> String {
    var bytes: [UInt8] = []
    while true {
      let part = wire.receive()
      if part.isEmpty { return "closed" }
      bytes += part
      while bytes.count >= 9 {
        let length = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        guard bytes.count >= 9 + length else { break }
        let type = bytes[3]
        bytes.removeFirst(9 + length)
        if type == 3 { return "reset" }
        if type == 7 { return "goaway" }
      }
    }
  }
}
