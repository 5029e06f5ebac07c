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

      try eventually("n1 or n2 to name the secret of n3") {
        (cluster.log("n1") + cluster.log("n2")).contains("does not know this cluster's join secret")
      }
      try eventually("n3 to be told about its secret") {
        cluster.log("n3").contains("join secret does not match; copy the join secret file of a node of the cluster")
      }
      try cluster.run("details", on: "n2", port: 9080)
      try cluster.waitUntilServed("/details/0", through: "n1")
      for node in ["n1", "n2"] {
        #expect(try cluster.state(of: "n3", at: node) != "alive")
        #expect(try cluster.status(node).members.alive == 2)
        #expect(try cluster.certificates(node).filter { $0.kind == "ca" }.count == 2)
      }
      #expect(refused.isRunning)

      try cluster.end("n3")
      try cluster.startAll()
      #expect(try cluster.get("/details/0", through: "n3").status == 200)
      #expect(try cluster.certificates("n1").filter { $0.kind == "ca" }.count == 3)
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
