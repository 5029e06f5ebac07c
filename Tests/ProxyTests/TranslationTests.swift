import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing
import Transport

/// HTTP/2 written byte by byte, for what no library would send.
enum RawHTTP2 {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4, 0, 0, [])

  static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt8, _ payload: [UInt8]) -> [UInt8] {
    [0, UInt8(payload.count >> 8), UInt8(payload.count & 255), type, flags, 0, 0, 0, stream] + payload
  }

  /// A request on stream 1; names and values are shorter than 127 bytes and stand in it as they are.
  static func request(_ fields: [(String, String)], ends: Bool = true) -> [UInt8] {
    var block: [UInt8] = []
    for (name, value) in fields {
      block += [0, UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(value.utf8.count)] + Array(value.utf8)
    }
    return preface + frame(1, ends ? 5 : 4, 1, block)
  }

  /// What becomes of stream 1: a status, or a reset.
  static func outcome(_ wire: Wire) -> String {
    var bytes: [UInt8] = []
    while true {
      let part = wire.receive()
      if part.isEmpty { return "closed" }
      bytes += part
      while bytes.count >= 9 {
        let length = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        guard bytes.count >= 9 + length else { break }
        let (type, payload) = (bytes[3], Array(bytes[9..<(9 + length)]))
        bytes.removeFirst(9 + length)
        switch type {
        case 1: return status(payload.first { $0 & 0xE0 != 0x20 } ?? 0)
        case 3: return "reset"
        case 7: return "goaway"
        default: break
        }
      }
    }
  }

  /// The statuses of HPACK's static table.
  private static func status(_ index: UInt8) -> String {
    [0x88: "200", 0x89: "204", 0x8A: "206", 0x8B: "304", 0x8C: "400", 0x8D: "404", 0x8E: "500"][index] ?? "other"
  }

  static func get(_ path: String) -> [(String, String)] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "reviews"), (":path", path)]
  }
}

/// Security checklist B, and A in front of an application that speaks HTTP/2.
@Suite("Translation between versions", .serialized) struct TranslationTests {
  static let refused: [(String, [(String, String)], String)] = [
    ("B1 upper case", RawHTTP2.get("/") + [("X-Upper", "1")], "reset"),
    ("B1 colon", RawHTTP2.get("/") + [("x:y", "1")], "reset"),
    ("B1 empty name", RawHTTP2.get("/") + [("", "1")], "reset"),
    ("B1 line end", RawHTTP2.get("/") + [("x", "a\r\nGET /smuggled HTTP/1.1")], "reset"),
    ("B1 NUL", RawHTTP2.get("/") + [("x", "a\0b")], "reset"),
    ("B2 no path", [(":method", "GET"), (":scheme", "http"), (":authority", "reviews")], "reset"),
    ("B2 twice", RawHTTP2.get("/") + [(":path", "/b")], "reset"),
    ("B2 unknown", RawHTTP2.get("/") + [(":x", "1")], "reset"),
    ("B2 after fields", [("x", "1")] + RawHTTP2.get("/"), "reset"),
    ("B3 connection", RawHTTP2.get("/") + [("connection", "close")], "reset"),
    ("B3 transfer-encoding", RawHTTP2.get("/") + [("transfer-encoding", "chunked")], "reset"),
    ("B3 te", RawHTTP2.get("/") + [("te", "gzip")], "reset"),
    ("B4 length", RawHTTP2.get("/") + [("content-length", "5")], "reset"),
    ("B5 host", RawHTTP2.get("/") + [("host", "elsewhere")], "400"),
    ("B7 fragment", RawHTTP2.get("/a#b"), "400"),
    ("B7 empty", RawHTTP2.get(""), "reset"),
    ("B7 no slash", RawHTTP2.get("a"), "reset"),
    ("B7 line end", RawHTTP2.get("/a\r\nX: 1"), "reset"),
    ("B7 asterisk", RawHTTP2.get("*"), "reset"),
  ]

  /// What follows the empty line.
  private static func body(_ request: String) -> [UInt8] {
    let bytes = Array(request.utf8)
    let end = Array("\r\n\r\n".utf8)
    let start = bytes.indices.first { bytes[$0...].starts(with: end) } ?? bytes.count
    return Array(bytes[start...].dropFirst(4))
  }

  /// An origin of either version that records the request lines it sees.
  static func origin(http2: Bool) -> Origin {
    if http2 { return Origin.http2 { peer, id in peer.respond(id, body: []) } }
    return Origin.serving { _ in HTTPResponse(status: 200, text: "") }
  }

  static func mesh(_ origin: Origin, http2: Bool) -> TestMesh {
    HTTP2UpstreamTests.mesh(origin.port, protocol: http2 ? .http2 : .http)
  }

  @Test(arguments: [false, true]) func `a malformed HTTP/2 request reaches no application`(http2: Bool) async throws {
    let origin = Self.origin(http2: http2)
    let (outcomes, _) = try await Self.mesh(origin, http2: http2).run { port in
      Self.refused.map { _, fields, _ -> String in
        let wire = Wire.connect(port: port)
        wire.send(RawHTTP2.request(fields))
        return RawHTTP2.outcome(wire)
      }
    }
    for (outcome, (id, _, expected)) in zip(outcomes, Self.refused) { #expect(outcome == expected, "\(id)") }
    #expect(origin.requests.isEmpty)
  }

  @Test func `what HTTP/1 may not say reaches no application that speaks HTTP/2`() async throws {
    let origin = Self.origin(http2: true)
    let (answers, _) = try await Self.mesh(origin, http2: true).run { port in
      SmugglingTests.refused.map { _, bytes, _ -> String in
        let wire = Wire.connect(port: port)
        wire.send(bytes + "GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n")
        return wire.receiveAll()
      }
    }
    for (answer, (id, _, status)) in zip(answers, SmugglingTests.refused) {
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(id): \(answer)")
    }
    #expect(!origin.requests.contains { $0.contains("smuggled") })
  }

  @Test(arguments: [false, true], [false, true])
  func `what was decided on is what is forwarded and logged, whatever is spoken`(client: Bool, server: Bool) async throws {
    let paths = [
      ("/a/../b", "/b"), ("/%2e%2e/a", "/a"), ("/a%2Fb", "/a%2Fb"), ("/%41", "/A"), ("/a\\b", "/a/b"), ("//a", "//a"),
      ("/..;/a", "/..;/a"), ("/a?x=/../b", "/a?x=/../b"),
    ]
    let origin = Self.origin(http2: server)
    let log = LogLines()
    var options = ProxyOptions()
    options.accessLog = { log.add($0) }
    _ = try await Self.mesh(origin, http2: server).run(options) { port in
      for (raw, _) in paths {
        if client {
          let wire = Wire.connect(port: port)
          wire.send(RawHTTP2.request(RawHTTP2.get(raw)))
          #expect(RawHTTP2.outcome(wire) == "200")
        } else {
          #expect(TestClient(port: port).request("GET \(raw) HTTP/1.1\r\nHost: reviews\r\n\r\n")?.status == 200)
        }
      }
    }
    let seen = origin.requests.map { $0.split(separator: " ")[1] }
    #expect(seen == paths.map { Substring($0.1) })
    let lines = log.text.split(separator: "\n")
    #expect(lines.count == paths.count)
    for (line, path) in zip(lines, paths) {
      #expect(line.contains("\"GET \(path.1) HTTP/\(client ? "2" : "1.1")\""), "\(line)")
    }
  }

  @Test func `a body shorter than HTTP/2 announced is seen as cut by HTTP/1, never as complete`() async throws {
    let origin = Origin { origin, wire in
      let first = wire.receive()
      origin.permit()
      origin.record(first + Array(wire.receiveAll().utf8))
      origin.permit()
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (outcome, _) = try await mesh.run { port in
      let wire = Wire.connect(port: port)
      wire.send(
        RawHTTP2.request(
          [(":method", "POST"), (":scheme", "http"), (":authority", "reviews"), (":path", "/"), ("content-length", "10")],
          ends: false) + RawHTTP2.frame(0, 0, 1, Array("12345".utf8)))
      // The head has arrived before the stream goes wrong.
      origin.awaitPermission()
      wire.send(RawHTTP2.frame(0, 1, 1, Array("6".utf8)))
      let outcome = RawHTTP2.outcome(wire)
      origin.awaitPermission()
      return outcome
    }
    #expect(outcome == "reset")
    #expect(origin.requests.first?.contains("content-length: 10\r\n") == true)
    // Less than announced, and then the end of the connection.
    let body = origin.requests.first.map(Self.body) ?? []
    #expect(body.count < 10)
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
    "nonsense\r\n\r\n",
    String(repeating: "HTTP/1.1 102 Processing\r\n\r\n", count: 9),
  ]) func `a malformed answer of HTTP/1 is 502 to a client of HTTP/2`(answer: String) async throws {
    let origin = Origin { _, wire in
      _ = wire.receive(until: "\r\n\r\n")
      wire.send(answer)
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (status, _) = try await mesh.run { port in HTTP2Peer.client(port: port).request(HTTP2Peer.get()).status }
    #expect(status == 502)
  }
}

final class LogLines: Sendable {
  private let bytes = Mutex<[UInt8]>([])
  func add(_ more: [UInt8]) { bytes.withLock { $0 += more } }
  var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }
}
