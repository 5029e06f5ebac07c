import Testing

@testable import MeshConfig

/// Which endpoints are preferred by where they are (Istio, locality load balancing).
@Suite struct LocalityTests {
  @Test func `outlier detection switches locality failover on`() throws {
    let outlier = "host: reviews\ntrafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}"
    let off = "host: reviews\ntrafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}"
    let workloads = [
      try Fixture.workload("reviews", "v1", node: "n1"),
      try Fixture.workload("reviews", "v2", node: "n2", locality: "local/b/1"),
      try Fixture.workload("reviews", "v3", node: "n3", locality: "far/a/1"),
    ]
    func priorities(_ text: String) throws -> [Int] {
      let snapshot = try Fixture.compile(text, workloads).snapshot
      return try #require(snapshot.cluster("outbound|9080||reviews.default.svc.cluster.local")).endpoints.map(\.priority)
        .sorted()
    }
    #expect(try priorities("") == [0, 0, 0])
    #expect(try priorities(Fixture.object("DestinationRule", "r", spec: outlier)) == [0, 1, 2])
    #expect(try priorities(Fixture.object("DestinationRule", "r", spec: off)) == [0, 0, 0])
  }

  @Test func `distribute splits by locality and leaves out what is not listed`() throws {
    let spec = """
      host: reviews
      trafficPolicy:
        outlierDetection: {}
        loadBalancer:
          localityLbSetting:
            distribute:
            - from: local/*
              to: {local/a/*: 80, local/b/*: 20}
      """
    let workloads = [
      try Fixture.workload("reviews", "v1", node: "n1"),
      try Fixture.workload("reviews", "v2", node: "n2", locality: "local/b/1"),
      try Fixture.workload("reviews", "v3", node: "n3", locality: "far/a/1"),
    ]
    let (snapshot, _) = try Fixture.compile(Fixture.object("DestinationRule", "r", spec: spec), workloads)
    let cluster = try #require(snapshot.cluster("outbound|9080||reviews.default.svc.cluster.local"))
    #expect(cluster.endpoints.map(\.localityShare).sorted() == [200_000, 800_000])
  }

  private func placed(_ setting: String, outlier: Bool, labels: [[String: String]?] = [nil, nil, nil]) throws -> [Endpoint] {
    let spec = "host: reviews\ntrafficPolicy: {\(outlier ? "outlierDetection: {}, " : "")loadBalancer: {\(setting)}}"
    let places = ["local/a/1", "local/b/1", "far/a/1"]
    let workloads = try places.indices.map { index in
      try Fixture.workload("reviews", "v\(index)", node: "n\(index + 1)", locality: places[index], labels: labels[index])
    }
    let (snapshot, _) = try Fixture.compile(Fixture.object("DestinationRule", "r", spec: spec), workloads)
    return try #require(snapshot.cluster("outbound|9080||reviews.default.svc.cluster.local")).endpoints
  }

  @Test func `distribute needs no outlier detection, and without a rule for the client changes nothing`() throws {
    let own = try placed(
      "localityLbSetting: {distribute: [{from: local/*, to: {local/a/*: 80, local/b/*: 20}}]}", outlier: false)
    #expect(own.map(\.localityShare).sorted() == [200_000, 800_000])
    for outlier in [false, true] {
      let others = try placed("localityLbSetting: {distribute: [{from: elsewhere/*, to: {local: 100}}]}", outlier: outlier)
      #expect(others.map(\.priority) == [0, 0, 0] && others.count == 3)
    }
  }

  @Test func `of localities that overlap the narrower one has its endpoints`() throws {
    let all = try placed(
      "localityLbSetting: {distribute: [{from: local, to: {'local/*': 30, local/b: 60, far: 10}}]}", outlier: false)
    #expect(all.map(\.localityShare).sorted() == [100_000, 300_000, 600_000])
  }

  @Test func `failover decides among endpoints of one failover priority`() throws {
    let labels: [[String: String]?] = [["app": "reviews"], ["app": "reviews", "tier": "x"], ["app": "reviews"]]
    // The client has no label `tier`, and neither have two of the endpoints: that is alike.
    let ranks = try placed("localityLbSetting: {failoverPriority: [tier]}", outlier: true, labels: labels)
    #expect(ranks.map(\.priority).sorted() == [0, 0, 1])
    let both = try placed(
      "localityLbSetting: {failoverPriority: [tier], failover: [{from: local, to: far}]}", outlier: true, labels: labels)
    #expect(both.map(\.priority).sorted() == [0, 1, 2])
  }
}
