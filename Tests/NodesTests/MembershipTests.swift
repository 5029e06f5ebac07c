import Glibc
import Nodes
import Testing

extension ProcessTests {
  @Suite struct Membership {
    /// Draining, leaving, dying, forgetting and coming back, on one cluster.
    @Test func nodesGoAndComeBack() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      for node in cluster.names { try cluster.run("details", on: node, port: 9080) }
      try cluster.waitUntilServed("/details/0", through: "n1")
      try eventually("n1 to trust all authorities") { try cluster.authorities(at: "n1") == 3 }
      let traffic = LightTraffic(to: cluster.address("n1"), "/details/0")
      try aDrainedNodeKeepsItsPlaceAndGivesUpItsDuties(cluster)
      try aNodeThatLeavesIsNoMemberAtOnce(cluster)
      #expect(traffic.stop().failures == [])
      try aDeadNodeIsForgottenAndItsNameComesBackOnAnEmptyDisk(cluster)
      try aForgottenNodeIsRefusedWithItsOldDisk(cluster)
    }

    private func aDrainedNodeKeepsItsPlaceAndGivesUpItsDuties(_ cluster: TestCluster) throws {
      let drained = try cluster.command(["drain", "n3"], node: "n1")
      #expect(drained.status == 0 && drained.output.contains("its roles and vote have moved"), "\(drained)")
      #expect(try cluster.state(of: "n3", at: "n1") == "alive")
      try eventually("the workload of n3 to take no requests, and n3 to have no duty") {
        let roles = try cluster.ask("n1", "/v1/roles", as: [RoleInfo].self)
        return try cluster.endpoints(of: "details", at: "n1").contains { $0.node == "n3" && $0.health == "leaving" }
          && roles.allSatisfy { $0.holder != "n3" } && !cluster.status("n1").consensus.voters.contains("n3")
      }
      #expect(try cluster.command(["undrain", "n3"], node: "n2").status == 0)
      try eventually("n3 to be back in service, with its vote") {
        try cluster.endpoints(of: "details", at: "n1").contains { $0.node == "n3" && $0.health == "healthy" }
          && cluster.status("n1").consensus.voters.count == 3
      }
    }

    private func aNodeThatLeavesIsNoMemberAtOnce(_ cluster: TestCluster) throws {
      #expect(try cluster.command(["leave"], node: "n3").status == 0)
      #expect(try cluster.process("n3").ended() == 0)
      for node in ["n1", "n2"] {
        try eventually("n3 to be gone from the members of \(node)") { try cluster.state(of: "n3", at: node) == nil }
        #expect(!cluster.log(node).contains("n3 is dead"))
      }
      #expect(try !cluster.command(["members"], node: "n1").output.contains("n3"))
      try cluster.startAll()
      try eventually("n3 to vote again") { try cluster.status("n1").consensus.voters.count == 3 }
    }

    private func aDeadNodeIsForgottenAndItsNameComesBackOnAnEmptyDisk(_ cluster: TestCluster) throws {
      let early = try cluster.command(["forget", "n3"], node: "n1")
      #expect(early.status == 1 && early.errors.contains("n3 is alive; stop it first: mesh-node leave --node n3"), "\(early)")
      try cluster.end("n3")
      try eventually("n3 to be dead") { try cluster.state(of: "n3", at: "n1") == "dead" }
      let data = cluster.dataDirectory("n3")
      try #require(rename(data, "\(data)-old") == 0)
      // Its name belongs to its authority, until the cluster forgets it.
      try cluster.start("n3")
      for side in ["n1", "n3"] {
        try eventually("\(side) to say that the name has another authority") {
          cluster.log(side).contains("the cluster knows n3 with another certificate authority")
            && cluster.log(side).contains("mesh-node forget n3")
        }
      }
      let forgotten = try cluster.command(["forget", "n3"], node: "n2")
      #expect(forgotten.status == 0 && forgotten.output.contains("n3 is forgotten; it may come back"), "\(forgotten)")
      try cluster.waitUntilFormed()
      try eventually("n3 to have its new authority trusted, and its vote") {
        try cluster.authorities(at: "n1") == 3 && cluster.status("n1").consensus.voters.count == 3
      }
      try cluster.waitUntilServed("/details/0", through: "n3")
    }

    private func aForgottenNodeIsRefusedWithItsOldDisk(_ cluster: TestCluster) throws {
      try cluster.end("n3")
      let data = cluster.dataDirectory("n3")
      try #require(rename(data, "\(data)-new") == 0 && rename("\(data)-old", data) == 0)
      try eventually("n3 to be dead") { try cluster.state(of: "n3", at: "n1") == "dead" }
      let before = cluster.log("n1").count
      try cluster.start("n3")
      try eventually("n1 to refuse the old n3") {
        cluster.log("n1").dropFirst(before).contains("the cluster knows n3 with another certificate authority")
      }
      for node in ["n1", "n2"] { #expect(try cluster.state(of: "n3", at: node) != "alive") }
    }

    @Test func aNodeIsFollowedToAnotherAddressAndASecondOneUnderItsNameIsRefused() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n3", port: 9080)
      try cluster.waitUntilServed("/details/0", through: "n1")
      let zones = try cluster.ask("n1", "/v1/members", as: [MemberInfo].self).map(\.locality)
      #expect(zones == ["local/z1", "local/z2", "local/z3"])
      #expect(try cluster.command(["members"], node: "n1").output.contains("local/z3"))

      // The same secret, the same name, another host.
      let impostor = try cluster.home(of: "n9")
      let elsewhere = text(of: cluster.clusterFile).replacing(
        #""\#(cluster.address("n3"))""#, with: #""\#(cluster.address("n9"))""#)
      for folder in ["seed", ".mesh"] { mkdir("\(impostor)/\(folder)", 0o700) }
      try write(elsewhere, to: "\(impostor)/cluster.json")
      try write(text(of: "\(cluster.directory)/.mesh/join-secret"), to: "\(impostor)/.mesh/join-secret")
      let second = try RunningProcess(
        [Programs.meshNode, "start", "--node", "n3", "--config", "\(impostor)/cluster.json"], log: cluster.logPath("impostor"))
      defer { second.signal(SIGKILL) }
      let alive = "n3 is alive at \(cluster.address("n3"))"
      for (side, words) in [
        ("n1", "two nodes cannot have one name"), ("impostor", "give this node another name, or stop the other one"),
      ] {
        try eventually("\(side) to say that the name is taken") {
          cluster.log(side).split(separator: "\n").contains { $0.contains(alive) && $0.contains(words) }
        }
      }
      #expect(try cluster.state(of: "n3", at: "n1") == "alive")
      #expect(try cluster.get("/details/0", through: "n1").status == 200)
      second.signal(SIGKILL)
      try second.ended()

      // The node itself moves; the files of the others still say where it was.
      try cluster.end("n3", with: SIGTERM)
      try write(elsewhere, to: "\(cluster.directory)/moved.json")
      try cluster.start("n3", file: "\(cluster.directory)/moved.json")
      for node in ["n1", "n2"] {
        try eventually("\(node) to see n3 at its new address") {
          try cluster.ask(node, "/v1/members", as: [MemberInfo].self).contains {
            $0.name == "n3" && $0.state == "alive" && $0.address == cluster.address("n9")
          }
        }
      }
      // So does its application, once it has found its node again.
      try eventually("the application to be registered anew") {
        cluster.log("details-v1@n3").contains("outbound proxy http://\(cluster.address("n9")):")
      }
      try cluster.end("details-v1@n3", with: SIGTERM)
      try eventually("the application to be gone") { try cluster.endpoints(of: "details", at: "n3").isEmpty }
      let application = [Programs.bookinfo, "details", "--port", "9080", "--address", cluster.address("n9")]
      _ = try cluster.launch("details", on: "n3", port: 9080, command: application)
      try eventually("details to be called at the new address") {
        try cluster.endpoints(of: "details", at: "n1").contains { $0.node == "n3" && $0.health == "healthy" }
          && cluster.get("/details/0", through: "n1").status == 200
      }
    }

    @Test func nodesGoOnTalkingWhileGossipKeysChangeAndASleeperComesBack() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      let sleeper = try cluster.process("n3")
      for round in 1...4 {
        if round == 2 { sleeper.signal(SIGSTOP) }
        let result = try cluster.command(["rotate-gossip-key"], node: "n\(1 + round % 2)")
        #expect(result.status == 0 && result.output.contains("sealed with key"), "\(result)")
      }
      sleeper.signal(SIGCONT)
      // Keys that it never used have come and gone meanwhile: its links bring it the new ones.
      try cluster.waitUntilFormed()
      for (node, other) in [("n1", "n2"), ("n2", "n1")] { #expect(!cluster.log(node).contains("\(other) is dead")) }
    }
  }
}

extension TestCluster {
  /// How many nodes' authorities a node trusts.
  func authorities(at node: String) throws -> Int { try certificates(node).filter { $0.kind == "ca" }.count }
}
