import Glibc
import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// The mesh door: who calls is what the certificate says, and nothing but a registered port of a workload of this node can be
/// reached through it, whatever a caller names.
@Suite("Checklist F: the mesh door", .serialized) struct ChecklistMeshTests {
  typealias Fields = [(String, String)]

  private static func connect(_ authority: String) -> Fields { [(":method", "CONNECT"), (":authority", authority)] }

  /// Authorities that name no port of the workload, among them its own address in forms that are not its own.
  private static func foreignAuthorities(_ doors: Doors) -> [String] {
    let own = doors.plain.port
    let foreign = doors.binary.port
    return [
      "127.0.0.1:\(foreign)", "127.0.0.1:\(doors.gateway)", "127.0.0.1:\(doors.mesh)", "127.0.0.1:22", "localhost:\(own)",
      "127.0.0.2:\(own)", "127.1:\(own)", "2130706433:\(own)", "0x7f000001:\(own)", "[::1]:\(own)", "[::ffff:127.0.0.1]:\(own)",
      "0.0.0.0:\(own)", "169.254.169.254:80", "reviews:80", "reviews-v1.default:\(own)", "10.0.0.1:\(own)",
      "127.0.0.1.:\(own)x", "u@127.0.0.1:\(own)", "127.0.0.1:0\(own)0", "127.0.0.1", "127.0.0.1:\(own),127.0.0.2:\(own)",
    ]
  }

  private static let early = RawHTTP2.frame(0, 0, 1, Array(Doors.smuggled.utf8))

  @Test func `F15: CONNECT reaches the workload's own address and registered ports alone`() async throws {
    let (outcomes, doors, _) = try await Doors.open { doors in
      Self.foreignAuthorities(doors).map { authority -> String in
        let wire = doors.connectMesh()
        wire.send(RawHTTP2.request(Self.connect(authority), ends: false) + Self.early)
        return "\(authority) \(RawHTTP2.outcome(wire))"
      }
    }
    for outcome in outcomes {
      #expect(["404", "400", "reset"].contains(outcome.split(separator: " ").last ?? ""), "\(outcome)")
    }
    #expect(doors.recorded.isEmpty && doors.plain.connections == 0 && doors.binary.connections == 0)
  }

  @Test func `F15: without a server name nothing foreign is reached either, and no request is served`() async throws {
    let (answers, doors, _) = try await Doors.open { doors -> [String] in
      func answer(_ frames: [UInt8]) -> String {
        let wire = Wire.secured(port: doors.mesh, doors.member, serverName: nil)
        wire.send(frames)
        return RawHTTP2.outcome(wire)
      }
      return Self.foreignAuthorities(doors).map { answer(RawHTTP2.request(Self.connect($0), ends: false) + Self.early) } + [
        answer(RawHTTP2.request(RawHTTP2.get("/")))
      ]
    }
    #expect(!answers.contains("200"), "\(answers)")
    #expect(doors.recorded.isEmpty && doors.plain.connections == 0 && doors.binary.connections == 0)
  }

  @Test func `F15: a request's own words about where and who change neither`() async throws {
    let fields: Fields = [
      ("forwarded", "for=1.1.1.1;by=evil"), ("baggage", "k8s.workload.name=evil"), ("x-mesh-source", "default/other@n1"),
      ("x-forwarded-client-cert", "By=evil;URI=spiffe://cluster.local/ns/default/sa/admin"), ("x-forwarded-for", "1.1.1.1"),
    ]
    let (outcomes, doors, statistics) = try await Doors.open { doors in
      ["169.254.169.254", "ratings", "127.0.0.1:22"].map { authority -> String in
        let wire = doors.connectMesh()
        wire.send(
          RawHTTP2.request([(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/")] + fields))
        return RawHTTP2.outcome(wire)
      }
    }
    // To the workload that the connection was made for, as the caller that its certificate names.
    #expect(outcomes == ["200", "200", "200"])
    #expect(doors.plain.requests.count == 3 && doors.binary.requests.isEmpty)
    for request in doors.plain.requests {
      #expect(request.contains(",By=spiffe://cluster.local/ns/default/sa/reviews;Hash="))
      #expect(request.contains("URI=spiffe://cluster.local/ns/default/sa/client\r\n"))
    }
    let family = statistics.metrics.first { $0.name == "istio_requests_total" }
    let at = family?.labelNames.firstIndex(of: "source_principal") ?? 0
    #expect(family?.series.allSatisfy { $0.labelValues[at] == "spiffe://cluster.local/ns/default/sa/client" } == true)
  }

  @Test func `F15: names of other ports, workloads or nodes open nothing`() async throws {
    let (outcomes, doors, _) = try await Doors.open { doors -> [[String]] in
      let own = doors.plain.port
      let names = [
        "\(doors.binary.port).reviews-v1.default.workload.mesh", "\(own).client.default.workload.mesh", "reviews-v1.default",
        "0\(own).reviews-v1.default.workload.mesh", "\(own).reviews-v1.default.workload.mesh.evil", "reviews",
      ]
      return names.map { name -> [String] in
        let wire = doors.connectMesh(name)
        wire.send(RawHTTP2.request(RawHTTP2.get("/")))
        let tunnel = doors.connectMesh(name)
        tunnel.send(RawHTTP2.request(Self.connect("127.0.0.1:\(own)"), ends: false))
        let opaque = doors.connectMesh(name, opaque: true)
        opaque.send(Doors.smuggled)
        return [RawHTTP2.outcome(wire), RawHTTP2.outcome(tunnel), opaque.receiveAll()]
      }
    }
    for outcome in outcomes {
      #expect(outcome.prefix(2).allSatisfy { ["other", "closed", "404"].contains($0) } && outcome.last == "", "\(outcome)")
    }
    #expect(doors.recorded.isEmpty && doors.plain.connections == 0)
  }

  @Test func `F4, F7, F11: without a certificate of the mesh, or below TLS 1.3, nothing is answered`() async throws {
    let (outcomes, doors, statistics) = try await Doors.open { doors -> [String] in
      let name = "\(doors.plain.port).reviews-v1.default.workload.mesh"
      var old = TLSOptions()
      old.maximum = .tls12
      let strangers = [
        try? TLSContext.client(identity: nil, trust: .nobody, protocols: ["h2"]),
        try? TLSContext.client(
          identity: doors.member.identity, trust: .nobody, protocols: ["h2"], minimum: .tls12, options: old),
        try? TLSContext.client(identity: doors.member.identity, trust: .nobody, protocols: ["smtp"]),
      ]
      return strangers.compactMap { $0 }.map { context -> String in
        let wire = Wire.secured(port: doors.mesh, context, serverName: name)
        wire.send(RawHTTP2.request(RawHTTP2.get("/")))
        return wire.receiveAll()
      }
    }
    #expect(outcomes == ["", "", ""])
    #expect(doors.recorded.isEmpty && statistics.counters.handshakeFailures == 3)
  }

  @Test func `F7: before a workload has its certificate its door is shut`() async throws {
    let authority = try MeshHopTests.Authority("n1")
    let identity = try authority.identity("client", bundle: MeshHopTests.bundle(authority))
    let origin = Origin.text("never")
    var state = MeshHopTests.server(origin.port, identity)
    state.identities = ProxyIdentities()
    let runtime = try ProxyRuntime(workers: 1, serving: state)
    let port = await runtime.publish(state).address(of: .meshInbound)?.port ?? 0
    let answer = await blocking { () -> String in
      let wire = Wire.secured(port: port, identity.client, serverName: "\(origin.port).reviews-v1.default.workload.mesh")
      wire.send(RawHTTP2.request(RawHTTP2.get("/")))
      return wire.receiveAll()
    }
    #expect(answer.isEmpty && origin.connections == 0)
    await runtime.stop()
  }

  @Test func `F16: a request for a host of another server's certificate is 421 over HTTP/1 and HTTP/2`() async throws {
    let (answers, doors, _) = try await Doors.open { doors -> [String] in
      let one = doors.connect(.secured)
      one.send("GET / HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n")
      let two = HTTP2Peer(.client, over: doors.connect(.secured, http2: true))
      let status = two.request("GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n").status ?? 0
      return [String(one.receiveAll().dropFirst(9).prefix(3)), "\(status)"]
    }
    #expect(answers.allSatisfy { $0 == "421" || $0 == "404" }, "\(answers)")
    #expect(doors.recorded.isEmpty)
  }

  /// What one node admits the next must take, with all that was added on the way.
  @Test func `A head at the limit of one hop passes the next, whatever is spoken`() async throws {
    let many = (0..<96).map { "x-\($0): \($0)\r\n" }.joined()
    let long = "x-long: " + String(repeating: "a", count: 60_000) + "\r\n"
    for fields in [many, long] {
      let authority = try MeshHopTests.Authority("n1")
      let bundle = try MeshHopTests.bundle(authority)
      let origin = Origin { origin, wire in
        origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\(fields)\r\n")
      }
      let server = MeshHopTests.server(origin.port, try authority.identity("reviews", bundle: bundle))
      let far = try ProxyRuntime(workers: 1, serving: server)
      let meshPort = await far.publish(server).address(of: .meshInbound)?.port ?? 0
      let client = MeshHopTests.client(meshPort, origin.port, try authority.identity("client", bundle: bundle))
      let near = try ProxyRuntime(workers: 1, serving: client)
      let port = await near.publish(client).address(of: TestMesh.client)?.port ?? 0
      let response = await blocking { TestClient(port: port).request("GET / HTTP/1.1\r\nHost: reviews\r\n\(fields)\r\n") }
      #expect(response?.status == 200)
      #expect(origin.requests.first?.contains(fields.suffix(20)) == true)
      await near.stop()
      await far.stop()
    }
  }
}
