import Glibc
import Nodes
import Testing

extension ProcessTests {
  @Suite struct Workloads {
    @Test func anApplicationThatEndsIsWithdrawnAndItsFailureIsTold() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("details", on: "n1", port: 9080)
      let marker = "\(cluster.directory)/fail"
      let failing = try cluster.launch(
        "reviews", on: "n1", port: 9081,
        command: ["/bin/sh", "-c", "until [ -e '\(marker)' ]; do sleep 0.1; done; exit 7"])
      try eventually("reviews to be registered") { cluster.log("reviews-v1@n1").contains("registered") }
      #expect(try cluster.get("/reviews/0", through: "n1").status == 503)
      try write("", to: marker)
      #expect(try failing.ended() == 1)
      #expect(cluster.log("reviews-v1@n1").contains("ended (exit code 7); its workload is withdrawn"))
      try eventually("reviews to be withdrawn") { try cluster.endpoints(of: "reviews", at: "n1").isEmpty }
      #expect(try cluster.get("/details/0", through: "n1").status == 200)
    }

    @Test func aWorkloadRegistersAgainWithItsOutboundPortAfterARestartOfItsNode() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      // Two, so that the second port is not simply the first free one.
      try cluster.run("details", on: "n1", port: 9080)
      try cluster.run("ratings", on: "n1", port: 9081)
      func port(_ service: String) -> [Substring] {
        cluster.log("\(service)-v1@n1").split(separator: "\n").filter { $0.contains("registered") }
      }
      let before = [port("details"), port("ratings")]
      try cluster.end("n1")
      try cluster.startAll()
      for service in ["ratings", "details"] {
        try eventually("\(service) to register again") { port(service).count == 2 }
        #expect(Set(port(service)).count == 1, "\(port(service))")
      }
      #expect(before[0] != before[1])
      try cluster.waitUntilServed("/details/0", through: "n1")
      #expect(try cluster.process("details-v1@n1").isRunning && cluster.process("ratings-v1@n1").isRunning)
    }

    @Test func aStoppedInstanceLeavesBeforeItStopsAndNoRequestFails() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      for node in ["n2", "n3"] { try cluster.run("details", on: node, port: 9080) }
      for node in cluster.names { try cluster.waitUntilServed("/details/0", through: node) }
      let streams = cluster.names.flatMap { node in
        [true, false].map { LightTraffic(to: cluster.address(node), "/details/0", keepsAlive: $0) }
      }
      for node in ["n2", "n3", "n2"] {
        for stream in streams { try stream.waitForSuccesses(5) }
        #expect(try cluster.end("details-v1@\(node)", with: SIGTERM) == 0)
        for stream in streams { try stream.waitForSuccesses(5) }
        try cluster.run("details", on: node, port: 9080)
      }
      for stream in streams { #expect(stream.stop().failures == []) }
    }
  }
}
