import FoundationEssentials
import Glibc
import Nodes
import Testing

extension ProcessTests {
  /// TLS from a running node to servers outside the mesh (Istio, DestinationRule `tls`); the servers are OpenSSL's own.
  @Suite(.enabled(if: access(ServerCertificates.program, X_OK) == 0)) struct TLSOrigination {
    /// One destination: its host, where it leads, what the rule says, and whether that is served.
    private struct Case {
      let name: String
      var host: String?
      let port: UInt16
      let tls: String
      let isServed: Bool

      /// Everything that makes it reachable under `/<name>/` through the gateway.
      func objects(at address: String) -> String {
        let host = host ?? "\(name).outside"
        return """
          apiVersion: networking.istio.io/v1
          kind: ServiceEntry
          metadata: { name: \(name) }
          spec:
            hosts: [\(host)]
            resolution: STATIC
            ports: [{ number: 80, name: http, protocol: HTTP }]
            endpoints: [{ address: \(address), ports: { http: \(port) } }]
          ---
          apiVersion: networking.istio.io/v1
          kind: DestinationRule
          metadata: { name: \(name) }
          spec: { host: \(host), trafficPolicy: { tls: { \(tls) } } }
          ---

          """
      }

      var route: String {
        "- { match: [{ uri: { prefix: /\(name)/ } }], route: [{ destination: { host: \(host ?? "\(name).outside") } }] }"
      }
    }

    @Test func aServerIsCalledAsTheRuleSaysAndOnlyWhenItProvesItsName() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      let files = try ServerCertificates(in: cluster.directory)
      let address = cluster.address("n1")
      let servers = try [
        files.serve([], at: address, 9301, log: cluster.logPath("server")),
        files.serve(
          ["-Verify", "1", "-verify_return_error", "-CAfile", files.path("ca.crt")], at: address, 9302,
          log: cluster.logPath("verifying-server")),
        files.serve(
          [
            "-servername", "good.example", "-servername_fatal", "-cert2", files.path("server.crt"), "-key2",
            files.path("server.key"),
          ],
          at: address, 9303, log: cluster.logPath("naming-server")),
      ]
      defer { for server in servers { server.signal(SIGKILL) } }
      let (trust, other) = ("caCertificates: \(files.path("ca.crt"))", "caCertificates: \(files.path("other.crt"))")
      let own = "clientCertificate: \(files.path("client.crt")), privateKey: \(files.path("client.key"))"
      let strange = "clientCertificate: \(files.path("stranger.crt")), privateKey: \(files.path("stranger.key"))"
      let cases = [
        Case(name: "own-name", host: "good.example", port: 9301, tls: "mode: SIMPLE, \(trust)", isServed: true),
        Case(name: "other-name", port: 9301, tls: "mode: SIMPLE, \(trust)", isServed: false),
        Case(name: "sni", port: 9301, tls: "mode: SIMPLE, \(trust), sni: good.example", isServed: true),
        Case(
          name: "names", port: 9301, tls: "mode: SIMPLE, \(trust), subjectAltNames: [x.example, good.example]", isServed: true),
        Case(
          name: "wrong-names", port: 9301, tls: "mode: SIMPLE, \(trust), sni: good.example, subjectAltNames: [x.example]",
          isServed: false),
        Case(name: "other-authority", port: 9301, tls: "mode: SIMPLE, \(other), sni: good.example", isServed: false),
        Case(name: "system-authorities", port: 9301, tls: "mode: SIMPLE, sni: good.example", isServed: false),
        Case(
          name: "missing-file", port: 9301, tls: "mode: SIMPLE, caCertificates: /nowhere/ca.pem, sni: good.example",
          isServed: false),
        Case(name: "insecure", port: 9301, tls: "mode: SIMPLE, insecureSkipVerify: true", isServed: true),
        Case(name: "mutual", port: 9302, tls: "mode: MUTUAL, \(trust), \(own), sni: good.example", isServed: true),
        Case(name: "stranger", port: 9302, tls: "mode: MUTUAL, \(trust), \(strange), sni: good.example", isServed: false),
        Case(name: "without-certificate", port: 9302, tls: "mode: SIMPLE, \(trust), sni: good.example", isServed: false),
        Case(name: "asked-name", port: 9303, tls: "mode: SIMPLE, \(trust), sni: good.example", isServed: true),
        Case(
          name: "refused-name", port: 9303, tls: "mode: SIMPLE, sni: bad.example, insecureSkipVerify: true",
          isServed: false),
        Case(name: "plain", port: 9301, tls: "mode: DISABLE", isServed: false),
        Case(name: "mesh-identity", port: 9301, tls: "mode: ISTIO_MUTUAL", isServed: false),
      ]
      let rule = """
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: { name: outside }
        spec:
          hosts: [outside.test]
          gateways: [entrance]
          http:
          \(cases.map(\.route).joined(separator: "\n  "))
        """
      let file = "\(cluster.directory)/outside.yaml"
      try write(cases.map { $0.objects(at: address) }.joined() + rule, to: file)
      try cluster.startAll()
      let applied = try cluster.command(["apply", "-f", file, "--wait"], node: "n1")
      #expect(applied.status == 0, "\(applied.errors)")
      for item in cases {
        let answer = try RawClient(address, TestCluster.gatewayPort).request(
          "GET", "/\(item.name)/", host: "outside.test", headers: ["connection: close"])
        #expect((answer.status == 200) == item.isServed, "\(item.name): \(answer.status)")
      }
    }
  }
}

/// Certificates of two authorities, made by OpenSSL's command.
struct ServerCertificates {
  static let program = "/usr/bin/openssl"
  private let directory: String

  init(in directory: String) throws {
    self.directory = directory
    for authority in ["ca", "other"] { try make(authority, ["-subj", "/CN=\(authority)"]) }
    let name = ["-addext", "subjectAltName=DNS:good.example"]
    try make("server", ["-subj", "/CN=server"] + name + signed(by: "ca"))
    try make("client", ["-subj", "/CN=client"] + signed(by: "ca"))
    try make("stranger", ["-subj", "/CN=stranger"] + signed(by: "other"))
  }

  func path(_ name: String) -> String { "\(directory)/\(name)" }
  func signed(by authority: String) -> [String] {
    ["-CA", path("\(authority).crt"), "-CAkey", path("\(authority).key")]
  }

  func make(_ name: String, _ options: [String]) throws {
    let log = path("\(name).log")
    let command = [
      Self.program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
      path("\(name).key"), "-out", path("\(name).crt"),
    ]
    let status = try RunningProcess(command + options, log: log).ended()
    guard status == 0 else { throw Unexpected("openssl req for \(name): \(text(of: log))") }
  }

  /// A server that answers every request with a page.
  func serve(_ options: [String], at address: String, _ port: UInt16, log: String) throws -> RunningProcess {
    let process = try RunningProcess(
      [
        Self.program, "s_server", "-accept", "\(address):\(port)", "-cert", path("server.crt"), "-key", path("server.key"),
        "-www",
      ] + options, log: log)
    try eventually("openssl s_server on \(port)") { text(of: log).contains("ACCEPT") }
    return process
  }
}
