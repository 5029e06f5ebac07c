import Glibc
import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// Peers that ask for no server name, as ztunnel does: the authority of CONNECT chooses the workload, and mTLS says who asks.
@Suite("HBONE without a server name", .serialized) struct UnnamedPeerTests {
  /// An HTTP/2 client over mTLS that sends no SNI.
  private final class Peer {
    let wire: Wire
    let tls: TLSSession
    let http2: HTTP2Peer

    init?(port: UInt16, _ context: TLSContext, expecting account: String) {
      wire = Wire.connect(port: port)
      let expected = ExpectedPeer.members([TestMesh.identity(account)])
      guard let tls = try? TLSSession(context, descriptor: wire.descriptor, expecting: expected), tls.handshake() == .done
      else {
        return nil
      }
      self.tls = tls
      http2 = HTTP2Peer(.client, over: wire)
    }

    /// Moves frames through TLS until the condition holds or the connection ends.
    func pump(until isDone: (HTTP2Peer) -> Bool) -> Bool {
      var buffer = [UInt8](repeating: 0, count: 16 * 1024)
      while !isDone(http2) {
        var output: [UInt8] = []
        while http2.session.wantsWrite {
          http2.session.send(into: &output)
          if output.isEmpty { break }
          _ = output.withUnsafeBytes { tls.write($0) }
          output.removeAll()
        }
        if isDone(http2) { break }
        guard case .bytes(let count) = buffer.withUnsafeMutableBytes({ tls.read(into: $0) }) else { return isDone(http2) }
        http2.receive(Array(buffer.prefix(count)))
      }
      return true
    }

    func connect(_ authority: String) -> Int32 {
      http2.open("CONNECT \(authority) HTTP/1.1\r\nHost: \(authority)\r\n\r\n", ends: false)
    }

    func status(_ id: Int32) -> Int? {
      _ = pump { $0.messages[id]?.status != nil || $0.messages[id]?.end != nil }
      return http2.messages[id]?.status
    }
  }

  private static func context(_ authority: MeshHopTests.Authority, _ bundle: TrustBundle) throws -> TLSContext {
    let key = PrivateKey.generate()
    let leaf = try authority.signer.issue(
      to: key.publicKey, identity: TestMesh.identity("client"), now: MeshHopTests.Authority.today, lifetime: 3600)
    return try .client(identity: TLSIdentity(chain: [leaf], key: key), trust: .members(bundle), protocols: ["h2"])
  }

  /// A node with two workloads at different addresses, each in front of an application.
  private static func node(
    _ authority: MeshHopTests.Authority, _ bundle: TrustBundle, ports: [UInt16], protocol spoken: PortProtocol
  ) throws -> ProxyState {
    var mesh = TestMesh()
    let names = ["ratings", "reviews"]
    mesh.workloads = names.map { TestMesh.facts("\($0)-v1", "default", $0, node: "n2") }
    mesh.locals = names.indices.map { index in
      LocalWorkload(
        workload: index, identity: TestMesh.identity(names[index]), address: index == 0 ? "127.0.0.9" : "127.0.0.1",
        ports: [WorkloadRecord.Port(name: "http", servicePort: 80, port: ports[index], protocol: spoken)],
        services: [index == 1 ? 0 : nil], outbound: 0, outboundPort: nil, isGateway: false, health: .healthy)
    }
    var identities: [String: ProxyIdentities.Workload] = [:]
    for name in names { identities["default/\(name)-v1@n2"] = try authority.identity(name, bundle: bundle) }
    return ProxyState(
      snapshot: mesh.snapshot, listeners: [ProxyListener(.meshInbound, on: .ip(.loopback, port: 0))],
      identities: ProxyIdentities(identities))
  }

  private func run<Result: Sendable>(
    ports: [UInt16], _ spoken: PortProtocol, _ body: @escaping @Sendable (UInt16, TLSContext) -> Result
  ) async throws -> (Result, ProxyStatistics) {
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    let state = try Self.node(authority, bundle, ports: ports, protocol: spoken)
    let runtime = try ProxyRuntime(workers: 1, serving: state, seed: 7)
    let port = await runtime.publish(state).address(of: .meshInbound)?.port ?? 0
    let context = try Self.context(authority, bundle)
    let result = await blocking { body(port, context) }
    var statistics = await runtime.statistics()
    for _ in 0..<400 where statistics.openConnections > 0 {
      try await Task.sleep(for: .milliseconds(5))
      statistics = await runtime.statistics()
    }
    await runtime.stop()
    return (result, statistics)
  }

  @Test func `an address, a service's name and a foreign address`() async throws {
    let origin = Origin.echo()
    let other = Origin.echo()
    let (seen, statistics) = try await run(ports: [closedPort(), origin.port], .tcp) { port, context -> [String] in
      // The address it came to is that of reviews.
      guard let peer = Peer(port: port, context, expecting: "reviews") else { return ["refused"] }
      return [
        "127.0.0.1:\(origin.port)", "reviews.default.svc.cluster.local:80", "127.0.0.1:\(other.port)",
        "127.0.0.9:\(origin.port)",
        "elsewhere:80",
      ].map { authority in
        let id = peer.connect(authority)
        guard peer.status(id) == 200 else { return "\(peer.status(id) ?? 0)" }
        peer.http2.write(id, Array("ping".utf8))
        peer.http2.end(id)
        _ = peer.pump { $0.messages[id]?.isComplete == true }
        return peer.http2.messages[id]?.text ?? ""
      }
    }
    #expect(seen == ["ping", "ping", "404", "404", "404"])
    #expect(other.connections == 0)
    #expect(MeshTestStatistics.total(statistics, "istio_tcp_connections_opened_total") == 2)
    let family = statistics.metrics.first { $0.name == "istio_tcp_connections_opened_total" }
    let principal = family?.labelNames.firstIndex(of: "source_principal")
    #expect(
      family?.series.allSatisfy { $0.labelValues[principal ?? 0] == "spiffe://cluster.local/ns/default/sa/client" } == true)
  }

  @Test func `a request without a tunnel has nobody to go to`() async throws {
    let origin = Origin.text("inside")
    let (status, _) = try await run(ports: [closedPort(), origin.port], .http) { port, context -> Int? in
      guard let peer = Peer(port: port, context, expecting: "reviews") else { return nil }
      return peer.status(peer.http2.open("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"))
    }
    #expect(status == 503)
    #expect(origin.connections == 0)
  }

  @Test func `requests inside a tunnel to an undeclared port are counted as requests of the peer`() async throws {
    let origin = Origin.text("inside")
    let (texts, statistics) = try await run(ports: [closedPort(), origin.port], .auto) { port, context -> [String] in
      guard let peer = Peer(port: port, context, expecting: "reviews") else { return ["refused"] }
      let id = peer.connect("127.0.0.1:\(origin.port)")
      guard peer.status(id) == 200 else { return ["no tunnel"] }
      for _ in 0..<2 {
        peer.http2.write(id, Array("GET /x HTTP/1.1\r\nHost: reviews\r\nx-mesh-source: default/ratings-v1@n2\r\n\r\n".utf8))
      }
      _ = peer.pump { ($0.messages[id]?.text.split(separator: "inside").count ?? 0) >= 2 || $0.messages[id]?.end != nil }
      peer.http2.end(id)
      _ = peer.pump { $0.messages[id]?.isComplete == true }
      return (peer.http2.messages[id]?.text ?? "").split(separator: "inside").map { String($0.prefix(15)) }
    }
    #expect(texts == ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK"])
    #expect(MeshTestStatistics.total(statistics, "istio_requests_total") == 2)
    #expect(MeshTestStatistics.total(statistics, "istio_tcp_connections_opened_total") == 0)
    #expect(origin.requests.count == 2)
    #expect(origin.requests.allSatisfy { $0.contains("URI=spiffe://cluster.local/ns/default/sa/client") })
    #expect(origin.requests.allSatisfy { !$0.contains("x-mesh-source") })
  }

  @Test func `a server that speaks first is heard inside a tunnel`() async throws {
    let origin = Origin { _, wire in
      wire.send("220 ready\r\n")
      _ = wire.receiveAll()
    }
    let (banner, statistics) = try await run(ports: [closedPort(), origin.port], .auto) { port, context -> String in
      guard let peer = Peer(port: port, context, expecting: "reviews") else { return "refused" }
      let id = peer.connect("127.0.0.1:\(origin.port)")
      _ = peer.pump { $0.messages[id]?.text == "220 ready\r\n" || $0.messages[id]?.end != nil }
      peer.http2.end(id)
      _ = peer.pump { $0.messages[id]?.isComplete == true }
      return peer.http2.messages[id]?.text ?? ""
    }
    #expect(banner == "220 ready\r\n")
    #expect(MeshTestStatistics.total(statistics, "istio_tcp_connections_opened_total") == 1)
  }
}
