import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

@Suite("gRPC", .serialized) struct GRPCTests {
  static func message(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    return [0, 0, 0, UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes
  }

  static func head(_ method: String, _ extra: String = "", type: String = "application/grpc") -> String {
    "POST /books.Books/\(method) HTTP/1.1\r\nHost: reviews\r\nContent-Type: \(type)\r\nTE: trailers\r\n"
      + "Transfer-Encoding: chunked\r\n\(extra)\r\n"
  }

  /// A server of every kind of call, told by the method's name.
  static let server: @Sendable (Origin, Wire) -> Void = { origin, wire in
    let peer = HTTP2Peer(.server, over: wire)
    var begun: Set<Int32> = []
    var echoed: [Int32: Int] = [:]
    var ended: Set<Int32> = []
    peer.pump { peer in
      for id in peer.arrived where peer.streams[id] != nil && !ended.contains(id) {
        let line = HTTP2Peer.line(peer.messages[id])
        if begun.insert(id).inserted {
          origin.record(Array((line + " te=\(peer.messages[id]?.header("te") ?? "")").utf8))
          if line.contains("/Unavailable") {
            peer.respond(id, headers: ["content-type": "application/grpc", "grpc-status": "14", "grpc-message": "busy"])
            ended.insert(id)
            continue
          }
          if line.contains("/Silent") {
            ended.insert(id)
            continue
          }
          guard let stream = peer.streams[id] else { continue }
          var response = ResponseHead()
          response.begin(status: 200, framing: .none)
          if let name = HeaderName("content-type") { response.headers.add(name, "application/grpc") }
          peer.session.respond(stream, response, ends: false)
        }
        let body = peer.messages[id]?.body ?? []
        let isComplete = peer.messages[id]?.isComplete == true
        if line.contains("/Both"), body.count > echoed[id, default: 0] {
          peer.write(id, Array(body[echoed[id, default: 0]...]))
          echoed[id] = body.count
        }
        guard isComplete else { continue }
        ended.insert(id)
        if line.contains("/Unary") { peer.write(id, body) }
        if line.contains("/ServerStream") { for text in ["a", "bb", "ccc"] { peer.write(id, message(text)) } }
        if line.contains("/ClientStream") { peer.write(id, message("\(body.count)")) }
        peer.end(id, trailers: ["grpc-status": line.contains("/Fails") ? "13" : "0", "grpc-message": "done"])
      }
      return false
    }
  }

  private func label(_ name: String, _ statistics: ProxyStatistics) -> Set<String> {
    guard let family = statistics.metrics.first(where: { $0.name == "istio_requests_total" }),
      let at = family.labelNames.firstIndex(of: name)
    else { return [] }
    return Set(family.series.map { $0.labelValues[at] })
  }

  @Test func `all four kinds of calls pass, and their messages are counted`() async throws {
    let origin = Origin(Self.server)
    let (answers, statistics) = try await HTTP2UpstreamTests.mesh(origin.port, protocol: .grpc).run { port in
      let client = HTTP2Peer.client(port: port)
      func call(_ method: String, _ messages: [String]) -> HTTP2Peer.Message {
        let id = client.open(Self.head(method), ends: false)
        for message in messages { client.write(id, Self.message(message)) }
        client.end(id)
        return client.message(id)
      }
      let both = client.open(Self.head("Both"), ends: false)
      for text in ["one", "two"] {
        client.write(both, Self.message(text))
        client.pump { $0.messages[both]?.text.hasSuffix(text) == true || $0.messages[both]?.end != nil }
      }
      client.end(both)
      return [
        call("Unary", ["hello"]), call("ServerStream", ["x"]), call("ClientStream", ["1", "2", "3"]), client.message(both),
      ]
    }
    #expect(answers.map(\.status) == [200, 200, 200, 200])
    #expect(answers.map { $0.trailers?["grpc-status"] } == ["0", "0", "0", "0"])
    #expect(answers[0].body == Self.message("hello"))
    #expect(answers[1].body == Self.message("a") + Self.message("bb") + Self.message("ccc"))
    #expect(answers[2].body == Self.message("18"))
    #expect(answers[3].body == Self.message("one") + Self.message("two"))
    #expect(origin.requests.allSatisfy { $0.hasSuffix("te=trailers") })
    #expect(MeshTestStatistics.total(statistics, "istio_request_messages_total") == 1 + 1 + 3 + 2)
    #expect(MeshTestStatistics.total(statistics, "istio_response_messages_total") == 1 + 3 + 1 + 2)
    #expect(label("request_protocol", statistics) == ["grpc"])
    #expect(label("grpc_response_status", statistics) == ["0"])
  }

  @Test func `a status in the trailers or in the head alone is seen and counted`() async throws {
    let origin = Origin(Self.server)
    let (answers, statistics) = try await HTTP2UpstreamTests.mesh(origin.port, protocol: .grpc).run { port in
      let client = HTTP2Peer.client(port: port)
      return [client.request(Self.head("Fails"), body: []), client.request(Self.head("Unavailable"), body: [])]
    }
    #expect(answers[0].trailers?["grpc-status"] == "13")
    #expect(answers[1].header("grpc-status") == "14" && answers[1].trailers == nil)
    #expect(label("grpc_response_status", statistics) == ["13", "14"])
    #expect(label("response_code", statistics) == ["200"])
  }

  @Test func `a status that retryOn names is tried again, also when it stands in the head alone`() async throws {
    let origin = Origin(Self.server)
    var mesh = HTTP2UpstreamTests.mesh(origin.port, protocol: .grpc)
    mesh.retry = RetryPolicy(attempts: 2, conditions: .grpcUnavailable)
    let (answer, statistics) = try await mesh.run { port in
      HTTP2Peer.client(port: port).request(Self.head("Unavailable"), body: Self.message("x"))
    }
    #expect(answer.header("grpc-status") == "14")
    #expect(origin.requests.count == 3)
    #expect(statistics.counters.retries == 2)
  }

  @Test func `the proxy's own answer is a status without a body`() async throws {
    let (answer, statistics) = try await HTTP2UpstreamTests.mesh(closedPort(), protocol: .grpc).run { port in
      HTTP2Peer.client(port: port).request(Self.head("Unary"), body: Self.message("x"))
    }
    #expect(answer.status == 200)
    #expect(answer.header("content-type") == "application/grpc")
    #expect(answer.header("grpc-status") == "14")
    #expect(answer.header("grpc-message")?.contains("upstream connect error") == true)
    #expect(answer.body.isEmpty)
    #expect(label("grpc_response_status", statistics) == ["14"])
  }

  @Test func `the caller's deadline ends a call`() async throws {
    let origin = Origin(Self.server)
    let (answer, _) = try await HTTP2UpstreamTests.mesh(origin.port, protocol: .grpc).run { port in
      HTTP2Peer.client(port: port).request(Self.head("Silent", "grpc-timeout: 100m\r\n"), body: Self.message("x"))
    }
    #expect(answer.header("grpc-status") == "4")
  }

  @Test(arguments: ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"])
  func `a browser's call is translated at a gateway`(type: String) async throws {
    let origin = Origin(Self.server)
    var mesh = HTTP2UpstreamTests.mesh(origin.port, protocol: .grpc)
    mesh.gateway = GatewayListener(port: 8080, gateways: ["default/gw"], localWorkload: 0, table: mesh.table(port: 8080))
    let isText = type.hasSuffix("text")
    let (response, _) = try await mesh.run { port in
      let body = isText ? Array("AAAAAAJoaQ==".utf8) : Self.message("hi")
      let client = TestClient(port: port)
      client.wire.send(
        "POST /books.Books/Unary HTTP/1.1\r\nHost: reviews\r\nContent-Type: \(type)\r\nContent-Length: \(body.count)\r\n\r\n")
      client.wire.send(body)
      return client.response()
    }
    let trailers = Array("grpc-message: done\r\ngrpc-status: 0\r\n".utf8)
    let frame = [0x80, 0, 0, 0, UInt8(trailers.count)] + trailers
    #expect(response?.status == 200)
    #expect(response?.header("content-type")?.hasPrefix(type) == true)
    if isText {
      #expect(response?.body.starts(with: Array("AAAAAAJoaQ==".utf8)) == true)
      #expect((response?.body.count ?? 0) > 60)
    } else {
      #expect(response?.body == Self.message("hi") + frame)
    }
    #expect(origin.requests == ["POST /books.Books/Unary reviews te=trailers"])
  }
}
