import Glibc
import Nodes
import Primitives
import Testing
import Transport

extension ProcessTests {
  @Suite struct Joining {
    @Test func aTokenLetsInAsManyNodesAsItSaysAndWhoIsRefusedIsToldWhatToDo() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      let single = try cluster.makeToken(["--uses", "1"])
      try cluster.join("n2", token: single.text)
      try eventually("n2 to be a member by its token") { try cluster.state(of: "n2", at: "n1") == "alive" }
      #expect(text(of: "\(try cluster.home(of: "n2"))/cluster.json").contains(#""joined": true"#))
      try eventually("the token to be used up") {
        let list = try cluster.ask("n1", "/v1/tokens", as: [TokenInfo].self)
        return list.contains { $0.id == single.id && $0.state == "used" && $0.usesLeft == 0 && $0.joined == ["n2"] }
      }

      let short = try cluster.makeToken(["--ttl", "1s"])
      let revoked = try cluster.makeToken([])
      let revoking = try cluster.command(["token", "revoke", revoked.id])
      #expect(revoking.status == 0 && revoking.output.contains("lets nobody in any more"), "\(revoking)")
      #expect(try cluster.command(["token", "revoke", "0000000000000001"]).errors.contains("see: mesh-node token list"))
      try eventually("the short token to expire") {
        try cluster.command(["token", "list"]).output.split(separator: "\n").contains {
          $0.contains(short.id) && $0.contains("expired")
        }
      }
      let refusals = [
        ("n3", single.text, "was used as often as it may be"), ("n4", short.text, "has expired"),
        ("n5", revoked.text, "does not know this join token: it was revoked"),
      ]
      for (node, token, _) in refusals { try cluster.join(node, token: token) }
      for (node, _, reason) in refusals {
        // The one who comes reads it, and the one who refuses.
        for side in [node, "n1"] {
          try eventually("\(side) to say that the token of \(node) \(reason)") {
            cluster.log(side).split(separator: "\n").contains {
              $0.contains(reason) && $0.contains("mesh-node token create") && (side != "n1" || $0.contains(node))
            }
          }
        }
        #expect(try cluster.state(of: node, at: "n1") != "alive")
      }
      var broken = single.text
      broken.removeLast()
      let wrong = try cluster.command(
        ["start", "--token", broken, "--address", cluster.address("n6")], node: "n6", file: "\(cluster.directory)/n6.json")
      #expect(wrong.status == 1)
      #expect(wrong.errors.contains("the join token is not whole; copy all of it, or make a new one with"), "\(wrong)")
    }

    @Test func aNodeThatJoinedByTokenServesAGatewayWithTheCertificateOfASecret() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n1", port: 9080)
      try #require(try cluster.command(["apply", "-f", "-", "--wait"], input: SecureGateway.configuration).status == 0)
      let first = try SecureGateway.get("/details/0", from: cluster.address("n1"))
      #expect(first.contains(" 200 "), "\(first)")

      try cluster.join("n2", token: cluster.makeToken([]).text, options: ["--gateway", "--locality", "local/far"])
      try eventually("n2 to serve with the Secret's certificate") {
        try SecureGateway.get("/details/0", from: cluster.address("n2")).contains(" 200 ")
      }
      #expect(try cluster.command(["members"]).output.contains("local/far"))
      let key = "\(cluster.dataDirectory("n2"))/pki/secrets-key"
      var info = stat()
      #expect(stat(key, &info) == 0 && info.st_mode & 0o077 == 0)
      #expect(access("\(try cluster.home(of: "n2"))/.mesh/join-secret", F_OK) != 0)

      // Alone, from its own disk.
      try cluster.end("n1")
      try cluster.end("n2")
      try cluster.start("n2", file: cluster.file(of: "n2"))
      try eventually("n2 to serve the Secret's certificate alone") {
        _ = try SecureGateway.get("/details/0", from: cluster.address("n2"))
        return true
      }
      #expect(!(cluster.log("n1") + cluster.log("n2")).contains("PRIVATE KEY"))
    }
  }
}

extension TestCluster {
  /// What `token create` prints, and the token's id.
  func makeToken(_ options: [String]) throws -> (text: String, id: String) {
    let result = try command(["token", "create"] + options)
    guard result.status == 0, let text = result.output.split(separator: "\n").first,
      let id = result.output.split(separator: "\n").first(where: { $0.hasPrefix("Token ") })?.split(separator: ",").first
    else { throw Unexpected("token create: \(result)") }
    return (String(text), String(id.dropFirst("Token ".count)))
  }
}

/// A gateway on port 8443 with the certificate of a Secret, and a client for it.
private enum SecureGateway {
  static let port: UInt16 = 8443

  static func get(_ path: String, from address: String) throws -> String {
    // A gateway that closes in the midst of a write is an error of the write, not the end of the tests.
    signal(SIGPIPE, SIG_IGN)
    let client = try RawClient(address, port)
    let context = try TLSContext.client(identity: nil, trust: .nobody, protocols: ["http/1.1"])
    let session = try TLSSession(context, descriptor: client.descriptor, serverName: "shop.test")
    guard case .done = session.handshake() else { throw Unexpected("no handshake with \(address)") }
    let request = Array("GET \(path) HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n".utf8)
    _ = request.withUnsafeBytes { session.write($0) }
    var answer = [UInt8](repeating: 0, count: 4_096)
    guard case .bytes(let count) = answer.withUnsafeMutableBytes({ session.read(into: $0) }) else {
      throw Unexpected("no answer of \(address)")
    }
    return String(decoding: answer[..<count], as: UTF8.self)
  }

  /// The certificate is its own authority, and good until 2126.
  static let configuration = """
    apiVersion: v1
    kind: Secret
    metadata: { name: shop, namespace: istio-system }
    type: kubernetes.io/tls
    stringData:
      tls.key: |
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAs8yu+/rSeF/D6JN
        z0jUoaIvojrcHLt12DS1zqyjIT6hRANCAARgbboI0cCDIPdpfxCBiTipcDMiiyov
        0CK8W/6TmXyH+vsIHL/MfE1iQYNd7vXLyuDVMXIuRpx5GmgqNWI4dCty
        -----END PRIVATE KEY-----
      tls.crt: |
        -----BEGIN CERTIFICATE-----
        MIIBlTCCATugAwIBAgIUYGFqdu2rbz+V6yKMvTntPbcMukAwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJc2hvcC50ZXN0MCAXDTI2MTEyMTEzMjA1NVoYDzIxMjYxMDI4
        MTMyMDU1WjAUMRIwEAYDVQQDDAlzaG9wLnRlc3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAARgbboI0cCDIPdpfxCBiTipcDMiiyov0CK8W/6TmXyH+vsIHL/MfE1i
        QYNd7vXLyuDVMXIuRpx5GmgqNWI4dCtyo2kwZzAdBgNVHQ4EFgQUPD/+uIVNc7lo
        qS3S/CvxGIe+6N4wHwYDVR0jBBgwFoAUPD/+uIVNc7loqS3S/CvxGIe+6N4wDwYD
        VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglzaG9wLnRlc3QwCgYIKoZIzj0EAwID
        SAAwRQIhALGWD0mxGltd+wWo5vp4P4X61UuATfzue5WTnUmyGzvpAiA+Ivjur6Jy
        fZOv+EkmxK8GUYJmkK2jh19pT5sRQj4OvA==
        -----END CERTIFICATE-----
    ---
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: { name: secure }
    spec:
      selector: { istio: ingressgateway }
      servers:
        - port: { number: 8443, name: https, protocol: HTTPS }
          hosts: [shop.test]
          tls: { mode: SIMPLE, credentialName: shop }
    ---
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: { name: secure }
    spec:
      hosts: [shop.test]
      gateways: [secure]
      http: [{ route: [{ destination: { host: details, port: { number: 9080 } } }] }]

    """
}
