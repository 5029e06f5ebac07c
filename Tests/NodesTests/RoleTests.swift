import Glibc
import Nodes
import Testing

extension ProcessTests {
  @Suite struct Roles {
    /// The holder of the configuration role sleeps with writes under way, the role moves, and it wakes and goes on.
    @Test func aHolderThatSleptWhileItsRoleMovedActsUnderItNoMore() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      let moved = try cluster.command(["roles", "transfer", "configuration", "n3"], node: "n1")
      #expect(moved.status == 0 && moved.output.contains("n3 holds the role configuration, epoch"), "\(moved)")
      let before = try cluster.role("configuration", at: "n1")
      #expect(before.holder == "n3")
      #expect(try cluster.command(["roles", "transfer", "bakery", "n3"]).errors.contains("it is one of configuration"))
      #expect(try cluster.command(["roles", "transfer", "configuration", "n7"]).errors.contains("there is no node 'n7'"))

      // Some of these writes hold the old epoch when the holder falls asleep.
      var writers: [RunningProcess] = []
      for number in 0..<6 {
        try write(TestConfiguration.rule("late", connections: 100 + number), to: "\(cluster.directory)/late-\(number).yaml")
      }
      for number in 0..<6 {
        writers.append(
          try RunningProcess(
            [
              Programs.meshNode, "apply", "-f", "\(cluster.directory)/late-\(number).yaml", "--timeout", "60s", "--config",
              cluster.clusterFile, "--node", "n3",
            ], log: cluster.logPath("late-\(number)")))
      }
      try eventually("the first of the writes to be done") { cluster.log("late-0").contains("late") || !writers[0].isRunning }
      let holder = try cluster.process("n3")
      holder.signal(SIGSTOP)
      try eventually("the role to move from the sleeper") {
        let role = try cluster.role("configuration", at: "n1")
        return role.holder != nil && role.holder != "n3" && role.epoch > before.epoch
      }
      let now = try cluster.role("configuration", at: "n1")
      for number in 0..<3 {
        let text = TestConfiguration.rule("meanwhile", connections: 200 + number)
        let result = try cluster.command(["apply", "-f", "-", "--timeout", "30s"], node: "n1", input: text)
        #expect(result.status == 0, "\(result)")
      }
      let revision = try cluster.status("n1").revision

      holder.signal(SIGCONT)
      for writer in writers { try writer.ended() }
      try eventually("n3 to know that it holds the role no more") {
        let role = try cluster.role("configuration", at: "n3")
        return role.epoch >= now.epoch && role.holder != "n3"
      }
      // What was under way came into force under the new epoch, after what was written meanwhile, or not at all.
      let kept = try cluster.command(["get", "dr", "meanwhile", "-o", "yaml", "--consistent"], node: "n3")
      #expect(kept.status == 0 && kept.output.contains("maxConnections: 202"), "\(kept)")
      let history = try cluster.ask("n3", "/v1/history", as: [RevisionInfo].self)
      #expect(history.filter { $0.revision > revision }.allSatisfy { $0.previous >= revision })
      let again = try cluster.command(["apply", "-f", "-", "--wait"], node: "n3", input: TestConfiguration.rule("after"))
      #expect(again.status == 0 && again.output.contains("served by n1, n2, n3"), "\(again)")
    }
  }
}

extension TestCluster {
  func role(_ name: String, at node: String) throws -> RoleInfo {
    guard let role = try ask(node, "/v1/roles", as: [RoleInfo].self).first(where: { $0.role == name }) else {
      throw Unexpected("\(node) knows no role \(name)")
    }
    return role
  }
}
