import Glibc
import Membership
import Nodes
import Primitives
import Testing
import Transport

@testable import Cluster

extension ProcessTests {
  @Suite struct GossipKeys {
    /// Datagrams that a node made before the keys were replaced, or that somebody makes who has seen the join secret long ago.
    @Test func aDatagramUnderAKeyThatWasReplacedIsRefusedAndCounted() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      let secret = try JoinSecret(path: "\(cluster.directory)/.mesh/join-secret")
      let seal = GossipSeal(joinSecret: secret.bytes, cluster: try DNSLabel("proof"), life: 1)
      let socket = try DatagramSocket(boundTo: .ip(.loopback, port: 0))
      let target = try SocketAddress(parsing: "\(cluster.address("n1")):\(TestCluster.ports.link)")
      func send(_ sender: String) throws {
        let message = SWIMMessage(sender: try NodeName(sender), registryDigest: 0, body: .gossip)
        let bytes = try #require(seal.seal(message.encoded(), at: Instant(nanoseconds: 100_000_000_000)))
        _ = bytes.withUnsafeBytes { socket.send($0, to: target) }
      }
      func refused() throws -> [String] {
        try cluster.metrics("n1").split(separator: "\n").filter { $0.hasPrefix("mesh_gossip_refused_total") }.map(String.init)
      }
      func count(_ reason: String, _ number: Int) -> String { #"mesh_gossip_refused_total{reason="\#(reason)"} \#(number)"# }

      func rotate() throws { #expect(try cluster.command(["rotate-gossip-key"]).status == 0) }
      // One key later it is still accepted: nodes that sleep may not have heard of the new one. What is repeated is not.
      try rotate()
      let message = SWIMMessage(sender: try NodeName("n8"), registryDigest: 0, body: .gossip)
      let twice = try #require(seal.seal(message.encoded(), at: Instant(nanoseconds: 100_000_000_000)))
      for _ in 0..<2 { _ = twice.withUnsafeBytes { socket.send($0, to: target) } }
      try eventually("the second of two equal datagrams to be refused, and not the first") {
        let lines = try refused()
        return lines.contains(count("replay", 1)) && lines.contains(count("key", 0))
      }
      try rotate()
      for number in 1...2 {
        try send("n9")
        try eventually("the datagram to be refused and counted") { try refused().contains(count("key", number)) }
      }
    }
  }
}
