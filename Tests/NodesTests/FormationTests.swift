import Glibc
import Nodes
import Testing

extension ProcessTests {
  @Suite struct Formation {
    @Test func threeNodesFormAndANodeWithAnotherJoinSecretIsRefusedByName() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.start("n1")
      try cluster.start("n2")
      // The same cluster file in another directory, with a secret of its own: n3 believes it belongs to this cluster.
      let stranger = "\(cluster.directory)/stranger"
      mkdir(stranger, 0o700)
      mkdir("\(stranger)/seed", 0o700)
      try write(text(of: cluster.clusterFile), to: "\(stranger)/cluster.json")
      try #require(try cluster.command(["init"], file: "\(stranger)/cluster.json").status == 0)
      let refused = try cluster.start("n3", file: "\(stranger)/cluster.json")

      // Both sides find out at the same time, so each says so in its own log.
      let cause = /was refused: its join secret is not this node's|join secret does not match/
      for (node, others) in [("n1", /n3 at/), ("n2", /n3 at/), ("n3", /n[12]\)? at|\(n[12]\)/)] {
        try eventually("\(node) to name the secret as the cause") {
          cluster.log(node).split(separator: "\n").contains { $0.contains(cause) && $0.contains(others) }
        }
      }
      // Nothing has begun without n3, one of the first voters, and the others say so.
      for node in ["n1", "n2"] { #expect(try cluster.state(of: "n3", at: node) != "alive") }
      let early = try cluster.command(["apply", "-f", "-"], node: "n1", input: TestConfiguration.rule("early"))
      #expect(early.status == 1)
      #expect(early.errors.contains("the cluster has not begun: its first leader needs the votes of n1, n2, n3"))
      #expect(refused.isRunning)

      try cluster.end("n3")
      try cluster.startAll()
      try cluster.run("details", on: "n2", port: 9080)
      try cluster.waitUntilServed("/details/0", through: "n3")
      try eventually("n1 to trust the authority of n3") {
        try cluster.certificates("n1").filter { $0.kind == "ca" }.count == 3
      }
    }

    @Test func aNodeWithoutAJoinSecretSaysHowToMakeOne() throws {
      let cluster = try TestCluster(nodes: 1)
      let result = try cluster.command(["start"], node: "n1")
      #expect(result.status == 1)
      #expect(result.errors.contains("there is no join secret at \(cluster.directory)/.mesh/join-secret"))
      #expect(result.errors.contains("mesh-node init"))
    }

    @Test func aJoinSecretThatOthersCanReadIsRefused() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      let path = "\(cluster.directory)/.mesh/join-secret"
      chmod(path, 0o644)
      let result = try cluster.command(["start"], node: "n1")
      #expect(result.status == 1)
      #expect(result.errors.contains("\(path) can be read by others; protect it with: chmod 600 \(path)"))
      #expect(try cluster.command(["init"]).errors.contains("exists already"))
    }
  }
}
