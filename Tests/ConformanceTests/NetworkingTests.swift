import Dispatch
import FoundationEssentials
import HTTPCodec
import Nodes
import Synchronization
import Testing

/// Each file of Istio's `samples/bookinfo/networking`, unmodified, on a running mesh.
@Suite(.serialized, .enabled(if: Conformance.obstacle == nil, "\(Conformance.obstacle ?? "")"), RunningMesh())
@BlockingThread
struct NetworkingTests {
  let mesh: BookinfoMesh

  init() throws { mesh = try #require(RunningMesh.current) }

  @Test func `every file of the folder has its test`() throws {
    let reviews = ["50-v3", "80-20", "90-10", "jason-v2-v3", "test-v2", "v2-v3", "v3"].map { "virtual-service-reviews-\($0)" }
    let ratings = ["db", "mysql", "mysql-vm", "test-abort", "test-delay"].map { "virtual-service-ratings-\($0)" }
    let rules = ["destination-rule-all", "destination-rule-all-mtls", "destination-rule-reviews"]
    let others = [
      "bookinfo-gateway", "certmanager-gateway", "egress-rule-google-apis", "fault-injection-details-v1",
      "virtual-service-all-v1",
      "virtual-service-details-v2",
    ]
    let folder = "\(try #require(Conformance.bookinfo))/networking"
    let present = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".yaml") }
    #expect(Set(present) == Set((reviews + ratings + rules + others).map { "\($0).yaml" }))
  }

  // MARK: Gateways

  @Test func `bookinfo-gateway admits five paths and nothing else`() throws {
    try mesh.use()
    let visitor = mesh.visitor()
    let table: [(path: String, status: Int, fromApplication: Bool)] = [
      ("/productpage", 200, true), ("/productpage?u=normal", 200, true), ("/logout", 302, true),
      ("/api/v1/products", 200, true), ("/api/v1/products/0", 200, true), ("/api/v1/products/0/reviews", 200, true),
      ("/api/v1/products/0/ratings", 200, true), ("/login", 405, true),
      // A prefix is one of strings, not of segments: productpage itself does not know this path.
      ("/staticx", 404, true),
      ("/", 404, false), ("/health", 404, false), ("/metrics", 404, false), ("/productpagex", 404, false),
      ("/Productpage", 404, false), ("/loginx", 404, false),
    ]
    for row in table {
      let before = mesh.accessLog(1, "\"GET \(row.path) HTTP/1.1\" 404 NR").count
      let answer = try visitor.get(row.path)
      #expect(answer.status == row.status, "\(row.path)")
      #expect(answer.response.body.isEmpty == (!row.fromApplication || row.status == 302), "\(row.path)")
      guard !row.fromApplication else { continue }
      _ = try eventually("the access log says NR for \(row.path)") {
        mesh.accessLog(1, "\"GET \(row.path) HTTP/1.1\" 404 NR").count > before ? true : nil
      }
    }
    try visitor.signIn(as: "jason")
    let page = try visitor.get("/productpage").text
    #expect(page.contains("jason") && page.contains("Sign out") && !page.contains("id=\"sign-in-button\""))
    let style = page.split(separator: "\"").first { $0.hasPrefix("/static/") || $0.hasPrefix("static/") }
    let file = try #require(style, "the page names a static file")
    #expect(try visitor.get(file.hasPrefix("/") ? "\(file)" : "/\(file)").status == 200)
  }

  @Test(.enabled(if: Conformance.isPrivileged, "port 80 takes root"))
  func `certmanager-gateway opens port 80 for a service that does not exist`() throws {
    try mesh.use()
    let report = try mesh.apply(["certmanager-gateway"])
    #expect(report.findings.contains { $0.level == "warning" && $0.message.contains("cert-manager-resolver") })
    let challenge = "/.well-known/acme-challenge/token"
    let visitor = mesh.visitor(port: 80)
    #expect(try visitor.get(challenge).status == 503)
    for path in ["/", "/.well-known/acme-challenge", "/productpage"] { #expect(try visitor.get(path).status == 404, "\(path)") }
    #expect(try mesh.visitor().get(challenge).status == 404, "the other gateway does not know the path")
    #expect(try mesh.visitor().get("/productpage").status == 200)
    _ = try eventually("the access log says NC") { mesh.accessLog(1, challenge, "\" 503 NC ").isEmpty ? nil : true }
  }

  // MARK: Destination rules

  @Test func `destination-rule-all changes nothing that can be seen`() throws {
    try mesh.use()
    let thirds = ["v1": 1.0 / 3, "v2": 1.0 / 3, "v3": 1.0 / 3]
    expectShares(try mesh.visitor().versions(300), thirds, "without rules")
    try mesh.apply(["destination-rule-all"])
    expectShares(try mesh.visitor().versions(300), thirds, "destination-rule-all")
  }

  @Test func `a subset that no rule defines is answered 503 NC until a rule defines it`() throws {
    try mesh.use("virtual-service-all-v1")
    #expect(try mesh.visitor().get("/api/v1/products/0").status == 503)
    _ = try eventually("the access log says NC") {
      mesh.accessLog(1, "GET /details/0", "\" 503 NC cluster_not_found").isEmpty ? nil : true
    }
    try mesh.apply(["destination-rule-all"])
    #expect(try mesh.visitor().get("/api/v1/products/0").status == 200)
  }

  @Test func `a subset without endpoints is answered 503 UH`() throws {
    try mesh.use("destination-rule-all", "virtual-service-details-v2")
    #expect(try mesh.visitor().get("/api/v1/products/0").status == 503)
    let page = try mesh.visitor().get("/productpage")
    #expect(page.status == 200)
    #expect(page.text.contains("Error fetching product details"))
    #expect(page.text.contains("Sorry, product details are currently unavailable for this book."))
    _ = try eventually("the access log says UH") {
      mesh.accessLog(1, "GET /details/0", "\" 503 UH no_healthy_upstream", "outbound|9080|v2|details").isEmpty ? nil : true
    }
  }

  @Test func `destination-rule-all-mtls has every hop between nodes on mutual TLS`() throws {
    try mesh.use("destination-rule-all-mtls", "virtual-service-reviews-v3")
    let destinations: [(node: Int, app: String)] = [(1, "productpage"), (1, "details"), (2, "reviews"), (3, "ratings")]
    let pages = 50
    let security = "connection_security_policy=\"mutual_tls\""
    let before = try destinations.map { try mesh.requests($0.node, to: $0.app, security) }
    #expect(try mesh.visitor().pages(pages) == [.redStars: pages])
    for (index, destination) in destinations.enumerated() {
      var mutual = 0
      _ = try eventually(
        "\(destination.app) counts \(pages) requests",
        {
          mutual = try mesh.requests(destination.node, to: destination.app, security) - before[index]
          return mutual >= pages ? true : nil
        }, saw: { "it counts \(mutual)" })
      #expect(mutual == pages, "\(destination.app)")
      let all = try mesh.requests(destination.node, to: destination.app)
      #expect(all == before[index] + mutual, "\(destination.app): nothing arrives in another way")
      print("  destination-rule-all-mtls: \(destination.app) \(mutual) of \(pages) with mutual_tls")
    }
    let ratings = try mesh.clusters(2).filter { $0.host == "ratings.default.svc.cluster.local" && $0.subset == "v1" }
    #expect(!ratings.isEmpty)
    for cluster in ratings { #expect(cluster.tls.lowercased().contains("mutual"), "\(cluster)") }
  }

  @Test func `destination-rule-reviews spreads at random over all versions`() throws {
    try mesh.use("destination-rule-reviews")
    expectShares(
      try mesh.visitor().versions(1000), ["v1": 1.0 / 3, "v2": 1.0 / 3, "v3": 1.0 / 3], "destination-rule-reviews")
  }

  // MARK: Routes of reviews

  @Test func `all-v1 never shows stars`() throws {
    try mesh.use("destination-rule-all", "virtual-service-all-v1")
    #expect(try mesh.visitor().pages(50) == [.noStars: 50])
    expectShares(try mesh.visitor().versions(1000), ["v1": 1], "virtual-service-all-v1")
  }

  @Test(arguments: [
    ("virtual-service-reviews-80-20", ["v1": 0.8, "v2": 0.2]), ("virtual-service-reviews-90-10", ["v1": 0.9, "v2": 0.1]),
    ("virtual-service-reviews-50-v3", ["v1": 0.5, "v3": 0.5]), ("virtual-service-reviews-v2-v3", ["v2": 0.5, "v3": 0.5]),
    ("virtual-service-reviews-v3", ["v3": 1]),
  ])
  func `weights share the requests`(file: String, shares: [String: Double]) throws {
    try mesh.use("destination-rule-all", "virtual-service-all-v1", file)
    expectShares(try mesh.visitor().versions(1000), shares, file)
    let shown: [String: ReviewsShown] = ["v1": .noStars, "v2": .blackStars, "v3": .redStars]
    #expect(Set(try mesh.visitor().pages(60).keys) == Set(shares.keys.compactMap { shown[$0] }), "\(file)")
  }

  @Test(arguments: [
    ("virtual-service-reviews-test-v2", ReviewsShown.noStars), ("virtual-service-reviews-jason-v2-v3", .redStars),
  ])
  func `jason alone sees black stars`(file: String, others: ReviewsShown) throws {
    try mesh.use("destination-rule-all", "virtual-service-all-v1", file)
    let (jason, jasmine) = (mesh.visitor(), mesh.visitor())
    try jason.signIn(as: "jason")
    try jasmine.signIn(as: "jasmine")
    #expect(try jason.pages(50) == [.blackStars: 50])
    #expect(try jasmine.pages(50) == [others: 50], "the match is exact")
    #expect(try mesh.visitor().pages(50) == [others: 50])
    for _ in 0..<50 {
      let page = try mesh.visitor().get("/productpage", headers: [HTTPField("end-user", "jason")]).text
      #expect(ReviewsShown(page) == others, "the header of a client is not passed on")
    }
  }

  @Test func `each replacement of the routes of reviews loses no request`() throws {
    try mesh.use("destination-rule-all", "virtual-service-all-v1")
    let traffic = Traffic(mesh: mesh, visitors: 4)
    let files = [
      "reviews-80-20", "reviews-test-v2", "reviews-jason-v2-v3", "reviews-90-10", "reviews-50-v3", "reviews-v2-v3",
      "reviews-v3", "all-v1",
    ]
    for _ in 0..<3 {
      for file in files {
        try mesh.apply(["virtual-service-\(file)"])
        // Every state has to serve some of the traffic.
        let sent = traffic.sent
        _ = try eventually("traffic goes on") { traffic.sent >= sent + 10 ? true : nil }
      }
    }
    let outcomes = traffic.stop()
    print("  \(3 * files.count) replacements: \(outcomes.sorted { $0.key < $1.key })")
    #expect(Set(outcomes.keys) == ["200"], "\(outcomes)")
  }

  // MARK: Faults

  @Test func `ratings-test-delay holds back jason's ratings only`() throws {
    try mesh.use(
      "destination-rule-all", "virtual-service-all-v1", "virtual-service-ratings-test-delay", "virtual-service-reviews-test-v2")
    let late = mesh.accessLog(2, "GET /ratings/0", "\" 200 DI ").count
    let jason = mesh.visitor()
    try jason.signIn(as: "jason")
    // Two attempts of 3 s each: productpage gives up before reviews v2 (10 s) does.
    let withV2 = try jason.get("/productpage")
    #expect(withV2.status == 200)
    #expect(ReviewsShown(withV2.text) == .reviewsUnavailable)
    #expect((5.9...10).contains(withV2.elapsed.seconds), "\(withV2.elapsed)")
    try mesh.apply(["virtual-service-reviews-v3"])
    let withV3 = try jason.get("/productpage")
    #expect(ReviewsShown(withV3.text) == .ratingsUnavailable)
    #expect(withV3.text.contains("An extremely entertaining play by Shakespeare."))
    #expect((2.4...6).contains(withV3.elapsed.seconds), "\(withV3.elapsed)")
    let start = ContinuousClock.now
    #expect(try mesh.visitor().pages(50) == [.redStars: 50])
    let others = (ContinuousClock.now - start).seconds / 50
    #expect(others < 1)
    // Reviews v2 waits on when nobody waits for it: both of its requests reach ratings, 7 s late.
    _ = try eventually("the access log says DI") {
      mesh.accessLog(2, "GET /ratings/0", "\" 200 DI ").count == late + 2 ? true : nil
    }
    print("  ratings-test-delay: \(withV2.elapsed.seconds) s with v2, \(withV3.elapsed.seconds) s with v3, others \(others) s")
  }

  @Test(arguments: ["virtual-service-reviews-jason-v2-v3", "virtual-service-reviews-v3"])
  func `ratings-test-abort answers in the place of ratings`(reviews: String) throws {
    try mesh.use("destination-rule-all", "virtual-service-all-v1", "virtual-service-ratings-test-abort", reviews)
    let jason = mesh.visitor()
    try jason.signIn(as: "jason")
    let asked = mesh.accessLog(3, "GET /ratings/0").count
    let aborted = mesh.accessLog(2, "GET /ratings/0", "\" 500 FI fault_filter_abort").count
    #expect(try jason.pages(30) == [.ratingsUnavailable: 30])
    #expect(try jason.get("/productpage").elapsed < .seconds(2))
    // What ratings sees of others comes after what it would have seen of jason.
    #expect(try mesh.visitor().pages(20) == [.redStars: 20])
    _ = try eventually("ratings saw the others") { mesh.accessLog(3, "GET /ratings/0").count >= asked + 20 ? true : nil }
    #expect(mesh.accessLog(3, "GET /ratings/0").count == asked + 20, "ratings sees no request of jason's")
    _ = try eventually("the access log says FI") {
      mesh.accessLog(2, "GET /ratings/0", "\" 500 FI fault_filter_abort").count >= aborted + 31 ? true : nil
    }
    #expect(mesh.accessLog(2, "GET /ratings/0", "\" 500 FI fault_filter_abort").count == aborted + 31)
  }

  @Test func `fault-injection-details-v1 fails details with 555`() throws {
    try mesh.use("destination-rule-all", "virtual-service-all-v1", "fault-injection-details-v1")
    let page = try mesh.visitor().get("/productpage")
    #expect(page.status == 200)
    #expect(page.text.contains("Error fetching product details") && page.text.contains("Book Reviews"))
    #expect(!page.text.contains("Book Details"))
    let answer = try mesh.visitor().get("/api/v1/products/0")
    #expect(answer.status == 555)
    #expect(answer.text.contains("Sorry, product details are currently unavailable for this book."))
    _ = try eventually("the access log says FI") { mesh.accessLog(1, "GET /details/0", "\" 555 FI").count >= 2 ? true : nil }
  }

  // MARK: Kubernetes

  @Test func `the application's own files apply, and what runs it elsewhere is skipped`() throws {
    let deployments = ["details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3"]
    let report = try mesh.apply(kubernetes: "bookinfo.yaml")
    let skipped = report.changes.filter { $0.action == "skipped" }
    #expect(skipped.map { "\($0.kind) \($0.namespace)/\($0.name)" }.sorted() == deployments.map { "Deployment default/\($0)" })
    let kept = report.changes.filter { $0.action == "unchanged" }.map { "\($0.kind) \($0.name)" }
    let services = ["details", "productpage", "ratings", "reviews"]
    #expect(Set(kept) == Set(services.flatMap { ["Service \($0)", "ServiceAccount bookinfo-\($0)"] }))

    let versions = try mesh.apply(kubernetes: "bookinfo-versions.yaml")
    #expect(versions.changes.map { "\($0.kind) \($0.name)" }.sorted() == deployments.map { "Service \($0)" })
  }
}

/// Visitors who open pages one after the other until they are stopped.
final class Traffic: Sendable {
  private struct State {
    var outcomes: [String: Int] = [:]
    var isStopped = false
  }
  private let state = Mutex(State())
  private let group = DispatchGroup()

  init(mesh: BookinfoMesh, visitors: Int) {
    let address = mesh.address(1)
    for index in 0..<visitors {
      // Half ask for what reviews answers as it is; half for the page, which has to have reviews on it.
      let path = index % 2 == 0 ? "/api/v1/products/0/reviews" : "/productpage"
      DispatchQueue(label: "visitor \(index)").async(group: group) { [self] in
        let visitor = Visitor(address: address, port: 8080)
        while visit(visitor, path) {}
      }
    }
  }

  /// Requests answered so far.
  var sent: Int { state.withLock { $0.outcomes.values.reduce(0, +) } }

  private func visit(_ visitor: Visitor, _ path: String) -> Bool {
    let outcome: String
    do {
      let answer = try visitor.get(path)
      outcome = path == "/productpage" && !answer.text.contains("Book Reviews") ? "no reviews" : "\(answer.status)"
    } catch {
      outcome = "\(error)"
    }
    return state.withLock { state in
      state.outcomes[outcome, default: 0] += 1
      return !state.isStopped
    }
  }

  /// Ends the traffic; how often each outcome was seen.
  func stop() -> [String: Int] {
    state.withLock { $0.isStopped = true }
    group.wait()
    return state.withLock { $0.outcomes }
  }
}
