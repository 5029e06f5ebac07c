import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing

/// Messages whose end two parsers could see in different places (RFC 9112 6 and 11.2): refused, and nothing behind them is
/// ever a request.
@Suite("Checklist A: framing", .serialized) struct ChecklistFramingTests {
  private static func post(_ fields: String, _ body: String = "a") -> String {
    "POST / HTTP/1.1\r\nHost: reviews\r\n\(fields)\r\n\r\n\(body)"
  }
  private static func get(_ fields: String) -> String { "GET / HTTP/1.1\r\nHost: reviews\r\n\(fields)\r\n\r\n" }
  private static func chunked(_ body: String) -> String { post("Transfer-Encoding: chunked", body) }

  @Test func `A1: Content-Length and Transfer-Encoding together are refused`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        Self.post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        Self.post("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
        Self.post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        Self.post("transfer-encoding:CHUNKED\r\ncontent-length:0", "0\r\n\r\n"),
      ])
  }

  @Test func `A2: more than one length is refused, also when they agree`() async throws {
    try await Doors.expectRefusal(
      400,
      ["1\r\nContent-Length: 1", "1\r\nContent-Length: 2", "1, 1", "1,2", "1,", "0\r\nX: 1\r\ncontent-length: 0"].map {
        Self.post("Content-Length: \($0)")
      })
  }

  @Test func `A3: a length that is not plain digits below 2^63 is refused`() async throws {
    let lengths = [
      "", "+1", "-1", "-0", "1_0", "1 0", "0x1", "1.0", "1e0", "\u{661}", "\u{BD}", "9223372036854775808",
      "18446744073709551617", "00000000000000000001", "1;a", "\"1\"", "1\u{A0}",
    ]
    try await Doors.expectRefusal(400, lengths.map { Self.post("Content-Length: \($0)") })
  }

  @Test func `A4: a transfer coding other than chunked alone is refused, and a known other one is 501`() async throws {
    let codings = [
      "chunked, chunked", "chunked, gzip", ",chunked", "chunked,", "x", "xchunked", "chunked;a=b", "chunked x", "\"chunked\"",
      "chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: identity", "\u{B}chunked", "chunked\u{B}",
      "\u{A0}chunked", "chun\u{212A}ed", "",
    ]
    try await Doors.expectRefusal(400, codings.map { Self.post("Transfer-Encoding: \($0)", "0\r\n\r\n") })
    try await Doors.expectRefusal(
      501, ["gzip", "gzip, chunked", "identity", "deflate"].map { Self.post("Transfer-Encoding: \($0)", "0\r\n\r\n") })
  }

  @Test func `A5: HTTP/1.0 is told to upgrade, and its transfer coding is refused`() async throws {
    try await Doors.expectRefusal(
      426, ["GET / HTTP/1.0\r\nHost: reviews\r\n\r\n", "POST / HTTP/1.0\r\nHost: reviews\r\n\r\nbody"])
    try await Doors.expectRefusal(400, ["POST / HTTP/1.0\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
  }

  @Test func `A6: a bare CR or LF ends no line of a head`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        "GET / HTTP/1.1\nHost: reviews\r\n\r\n", "GET / HTTP/1.1\rHost: reviews\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews\n\r\n", "GET / HTTP/1.1\r\nHost: reviews\r\r\n",
        "GET / HTTP/1.1\r\nHost: reviews\r\n\n", "GET / HTTP/1.1\r\nHost: reviews\r\n\r\r\n",
        "GET / HTTP/1.1\r\nHost: reviews\rX: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews\r\nX: 1\nY: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews\r\nX: a\rb\r\n\r\n",
      ])
  }

  @Test func `A6: a bare CR or LF ends no line of a chunked body`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        "1\na\r\n0\r\n\r\n", "1\ra\r\n0\r\n\r\n", "1\r\na\n0\r\n\r\n", "1\r\na\r0\r\n\r\n", "1;x\n\r\na\r\n0\r\n\r\n",
        "1;x\rY\r\na\r\n0\r\n\r\n", "0\nX: 1\r\n\r\n", "0\r\nX: 1\n\r\n", "0\r\nX: 1\r\n\n", "0\r\n\n",
      ].map { Self.chunked($0) }, reachesApplication: true)
  }

  @Test func `A7: a request line has three parts with one blank between them`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        "GET /\r\nHost: reviews\r\n\r\n", "GET\r\nHost: reviews\r\n\r\n", "GET  / HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET / HTTP/1.1 \r\nHost: reviews\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET\t/ HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET / http/1.1\r\nHost: reviews\r\n\r\n",
        "GET / HTTP/1.1x\r\nHost: reviews\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "G\u{212A}T / HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET / HTTP/+1.1\r\nHost: reviews\r\n\r\n",
      ])
    try await Doors.expectRefusal(505, ["GET / HTTP/2.0\r\nHost: reviews\r\n\r\n", "GET / HTTP/1.2\r\nHost: reviews\r\n\r\n"])
  }

  @Test func `A8: a malformed chunk is an error, never a shorter body`() async throws {
    let bodies = [
      "\r\n", "g\r\n", "0x1\r\na\r\n", "+1\r\na\r\n", "-1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "80000000\r\n",
      "ffffffffffffffff\r\n", "11111111111111111\r\n", "1\r\nab\r\n", "2\r\na\r\n", "\u{661}\r\na\r\n", "1_\r\na\r\n",
    ]
    try await Doors.expectRefusal(400, bodies.map { Self.chunked($0 + "0\r\n\r\n") }, reachesApplication: true)
    let (_, doors, _) = try await Doors.open { doors in
      for body in bodies { _ = doors.answer(.outbound, Self.chunked("3\r\nabc\r\n" + body + "0\r\n\r\n")) }
    }
    #expect(!doors.plain.requests.contains { $0.hasSuffix("0\r\n\r\n") })
  }

  @Test func `A9: a chunk extension is dropped when it is well formed, and refused otherwise`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        "1;a\0\r\na\r\n0\r\n\r\n", "1;\u{1}\r\na\r\n0\r\n\r\n", "1 ;a\r\na\r\n0\r\n\r\n",
        "1;" + String(repeating: "a", count: 300) + "\r\na\r\n0\r\n\r\n",
      ].map { Self.chunked($0) }, reachesApplication: true)
    let (answer, doors, _) = try await Doors.open {
      $0.answer(.outbound, Self.post("Connection: close\r\nTransfer-Encoding: chunked", "1;x=\"y\"\r\na\r\n0;z\r\n\r\n"))
    }
    #expect(answer.hasPrefix("HTTP/1.1 200 "))
    #expect(doors.plain.requests.first?.hasSuffix("\r\n\r\n1\r\na\r\n0\r\n\r\n") == true)
  }

  @Test func `A10: a field line that is not name, colon, value is refused, never trimmed into one`() async throws {
    let fields = [
      "X : 1", "X\t: 1", " X: 1", "\tX: 1", "X: 1\r\n 2", "X: 1\r\n\t2", "X", ": 1", "X(: 1", "X\u{212A}: 1", "X: \0",
      "X: a\u{7F}", "X: \u{1B}[31m", "\u{FEFF}X: 1",
    ]
    try await Doors.expectRefusal(400, fields.map { Self.get($0) })
  }

  @Test func `A11: a head over the limit is refused whole, and one at the limit arrives whole`() async throws {
    let many = (0..<99).map { "X-\($0): \($0)" }
    try await Doors.expectRefusal(
      431,
      [Self.get((many + ["X: 1", "Y: 2"]).joined(separator: "\r\n")), Self.get("X: " + String(repeating: "a", count: 62_000))])
    let (answers, doors, _) = try await Doors.open { doors in
      Doors.Way.allCases.map { doors.answer($0, Self.get((many.dropLast() + ["Connection: close"]).joined(separator: "\r\n"))) }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 200 ") })
    for request in doors.plain.requests { for line in many.dropLast() { #expect(request.contains("\r\n\(line)\r\n")) } }
  }

  @Test func `A12: trailers never become headers, and names that have no place there are dropped`() async throws {
    try await Doors.expectRefusal(
      400, ["0\r\nX : 1\r\n\r\n", "0\r\nX\r\n\r\n", "0\r\nX: a\0b\r\n\r\n", "0\r\n X: 1\r\n\r\n"].map { Self.chunked($0) },
      reachesApplication: true)
    let forbidden = [
      "Content-Length: 1", "Transfer-Encoding: chunked", "Host: evil", "Authorization: evil", "Cookie: evil",
      "Connection: close", "X-Forwarded-For: evil", "X-Forwarded-Client-Cert: evil", "X-Mesh-Source: evil", "TE: trailers",
      "Expect: 100-continue",
    ]
    let (_, doors, _) = try await Doors.open { doors in
      for way in Doors.Way.allCases {
        _ = doors.answer(
          way,
          Self.post(
            "Connection: close\r\nTransfer-Encoding: chunked",
            "1\r\na\r\n0\r\n\(forbidden.joined(separator: "\r\n"))\r\nX-Sum: 1\r\n\r\n"))
      }
    }
    #expect(doors.plain.requests.count == 3)
    for request in doors.plain.requests {
      #expect(request.lowercased().hasSuffix("1\r\na\r\n0\r\nx-sum: 1\r\n\r\n"), "\(request)")
      #expect(!request.contains("evil"))
    }
  }

  @Test func `A13: a request has exactly one valid Host`() async throws {
    try await Doors.expectRefusal(
      400,
      [
        "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews\r\nHost: reviews\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews\r\nhost: other\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: u@reviews\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews:99999\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews:+80\r\n\r\n", "GET / HTTP/1.1\r\nHost: reviews/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: reviews..\r\n\r\n", "GET / HTTP/1.1\r\nHost: \u{212A}\r\n\r\n",
        "GET http://u@reviews/ HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET http:///x HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "GET ftp://reviews/ HTTP/1.1\r\nHost: reviews\r\n\r\n", "GET http://reviews/ HTTP/1.1\r\n\r\n",
      ])
  }

  @Test func `A13: the authority of an absolute target replaces the Host, everywhere`() async throws {
    let (answers, doors, _) = try await Doors.open(Doors.Plan(authorities: ["reviews"])) { doors in
      Doors.Way.allCases.map {
        doors.answer($0, "GET http://REVIEWS./x HTTP/1.1\r\nHost: elsewhere:81\r\nConnection: close\r\n\r\n")
      }
    }
    #expect(answers.allSatisfy { $0.hasPrefix("HTTP/1.1 200 ") })
    for request in doors.plain.requests {
      #expect(request.hasPrefix("GET /x HTTP/1.1\r\nhost: reviews\r\n"))
      #expect(request.lowercased().times("\r\nhost:") == 1)
      #expect(request.contains("x-evaluated: reviews\r\n"))
    }
    #expect(doors.logLines.allSatisfy { $0.contains("\"GET /x HTTP/1.1\"") && $0.contains("\"reviews\"") })
  }
}
