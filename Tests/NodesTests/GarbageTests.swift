import Glibc
import Nodes
import Primitives
import Testing

extension ProcessTests {
  @Suite struct Garbage {
    @Test func garbageOnEveryPortHarmsNobody() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n2", port: 9080)
      try cluster.run("reviews", on: "n1", port: 9081)
      for node in cluster.names { try cluster.waitUntilServed("/details/0", through: node) }
      let target = Target(cluster, node: "n2")
      let pooled = try target.openConnections()
      // A first round opens what stays open: the logs, connections of pools.
      target.attack(seed: 1)
      try target.cluster.waitUntilServed("/details/0", through: "n2")
      let process = try cluster.process("n2")
      try eventually("connections of the first round to be closed") { try target.openConnections() <= pooled }
      let before = process.descriptorCount
      let traffic = LightTraffic(to: cluster.address("n1"), "/details/0")

      for seed: UInt64 in [2, 3] { target.attack(seed: seed) }
      try traffic.waitForSuccesses(20)
      #expect(traffic.stop().failures == [])
      #expect(process.isRunning)
      try eventually("descriptors to be given back (before: \(before))") { process.descriptorCount <= before + 4 }
      for node in cluster.names {
        #expect(try cluster.status(node).members.alive == 3)
        #expect(!cluster.log(node).contains("is dead"))
        #expect(!cluster.log(node).contains("Fatal error"))
      }
    }

    /// One node and everything it listens on.
    private struct Target {
      let cluster: TestCluster
      let node: String
      var address: String { cluster.address(node) }

      init(_ cluster: TestCluster, node: String) {
        self.cluster = cluster
        self.node = node
      }

      private var ports: [UInt16] {
        let ports = TestCluster.ports
        return [TestCluster.gatewayPort, ports.outboundFirst, ports.mesh, ports.link, ports.metrics, ports.health]
      }

      private func connect(_ port: UInt16?) -> RawClient? {
        let patience = Duration.milliseconds(20)
        guard let port else {
          return try? RawClient(path: "\(cluster.directory)/.mesh/\(node)/admin.sock", timeout: patience)
        }
        return try? RawClient(address, port, timeout: patience)
      }

      func attack(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for port in ports.map(Optional.some) + [nil] {
          for message in messages(&random) {
            guard let client = connect(port) else { continue }
            client.send(message)
            if random.next() % 2 == 0 { client.shutDownSending() }
            _ = client.receive()
          }
          // Opened all at once, and closed without a word.
          _ = (0..<100).map { _ in connect(port) }
        }
        for count in [0, 1, 16, 200, 1_400, 9_000, 60_000] {
          for _ in 0..<20 { sendDatagram(bytes(count, &random), to: address, TestCluster.ports.link) }
        }
      }

      private func messages(_ random: inout SeededGenerator) -> [[UInt8]] {
        let long = String(repeating: "a", count: 100_000)
        let texts = [
          "GET / HTTP/1.1\r\nhost: x", "GET /\(long) HTTP/1.1\r\nhost: x\r\n\r\n",
          "GET / HTTP/1.1\r\nhost: x\r\nx: \(long)\r\n\r\n",
          "POST /details/0 HTTP/1.1\r\nhost: details\r\ncontent-length: 10\r\n\r\nabc",
          "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "\r\n\r\n\r\n",
          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET http://details:9080/details/0 HTTP/1.1\r\n\r\n",
        ]
        // The first bytes of a TLS ClientHello, then noise.
        let hello: [UInt8] = [0x16, 3, 1, 0x02, 0, 1, 0, 1, 0xFC, 3, 3]
        return texts.map { Array($0.utf8) }
          + [hello, hello + bytes(508, &random), [], [0], bytes(10, &random), bytes(1_000, &random), bytes(70_000, &random)]
      }

      private func bytes(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      }

      /// Client connections that the proxy of the node holds open.
      func openConnections() throws -> Int {
        let lines = try cluster.metrics(node).split(separator: "\n").filter { $0.hasPrefix("mesh_proxy_connections{") }
        return lines.compactMap { $0.split(separator: " ").last.flatMap { Double($0) }.map { Int($0) } }.reduce(0, +)
      }
    }
  }
}
