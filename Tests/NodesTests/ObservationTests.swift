import Nodes
import Testing

extension ProcessTests {
  @Suite struct Observation {
    @Test func aCallBetweenNodesIsCountedOnBothSidesAndLoggedInIstiosFormat() throws {
      let cluster = try TestCluster()
      try cluster.initialize()
      try cluster.startAll()
      try cluster.run("ratings", on: "n3", port: 9080)
      try cluster.run("reviews", version: "v2", on: "n2", port: 9081)
      // n1's gateway, then reviews on n2, which asks ratings on n3.
      try eventually("reviews with stars through n1") {
        let answer = try cluster.get("/reviews/0", through: "n1")
        return answer.status == 200 && answer.body.contains("stars")
      }
      let outside = try series("istio_requests_total", at: "n1", cluster)
      #expect(
        outside.contains { $0.contains(#"reporter="source""#) && $0.contains(#"destination_workload="reviews-v2""#) },
        "\(outside)")
      for (node, source, target) in [("n2", "istio-ingressgateway", "reviews-v2"), ("n3", "reviews-v2", "ratings-v1")] {
        let inside = try series("istio_requests_total", at: node, cluster)
        #expect(
          inside.contains {
            $0.contains(#"reporter="destination""#) && $0.contains(#"connection_security_policy="mutual_tls""#)
              && $0.contains(#"source_workload="\#(source)""#) && $0.contains(#"destination_workload="\#(target)""#)
              && $0.contains(#"response_code="200""#)
          }, "\(node): \(inside)")
      }
      #expect(
        try series("istio_requests_total", at: "n3", cluster).contains {
          $0.contains(#"source_principal="spiffe://cluster.local/ns/default/sa/bookinfo-reviews""#)
        })
      let logLine =
        /\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET \/reviews\/0 HTTP\/1\.1" 200 - via_upstream - "-" 0 \d+ \d+ \d+ "/
      try eventually("n1 to log the request in Istio's format") { !cluster.log("n1").matches(of: logLine).isEmpty }
    }

    @Test func healthSaysReadyAndAliveAndMetricsSayWhereTheyAre() throws {
      let cluster = try TestCluster(nodes: 1)
      try cluster.initialize()
      try cluster.startAll()
      func health(_ path: String) throws -> Answer {
        try RawClient(cluster.address("n1"), TestCluster.ports.health).request("GET", path)
      }
      #expect(try health("/healthz/ready").status == 200)
      #expect(try health("/healthz/live").body == "alive\n")
      #expect(try health("/").status == 404)
      #expect(try cluster.metrics("n1").contains("mesh_members_alive 1"))
      let wrong = try RawClient(cluster.address("n1"), TestCluster.ports.metrics).request("GET", "/")
      #expect(wrong.status == 404 && wrong.body.contains("/metrics"))
    }

    private func series(_ name: String, at node: String, _ cluster: TestCluster) throws -> [Substring] {
      try cluster.metrics(node).split(separator: "\n").filter { $0.hasPrefix(name + "{") }
    }
  }
}
