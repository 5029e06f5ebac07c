import Nodes
import Testing

extension ProcessTests {
  @Suite struct Certificates {
    @Test func certificatesAreRenewedUnderTrafficWithoutAFailedRequest() throws {
      let cluster = try TestCluster(settings: #""certificates": { "workloadSeconds": 20, "nodeSeconds": 20 },"#)
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n2", port: 9080)
      for node in cluster.names { try cluster.waitUntilServed("/details/0", through: node) }
      let before = try leaves(cluster)
      let linkEnds = cluster.names.map { cluster.log($0).matches(of: /link to n\d ended/).count }
      let streams = ["n1", "n3"].map { LightTraffic(to: cluster.address($0), "/details/0", keepsAlive: true) }

      let end = ContinuousClock.now + .seconds(31)
      try eventually("one and a half lifetimes to pass and every certificate to be another", within: .seconds(90)) {
        try ContinuousClock.now > end && zip(leaves(cluster), before).allSatisfy { $0.isDisjoint(with: $1) && !$0.isEmpty }
      }
      for stream in streams {
        let counts = stream.stop()
        #expect(counts.failures == [] && counts.succeeded > 100)
      }
      for node in cluster.names {
        #expect(try cluster.certificates(node).allSatisfy { $0.state != "expired" })
        #expect(try cluster.status(node).links.allSatisfy { $0.state == "up" })
        #expect(!cluster.log(node).contains("is dead"))
      }
      #expect(cluster.names.map { cluster.log($0).matches(of: /link to n\d ended/).count } == linkEnds)
      let shown = try cluster.command(["certificates", "-o", "json"], node: "n2")
      #expect(shown.status == 0 && shown.output.contains("spiffe://cluster.local/ns/default/sa/bookinfo-details"))
    }

    /// Serials of the node's and its workloads' certificates, by node.
    private func leaves(_ cluster: TestCluster) throws -> [Set<String>] {
      try cluster.names.map { node in Set(try cluster.certificates(node).filter { $0.kind != "ca" }.map(\.serial)) }
    }
  }
}
