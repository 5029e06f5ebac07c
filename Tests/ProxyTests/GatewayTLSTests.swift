import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// Istio, Gateway: TLS modes, server names, PROXY protocol.
@Suite("Gateway TLS", .serialized) struct GatewayTLSTests {
  static let port: UInt16 = 8443
  static let kind = ProxyListener.Kind.gateway(port: port)
  static let get = "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n"

  /// Servers of one port, each for the hosts it names.
  private func mesh(_ origin: Origin, _ servers: [(hosts: [String], role: GatewayListener.Role)]) -> TestMesh {
    var mesh = TestMesh()
    mesh.endpoints = [TestMesh.endpoint(origin.port)]
    mesh.gateways = servers.enumerated().map { index, server in
      var listener = GatewayListener(
        port: Self.port, gateways: ["default/edge"], localWorkload: 0, table: mesh.table(port: Self.port))
      listener.role = server.role
      listener.server = "default/edge/\(index)"
      listener.serverNames = server.hosts.map { ServerNamePattern($0) }
      return listener
    }
    return mesh
  }

  private static func tls(_ files: CertificateFiles, _ change: (inout ServerTLS) -> Void = { _ in }) -> ServerTLS {
    var tls = ServerTLS(sources: [.files(certificate: files.certificate, key: files.key)])
    change(&tls)
    return tls
  }

  private static func client(
    _ identity: TLSIdentity? = nil, protocols: [String] = ["http/1.1"], minimum: TLSVersion = .tls12
  ) throws -> TLSContext {
    try .client(identity: identity, trust: .nobody, protocols: protocols, minimum: minimum)
  }

  private static let routes = [
    TCPRoute(origin: nil, destinations: [WeightedDestination(cluster: 0, clusterName: "c", weight: 1)])
  ]

  @Test func `each server shows its own certificate, and a name of no server is refused`() async throws {
    let signer = try CertificateFiles.signer()
    let (a, b) = (try CertificateFiles("a", signedBy: signer), try CertificateFiles("b", signedBy: signer))
    let origin = Origin.text("inside")
    let mesh = mesh(origin, [(["a.example"], .https(Self.tls(a))), (["*.example"], .https(Self.tls(b)))])
    let context = try Self.client()
    let (seen, statistics) = try await mesh.serve(Self.kind) { port -> [String] in
      ["a.example", "x.example", "elsewhere"].map { name in
        guard let client = TLSWire(port: port, context, serverName: name) else { return "refused" }
        client.send(Self.get)
        let answer = client.receive(until: "inside")
        let shown = client.session.peerChain.first
        return "\(shown == a.leaf ? "a" : shown == b.leaf ? "b" : "?") \(answer.prefix(15))"
      }
    }
    #expect(seen == ["a HTTP/1.1 200 OK", "b HTTP/1.1 200 OK", "refused"])
    #expect(statistics.counters.handshakeFailures == 1)
    let request = try #require(origin.requests.first)
    #expect(request.contains("x-forwarded-proto: https"))
  }

  @Test func `a request for a host of another server is misdirected`() async throws {
    let signer = try CertificateFiles.signer()
    let (a, b) = (try CertificateFiles("a", signedBy: signer), try CertificateFiles("b", signedBy: signer))
    let origin = Origin.text("inside")
    let mesh = mesh(origin, [(["a.example"], .https(Self.tls(a))), (["reviews"], .https(Self.tls(b)))])
    let context = try Self.client()
    let (answers, _) = try await mesh.serve(Self.kind) { port in
      ["a.example", "reviews"].map { name -> String in
        guard let client = TLSWire(port: port, context, serverName: name) else { return "refused" }
        client.send(Self.get)
        return String(client.receive(until: "\r\n").prefix(12))
      }
    }
    #expect(answers == ["HTTP/1.1 421", "HTTP/1.1 200"])
  }

  @Test func `MUTUAL wants a client of its authorities, OPTIONAL_MUTUAL takes one or none`() async throws {
    let (ours, theirs) = (try CertificateFiles.signer(), try CertificateFiles.signer("n9"))
    let server = try CertificateFiles("gateway", signedBy: ours)
    let (friend, stranger) = (try CertificateFiles("friend", signedBy: ours), try CertificateFiles("friend", signedBy: theirs))
    let authorities = friend.certificate + ".ca"
    try CertificateFiles.write(ours.certificate.pem, to: authorities)
    let origin = Origin.text("inside")
    let contexts = try [nil, friend.identity, stranger.identity].map { try Self.client($0) }
    func answers(
      _ mode: ServerTLS.ClientCertificate, names: [String] = [], pins: [String] = [], acceptsUnverified: Bool = false
    ) async throws -> [Bool] {
      let tls = Self.tls(server) {
        $0.acceptsUnverified = acceptsUnverified
        $0.clientCertificate = mode
        $0.authorities = .file(authorities)
        $0.subjectAltNames = names
        $0.certificateHashes = pins
      }
      let (seen, _) = try await mesh(origin, [(["*"], .https(tls))]).serve(Self.kind) { port in
        contexts.map { context -> Bool in
          guard let client = TLSWire(port: port, context, serverName: "a") else { return false }
          client.send(Self.get)
          return client.receive(until: "inside").contains("200 OK")
        }
      }
      return seen
    }
    #expect(try await answers(.required) == [false, true, false])
    #expect(try await answers(.optional) == [true, true, false])
    #expect(try await answers(.required, acceptsUnverified: true) == [false, true, true])
    #expect(try await answers(.optional, acceptsUnverified: true) == [true, true, true])
    let name = "spiffe://cluster.local/ns/default/sa/friend"
    #expect(try await answers(.required, names: [name]) == [false, true, false])
    #expect(try await answers(.required, names: ["other.example"]) == [false, false, false])
    #expect(try await answers(.required, pins: [hexString(friend.leaf.fingerprint)]) == [false, true, false])
    #expect(try await answers(.required, pins: [String(repeating: "0", count: 64)]) == [false, false, false])
  }

  @Test func `PASSTHROUGH leads by server name without looking inside, beside servers that end TLS`() async throws {
    let server = try CertificateFiles("gateway", signedBy: CertificateFiles.signer())
    let origin = Origin.echo()
    let through = ServerNameRoute(pattern: ServerNamePattern("db.through"), route: Self.routes[0])
    let mesh = mesh(
      origin, [(["*.through"], .passthrough([through])), (["ended.example"], .tls(Self.tls(server), Self.routes))])
    let hello = TCPForwardingTests.hello("db.through")
    let context = try Self.client()
    let (seen, statistics) = try await mesh.serve(Self.kind) { port -> [Bool] in
      let wire = Wire.connect(port: port)
      wire.send(hello)
      let passed = wire.receive(count: hello.count) == hello
      let other = Wire.connect(port: port)
      other.send(TCPForwardingTests.hello("other.through"))
      let nothing = other.receive().isEmpty
      guard let client = TLSWire(port: port, context, serverName: "ended.example") else { return [] }
      client.send("plain inside.")
      return [passed, nothing, client.receive(until: ".") == "plain inside."]
    }
    #expect(seen == [true, true, true])
    #expect(MeshTestStatistics.total(statistics, "istio_tcp_connections_opened_total") == 3)
    #expect(origin.connections == 2)
  }

  @Test func `a client may resume its session with the same server, and with no other`() async throws {
    let signer = try CertificateFiles.signer()
    let (a, b) = (try CertificateFiles("a", signedBy: signer), try CertificateFiles("b", signedBy: signer))
    let mesh = mesh(Origin.text("inside"), [(["a.example"], .https(Self.tls(a))), (["b.example"], .https(Self.tls(b)))])
    // A client whose cache is keyed by one expectation, whatever name it asks for: the server has to refuse.
    var options = TLSOptions()
    options.resumesSessions = true
    let context = try TLSContext.client(
      identity: nil, trust: .authorities([signer.certificate]), protocols: ["http/1.1"], minimum: .tls12, options: options)
    let (resumed, _) = try await mesh.serve(Self.kind) { port in
      ["a.example", "a.example", "b.example", "b.example"].map { name -> String in
        let wire = Wire.connect(port: port)
        let account = name.prefix(1)
        guard
          let session = try? TLSSession(
            context, descriptor: wire.descriptor, serverName: name,
            expecting: .names(["spiffe://cluster.local/ns/default/sa/\(account)"])), session.handshake() == .done
        else { return "failed" }
        // Tickets come behind the handshake: reading an answer takes them in.
        var request = Self.get
        request.withUTF8 { _ = session.write(UnsafeRawBufferPointer($0)) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        _ = buffer.withUnsafeMutableBytes { session.read(into: $0) }
        // A session that ends without a goodbye is not resumed.
        session.shutdown()
        return session.isResumed ? "resumed" : "new"
      }
    }
    #expect(resumed == ["new", "resumed", "new", "resumed"])
  }

  @Test func `a port with PROXY protocol believes the header, and closes a connection without one`() async throws {
    let origin = Origin.text("inside")
    var mesh = mesh(origin, [(["*"], .http)])
    mesh.gateways[0].expectsProxyProtocol = true
    let (answers, statistics) = try await mesh.serve(Self.kind) { port -> [String] in
      var answers: [String] = []
      for header in ["PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n", "PROXY UNKNOWN\r\n", ""] {
        let wire = Wire.connect(port: port)
        for byte in header.utf8 { wire.send([byte]) }
        wire.send(Self.get)
        answers.append(String(wire.receiveAll().prefix(15)))
      }
      return answers
    }
    #expect(answers == ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK", ""])
    #expect(origin.requests.map { $0.contains("x-forwarded-for: 203.0.113.9") } == [true, false])
    #expect(statistics.counters.handshakeFailures == 1)
  }

  @Test func `a server whose certificate is missing refuses, and others go on`() async throws {
    let files = try CertificateFiles("a", signedBy: CertificateFiles.signer())
    let missing = ServerTLS(sources: [.missing("there is no Secret")])
    let mesh = mesh(Origin.text("inside"), [(["a"], .https(Self.tls(files))), (["b"], .https(missing))])
    let context = try Self.client()
    let (works, _) = try await mesh.serve(Self.kind) { port in
      ["a", "b"].map { TLSWire(port: port, context, serverName: $0) != nil }
    }
    #expect(works == [true, false])
  }

  @Test func `versions below the server's minimum are refused`() async throws {
    let files = try CertificateFiles("a", signedBy: CertificateFiles.signer())
    var old = TLSOptions()
    old.maximum = .tls12
    let context = try TLSContext.client(
      identity: nil, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12, options: old)
    for (minimum, works) in [(ServerTLS.Version.tls12, true), (.tls13, false)] {
      let mesh = mesh(Origin.text("inside"), [(["a"], .https(Self.tls(files) { $0.minimum = minimum }))])
      let (connected, _) = try await mesh.serve(Self.kind) { TLSWire(port: $0, context, serverName: "a") != nil }
      #expect(connected == works)
    }
  }
}

extension GatewayTLSTests {
  /// A gateway with one server for all names, whose requests go to the origin.
  static func served(_ origin: Origin, _ tls: ServerTLS, revision: UInt64 = 1) -> TestMesh {
    var mesh = TestMesh()
    mesh.revision = revision
    mesh.endpoints = [TestMesh.endpoint(origin.port)]
    var listener = GatewayListener(
      port: port, gateways: ["default/edge"], localWorkload: 0, table: mesh.table(port: port))
    listener.role = .https(tls)
    listener.server = "default/edge/0"
    listener.serverNames = [ServerNamePattern("*")]
    mesh.gateways = [listener]
    return mesh
  }

  static func state(_ mesh: TestMesh) -> ProxyState {
    ProxyState(snapshot: mesh.snapshot, listeners: [ProxyListener(kind, on: .ip(.loopback, port: 0))])
  }
}
