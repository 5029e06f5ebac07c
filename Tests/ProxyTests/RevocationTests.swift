import COpenSSL
import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing

@testable import Transport

/// Certificates that were taken back, and the other settings of a TLS server (Istio, Gateway `tls`, DestinationRule `tls`).
@Suite("TLS settings", .serialized) struct RevocationTests {
  /// A list of one authority, current for an hour, as a file.
  static func list(_ revoked: [Certificate], by signer: CertificateSigner, lastsFor seconds: Int = 3600) throws -> String {
    let list = try #require(X509_CRL_new())
    defer { X509_CRL_free(list) }
    let now = time(nil)
    X509_CRL_set_version(list, 1)
    X509_CRL_set_issuer_name(list, X509_get_subject_name(signer.certificate.handle.pointer))
    let (last, next) = (ASN1_TIME_set(nil, now - 60), ASN1_TIME_set(nil, now + seconds))
    X509_CRL_set1_lastUpdate(list, last)
    X509_CRL_set1_nextUpdate(list, next)
    for certificate in revoked {
      let entry = X509_REVOKED_new()
      X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.handle.pointer))
      X509_REVOKED_set_revocationDate(entry, last)
      X509_CRL_add0_revoked(list, entry)
    }
    X509_CRL_sort(list)
    try #require(X509_CRL_sign(list, signer.key.handle.pointer, EVP_sha256()) > 0)
    ASN1_TIME_free(last)
    ASN1_TIME_free(next)
    let pem = try #require(PEMFile.withOutput(of: { PEM_write_bio_X509_CRL($0, list) }) { Array($0) })
    let path = "/tmp/mesh-crl-\(getpid())-\(UInt64.random(in: .min ... .max)).pem"
    try CertificateFiles.write(pem, to: path)
    return path
  }

  private static func write(_ pem: [UInt8]) throws -> String {
    let path = "/tmp/mesh-ca-\(getpid())-\(UInt64.random(in: .min ... .max)).pem"
    try CertificateFiles.write(pem, to: path)
    return path
  }

  private static func isAnswered(_ port: UInt16, _ context: TLSContext) -> Bool {
    guard let client = TLSWire(port: port, context, serverName: "a") else { return false }
    client.send(GatewayTLSTests.get)
    let answer = client.receive(until: "inside").contains("200 OK")
    client.session.shutdown()
    return answer
  }

  @Test func `a gateway refuses clients whose certificates were taken back, also those that come back with a session`()
    async throws
  {
    let signer = try CertificateFiles.signer()
    let server = try CertificateFiles("gateway", signedBy: signer)
    let (friend, former) = (try CertificateFiles("friend", signedBy: signer), try CertificateFiles("former", signedBy: signer))
    let authorities = try Self.write(signer.certificate.pem)
    let origin = Origin.text("inside")
    func state(_ revocations: String?, _ revision: UInt64) -> ProxyState {
      var tls = ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])
      tls.clientCertificate = .required
      tls.authorities = .file(authorities)
      tls.revocations = revocations.map { .file($0) }
      return GatewayTLSTests.state(GatewayTLSTests.served(origin, tls, revision: revision))
    }
    var options = TLSOptions()
    options.resumesSessions = true
    let contexts = try [friend, former].map { files in
      try TLSContext.client(
        identity: files.identity, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12, options: options)
    }
    let runtime = try ProxyRuntime(workers: 1, serving: state(nil, 1), seed: 7)
    let port = await runtime.publish(state(nil, 1)).listeners.first?.address?.port ?? 0
    #expect(await blocking { contexts.map { Self.isAnswered(port, $0) } } == [true, true])
    _ = await runtime.publish(state(try Self.list([former.leaf], by: signer), 2))
    #expect(await blocking { contexts.map { Self.isAnswered(port, $0) } } == [true, false])
    #expect(await runtime.statistics().counters.lastHandshakeFailure?.contains("revoked") == true)
    // Without a list that is current, nobody can say that a certificate is good.
    _ = await runtime.publish(state(try Self.list([], by: signer, lastsFor: -30), 3))
    #expect(await blocking { contexts.map { Self.isAnswered(port, $0) } } == [false, false])
    _ = await runtime.publish(state("/nowhere/crl.pem", 4))
    #expect(await blocking { contexts.map { Self.isAnswered(port, $0) } } == [false, false])
    await runtime.stop()
  }

  @Test func `a server outside the mesh whose certificate was taken back is not called`() async throws {
    let signer = try CertificateFiles.signer()
    let server = try CertificateFiles("gateway", signedBy: signer)
    let authorities = try Self.write(signer.certificate.pem)
    let origin = Origin.text("inside")
    let far = GatewayTLSTests.state(
      GatewayTLSTests.served(origin, ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])))
    let runtime = try ProxyRuntime(workers: 1, serving: far, seed: 7)
    let port = await runtime.publish(far).listeners.first?.address?.port ?? 0
    for (revoked, status) in [([], 200), ([server.leaf], 503)] {
      var mesh = TestMesh()
      var cluster = mesh.cluster(endpoints: [TestMesh.endpoint(port)])
      cluster.tls = .simple(
        serverName: "a", subjectAltNames: ["spiffe://cluster.local/ns/default/sa/gateway"], caCertificates: authorities,
        insecureSkipVerify: false, revocations: try Self.list(revoked, by: signer))
      mesh.clusters = [cluster]
      let (answer, _) = try await mesh.run { TestClient(port: $0).request(MeshHopTests.get) }
      #expect(answer?.status == status)
    }
    await runtime.stop()
  }

  @Test func `a client's public key may be pinned, and either kind of pin is enough`() async throws {
    let signer = try CertificateFiles.signer()
    let server = try CertificateFiles("gateway", signedBy: signer)
    let (friend, other) = (try CertificateFiles("friend", signedBy: signer), try CertificateFiles("friend", signedBy: signer))
    let authorities = try Self.write(signer.certificate.pem)
    let origin = Origin.text("inside")
    let contexts = try [friend, other].map {
      try TLSContext.client(identity: $0.identity, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12)
    }
    let key = Base64Text.encode(SHA256.hash(try friend.leaf.publicKey.der))
    let hash = hexString(other.leaf.fingerprint)
    for (keys, hashes, expected) in [([key], [], [true, false]), ([key], [hash], [true, true]), ([], [hash], [false, true])] {
      var tls = ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])
      tls.clientCertificate = .required
      tls.authorities = .file(authorities)
      tls.publicKeyHashes = keys
      tls.certificateHashes = hashes
      let (seen, _) = try await GatewayTLSTests.served(origin, tls).serve(GatewayTLSTests.kind) { port in
        contexts.map { Self.isAnswered(port, $0) }
      }
      #expect(seen == expected)
    }
  }

  /// What a handshake comes to between settings of a server and of a client; empty when to nothing.
  private func agreed(_ change: @escaping (inout ServerTLS) -> Void, client: TLSOptions) async throws -> (String, String) {
    let files = try CertificateFiles("gateway", signedBy: CertificateFiles.signer())
    var tls = ServerTLS(sources: [.files(certificate: files.certificate, key: files.key)])
    change(&tls)
    let origin = Origin.text("inside")
    let context = try TLSContext.client(
      identity: nil, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12, options: client)
    let (seen, _) = try await GatewayTLSTests.served(origin, tls).serve(GatewayTLSTests.kind) { port -> [String] in
      guard let wire = TLSWire(port: port, context, serverName: "a") else { return ["", ""] }
      let cipher = SSL_get_current_cipher(wire.session.ssl).flatMap { SSL_CIPHER_get_name($0) }
      return [wire.session.version, cipher.map { String(cString: $0) } ?? ""]
    }
    return (seen[0], seen[1])
  }

  @Test func `versions lie between the server's lowest and highest`() async throws {
    let (old, new) = (TLSOptions(maximum: .tls12), TLSOptions())
    #expect(try await agreed({ _ in }, client: new).0 == "TLSv1.3")
    #expect(try await agreed({ $0.maximum = .tls12 }, client: new).0 == "TLSv1.2")
    #expect(try await agreed({ $0.minimum = .tls13 }, client: new).0 == "TLSv1.3")
    #expect(try await agreed({ $0.minimum = .tls13 }, client: old).0 == "")
    #expect(try await agreed({ _ in }, client: old).0 == "TLSv1.2")
  }

  @Test func `cipher suites and curves are those that are written, and unknown ones are left out`() async throws {
    let old = TLSOptions(maximum: .tls12)
    let (aes128, aes256) = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384")
    #expect(try await agreed({ $0.cipherSuites = [aes256] }, client: old).1 == aes256)
    #expect(try await agreed({ $0.cipherSuites = ["NO-SUCH-SUITE", aes256] }, client: old).1 == aes256)
    #expect(
      try await agreed({ $0.cipherSuites = [aes256] }, client: TLSOptions(maximum: .tls12, cipherSuites: [aes128])).1 == "")
    var p384 = TLSOptions()
    p384.curves = ["P-384"]
    #expect(try await agreed({ $0.curves = ["P-384", "no-such-curve"] }, client: p384).0 == "TLSv1.3")
    #expect(try await agreed({ $0.curves = ["P-256"] }, client: p384).0 == "")
    #expect(try await agreed({ $0.curves = ["no-such-curve"] }, client: p384).0 == "TLSv1.3")
  }
}
