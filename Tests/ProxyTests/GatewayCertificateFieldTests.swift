import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// `x-forwarded-client-cert` behind a gateway that verifies its clients (Envoy, `forward_client_cert_details`).
@Suite("Client certificates behind gateways", .serialized) struct GatewayCertificateFieldTests {
  private static let get =
    "GET / HTTP/1.1\r\nHost: reviews\r\nx-forwarded-client-cert: Hash=forged\r\nConnection: close\r\n\r\n"

  /// What the application reads from a client with a certificate and from one without.
  private func fields(
    _ mode: ForwardedClientCertificate?, named name: String = "x-forwarded-client-cert", showsIssuer: Bool = false,
    _ configure: @escaping @Sendable (inout MeshSettings) -> Void = { _ in }
  ) async throws -> [String] {
    let signer = try CertificateFiles.signer()
    let (server, friend) = (try CertificateFiles("gateway", signedBy: signer), try CertificateFiles("friend", signedBy: signer))
    let shown =
      showsIssuer ? try TLSIdentity(chain: [friend.leaf, signer.certificate], key: friend.identity.key) : friend.identity
    let authorities = friend.certificate + ".ca"
    try CertificateFiles.write(signer.certificate.pem, to: authorities)
    let origin = Origin.text("inside")
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    var tls = ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])
    tls.clientCertificate = .optional
    tls.authorities = .file(authorities)
    var listener = GatewayListener(
      port: GatewayTLSTests.port, gateways: ["default/edge"], localWorkload: 0, table: mesh.table(port: GatewayTLSTests.port))
    listener.role = .https(tls)
    listener.server = "default/edge/0"
    listener.serverNames = [ServerNamePattern("*")]
    mesh.gateways = [listener]
    mesh.gatewayClientCertificate = mode
    mesh.configure = configure
    let state = ProxyState(
      snapshot: mesh.snapshot, listeners: [ProxyListener(GatewayTLSTests.kind, on: .ip(.loopback, port: 0))])
    let runtime = try ProxyRuntime(workers: 1, serving: state, seed: 7)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    let contexts = try [shown, nil].map { identity in
      try TLSContext.client(identity: identity, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12)
    }
    await blocking {
      for context in contexts {
        guard let client = TLSWire(port: port, context, serverName: "a") else { continue }
        client.send(Self.get)
        _ = client.receive(until: "inside")
      }
    }
    await runtime.stop()
    let hash = hexString(friend.leaf.fingerprint)
    return origin.requests.map { request in
      let line = request.split(separator: "\r\n").first { $0.hasPrefix("\(name): ") }
      return (line.map { String($0.dropFirst(name.count + 2)) } ?? "-").replacing(hash, with: "HASH")
    }
  }

  private static let uri = "URI=spiffe://cluster.local/ns/default/sa/friend"

  @Test(arguments: [nil, ForwardedClientCertificate.undefined, .sanitizeSet])
  func `by default only what the client has proved is said`(mode: ForwardedClientCertificate?) async throws {
    let seen = try await fields(mode)
    try #require(seen.count == 2)
    #expect(seen[0].hasPrefix("Hash=HASH;Cert=\"-----BEGIN%20CERTIFICATE-----%0A"))
    #expect(seen[0].hasSuffix(Self.uri))
    #expect(seen[0].contains(";Subject=\""))
    #expect(seen[1] == "-")
  }

  @Test func `the mesh says what of a certificate is told`() async throws {
    let seen = try await fields(nil) {
      $0.proxy.headers.certificateDetails.certificate = false
      $0.proxy.headers.certificateDetails.subject = false
    }
    #expect(seen == ["Hash=HASH;" + Self.uri, "-"])
    let bare = try await fields(nil) {
      $0.proxy.headers.certificateDetails.certificate = false
      $0.proxy.headers.certificateDetails.uri = false
    }
    #expect(bare.first?.hasPrefix("Hash=HASH;Subject=\"") == true && bare.first?.contains("URI=") == false)
  }

  @Test func `the whole chain that a client showed is told where the mesh says so, as PEM escaped as in a URL`() async throws {
    let begin = "-----BEGIN%20CERTIFICATE-----%0A"
    let seen = try await fields(nil, showsIssuer: true) {
      $0.proxy.headers.certificateDetails.certificate = false
      $0.proxy.headers.certificateDetails.subject = false
      $0.proxy.headers.certificateDetails.chain = true
    }
    try #require(seen.count == 2)
    #expect(seen[0].hasPrefix("Hash=HASH;Chain=\"\(begin)") && seen[0].hasSuffix("%0A\";" + Self.uri))
    #expect(seen[0].ranges(of: begin).count == 2 && seen[1] == "-")
    let alone = try await fields(nil) { $0.proxy.headers.certificateDetails.chain = true }
    // `Cert` and `Chain` say the same of a client that showed nothing else.
    let values = alone[0].split(separator: "\"")
    #expect(values.count > 3 && values[0] == "Hash=HASH;Cert=" && values[2] == ";Chain=" && values[1] == values[3])
  }

  @Test func `the port that a client came to is told where the mesh says so`() async throws {
    let told = try await fields(nil, named: "x-forwarded-port") { $0.proxy.headers.tellsPort = true }
    #expect(told.count == 2 && told.allSatisfy { UInt16($0) != nil })
    #expect(try await fields(nil, named: "x-forwarded-port") == ["-", "-"])
  }

  @Test func `the other modes`() async throws {
    #expect(try await fields(.sanitize) == ["-", "-"])
    #expect(try await fields(.forwardOnly) == ["Hash=forged", "-"])
    #expect(try await fields(.alwaysForwardOnly) == ["Hash=forged", "Hash=forged"])
    let appended = try await fields(.appendForward)
    try #require(appended.count == 2)
    #expect(appended[0].hasPrefix("Hash=forged,Hash=HASH;Cert=") && appended[0].hasSuffix(Self.uri))
    #expect(appended[1] == "-")
  }
}
