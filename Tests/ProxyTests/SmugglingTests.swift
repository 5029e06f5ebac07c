import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing

/// Security checklist A, through the proxy, in front of an origin that records whatever reaches it.
@Suite("Smuggling", .serialized) struct SmugglingTests {
  static let refused: [(String, String, Int)] = [
    ("A1", "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x", 400),
    ("A2", "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    ("A2 list", "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 1, 1\r\n\r\na", 400),
    ("A3", "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: +1\r\n\r\na", 400),
    ("A4", "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("A4 known", "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("A5", "GET / HTTP/1.0\r\nHost: reviews\r\n\r\n", 426),
    ("A6", "GET / HTTP/1.1\nHost: reviews\n\n", 400), ("A6 CR", "GET / HTTP/1.1\r\nHost: reviews\rX: 1\r\n\r\n", 400),
    ("A7", "GET /\r\nHost: reviews\r\n\r\n", 400), ("A7 blanks", "GET  / HTTP/1.1\r\nHost: reviews\r\n\r\n", 400),
    ("A8", "POST / HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400),
    ("A10", "GET / HTTP/1.1\r\nHost: reviews\r\nX : 1\r\n\r\n", 400),
    ("A10 fold", "GET / HTTP/1.1\r\nHost: reviews\r\nX: 1\r\n 2\r\n\r\n", 400),
    ("A11", "GET / HTTP/1.1\r\nHost: reviews\r\n" + String(repeating: "X: 1\r\n", count: 101) + "\r\n", 431),
    ("A13", "GET / HTTP/1.1\r\n\r\n", 400), ("A13 twice", "GET / HTTP/1.1\r\nHost: reviews\r\nHost: reviews\r\n\r\n", 400),
    ("A15", "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\na", 400),
    ("A16", "CONNECT reviews:80 HTTP/1.1\r\nHost: reviews:80\r\n\r\n", 404),
    ("B8", "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\na", 400),
    ("E2", "GET /a#b HTTP/1.1\r\nHost: reviews\r\n\r\n", 400),
    ("E8", "GET / HTTP/1.1\r\nHost: reviews\r\nX: a\0b\r\n\r\n", 400),
    ("505", "GET / HTTP/2.0\r\nHost: reviews\r\n\r\n", 505),
  ]

  @Test func `what is refused is answered, closes the connection, and never becomes a second request`() async throws {
    let origin = Origin { origin, wire in
      while true {
        let bytes = wire.receive()
        if bytes.isEmpty { return }
        origin.record(bytes)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let (answers, _) = try await mesh.run { port in
      Self.refused.map { _, bytes, _ -> String in
        let wire = Wire.connect(port: port)
        wire.send(bytes + "GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n")
        return wire.receiveAll()
      }
    }
    for (answer, (id, _, status)) in zip(answers, Self.refused) {
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(id): \(answer)")
      #expect(answer.components(of: "HTTP/1.1 ") == 1, "\(id): \(answer)")
    }
    #expect(!origin.requests.contains { $0.contains("smuggled") })
  }

  @Test(arguments: [
    ("/a/../b", "/b"), ("/%2e%2e/a", "/a"), ("/a%2Fb", "/a%2Fb"), ("/%41", "/A"), ("/a\\b", "/a/b"), ("//a", "//a"),
    ("/..;/a", "/..;/a"),
  ]) func `the origin sees the canonical path that was decided on`(raw: String, canonical: String) async throws {
    let origin = Origin { origin, wire in
      origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    _ = try await mesh.run { TestClient(port: $0).request("GET \(raw)?q=%41 HTTP/1.1\r\nHost: reviews\r\n\r\n") }
    #expect(origin.requests.first?.hasPrefix("GET \(canonical)?q=%41 HTTP/1.1\r\n") == true)
  }
}

extension String {
  fileprivate func components(of text: String) -> Int { split(separator: text, omittingEmptySubsequences: false).count - 1 }
}
