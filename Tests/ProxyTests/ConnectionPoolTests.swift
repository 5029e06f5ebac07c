import Glibc
import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Telemetry
import Testing
import Transport

/// `connectionPool` of a DestinationRule, each setting seen from the server (Istio, DestinationRule).
@Suite("Connection pools", .serialized) struct ConnectionPoolTests {
  private static let get = MeshHopTests.get

  private func run<Result: Sendable>(
    _ origin: Origin, _ spoken: PortProtocol = .http, _ change: (inout ConnectionPoolPolicy) -> Void,
    _ body: @escaping @Sendable (UInt16) -> Result
  ) async throws -> (Result, ProxyStatistics) {
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    change(&mesh.connectionPool)
    var cluster = mesh.cluster()
    cluster.protocol = spoken
    mesh.clusters = [cluster]
    return try await mesh.run { body($0) }
  }

  /// Offsets of PING frames without ACK (RFC 9113 6.7).
  private static func pings(_ bytes: [UInt8]) -> [[UInt8]] {
    let head: [UInt8] = [0, 0, 8, 6, 0, 0, 0, 0, 0]
    guard bytes.count >= 17 else { return [] }
    return (0...(bytes.count - 17)).compactMap { at in
      bytes[at..<(at + 9)].elementsEqual(head) ? Array(bytes[(at + 9)..<(at + 17)]) : nil
    }
  }

  @Test func `http2KeepAlive asks a silent connection for a sign of life, and closes it when none comes`() async throws {
    let origin = Origin { origin, wire in
      let peer = HTTP2Peer(.server, over: wire)
      peer.pump { $0.arrived.count == 1 && $0.messages[$0.arrived[0]]?.isComplete == true }
      peer.respond(peer.arrived[0], body: Array("fine".utf8))
      peer.flush()
      // Three are answered, and from then on none.
      var answered = 0
      while true {
        let bytes = wire.receive()
        if bytes.isEmpty { break }
        for payload in Self.pings(bytes) {
          if answered < 3 { wire.send([0, 0, 8, 6, 1, 0, 0, 0, 0] + payload) }
          answered += 1
        }
      }
      origin.note(answered)
      origin.record([1])
    }
    let (text, _) = try await run(origin, .http2) {
      $0.http2KeepAlive = HTTP2KeepAlive(interval: .milliseconds(60), timeout: .milliseconds(150))
    } _: { port -> String in
      let client = TestClient(port: port)
      let answer = client.request(Self.get)
      _ = eventually { !origin.recordedBytes.isEmpty }
      return String(decoding: answer?.body ?? [], as: UTF8.self)
    }
    #expect(text == "fine")
    #expect(origin.noted == 4)
  }

  @Test func `maxConcurrentStreams opens another connection, and maxConnections lets requests wait`() async throws {
    let awaited = Mutex(0)
    let sole = Mutex<Origin?>(nil)
    let origin = Origin.http2 { peer, id in
      // No request ends before the others have had to look for a connection of their own.
      _ = eventually { sole.withLock { $0?.connections ?? 0 } >= awaited.withLock { $0 } }
      peer.respond(id, body: [])
      peer.flush()
    }
    sole.withLock { $0 = origin }
    func ask(_ change: @escaping (inout ConnectionPoolPolicy) -> Void) async throws -> [Int?] {
      try await run(origin, .http2, change) { port -> [Int?] in
        let clients = (0..<3).map { _ in TestClient(port: port) }
        for client in clients { client.wire.send("GET /slow HTTP/1.1\r\nHost: reviews\r\n\r\n") }
        return clients.map { $0.response()?.status }
      }.0
    }
    #expect(try await ask { _ in } == [200, 200, 200])
    #expect(origin.connections == 1)
    awaited.withLock { $0 = 4 }
    #expect(try await ask { $0.maxConcurrentStreams = 1 } == [200, 200, 200])
    #expect(origin.connections == 4)
    #expect(
      try await ask {
        $0.maxConcurrentStreams = 1
        $0.maxConnections = 1
      } == [200, 200, 200])
    #expect(origin.connections == 5)
    sole.withLock { $0 = nil }
  }

  @Test(arguments: [PortProtocol.http, .http2])
  func `maxRequestsPerConnection ends a connection after so many`(spoken: PortProtocol) async throws {
    let origin =
      spoken == .http2
      ? Origin.http2 { peer, id in
        peer.respond(id, body: [])
        peer.flush()
      } : Origin.text("")
    let (statuses, _) = try await run(origin, spoken) {
      $0.maxRequestsPerConnection = 2
    } _: { port -> [Int?] in
      let client = TestClient(port: port)
      return (0..<6).map { _ in client.request(Self.get)?.status }
    }
    #expect(statuses == Array(repeating: 200, count: 6))
    #expect(origin.connections == 3)
  }

  @Test(arguments: [PortProtocol.http, .http2])
  func `idleTimeout and maxConnectionDuration end connections that nobody uses`(spoken: PortProtocol) async throws {
    for isIdle in [true, false] {
      let ended = Mutex(false)
      let origin = Origin { _, wire in
        if spoken == .http2 {
          let peer = HTTP2Peer(.server, over: wire)
          peer.pump { $0.arrived.count == 1 && $0.messages[$0.arrived[0]]?.isComplete == true }
          peer.respond(peer.arrived[0], body: [])
          peer.flush()
        } else {
          _ = wire.receive(until: "\r\n\r\n")
          wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        }
        while !wire.receive().isEmpty {}
        ended.withLock { $0 = true }
      }
      let (status, _) = try await run(origin, spoken) {
        if isIdle { $0.idleTimeout = .milliseconds(100) } else { $0.maxConnectionDuration = .milliseconds(100) }
      } _: { port -> Int? in
        let client = TestClient(port: port)
        let status = client.request(Self.get)?.status
        return eventually { ended.withLock { $0 } } ? status : nil
      }
      #expect(status == 200)
    }
  }

  @Test func `an opaque connection ends after idleTimeout, and after maxConnectionDuration however busy it is`() async throws {
    let origin = Origin.echo()
    for isIdle in [true, false] {
      let mesh = TestMesh.database([TestMesh.endpoint(origin.port)]) { cluster in
        if isIdle {
          cluster.connectionPool.tcpIdleTimeout = .milliseconds(150)
        } else {
          cluster.connectionPool.maxConnectionDuration = .milliseconds(150)
        }
      }
      let (isClosed, _) = try await mesh.serve(TestMesh.forward) { port -> Bool in
        let wire = Wire.connect(port: port)
        wire.send("one.")
        guard wire.receive(until: ".") == "one." else { return false }
        guard !isIdle else { return wire.receive().isEmpty }
        for _ in 0..<2000 {
          guard wire.send("more."), wire.receive(until: ".") == "more." else { return true }
        }
        return false
      }
      #expect(isClosed)
    }
  }

  /// Seconds of silence after which a socket of this process that is connected to this port asks its peer; nil when it never does.
  private static func silenceAllowed(towards port: UInt16) -> Int32? {
    for descriptor in Int32(3)..<4_096 {
      var peer = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let known = withUnsafeMutablePointer(to: &peer) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
      }
      guard known == 0, peer.sin_family == sa_family_t(AF_INET), UInt16(bigEndian: peer.sin_port) == port else { continue }
      var (isOn, seconds) = (Int32(0), Int32(0))
      var size = socklen_t(MemoryLayout<Int32>.size)
      getsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &isOn, &size)
      getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, &seconds, &size)
      return isOn == 0 ? nil : seconds
    }
    return nil
  }

  @Test(arguments: [PortProtocol.http, .http2])
  func `tcpKeepalive is set on the server's connection`(spoken: PortProtocol) async throws {
    for isSet in [true, false] {
      let origin =
        spoken == .http2
        ? Origin.http2 { peer, id in
          peer.respond(id, body: [])
          peer.flush()
        } : Origin.text("")
      let (seconds, _) = try await run(origin, spoken) {
        $0.keepAlive = isSet ? TCPKeepAlive(time: .seconds(30), interval: .seconds(5), probes: 3) : nil
      } _: { port -> Int32? in
        let client = TestClient(port: port)
        return client.request(Self.get)?.status == 200 ? Self.silenceAllowed(towards: origin.port) : -1
      }
      #expect(seconds == (isSet ? 30 : nil))
    }
  }

  @Test func `a PROXY header stands in front of requests and of opaque bytes, in both versions`() async throws {
    for version in ProxyProtocolVersion.allCases {
      let origin = Origin { origin, wire in
        var bytes: [UInt8] = []
        while !["GET /", "hello"].contains(where: { String(decoding: bytes, as: UTF8.self).contains($0) }) {
          let part = wire.receive()
          if part.isEmpty { return }
          bytes += part
        }
        origin.record(Array(bytes.prefix(12)))
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        _ = wire.receive()
      }
      var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
      var cluster = mesh.cluster()
      cluster.proxyProtocol = version
      mesh.clusters = [cluster]
      let (statuses, _) = try await mesh.run { port in
        (0..<2).map { _ in TestClient(port: port).request(Self.get)?.status }
      }
      #expect(statuses == [200, 200])
      let opaque = TestMesh.database([TestMesh.endpoint(origin.port)]) { $0.proxyProtocol = version }
      _ = try await opaque.serve(TestMesh.forward) { port -> String in
        let wire = Wire.connect(port: port)
        wire.send("hello\r\n\r\n")
        return wire.receive(until: "\r\n\r\n")
      }
      let signature: [UInt8] =
        version == .v1 ? Array("PROXY TCP4 1".utf8) : [0x0D, 0x0A, 0x0D, 0x0A, 0, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
      #expect(origin.recordedBytes.count == 3)
      #expect(origin.recordedBytes.allSatisfy { $0 == signature })
      // One connection for each client: the header says whose it is.
      #expect(origin.connections == 3)
    }
  }

  @Test func `a leaving workload has its opaque connections counted, and loses them when it is gone`() async throws {
    let origin = Origin.echo()
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    let identity = try authority.identity("reviews", bundle: bundle)
    let state = MeshHopTests.server(origin.port, identity)
    let far = try ProxyRuntime(workers: 1, serving: state)
    let meshPort = await far.publish(state).address(of: .meshInbound)?.port ?? 0
    let route = Endpoint.MeshRoute(
      address: "127.0.0.1", port: meshPort, serverName: "\(origin.port).reviews-v1.default.workload.mesh",
      identity: TestMesh.identity("reviews"))
    let mesh = TestMesh.database([TestMesh.endpoint(origin.port, mesh: route)])
    let client = ProxyState(
      snapshot: mesh.snapshot, listeners: [ProxyListener(TestMesh.forward, on: .ip(.loopback, port: 0))],
      identities: ProxyIdentities(["default/client@n1": try authority.identity("client", bundle: bundle)]))
    let near = try ProxyRuntime(workers: 1, serving: client)
    let port = await near.publish(client).address(of: TestMesh.forward)?.port ?? 0
    let wire = await blocking { () -> Wire in
      let wire = Wire.connect(port: port)
      wire.send("one.")
      _ = wire.receive(until: ".")
      return wire
    }
    #expect(far.requestsUnderWay(to: "default/reviews-v1@n2") == 1)
    // A new revision is no reason to end it.
    var next = state
    next.snapshot = MeshHopTests.server(origin.port, identity).snapshot
    _ = await far.publish(next)
    #expect(await blocking { wire.send("two.") && wire.receive(until: ".") == "two." })
    #expect(far.requestsUnderWay(to: "default/reviews-v1@n2") == 1)
    _ = await far.publish(MeshHopTests.server(origin.port, identity, without: true))
    #expect(await blocking { wire.receive().isEmpty })
    await near.stop()
    await far.stop()
  }

  @Test func `a connection that ends is no longer waited for`() async throws {
    let origin = Origin.echo()
    var mesh = TestMesh.database([TestMesh.endpoint(origin.port, isLocal: true, workload: 1)])
    mesh.workloads.append(TestMesh.facts("db", "default", "db"))
    let client = mesh.snapshot.localWorkloads[0]
    let db = LocalWorkload(
      workload: 1, identity: TestMesh.identity("db"), address: "127.0.0.1",
      ports: [WorkloadRecord.Port(name: "tcp", servicePort: 3306, port: origin.port, protocol: .tcp)], outbound: 0,
      outboundPort: nil, isGateway: false, health: .healthy)
    mesh.locals = [client, db]
    let state = ProxyState(
      snapshot: mesh.snapshot, listeners: [ProxyListener(TestMesh.forward, on: .ip(.loopback, port: 0))])
    let runtime = try ProxyRuntime(workers: 1, serving: state)
    let port = await runtime.publish(state).address(of: TestMesh.forward)?.port ?? 0
    let wire = await blocking { () -> Wire in
      let wire = Wire.connect(port: port)
      wire.send("one.")
      _ = wire.receive(until: ".")
      return wire
    }
    #expect(runtime.requestsUnderWay(to: "default/db@n1") == 1)
    await blocking {
      wire.endSending()
      _ = wire.receiveAll()
    }
    for _ in 0..<400 where runtime.requestsUnderWay(to: "default/db@n1") > 0 { try await Task.sleep(for: .milliseconds(5)) }
    #expect(runtime.requestsUnderWay(to: "default/db@n1") == 0)
    await runtime.stop()
  }
}
