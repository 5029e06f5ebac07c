import Nodes
import Testing

extension ProcessTests {
  /// TCPRoutes and TLSRoutes of the mesh, with connections (Gateway API, GAMMA).
  @Suite struct ConnectionRoutes {
    /// Two services without a workload of their own kind: what answers says where a connection went. details knows
    /// `/details/0`, ratings does not.
    private static let services = ["db", "old", "new"].map { name in
      """
      apiVersion: v1
      kind: Service
      metadata: { name: \(name) }
      spec:
        selector: { app: \(["old": "details", "new": "ratings"][name] ?? "nobody") }
        ports: [{ name: tcp, port: 9080 }]

      """
    }.joined(separator: "---\n")

    private static func route(_ kind: String, _ rule: String) -> String {
      """
      apiVersion: gateway.networking.k8s.io/v1
      kind: \(kind)
      metadata: { name: connections }
      spec:
        parentRefs: [{ group: '', kind: Service, name: db }]
        \(rule)

      """
    }

    @Test func connectionsToAServiceFollowItsRoutes() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      for (service, port) in [("details", UInt16(9080)), ("ratings", 9090)] {
        _ = try cluster.launch(service, on: "n1", port: port, options: ["--protocol", "tcp"])
      }
      try cluster.run("reviews", on: "n1", port: 9081)
      try eventually("the applications are healthy") {
        try ["details", "ratings"].allSatisfy { try cluster.endpoints(of: $0, at: "n1").contains { $0.health == "healthy" } }
      }
      #expect(try cluster.command(["apply", "-f", "-", "--wait"], input: Self.services).status == 0)
      let listener = try cluster.status("n1").listeners.first { $0.kind == "outbound" && $0.detail.contains("reviews") }
      let port = try #require(listener?.address.split(separator: ":").last.flatMap { UInt16($0) })

      func answer(_ first: [UInt8]) throws -> String {
        let client = try RawClient(cluster.address("n1"), port)
        client.send("CONNECT db:9080 HTTP/1.1\r\nhost: db:9080\r\n\r\n")
        client.send(first)
        return String(decoding: client.receiveAll(), as: UTF8.self)
      }
      let get = Array("GET /details/0 HTTP/1.1\r\nhost: db\r\nconnection: close\r\n\r\n".utf8)

      for (backend, status) in [("old", "200 OK"), ("new", "404 ")] {
        let rule = "rules: [{ backendRefs: [{ name: \(backend), port: 9080 }] }]"
        let applied = try cluster.command(["apply", "-f", "-", "--wait"], input: Self.route("TCPRoute", rule))
        #expect(applied.status == 0, "\(applied)")
        let said = try answer(get)
        #expect(said.hasPrefix("HTTP/1.1 200") && said.contains("\r\n\r\nHTTP/1.1 \(status)"), "\(backend): \(said)")
      }
      #expect(try cluster.command(["delete", "tcproute", "connections", "--wait"]).status == 0)

      // By server name: an application that speaks no TLS answers a ClientHello with what it does speak.
      let rule = "hostnames: [a.example]\n  rules: [{ backendRefs: [{ name: old, port: 9080 }] }]"
      let applied = try cluster.command(["apply", "-f", "-", "--wait"], input: Self.route("TLSRoute", rule))
      #expect(applied.status == 0, "\(applied)")
      #expect(try answer(Self.clientHello("a.example")).contains("\r\n\r\nHTTP/1.1 400"))
      #expect(try !answer(Self.clientHello("b.example")).contains("HTTP/1.1 400"))
    }

    /// The least that names a server (RFC 8446 §4.1.2, RFC 6066 §3).
    private static func clientHello(_ name: String) -> [UInt8] {
      func sized(_ count: Int, _ bytes: [UInt8]) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: bytes.count >> (8 * (count - 1 - $0))) } + bytes
      }
      let serverName = [0, 0] + sized(2, sized(2, [0] + sized(2, Array(name.utf8))))
      let random = [UInt8](repeating: 7, count: 32)
      let body = [3, 3] + random + sized(1, []) + sized(2, [0x13, 0x01]) + sized(1, [0]) + sized(2, serverName)
      return [22, 3, 1] + sized(2, [1] + sized(3, body))
    }
  }
}
