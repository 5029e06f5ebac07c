import Glibc
import Nodes
import Testing

extension ProcessTests {
  /// Health checks that are commands, and those of a WorkloadGroup.
  @Suite struct WorkloadProbes {
    @Test func aCommandSaysWhetherAWorkloadIsHealthy() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      let marker = "\(cluster.directory)/well"
      let options = ["--health-period", "200ms"] + ["test", "-e", marker].flatMap { ["--health-exec", $0] }
      _ = try cluster.launch("details", on: "n1", port: 9080, options: options)
      try eventually("the command to be asked") { cluster.log("details-v1@n1").contains("registered") }
      func health() throws -> [String] { try cluster.endpoints(of: "details", at: "n1").map(\.health) }
      #expect(try !health().contains("healthy"))
      try write("", to: marker)
      try eventually("details to be healthy") { try health() == ["healthy"] }
      unlink(marker)
      try eventually("details to be unhealthy") { cluster.log("details-v1@n1").contains("unhealthy, exit code 1") }
    }

    @Test func aWorkloadGroupBringsItsProbeAndLabels() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      let marker = "\(cluster.directory)/well"
      let group = """
        apiVersion: networking.istio.io/v1
        kind: WorkloadGroup
        metadata: { name: books, namespace: default }
        spec:
          metadata: { labels: { tier: back } }
          template: { serviceAccount: bookinfo-details }
          probe:
            periodSeconds: 1
            exec: { command: [test, -e, '\(marker)'] }
        """
      let file = "\(cluster.directory)/group.yaml"
      try write(group, to: file)
      let applied = try cluster.command(["apply", "-f", file, "--wait"], node: "n1")
      #expect(applied.status == 0, "\(applied.errors)")
      let missing = try cluster.launch("reviews", on: "n1", port: 9081, options: ["--group", "papers"])
      #expect(try missing.ended() != 0)
      #expect(cluster.log("reviews-v1@n1").contains("there is no WorkloadGroup default/papers"))
      _ = try cluster.launch("details", on: "n1", port: 9080, options: ["--group", "books"])
      try eventually("details to be registered") { cluster.log("details-v1@n1").contains("registered") }
      #expect(try !cluster.endpoints(of: "details", at: "n1").contains { $0.health == "healthy" })
      try write("", to: marker)
      try eventually("details to be healthy") { try cluster.endpoints(of: "details", at: "n1").map(\.health) == ["healthy"] }
    }
  }

  /// Restarts under load, by the program that counts a thousand of them (`make rolling`).
  @Suite struct Rolling {
    @Test(.enabled(if: access(Programs.rolling, X_OK) == 0))
    func aFewRestartsOfWorkloadsAndOfANodeAreNotNoticed() throws {
      let log = "/tmp/mesh-rolling-\(getpid())-\(UInt64.random(in: .min ... .max)).log"
      defer { unlink(log) }
      let process = try RunningProcess(
        [Programs.rolling, "--mesh-node", Programs.meshNode, "--workloads", "3", "--nodes", "1", "--rate", "60"], log: log)
      #expect(try process.ended(within: .seconds(180)) == 0, "\(text(of: log))")
    }
  }
}
