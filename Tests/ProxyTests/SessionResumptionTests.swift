import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// TLS sessions that go on: at gateways, towards servers outside the mesh, and between nodes.
@Suite("Session resumption", .serialized) struct SessionResumptionTests {
  private static let get = GatewayTLSTests.get

  private static func client(_ signer: CertificateSigner, _ identity: TLSIdentity? = nil, _ version: TLSVersion) throws
    -> TLSContext
  {
    var options = TLSOptions(maximum: version)
    options.resumesSessions = true
    return try .client(
      identity: identity, trust: .authorities([signer.certificate]), protocols: ["http/1.1"], minimum: .tls12, options: options)
  }

  /// One request; whether its connection went on with an earlier session. Tickets are taken in with the answer.
  private static func ask(_ port: UInt16, _ context: TLSContext, account: String = "gateway") -> String {
    let wire = Wire.connect(port: port)
    let names = ExpectedPeer.names(["spiffe://cluster.local/ns/default/sa/\(account)"])
    guard let session = try? TLSSession(context, descriptor: wire.descriptor, serverName: "a.example", expecting: names),
      session.handshake() == .done
    else { return "failed" }
    var request = Self.get
    request.withUTF8 { _ = session.write(UnsafeRawBufferPointer($0)) }
    var buffer = [UInt8](repeating: 0, count: 4096)
    guard case .bytes = buffer.withUnsafeMutableBytes({ session.read(into: $0) }) else { return "no answer" }
    session.shutdown()
    return session.isResumed ? "resumed" : "new"
  }

  @Test(arguments: [TLSVersion.tls12, .tls13])
  func `whichever worker accepts, a client goes on, until the server's certificate changes`(version: TLSVersion) async throws {
    let signer = try CertificateFiles.signer()
    let files = [try CertificateFiles("gateway", signedBy: signer), try CertificateFiles("gateway", signedBy: signer)]
    let origin = Origin.text("inside")
    func tls(_ files: CertificateFiles) -> ServerTLS {
      ServerTLS(sources: [.files(certificate: files.certificate, key: files.key)])
    }
    let first = GatewayTLSTests.state(GatewayTLSTests.served(origin, tls(files[0])))
    let runtime = try ProxyRuntime(workers: 4, serving: first, seed: 7)
    let port = await runtime.publish(first).listeners.first?.address?.port ?? 0
    let context = try Self.client(signer, nil, version)
    let before = await blocking { (0..<12).map { _ in Self.ask(port, context) } }
    #expect(before == ["new"] + Array(repeating: "resumed", count: 11))
    // A new revision that changes nothing about the server leaves its sessions as they are.
    _ = await runtime.publish(GatewayTLSTests.state(GatewayTLSTests.served(origin, tls(files[0]), revision: 2)))
    #expect(await blocking { Self.ask(port, context) } == "resumed")
    _ = await runtime.publish(GatewayTLSTests.state(GatewayTLSTests.served(origin, tls(files[1]), revision: 3)))
    #expect(await blocking { (0..<2).map { _ in Self.ask(port, context) } } == ["new", "resumed"])
    let statistics = await runtime.statistics()
    #expect(statistics.counters.handshakes == 15)
    #expect(statistics.counters.handshakesResumed == 13)
    await runtime.stop()
  }

  @Test func `a client certificate counts as long as the rules by which it was accepted`() async throws {
    let signer = try CertificateFiles.signer()
    let server = try CertificateFiles("gateway", signedBy: signer)
    let friend = try CertificateFiles("friend", signedBy: signer)
    let authorities = friend.certificate + ".ca"
    try CertificateFiles.write(signer.certificate.pem, to: authorities)
    let origin = Origin.text("inside")
    func state(_ names: [String], _ revision: UInt64) -> ProxyState {
      var tls = ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])
      tls.clientCertificate = .required
      tls.authorities = .file(authorities)
      tls.subjectAltNames = names
      return GatewayTLSTests.state(GatewayTLSTests.served(origin, tls, revision: revision))
    }
    let first = state(["spiffe://cluster.local/ns/default/sa/friend"], 1)
    let runtime = try ProxyRuntime(workers: 2, serving: first, seed: 7)
    let port = await runtime.publish(first).listeners.first?.address?.port ?? 0
    let context = try Self.client(signer, friend.identity, .tls12)
    #expect(await blocking { (0..<3).map { _ in Self.ask(port, context) } } == ["new", "resumed", "resumed"])
    _ = await runtime.publish(state(["another.example"], 2))
    #expect(await blocking { Self.ask(port, context) } == "failed")
    await runtime.stop()
  }

  private static let hasOpenSSL = access("/usr/bin/openssl", X_OK) == 0

  @Test(.enabled(if: hasOpenSSL), arguments: ["-tls1_2", "-tls1_2 -no_ticket"])
  func `openssl resumes by ticket and by number`(arguments: String) async throws {
    let signer = try CertificateFiles.signer()
    let files = try CertificateFiles("gateway", signedBy: signer)
    let mesh = GatewayTLSTests.served(
      Origin.text("inside"), ServerTLS(sources: [.files(certificate: files.certificate, key: files.key)]))
    let (said, _) = try await mesh.serve(GatewayTLSTests.kind) { port -> String in
      let command =
        "timeout 20 openssl s_client -connect 127.0.0.1:\(port) -servername a.example -reconnect \(arguments) </dev/null 2>&1"
      guard let pipe = popen(command, "r") else { return "" }
      defer { pclose(pipe) }
      var text = ""
      var line = [CChar](repeating: 0, count: 4096)
      while fgets(&line, Int32(line.count), pipe) != nil {
        text += String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      }
      return text
    }
    #expect(said.split(separator: "\n").count { $0.hasPrefix("Reused, ") } == 5)
    #expect(said.split(separator: "\n").count { $0.hasPrefix("New, ") } == 1)
  }

  /// A TLS server outside the mesh: a gateway of another proxy. Each answer ends its connection.
  private func originate(_ tls: @escaping @Sendable (CertificateFiles, String) -> UpstreamTLS) async throws -> ProxyCounters {
    let signer = try CertificateFiles.signer()
    let (server, own) = (try CertificateFiles("gateway", signedBy: signer), try CertificateFiles("own", signedBy: signer))
    let authorities = own.certificate + ".ca"
    try CertificateFiles.write(signer.certificate.pem, to: authorities)
    var ending = ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])
    ending.clientCertificate = .optional
    ending.authorities = .file(authorities)
    let origin = Origin.text("outside")
    let outside = GatewayTLSTests.served(origin, ending)
    let settings = tls(own, authorities)
    let far = GatewayTLSTests.state(outside)
    let runtime = try ProxyRuntime(workers: 1, serving: far, seed: 7)
    let port = await runtime.publish(far).listeners.first?.address?.port ?? 0
    var mesh = TestMesh()
    var cluster = mesh.cluster(endpoints: [TestMesh.endpoint(port)])
    cluster.tls = settings
    cluster.connectionPool.maxRequestsPerConnection = 1
    mesh.clusters = [cluster]
    let (answers, statistics) = try await mesh.run { port in
      (0..<4).map { _ in TestClient(port: port).request(MeshHopTests.get)?.status }
    }
    await runtime.stop()
    #expect(answers == Array(repeating: 200, count: 4))
    return statistics.counters
  }

  @Test func `connections to a server outside the mesh go on with the session of the first`() async throws {
    let name = "spiffe://cluster.local/ns/default/sa/gateway"
    let simple = try await originate { _, authorities in
      .simple(serverName: "a.example", subjectAltNames: [name], caCertificates: authorities, insecureSkipVerify: false)
    }
    #expect(simple.upstreamHandshakes == 4)
    #expect(simple.upstreamHandshakesResumed == 3)
    let mutual = try await originate { own, authorities in
      .mutual(
        serverName: "a.example", subjectAltNames: [name], caCertificates: authorities, clientCertificate: own.certificate,
        privateKey: own.key, insecureSkipVerify: false)
    }
    #expect(mutual.upstreamHandshakesResumed == 3)
  }
}

extension SessionResumptionTests {
  @Test func `hops between nodes go on under the same identities, and a renewed certificate begins anew`() async throws {
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    let origin = Origin.text("far")
    let server = MeshHopTests.server(origin.port, try authority.identity("reviews", bundle: bundle))
    let far = try ProxyRuntime(workers: 2, serving: server)
    let meshPort = await far.publish(server).address(of: .meshInbound)?.port ?? 0
    func client(_ revision: UInt64) throws -> ProxyState {
      var mesh = TestMesh()
      mesh.revision = revision
      mesh.connectionPool.maxRequestsPerConnection = 1
      mesh.workloads.append(TestMesh.facts("reviews-v1", "default", "reviews", node: "n2"))
      let route = Endpoint.MeshRoute(
        address: "127.0.0.1", port: meshPort, serverName: "\(origin.port).reviews-v1.default.workload.mesh",
        identity: TestMesh.identity("reviews"))
      mesh.endpoints = [TestMesh.endpoint(origin.port, mesh: route, workload: 1)]
      var state = mesh.state()
      state.identities = ProxyIdentities(["default/client@n1": try authority.identity("client", bundle: bundle)])
      return state
    }
    let first = try client(1)
    let near = try ProxyRuntime(workers: 1, serving: first)
    let port = await near.publish(first).address(of: TestMesh.client)?.port ?? 0
    for renewed in [false, true] {
      if renewed { _ = await near.publish(try client(2)) }
      let answers = await blocking {
        (0..<3).map { _ in TestClient(port: port).request(MeshHopTests.get)?.status }
      }
      #expect(answers == [200, 200, 200])
    }
    let counters = await near.statistics().counters
    #expect(counters.upstreamHandshakes == 6)
    #expect(counters.upstreamHandshakesResumed == 4)
    #expect(await far.statistics().counters.handshakesResumed == 4)
    #expect(origin.requests.allSatisfy { $0.contains("URI=spiffe://cluster.local/ns/default/sa/client") })
    await near.stop()
    await far.stop()
  }
}
