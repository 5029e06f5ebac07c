import Glibc
import Nodes
import Testing

extension ProcessTests {
  /// What is left when nodes are lost for good: backups, and a survivor.
  @Suite struct Recovery {
    private func output(_ words: [String], _ cluster: TestCluster, node: String = "n1") throws -> String {
      let result = try cluster.command(words, node: node)
      guard result.status == 0 else { throw Unexpected("\(words): \(result.errors)") }
      return result.output
    }

    private func apply(_ name: String, _ cluster: TestCluster, node: String = "n1") throws {
      let result = try cluster.command(["apply", "-f", "-"], node: node, input: TestConfiguration.rule(name))
      guard result.status == 0 else { throw Unexpected(result.errors) }
    }

    private func waitUntilWritable(_ cluster: TestCluster, _ node: String) throws {
      try eventually("\(node) leads and serves") {
        let status = try cluster.status(node)
        return status.ready && status.consensus.leader == node
      }
    }

    @Test func aBackupBringsTheConfigurationBackUnderANewName() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      try apply("kept", cluster)
      let before = try output(["export"], cluster)
      let file = "\(cluster.directory)/backup"
      #expect(try output(["backup", file], cluster).contains("revision"))
      var info = stat()
      #expect(stat(file, &info) == 0 && info.st_mode & 0o777 == 0o600)
      _ = try cluster.end("n1")

      #expect(try cluster.command(["restore", file]).errors.contains("a name of its own"))
      let text = text(of: cluster.clusterFile)
      try write(text.split(separator: "\"proof\"", maxSplits: 1).joined(separator: "\"proof-2\""), to: cluster.clusterFile)
      #expect(try cluster.command(["restore", file]).errors.contains("is not empty"))
      let data = "\(cluster.directory)/.mesh/n1"
      #expect(rename(data, data + ".old") == 0)
      #expect(try cluster.command(["restore", cluster.clusterFile]).errors.contains("not a backup"))
      #expect(try output(["restore", file], cluster).contains("of cluster proof"))
      try cluster.start("n1")
      try waitUntilWritable(cluster, "n1")
      #expect(try output(["export"], cluster) == before)
      try apply("later", cluster)
      #expect(try output(["get", "dr"], cluster).contains("later"))
    }

    @Test func aSurvivorTakesTheClusterUpAgainAndGetsANewNeighbour() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try apply("kept", cluster)
      for node in cluster.names { _ = try cluster.end(node) }
      for lost in ["n2", "n3"] {
        let data = "\(cluster.directory)/.mesh/\(lost)"
        #expect(rename(data, data + ".old") == 0)
      }
      let look = try output(["recover-quorum"], cluster)
      #expect(look.contains("nothing was changed") && look.contains("voters n1, n2, n3"), "\(look)")
      #expect(try cluster.command(["recover-quorum"], node: "n2").errors.contains("voter that survived"))
      #expect(try output(["recover-quorum", "--yes"], cluster).contains("only voter now"))
      try cluster.start("n1")
      try waitUntilWritable(cluster, "n1")
      try eventually("a write is accepted") {
        do { try apply("alone", cluster) } catch { return false }
        return true
      }
      try eventually("n2 is dead or unknown") { try cluster.state(of: "n2", at: "n1") != "alive" }
      _ = try output(["forget", "n2"], cluster)
      try cluster.start("n2")
      try eventually("n2 has what was written") {
        let result = try cluster.command(["get", "dr"], node: "n2")
        return result.output.contains("kept") && result.output.contains("alone")
      }
      try apply("both", cluster, node: "n2")
      #expect(try output(["get", "dr"], cluster).contains("both"))
    }
  }
}
