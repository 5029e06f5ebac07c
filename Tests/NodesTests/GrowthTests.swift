import Glibc
import Nodes
import Testing

extension ProcessTests {
  /// The size of a cluster changes while it is written to.
  @Suite struct Growth {
    private func apply(_ name: String, _ cluster: TestCluster, at node: String) throws {
      let result = try cluster.command(
        ["apply", "-f", "-", "--wait"], node: node, input: TestConfiguration.rule(name), file: cluster.file(of: node))
      #expect(result.status == 0, "\(name) at \(node): \(result.errors)")
    }

    private func rules(_ cluster: TestCluster, at node: String) throws -> String {
      try cluster.command(["get", "dr", "--consistent"], node: node, file: cluster.file(of: node)).output
    }

    @Test func oneNodeGrowsToThreeAndAnotherOneIsLeftAloneAndWritable() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      try apply("alone", cluster, at: "n1")
      for node in ["n2", "n3"] { try cluster.join(node, token: try cluster.makeToken(["--uses", "1"]).text) }
      try eventually("three voters, known to all") {
        try ["n1", "n2", "n3"].allSatisfy { node in
          let status = try cluster.status(node)
          return status.ready && status.members.alive == 3 && status.consensus.voters == ["n1", "n2", "n3"]
        }
      }
      try apply("three", cluster, at: "n3")

      // The one that began the cluster goes first.
      for (node, rest) in [("n1", ["n2", "n3"]), ("n3", ["n2"])] {
        let left = try cluster.command(["leave"], node: node, file: cluster.file(of: node))
        #expect(left.status == 0, "\(left)")
        #expect(try cluster.process(node).ended() == 0)
        try eventually("one voter, and \(node) to be no member") {
          try rest.allSatisfy { other in
            let status = try cluster.status(other)
            return try status.consensus.voters.count == 1 && cluster.state(of: node, at: other) == nil
          }
        }
        try apply("without-\(node)", cluster, at: "n2")
      }
      #expect(try cluster.status("n2").consensus.voters == ["n2"])
      let kept = try rules(cluster, at: "n2")
      for name in ["alone", "three", "without-n1", "without-n3"] { #expect(kept.contains(name), "\(kept)") }
    }

    @Test func aVoterThatIsLostForGoodIsReplacedByANodeThatHadNoVote() throws {
      let cluster = try TestCluster(nodes: 5)
      try cluster.initialize()
      try cluster.startAll()
      try eventually("three of five to vote") { try cluster.status("n1").consensus.voters == ["n1", "n2", "n3"] }
      try cluster.end("n2")
      try #require(rename(cluster.dataDirectory("n2"), "\(cluster.dataDirectory("n2"))-lost") == 0)
      try apply("meanwhile", cluster, at: "n4")
      try eventually("n2 to be dead") { try cluster.state(of: "n2", at: "n1") == "dead" }
      let forgotten = try cluster.command(["forget", "n2"], node: "n5")
      #expect(forgotten.status == 0, "\(forgotten)")
      try eventually("another node to have its vote") {
        let voters = try cluster.status("n1").consensus.voters
        return voters.count == 3 && voters.contains("n1") && voters.contains("n3")
          && (voters.contains("n4") || voters.contains("n5"))
      }
      // The new voter counts: with one of the old ones gone it is needed for a majority.
      try cluster.end("n3")
      try apply("afterwards", cluster, at: "n1")
      let kept = try rules(cluster, at: "n5")
      for name in ["meanwhile", "afterwards"] { #expect(kept.contains(name), "\(kept)") }
    }
  }
}
