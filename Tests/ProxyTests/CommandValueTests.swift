import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// What operators stand for, in headers and in logs, on both sides of a hop and at plain ports.
@Suite("Values of operators", .serialized) struct CommandValueTests {
  private typealias Mesh = MeshHopTests

  private static func field(_ name: String, _ value: String) -> HeaderOperations.Field {
    HeaderOperations.Field(name: Array(name.utf8), value: [], format: CommandFormat(value))
  }

  private static func logging(_ format: String, to lines: LogLines) throws -> ProxyOptions {
    var options = ProxyOptions()
    options.accessLog = { lines.add($0) }
    options.accessLogFormat = try AccessLogFormat(text: format + "\n")
    return options
  }

  /// One request through a plain port, and its line.
  private static func line(
    _ format: String, _ request: String, from origin: Origin, _ change: (inout Route) -> Void = { _ in }
  ) async throws -> (String, HTTPResponse?) {
    let lines = LogLines()
    var route = TestMesh.route()
    change(&route)
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    mesh.routes = [route]
    let (response, _) = try await mesh.run(try logging(format, to: lines)) { TestClient(port: $0).request(request) }
    return (String(lines.text.dropLast()), response)
  }

  private static let get =
    "GET /a/b?x=1&y=%41%20b&x=2 HTTP/1.1\r\nHost: reviews\r\nUser-Agent: test\r\n"
    + "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Request-Id: 7\r\n\r\n"

  @Test(arguments: [
    ("%PATH% %PATH(NQ)% %PATH(WQ:PATH):4% %PATH(NQ:ORIG)%", "/a/b?x=1&y=%41%20b&x=2 /a/b /a/b -"),
    ("%QUERY_PARAM(x)% %QUERY_PARAM(y)% %QUERY_PARAM(y):1% %QUERY_PARAM(z)%", "1 A b A -"),
    ("%QUERY_PARAMS% %QUERY_PARAMS(DECODED)%", "x=1&y=%41%20b&x=2 x=1&y=A b&x=2"),
    (
      "%REQ(:METHOD)% %REQ(:SCHEME)% %REQ(:AUTHORITY)% %REQ(:PATH)% %REQ_WITHOUT_QUERY(:PATH)%",
      "GET http reviews /a/b?x=1&y=%41%20b&x=2 /a/b"
    ),
    ("%PROTOCOL% %UPSTREAM_PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS_LONG%", "HTTP/1.1 HTTP/1.1 200 -"),
    ("%RESP(Content-Length)% %RESP(:STATUS)% %RESP(x-none?content-length)% %TRAILER(x)%", "2 200 2 -"),
    ("%BYTES_SENT% %BYTES_RECEIVED% %BYTES_RETRANSMITTED% %UPSTREAM_WIRE_BYTES_SENT%", "2 0 0 -"),
    (
      "%UPSTREAM_REQUEST_ATTEMPT_COUNT% %ACCESS_LOG_TYPE% %TRACE_ID% %STREAM_ID% %SPAN_ID%",
      "1 DownstreamEnd 0af7651916cd43dd8448eb211c80319c 7 -"
    ),
    (
      "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)% %DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT%",
      "127.0.0.1 127.0.0.0/8 127.0.0.1"
    ),
    ("%DOWNSTREAM_TLS_VERSION%%DOWNSTREAM_PEER_SUBJECT%%UPSTREAM_TLS_CIPHER%%REQUESTED_SERVER_NAME%", "----"),
    ("%REQUESTED_SERVER_NAME(SNI_FIRST)% %REQUESTED_SERVER_NAME(HOST_FIRST:ORIG)%", "reviews -"),
    ("%GRPC_STATUS% %ENVIRONMENT(PATH)% %CEL(request.path)% %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "- - - via_upstream"),
    (#"%COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": ":authority"}]})%"#, "reviews"),
  ])
  func `a plain request's values`(format: String, expected: String) async throws {
    let (line, response) = try await Self.line(format, Self.get, from: .text("ok"))
    #expect(response?.status == 200 && line == expected)
  }

  @Test func `durations end in the order in which things happened`() async throws {
    let names = [
      "REQUEST_DURATION", "REQUEST_TX_DURATION", "RESPONSE_DURATION", "DURATION", "COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ns)",
      "COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)", "RESPONSE_TX_DURATION", "UPSTREAM_CONNECTION_POOL_READY_DURATION",
      "CONNECTION_ID",
    ]
    let (line, _) = try await Self.line(names.map { "%\($0)%" }.joined(separator: " "), Self.get, from: .text("ok"))
    let values = line.split(separator: " ").compactMap { Int($0) }
    try #require(values.count == names.count, "\(line)")
    #expect(values[0] <= values[1] && values[1] <= values[2] && values[2] <= values[3])
    #expect(values[4] <= values[5] && values[4] > 0 && values[4] / 1_000_000 == values[2])
  }

  @Test func `flags have long names, and an answer of the proxy's own has its head`() async throws {
    let origin = Origin.text("never")
    let (line, response) = try await Self.line(
      "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESP(x-why)% %UPSTREAM_PROTOCOL% %RESPONSE_DURATION%", Self.get, from: origin
    ) {
      $0.action = .directResponse(status: 403, body: []);
      $0.responseHeaders.set = [Self.field("x-why", "%RESPONSE_FLAGS_LONG%")]
    }
    #expect(response?.status == 403 && line == "- - - - -")
    let mesh = TestMesh(endpoints: [])
    let lines = LogLines()
    _ = try await mesh.run(try Self.logging("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", to: lines)) {
      TestClient(port: $0).request(Self.get)
    }
    #expect(lines.text == "UH NoHealthyUpstream\n")
  }

  @Test func `header values know what a response's head knows`() async throws {
    let origin = Origin.text("ok")
    let (_, response) = try await Self.line("%ROUTE_NAME%", Self.get, from: origin) {
      $0.requestHeaders.set = [
        Self.field("x-param", "%QUERY_PARAM(y)%"), Self.field("x-id", "%STREAM_ID%"), Self.field("x-code", "%RESPONSE_CODE%"),
        Self.field("x-type", "%ACCESS_LOG_TYPE%"), Self.field("x-cert", "%DOWNSTREAM_PEER_CERT%"),
        Self.field("x-host", "%UPSTREAM_HOST%"), Self.field("x-cel", "%CEL(request.path)%"),
      ]
      $0.responseHeaders.set = [
        Self.field("x-up", "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_PROTOCOL%"),
        Self.field("x-took", "%RESPONSE_DURATION%"), Self.field("x-from", "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
        Self.field("x-tries", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"), Self.field("x-trailer", "%TRAILER(x)%"),
      ]
    }
    let request = origin.requests.first ?? ""
    #expect(request.contains("x-param: A b\r\n") && request.contains("x-id: 7\r\n") && request.contains("x-code: 0\r\n"))
    #expect(request.contains("x-type: NotSet\r\n") && !request.contains("x-cert") && !request.contains("x-host"))
    #expect(!request.contains("x-cel"))
    let headers = response?.headers ?? []
    #expect(headers.contains { $0.name == "x-up" && $0.value == "127.0.0.1 HTTP/1.1" })
    #expect(headers.contains { $0.name == "x-from" && $0.value == "127.0.0.1" })
    #expect(headers.contains { $0.name == "x-tries" && $0.value == "1" } && !headers.contains { $0.name == "x-trailer" })
    #expect(headers.contains { $0.name == "x-took" && UInt64($0.value) != nil })
  }

  @Test func `both ends of a hop know its TLS and the certificates`() async throws {
    let authority = try Mesh.Authority("n1")
    let bundle = try Mesh.bundle(authority)
    let origin = Origin.text("far")
    let (farLines, nearLines) = (LogLines(), LogLines())
    var server = Mesh.server(origin.port, try authority.identity("reviews", bundle: bundle))
    server.options = try Self.logging(
      "%PROTOCOL%|%UPSTREAM_PROTOCOL%|%DOWNSTREAM_TLS_VERSION%|%DOWNSTREAM_TLS_CIPHER%|%DOWNSTREAM_PEER_URI_SAN%|"
        + "%DOWNSTREAM_LOCAL_URI_SAN%|%DOWNSTREAM_PEER_SERIAL%|%DOWNSTREAM_PEER_FINGERPRINT_256%|%DOWNSTREAM_PEER_FINGERPRINT_1%|"
        + "%DOWNSTREAM_PEER_CERT_V_START(%Y)%|%DOWNSTREAM_PEER_CERT%|%DOWNSTREAM_PEER_IP_SAN%|%DOWNSTREAM_TLS_GROUP%",
      to: farLines)
    let far = try ProxyRuntime(workers: 1, serving: server)
    let meshPort = await far.publish(server).address(of: .meshInbound)?.port ?? 0
    var route = TestMesh.route()
    route.responseHeaders.set = [Self.field("x-peer", "%UPSTREAM_PEER_URI_SAN% %UPSTREAM_TLS_VERSION%")]
    var client = Mesh.client(meshPort, origin.port, try authority.identity("client", bundle: bundle), routes: [route])
    client.options = try Self.logging(
      "%PROTOCOL%|%UPSTREAM_PROTOCOL%|%UPSTREAM_TLS_VERSION%|%UPSTREAM_PEER_URI_SAN%|%UPSTREAM_LOCAL_URI_SAN%|"
        + "%DOWNSTREAM_PEER_URI_SAN%|%DOWNSTREAM_LOCAL_URI_SAN%|%UPSTREAM_SERVER_NAME%|%UPSTREAM_PEER_CERT_V_END(%Y)%",
      to: nearLines)
    let near = try ProxyRuntime(workers: 1, serving: client)
    let port = await near.publish(client).address(of: TestMesh.client)?.port ?? 0
    let response = await blocking { TestClient(port: port).request(Mesh.get) }
    await near.stop()
    await far.stop()
    let (reviews, caller) = ("spiffe://cluster.local/ns/default/sa/reviews", "spiffe://cluster.local/ns/default/sa/client")
    #expect(response?.headers.contains { $0.name == "x-peer" && $0.value == "\(reviews) TLSv1.3" } == true)

    let there = farLines.text.dropLast().split(separator: "|", omittingEmptySubsequences: false)
    try #require(there.count == 13, "\(farLines.text)")
    #expect(
      there[0...2] == ["HTTP/2", "HTTP/1.1", "TLSv1.3"] && there[3].hasPrefix("TLS_") && there[4] == caller
        && there[5] == reviews)
    let forwarded = origin.requests.first?.split(separator: "Hash=").last?.prefix(64) ?? ""
    #expect(!there[6].isEmpty && there[7] == forwarded && there[8].utf8.count == 40)
    #expect(
      there[9].hasPrefix("20") && there[10].hasPrefix("-----BEGIN%20CERTIFICATE-----%0A") && there[11] == "-"
        && there[12] != "-")

    let here = nearLines.text.dropLast().split(separator: "|", omittingEmptySubsequences: false)
    try #require(here.count == 9, "\(nearLines.text)")
    #expect(here[0...6] == ["HTTP/1.1", "HTTP/2", "TLSv1.3", reviews[...], caller[...], "-", "-"])
    #expect(here[7].hasSuffix(".reviews-v1.default.workload.mesh") && here[8].hasPrefix("20"))
  }

  @Test func `a client of HTTP/2 has the same values`() async throws {
    let lines = LogLines()
    let origin = Origin.text("ok")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let format = "%PROTOCOL% %REQ(:METHOD)% %REQ(:AUTHORITY)% %PATH(NQ)% %QUERY_PARAM(x)% %RESP(Content-Length)% %BYTES_SENT%"
    let (outcome, _) = try await mesh.run(try Self.logging(format, to: lines)) { port in
      let wire = Wire.connect(port: port)
      wire.send(RawHTTP2.request(RawHTTP2.get("/a?x=1")))
      return RawHTTP2.outcome(wire)
    }
    #expect(outcome == "200" && lines.text == "HTTP/2 GET reviews /a 1 2 2\n")
  }

  @Test func `a gRPC call has a status, whoever answers it`() async throws {
    let request = "POST /s/m HTTP/1.1\r\nHost: reviews\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n"
    let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%"
    let (told, _) = try await Self.line(format, request, from: .text("no status"))
    #expect(told == "Unknown UNKNOWN 2")
    let lines = LogLines()
    _ = try await TestMesh(endpoints: []).run(try Self.logging(format, to: lines)) { TestClient(port: $0).request(request) }
    #expect(lines.text == "Unavailable UNAVAILABLE 14\n")
  }

  @Test func `an opaque connection has the values of a connection`() async throws {
    let origin = Origin.echo()
    let lines = LogLines()
    let format =
      "%ACCESS_LOG_TYPE%|%BYTES_RECEIVED%|%UPSTREAM_WIRE_BYTES_RECEIVED%|%UPSTREAM_REQUEST_ATTEMPT_COUNT%|%PROTOCOL%|%PATH%|"
      + "%UPSTREAM_REMOTE_PORT%|%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|%RESPONSE_FLAGS_LONG%|%START_TIME(%Y)%|%REQ(x)%|%DURATION%|"
      + "%COMMON_DURATION(DS_CX_BEG:DS_CX_END:us)%|%UPSTREAM_CLUSTER%"
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port)])
    _ = try await mesh.serve(TestMesh.forward, options: try Self.logging(format, to: lines)) { port -> String in
      let wire = Wire.connect(port: port)
      wire.send("bird")
      let echo = wire.receive(until: "bird")
      wire.endSending()
      return echo + wire.receiveAll()
    }
    let values = lines.text.dropLast().split(separator: "|", omittingEmptySubsequences: false)
    try #require(values.count == 17, "\(lines.text)")
    #expect(values[0..<6] == ["TcpConnectionEnd", "4", "4", "1", "-", "-"])
    #expect(values[6] == "\(origin.port)" && values[7] == "127.0.0.1" && values[8] == "-" && values[9].hasPrefix("20"))
    #expect(values[10] == "-" && Int(values[11]) != nil && Int(values[12]).map { $0 > 0 } == true)
    #expect(values[13] == "outbound" && values[16].hasPrefix("mysqldb."))
  }
}
