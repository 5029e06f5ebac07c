import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Telemetry
import Testing
import Transport

@Suite("Opaque connections", .serialized) struct TCPForwardingTests {
  private static let connect = "CONNECT mysqldb:3306 HTTP/1.1\r\nhost: mysqldb:3306\r\n\r\n"

  private func total(_ statistics: ProxyStatistics, _ name: String) -> Double { MeshTestStatistics.total(statistics, name) }

  @Test func `CONNECT on the outbound port opens a connection by the mesh's rules, and both directions are counted`()
    async throws
  {
    let origin = Origin.echo()
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port)])
    let (answers, statistics) = try await mesh.serve(TestMesh.client) { port -> [String] in
      let wire = Wire.connect(port: port)
      wire.send(Self.connect + "early ")
      let head = wire.receive(until: "early ")
      wire.send("bird")
      let echo = wire.receive(until: "bird")
      wire.endSending()
      return [head, echo, wire.receiveAll()]
    }
    #expect(answers == ["HTTP/1.1 200 Connection Established\r\n\r\nearly ", "bird", ""])
    #expect(total(statistics, "istio_tcp_connections_opened_total") == 1)
    #expect(total(statistics, "istio_tcp_connections_closed_total") == 1)
    #expect(total(statistics, "istio_tcp_received_bytes_total") == 10)
    #expect(total(statistics, "istio_tcp_sent_bytes_total") == 10)
    #expect(total(statistics, "istio_requests_total") == 0)
  }

  @Test func `CONNECT to what cannot be reached is answered 503, and to what nobody knows 404`() async throws {
    let mesh = TestMesh.database([TestMesh.endpoint(closedPort())])
    let (answers, _) = try await mesh.serve(TestMesh.client) { port in
      [Self.connect, Self.connect.replacingHost("elsewhere:1")].map { text -> String in
        let wire = Wire.connect(port: port)
        wire.send(text)
        return String(wire.receiveAll().prefix(12))
      }
    }
    #expect(answers == ["HTTP/1.1 503", "HTTP/1.1 404"])
  }

  @Test func `a server that speaks first is heard before the client has said anything`() async throws {
    let origin = Origin { _, wire in
      wire.send("220 mail.example ESMTP\r\n")
      let said = wire.receive(until: "\r\n")
      wire.send("250 \(said)")
    }
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port)])
    let (answers, _) = try await mesh.serve(TestMesh.forward) { port -> [String] in
      let wire = Wire.connect(port: port)
      let banner = wire.receive(until: "\r\n")
      wire.send("EHLO mesh\r\n")
      return [banner, wire.receiveAll()]
    }
    #expect(answers == ["220 mail.example ESMTP\r\n", "250 EHLO mesh\r\n"])
  }

  @Test func `a side that has ended still hears the other`() async throws {
    let origin = Origin { _, wire in
      var all: [UInt8] = []
      while true {
        let part = wire.receive()
        if part.isEmpty { break }
        all += part
      }
      wire.send("heard \(all.count)")
    }
    let talker = Origin { origin, wire in
      wire.send("bye")
      wire.endSending()
      origin.record(Array(wire.receiveAll().utf8))
    }
    let (first, _) = try await TestMesh.database([TestMesh.endpoint(origin.port)]).serve(TestMesh.forward) { port -> String in
      let wire = Wire.connect(port: port)
      wire.send([UInt8](repeating: 1, count: 300_000))
      wire.endSending()
      return wire.receiveAll()
    }
    #expect(first == "heard 300000")
    let (second, _) = try await TestMesh.database([TestMesh.endpoint(talker.port)]).serve(TestMesh.forward) { port -> String in
      let wire = Wire.connect(port: port)
      let heard = wire.receiveAll()
      wire.send("still here")
      wire.endSending()
      return heard
    }
    #expect(second == "bye")
    for _ in 0..<400 where talker.requests.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
    #expect(talker.requests == ["still here"])
  }

  @Test func `a bulk transfer arrives whole, and a slow reader holds its sender back`() async throws {
    let size = 48 << 20
    let sent = Mutex(0)
    let origin = Origin { _, wire in
      let block = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
      for _ in 0..<(size / block.count) {
        guard wire.send(block) else { return }
        sent.withLock { $0 += block.count }
      }
    }
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port)])
    let (result, statistics) = try await mesh.serve(TestMesh.forward) { port -> (Int, Int, Bool) in
      let wire = Wire.connect(port: port)
      _ = wire.hasBytes(within: 5_000)
      // Until the sender stands still, which is when every buffer on the way is full.
      var before = -1
      while sent.withLock({ $0 }) != before {
        before = sent.withLock { $0 }
        poll(nil, 0, 150)
      }
      var received = 0
      var isRight = true
      while true {
        let part = wire.receive()
        if part.isEmpty { break }
        for (offset, byte) in part.enumerated() where offset % 997 == 0 {
          let place = (received + offset) & ((1 << 20) - 1)
          if byte != UInt8(truncatingIfNeeded: place &* 31 &+ place >> 8) { isRight = false }
        }
        received += part.count
      }
      return (before, received, isRight)
    }
    #expect(result.0 < size * 3 / 4)
    #expect(result.1 == size)
    #expect(result.2)
    #expect(total(statistics, "istio_tcp_sent_bytes_total") == Double(size))
  }

  @Test func `an endpoint that cannot be reached is passed over before a byte is sent`() async throws {
    let origin = Origin.echo()
    let mesh = TestMesh.database([TestMesh.endpoint(closedPort(), key: 1), TestMesh.endpoint(origin.port, key: 2)])
    let (echoes, statistics) = try await mesh.serve(TestMesh.forward) { port in
      (0..<8).map { index -> String in
        let wire = Wire.connect(port: port)
        wire.send("hello \(index).")
        return wire.receive(until: ".")
      }
    }
    #expect(echoes == (0..<8).map { "hello \($0)." })
    #expect(statistics.counters.upstreamConnectFailures > 0)
  }

  @Test func `more connections than the pool may have are closed without a byte to the application`() async throws {
    let origin = Origin.echo()
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port)]) { $0.connectionPool.maxConnections = 1 }
    let (answers, _) = try await mesh.serve(TestMesh.forward) { port -> [String] in
      let first = Wire.connect(port: port)
      first.send("one.")
      let echo = first.receive(until: ".")
      let second = Wire.connect(port: port)
      second.send("two.")
      return [echo, second.receiveAll()]
    }
    #expect(answers == ["one.", ""])
    #expect(origin.connections == 1)
  }

  @Test func `a silent connection ends after its idle time, and any after its longest life`() async throws {
    let origin = Origin.echo()
    for change: @Sendable (inout Cluster) -> Void in [
      { $0.connectionPool.tcpIdleTimeout = .milliseconds(60) },
      { $0.connectionPool.maxConnectionDuration = .milliseconds(60) },
    ] {
      let mesh = TestMesh.database([TestMesh.endpoint(origin.port)], change)
      let (heard, _) = try await mesh.serve(TestMesh.forward) { port -> String in
        let wire = Wire.connect(port: port)
        wire.send("still there?")
        return wire.receiveAll()
      }
      #expect(heard == "still there?")
    }
  }

  @Test(arguments: [ProxyProtocolVersion.v1, .v2])
  func `a cluster with PROXY protocol is told who the client is`(version: ProxyProtocolVersion) async throws {
    let origin = Origin.echo()
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port)]) { $0.proxyProtocol = version }
    let (_, _) = try await mesh.serve(TestMesh.forward) { port -> [UInt8] in
      let wire = Wire.connect(port: port)
      wire.send("data")
      wire.endSending()
      return Array(wire.receiveAll().utf8)
    }
    for _ in 0..<400 where origin.recordedBytes.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
    let bytes = try #require(origin.recordedBytes.first)
    guard case .complete(let header, let count) = ProxyProtocol.read(bytes.span) else {
      Issue.record("no header in \(bytes)")
      return
    }
    #expect(header.ends?.source.address == [127, 0, 0, 1])
    #expect(String(decoding: bytes[count...], as: UTF8.self) == "data")
    #expect((bytes.first == 0x0D) == (version == .v2))
  }

  @Test func `rules by server name see the ClientHello, and the server gets it untouched`() async throws {
    let named = Origin.echo()
    let other = Origin.echo()
    var mesh = TestMesh.database([TestMesh.endpoint(other.port, key: 1)])
    let second = mesh.cluster("named", endpoints: [TestMesh.endpoint(named.port, key: 2)])
    mesh.clusters?.append(second)
    mesh.tcp[0].ports[0].services[0].protocol = .tls
    mesh.tcp[0].ports[0].serverNames = [
      ServerNameRoute(
        pattern: ServerNamePattern("*.example.com"),
        route: TCPRoute(origin: nil, destinations: [WeightedDestination(cluster: 1, clusterName: "named", weight: 1)]))
    ]
    let hello = Self.hello("api.example.com")
    let (echoes, _) = try await mesh.serve(TestMesh.forward) { port in
      [hello, Self.hello("elsewhere")].map { bytes -> Bool in
        let wire = Wire.connect(port: port)
        for byte in bytes { wire.send([byte]) }
        return wire.receive(count: bytes.count) == bytes
      }
    }
    #expect(echoes == [true, true])
    #expect(named.connections == 1)
    #expect(other.connections == 1)
  }

  /// A ClientHello with nothing but a server name.
  static func hello(_ name: String) -> [UInt8] {
    func sized(_ bytes: [UInt8]) -> [UInt8] { [UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes }
    let names = sized(sized([0] + sized(Array(name.utf8))))
    let body: [UInt8] = [3, 3] + [UInt8](repeating: 7, count: 32) + [0, 0, 2, 0x13, 0x01, 1, 0] + sized([0, 0] + names)
    return [22, 3, 1] + sized([1, 0] + sized(body))
  }
}

extension String {
  fileprivate func replacingHost(_ host: String) -> String {
    split(separator: "mysqldb:3306", omittingEmptySubsequences: false).joined(separator: host)
  }
}
