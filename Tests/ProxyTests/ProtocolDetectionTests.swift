import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// Ports without a declared protocol: what is inside is found while bytes pass (Istio, protocol selection).
@Suite("Protocol detection", .serialized) struct ProtocolDetectionTests {
  private static let forward = ProxyListener.Kind.forward(workload: "default/client@n1", host: "reviews", port: 80)
  private static let connect = "CONNECT reviews:80 HTTP/1.1\r\nhost: reviews:80\r\n\r\n"

  private static func mesh(_ endpoints: [Endpoint]) -> TestMesh {
    var mesh = TestMesh(endpoints: endpoints)
    var cluster = mesh.cluster()
    cluster.protocol = .auto
    mesh.clusters = [cluster]
    let destination = WeightedDestination(cluster: 0, clusterName: cluster.name, weight: 1)
    let service = TCPService(
      host: cluster.host, protocol: .auto, address: [], routes: [TCPRoute(origin: nil, destinations: [destination])])
    mesh.tcp = [
      TCPRouteTable(ports: [
        TCPRouteTable.PortTable(
          port: 80, services: [service], hosts: ByteTable([(Array("reviews".utf8), 0)]), serverNames: [])
      ])
    ]
    return mesh
  }

  private static func total(_ statistics: ProxyStatistics, _ name: String) -> Double {
    MeshTestStatistics.total(statistics, name)
  }

  /// Greets whoever connects, and answers a line.
  private static func speaksFirst() -> Origin {
    Origin { _, wire in
      wire.send("220 mail.example ESMTP\r\n")
      let said = wire.receive(until: "\r\n")
      if !said.isEmpty { wire.send("250 \(said)") }
    }
  }

  @Test func `requests behind a forwarded port have routes and metrics, whatever host they name`() async throws {
    let origin = Origin.text("inside")
    let (answers, statistics) = try await Self.mesh([TestMesh.endpoint(origin.port)]).serve(Self.forward) { port -> [Int?] in
      let client = TestClient(port: port)
      return ["127.0.0.1:\(port)", "reviews", "elsewhere.example"].map { host in
        client.request("GET /page HTTP/1.1\r\nHost: \(host)\r\n\r\n")?.status
      }
    }
    #expect(answers == [200, 200, 200])
    #expect(Self.total(statistics, "istio_requests_total") == 3)
    #expect(Self.total(statistics, "istio_tcp_connections_opened_total") == 0)
    // What the application is told is what its client has said.
    #expect(origin.requests.map { $0.contains("host: elsewhere.example") } == [false, false, true])
    #expect(origin.requests.allSatisfy { $0.contains("x-request-id: ") })
  }

  @Test func `a client that is silent for longer than the mesh waits is opaque, whatever it says then`() async throws {
    let origin = Origin { _, wire in
      let said = wire.receive(until: "\r\n\r\n")
      wire.send(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-seen: \(said.contains("x-request-id") ? "request" : "bytes")\r\n\r\n")
    }
    var mesh = Self.mesh([TestMesh.endpoint(origin.port)])
    mesh.configure = { $0.protocolDetectionTimeout = .milliseconds(1) }
    let (isOpaque, _) = try await mesh.serve(Self.forward) { port -> Bool in
      // How long it takes the worker to notice is not known: longer silences until it has.
      for pause in [1_000, 10_000, 100_000, 1_000_000, 5_000_000] {
        let wire = Wire.connect(port: port)
        usleep(UInt32(pause))
        wire.send("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        if wire.receive(until: "\r\n\r\n").contains("x-seen: bytes") { return true }
      }
      return false
    }
    #expect(isOpaque)
  }

  @Test func `a request that comes byte by byte is a request`() async throws {
    let origin = Origin.text("inside")
    let (answer, statistics) = try await Self.mesh([TestMesh.endpoint(origin.port)]).serve(Self.forward) { port -> String in
      let wire = Wire.connect(port: port)
      for byte in "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n".utf8 { wire.send([byte]) }
      return wire.receiveAll()
    }
    #expect(answer.hasPrefix("HTTP/1.1 200 OK"))
    #expect(Self.total(statistics, "istio_requests_total") == 1)
  }

  @Test func `HTTP 2 with prior knowledge is found by its preface`() async throws {
    let origin = Origin.text("inside")
    let (texts, statistics) = try await Self.mesh([TestMesh.endpoint(origin.port)]).serve(Self.forward) { port -> [String] in
      let client = HTTP2Peer.client(port: port)
      return (0..<2).map { _ in client.request(HTTP2Peer.get()).text }
    }
    #expect(texts == ["inside", "inside"])
    #expect(Self.total(statistics, "istio_requests_total") == 2)
    #expect(Self.total(statistics, "istio_tcp_connections_opened_total") == 0)
  }

  @Test func `a server that speaks first is heard at once`() async throws {
    let origin = Self.speaksFirst()
    let mesh = Self.mesh([TestMesh.endpoint(origin.port)])
    for (kind, preamble) in [(Self.forward, ""), (TestMesh.client, Self.connect)] {
      let (heard, statistics) = try await mesh.serve(kind) { port -> [String] in
        let wire = Wire.connect(port: port)
        if !preamble.isEmpty { wire.send(preamble) }
        let banner = wire.receive(until: "ESMTP\r\n")
        wire.send("EHLO mesh\r\n")
        return [banner, wire.receiveAll()]
      }
      let answer = preamble.isEmpty ? "" : "HTTP/1.1 200 Connection Established\r\n\r\n"
      #expect(heard == [answer + "220 mail.example ESMTP\r\n", "250 EHLO mesh\r\n"])
      #expect(Self.total(statistics, "istio_tcp_connections_opened_total") == 1)
      #expect(Self.total(statistics, "istio_tcp_received_bytes_total") == 11)
      #expect(Self.total(statistics, "istio_tcp_sent_bytes_total") == 39)
      #expect(Self.total(statistics, "istio_requests_total") == 0)
    }
  }

  @Test func `what is no request is relayed from its first byte, and so is TLS`() async throws {
    let origin = Origin.echo()
    let hello = TCPForwardingTests.hello("reviews")
    let first = [Array("ping\r\n".utf8), [0, 1, 2, 3], hello, Array("GET lost\r\n".utf8)]
    let mesh = Self.mesh([TestMesh.endpoint(origin.port)])
    let (echoes, statistics) = try await mesh.serve(Self.forward) { port in
      first.map { bytes -> Bool in
        let wire = Wire.connect(port: port)
        wire.send(bytes)
        let echo = wire.receive(count: bytes.count)
        wire.send("more.")
        return echo == bytes && wire.receive(until: ".") == "more."
      }
    }
    #expect(echoes == [true, true, true, true])
    #expect(Self.total(statistics, "istio_tcp_connections_opened_total") == 4)
    #expect(Self.total(statistics, "istio_requests_total") == 0)
  }

  @Test func `a client that ends after half a request line is relayed with its end`() async throws {
    let origin = Origin { _, wire in wire.send("heard \(wire.receiveAll())") }
    let (heard, _) = try await Self.mesh([TestMesh.endpoint(origin.port)]).serve(Self.forward) { port -> String in
      let wire = Wire.connect(port: port)
      wire.send("GET")
      wire.endSending()
      return wire.receiveAll()
    }
    #expect(heard == "heard GET")
  }

  @Test func `requests inside a CONNECT tunnel have routes and metrics`() async throws {
    let origin = Origin.text("inside")
    let (answers, statistics) = try await Self.mesh([TestMesh.endpoint(origin.port)]).serve(TestMesh.client) {
      port -> [String] in
      // Before the answer to CONNECT, and after it.
      let early = Wire.connect(port: port)
      early.send(Self.connect + "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      let late = Wire.connect(port: port)
      late.send(Self.connect)
      let established = late.receive(until: "\r\n\r\n")
      late.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      return [early.receiveAll(), established, late.receiveAll()]
    }
    #expect(answers[0].hasPrefix("HTTP/1.1 200 Connection Established\r\n\r\nHTTP/1.1 200 OK\r\n"))
    #expect(answers[1] == "HTTP/1.1 200 Connection Established\r\n\r\n")
    #expect(answers[2].hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(Self.total(statistics, "istio_requests_total") == 2)
    #expect(Self.total(statistics, "istio_tcp_connections_opened_total") == 0)
  }

  @Test func `a request for what cannot be reached is answered by HTTP, and another connection is closed`() async throws {
    let mesh = Self.mesh([TestMesh.endpoint(closedPort())])
    let (answers, _) = try await mesh.serve(Self.forward) { port -> [String] in
      let wire = Wire.connect(port: port)
      wire.send("GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
      let silent = Wire.connect(port: port)
      return [wire.receiveAll(), silent.receiveAll()]
    }
    #expect(answers[0].hasPrefix("HTTP/1.1 503 "))
    #expect(answers[1] == "")
  }

  @Test func `rules by server name have a TLS connection of an undeclared port`() async throws {
    let (named, other) = (Origin.echo(), Origin.echo())
    var mesh = Self.mesh([TestMesh.endpoint(other.port)])
    var cluster = mesh.cluster("named", endpoints: [TestMesh.endpoint(named.port, key: 2)])
    cluster.protocol = .tls
    mesh.clusters?.append(cluster)
    let destination = WeightedDestination(cluster: 1, clusterName: cluster.name, weight: 1)
    mesh.tcp[0].ports[0].serverNames = [
      ServerNameRoute(pattern: ServerNamePattern("db.example"), route: TCPRoute(origin: nil, destinations: [destination]))
    ]
    let hellos = ["db.example", "else.example"].map { TCPForwardingTests.hello($0) }
    let (echoes, _) = try await mesh.serve(Self.forward) { port in
      hellos.map { hello -> Bool in
        let wire = Wire.connect(port: port)
        wire.send(hello)
        return wire.receive(count: hello.count) == hello
      }
    }
    #expect(echoes == [true, true])
    for _ in 0..<200 where named.recordedBytes.isEmpty || !other.recordedBytes.contains(hellos[1]) {
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(named.recordedBytes == [hellos[0]])
    #expect(other.recordedBytes.contains(hellos[1]))
  }
}
