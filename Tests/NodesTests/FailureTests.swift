import Glibc
import Nodes
import Testing

extension ProcessTests {
  @Suite struct Failures {
    @Test func withTwoOfThreeNodesKilledRoutingGoesOnAndWritesWaitForOneToReturn() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n1", port: 9080)
      try cluster.run("details", on: "n2", port: 9080)
      try cluster.waitUntilServed("/details/0", through: "n1")
      let rule = "\(cluster.directory)/rule.yaml"
      try write(TestConfiguration.rule("first"), to: rule)

      try cluster.end("n2")
      try cluster.end("n3")
      try eventually("n1 to see both as dead") {
        try cluster.state(of: "n2", at: "n1") == "dead" && cluster.state(of: "n3", at: "n1") == "dead"
      }
      let traffic = LightTraffic(to: cluster.address("n1"), "/details/0")
      let started = ContinuousClock.now
      let refused = try cluster.command(["apply", "-f", rule, "--timeout", "5s"], node: "n1")
      // The deadline itself, and what a busy machine takes to start and end a process.
      #expect(ContinuousClock.now - started < .seconds(12))
      #expect(refused.status == 1)
      #expect(refused.errors.contains("no quorum: 1 of 3 voters alive (n1), 2 needed"))
      #expect(refused.errors.contains("n2 is dead, n3 is dead"))
      try traffic.waitForSuccesses(20)

      try cluster.start("n2")
      try eventually("apply to work with two of three") {
        try cluster.command(["apply", "-f", rule, "--wait", "--timeout", "20s"], node: "n1").status == 0
      }
      let written = try cluster.status("n1").revision
      try cluster.startAll()
      try eventually("all nodes to serve revision \(written)") {
        try cluster.names.allSatisfy { try cluster.status($0).servedRevision == written }
      }
      let counts = traffic.stop()
      #expect(counts.failures == [])
      // The workload of n2 found its node again by itself.
      try eventually("details on n2 to be back") {
        try cluster.endpoints(of: "details", at: "n3").contains { $0.node == "n2" && $0.health == "healthy" }
      }
      #expect(try cluster.get("/details/0", through: "n3").status == 200)
    }

    @Test func aFrozenNodeIsTakenOutAndComesBackWithoutARestart() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n1", port: 9080)
      try cluster.run("details", on: "n3", port: 9080)
      for node in ["n1", "n2"] { try cluster.waitUntilServed("/details/0", through: node) }
      let traffic = LightTraffic(to: cluster.address("n2"), "/details/0")
      let frozen = try cluster.process("n3")
      frozen.signal(SIGSTOP)
      let end = ContinuousClock.now + .seconds(20)
      for node in ["n1", "n2"] {
        try eventually("\(node) to take n3 out") {
          ["suspect", "dead"].contains(try cluster.state(of: "n3", at: node) ?? "")
        }
      }
      let rule = "\(cluster.directory)/rule.yaml"
      try write(TestConfiguration.rule("meanwhile"), to: rule)
      #expect(try cluster.command(["apply", "-f", rule, "--timeout", "30s"], node: "n1").status == 0)
      try traffic.waitForSuccesses(50)
      var convictions: [String] = []
      try eventually("20 s in which n1 and n2 stay alive to each other") {
        for (node, other) in [("n1", "n2"), ("n2", "n1")] {
          if let state = try cluster.state(of: other, at: node), state == "dead" { convictions.append("\(node): \(other)") }
        }
        return ContinuousClock.now > end
      }
      frozen.signal(SIGCONT)
      try cluster.waitUntilFormed()
      let revision = try cluster.status("n1").revision
      try eventually("n3 to serve revision \(revision)") { try cluster.status("n3").servedRevision == revision }
      #expect(frozen.isRunning && convictions.isEmpty)
      try cluster.waitUntilServed("/details/0", through: "n3")
      #expect(!cluster.log("n1").contains("n2 is dead") && !cluster.log("n2").contains("n1 is dead"))
      let counts = traffic.stop()
      // Requests that were inside the node when it froze had nobody to answer them; none after it was taken out.
      #expect(counts.failures.count <= 1, "\(counts.failures)")
    }

    @Test func allNodesRestartedAtOnceKeepRevisionAndAuthorities() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n1", port: 9080)
      try cluster.waitUntilServed("/details/0", through: "n3")
      let rule = "\(cluster.directory)/rule.yaml"
      try write(TestConfiguration.rule("kept"), to: rule)
      try #require(try cluster.command(["apply", "-f", rule, "--wait"], node: "n2").status == 0)
      // A node shows a certificate of its own authority until the cluster's has given it one.
      try eventually("all nodes to have certificates of one authority") {
        try Set(cluster.names.flatMap { try cluster.certificates($0).filter { $0.kind == "node" }.map(\.issuer) }).count == 1
      }
      let before = try kept(cluster)
      let revision = try cluster.status("n1").revision

      for node in cluster.names { try cluster.process(node).signal(SIGKILL) }
      for node in cluster.names { try cluster.process(node).ended() }
      try cluster.startAll()
      try eventually("every node's log to be applied again up to revision \(revision)") {
        try cluster.names.allSatisfy { try cluster.status($0).revision == revision }
      }
      for node in cluster.names { #expect(try cluster.status(node).servedRevision == revision) }
      #expect(try kept(cluster) == before)
      try cluster.waitUntilServed("/details/0", through: "n3")
      try showsWhatItShowed(cluster)
      let last = try cluster.status("n1").revision

      // Then one alone: its disk is all it has, and what it keeps there it writes once a second.
      try eventually("n1 to have run for some seconds") { try cluster.status("n1").uptimeSeconds > 4 }
      for node in cluster.names { try cluster.process(node).signal(SIGKILL) }
      for node in cluster.names { try cluster.process(node).ended() }
      try cluster.start("n1")
      try cluster.waitUntilServed("/details/0", through: "n1")
      let alone = try cluster.status("n1")
      #expect(alone.servedRevision == last)
      try eventually("n1 to say that there is no quorum") {
        try cluster.status("n1").notes.contains { $0.contains("no quorum: 1 of 3 voters alive (n1)") }
      }
      #expect(try cluster.command(["status"], node: "n1").output.contains("no quorum"))
      let shown = try cluster.command(["get", "destinationrule"], node: "n1")
      #expect(shown.status == 0 && shown.output.contains("kept"))
      #expect(shown.errors.contains("warning: n1 has heard from no leader since it was started"))
    }

    /// A node that is killed right after it showed a change shows it in its first answer of the next life.
    private func showsWhatItShowed(_ cluster: TestCluster) throws {
      let late = "\(cluster.directory)/late.yaml"
      try write(TestConfiguration.rule("late"), to: late)
      try #require(try cluster.command(["apply", "-f", late, "--wait"], node: "n3").status == 0)
      try cluster.process("n3").signal(SIGKILL)
      try cluster.process("n3").ended()
      try cluster.start("n3")
      var first = try cluster.command(["get", "destinationrule"], node: "n3")
      try eventually("n3 to answer") {
        if first.status != 0 { first = try cluster.command(["get", "destinationrule"], node: "n3") }
        return first.status == 0
      }
      #expect(first.output.contains("late") && first.errors.isEmpty, "\(first.output)\(first.errors)")
    }

    /// Serials of the authorities, and of the nodes' own certificates but where a node's own authority has signed: that one may be its
    /// first, or the cluster's, and is made anew at each start.
    private func kept(_ cluster: TestCluster) throws -> [[String]] {
      try cluster.names.map { node in
        try cluster.certificates(node).filter {
          $0.kind == "ca" || $0.kind == "node" && !$0.issuer.contains("CN=\(node) ")
        }.map(\.serial).sorted()
      }
    }
  }
}
