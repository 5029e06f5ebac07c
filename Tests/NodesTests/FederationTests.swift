import FoundationEssentials
import Glibc
import Nodes
import Primitives
import Testing
import Transport

extension ProcessTests {
  /// Whom workloads trust because of a SPIFFE bundle (Istio, `caCertificates[].spiffeBundleUrl`); its server is OpenSSL's own.
  @Suite(.enabled(if: access(ServerCertificates.program, X_OK) == 0)) struct Federation {
    @Test func theAuthoritiesOfABundleAreTrustedWhileTheConfigurationNamesIt() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      let (address, now) = (cluster.address("n1"), Int64(time(nil)))
      let files = try ServerCertificates(in: cluster.directory)
      try files.make("bundle", ["-subj", "/CN=bundle", "-addext", "subjectAltName=IP:\(address)"] + files.signed(by: "ca"))
      cluster.environment = ["SSL_CERT_FILE=\(files.path("ca.crt"))"]
      try cluster.startAll()
      try cluster.run("details", on: "n1", port: 9080)

      let partner = try CertificateSigner.selfSigned(
        trustDomain: "partner", node: DNSLabel("partner"), now: now, lifetime: 86_400)
      let key = PrivateKey.generate()
      let identity = try SPIFFEID(parsing: "spiffe://cluster.local/ns/default/sa/partner")
      let leaf = try partner.issue(to: key.publicKey, identity: identity, now: now, lifetime: 3600)
      let caller = try TLSIdentity(chain: [leaf], key: key)
      try eventually("the mesh port to refuse a stranger") { try !Self.isAccepted(caller, at: address) }

      let x5c = Data(partner.certificate.der).base64EncodedString()
      let bundle = #"{"keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["\#(x5c)"]}], "spiffe_sequence": 7}"#
      try write(
        "HTTP/1.1 200 OK\r\ncontent-length: \(bundle.utf8.count)\r\n\r\n\(bundle)", to: "\(cluster.directory)/bundle.json")
      let server = try RunningProcess(
        [
          "/bin/sh", "-c", #"cd "$1" && exec "$0" s_server -accept "$2" -cert bundle.crt -key bundle.key -HTTP"#,
          ServerCertificates.program, cluster.directory, "\(address):9443",
        ], log: cluster.logPath("bundle-server"))
      defer { server.signal(SIGKILL) }
      try eventually("openssl s_server") { cluster.log("bundle-server").contains("ACCEPT") }
      try apply("[{spiffeBundleUrl: 'https://\(address):9443/bundle.json'}]", cluster)
      try eventually("the bundle's authority to be trusted") { try Self.isAccepted(caller, at: address) }
      #expect(cluster.log("n1").contains("/bundle.json has 1 authority, sequence 7"))
      #expect(try cluster.metrics("n1").contains("mesh_spiffe_bundle_authorities"))

      server.signal(SIGKILL)
      try server.ended()
      try cluster.end("n1", with: SIGTERM)
      try cluster.startAll()
      try eventually("it to be trusted after a restart without the server") { try Self.isAccepted(caller, at: address) }
      try eventually("status to say what is wrong") {
        try cluster.status("n1").notes.contains { $0.contains("SPIFFE bundle") && $0.contains("connection refused") }
      }

      try apply("[]", cluster)
      try eventually("it to be trusted no longer") { try !Self.isAccepted(caller, at: address) }
      try eventually("status to be silent") { try cluster.status("n1").notes.isEmpty }
    }

    private func apply(_ authorities: String, _ cluster: TestCluster) throws {
      let file = "\(cluster.directory)/mesh.yaml"
      try write(
        """
        apiVersion: v1
        kind: ConfigMap
        metadata: { name: istio, namespace: istio-system }
        data:
          mesh: |
            caCertificates: \(authorities)
        """, to: file)
      let applied = try cluster.command(["apply", "-f", file, "--wait"], node: "n1")
      guard applied.status == 0 else { throw Unexpected("apply: \(applied.errors)") }
    }

    /// Whether the mesh port answers who shows this certificate, or says that it knows nobody who would sign it.
    private static func isAccepted(_ caller: TLSIdentity, at address: String) throws -> Bool {
      let socket = try Socket.connect(to: SocketAddress(parsing: "\(address):\(TestCluster.ports.mesh)"))
      var waiting = pollfd(fd: socket.descriptor, events: Int16(POLLOUT), revents: 0)
      guard poll(&waiting, 1, 10_000) == 1, fcntl(socket.descriptor, F_SETFL, 0) == 0 else { throw Unexpected("no connection") }
      var limit = timeval(tv_sec: 10, tv_usec: 0)
      setsockopt(socket.descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
      let context = try TLSContext.client(identity: caller, trust: .nobody, protocols: ["h2"])
      let session = try TLSSession(context, descriptor: socket.descriptor)
      guard session.handshake() == .done else { throw Unexpected("\(session.failure.map { "\($0)" } ?? "no handshake")") }
      let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
      _ = preface.withUnsafeBytes { session.write($0) }
      var answer = [UInt8](repeating: 0, count: 64)
      if case .bytes = answer.withUnsafeMutableBytes({ session.read(into: $0) }) { return true }
      guard case .alert(let words)? = session.failure, words.contains("unknown ca") else {
        throw Unexpected("\(session.failure.map { "\($0)" } ?? "no answer")")
      }
      return false
    }
  }
}
