import Nodes
import Primitives

extension DemoPlan {
  /// Configuration that the tour applies.
  static let examples = "Sources/BookinfoDemo/Config/examples"
}

extension Tour {
  func formCluster() throws {
    _ = try eventually(within: .seconds(90), "the cluster is whole", { try isWhole() ? true : nil }, describe: describeCluster)
    let client = try client()
    let members: [MemberInfo] = try client.get("/v1/members")
    saw("members: " + members.map { "\($0.name) \($0.state)" }.joined(separator: ", "))
    // A role may start beside another while no other node can take it yet; it moves once the cluster has been quiet.
    let roles = try eventually(within: .seconds(60), "three roles on three nodes") { () -> [RoleInfo]? in
      let roles: [RoleInfo] = try client.get("/v1/roles")
      return Set(roles.compactMap(\.holder)).count == 3 ? roles : nil
    }
    saw("roles: " + roles.map { "\($0.role) on \($0.holder ?? "-") (epoch \($0.epoch))" }.joined(separator: ", "))
    let services: [ServiceInfo] = try client.get("/v1/services")
    saw("services: " + services.map { "\($0.name) ×\($0.endpoints.count)" }.joined(separator: ", "))
  }

  func describeCluster() -> String {
    demo.plan.nodes.map { node in
      guard let status: NodeStatus = try? demo.client(node.name.string)?.get("/v1/status", timeout: .seconds(1)) else {
        return "\(node.name) does not answer"
      }
      return
        "\(node.name): \(status.members.alive) alive, leader \(status.consensus.leader ?? "none"), revision \(status.revision), "
        + (status.notes.isEmpty ? "ready" : status.notes.joined(separator: "; "))
    }.joined(separator: " | ")
  }

  func openPages() throws {
    var seen: [ReviewsSeen: Int] = [:]
    for gateway in demo.plan.gateways {
      for _ in 0..<30 {
        let answer = try page(gateway: gateway)
        try expect(answer.status == 200, "the page at \(gateway.address) answered \(answer.status)")
        seen[answer.reviews, default: 0] += 1
      }
    }
    for version in [ReviewsSeen.noStars, .blackStars, .redStars] {
      try expect(seen[version] ?? 0 > 0, "\(version.rawValue) never answered: \(describe(seen))")
    }
    saw("60 pages, all 200: \(describe(seen))")
  }

  func routeAllToV1() throws {
    let report = try apply(["all-v1.yaml"])
    let seen = try count(50)
    try expect(seen[.noStars] == 50, "50 of 50 from v1, but saw \(describe(seen))")
    saw(
      "revision \(report.revision) on \(report.serving.joined(separator: ", ")) after \(oneDecimal(report.elapsedMilliseconds)) ms; 50 of 50 from v1"
    )
  }

  func splitReviews() throws {
    try apply(["reviews-90-10.yaml"])
    let total = 400
    let seen = try count(total)
    let black = seen[.blackStars] ?? 0
    // ±4 standard deviations of a binomial with p = 0.1.
    let expected = 0.1 * Double(total)
    let deviation = (Double(total) * 0.1 * 0.9).squareRoot()
    try expect((seen[.noStars] ?? 0) + black == total, "only v1 and v2, but saw \(describe(seen))")
    try expect(
      abs(Double(black) - expected) <= 4 * deviation,
      "10 % ± \(oneDecimal(400 * deviation / Double(total))) % from v2, but saw \(describe(seen))")
    saw("\(total) pages: \(describe(seen)) (\(oneDecimal(100 * Double(black) / Double(total))) % from v2)")
  }

  func routeJason() throws {
    try apply(["jason-v2.yaml"])
    let jason = try login("jason")
    let seenByJason = try count(20, cookie: jason)
    try expect(seenByJason[.blackStars] == 20, "jason sees v2, but saw \(describe(seenByJason))")
    let others = try count(20)
    try expect(others[.noStars] == 20, "others see v1, but saw \(describe(others))")
    let pretender = try count(10, headers: ["end-user: jason"])
    try expect(pretender[.noStars] == 10, "a client's own end-user header must not count, but saw \(describe(pretender))")
    saw("jason 20 of 20 from v2; others 20 of 20 from v1; a forged end-user header changes nothing")
  }

  func delayRatings() throws {
    try apply(["ratings-delay-jason.yaml"])
    let jason = try login("jason")
    let late = try page(jason)
    try expect(
      late.status == 200 && late.reviews == .unavailable,
      "jason's page says that reviews are unavailable, but it says: \(late.reviews.rawValue)")
    try expect(
      late.elapsed > .seconds(5.5) && late.elapsed < .seconds(9),
      "jason waits about 6 s, but waited \(oneDecimal(late.elapsed.inSeconds)) s")
    let other = try page()
    try expect(other.status == 200 && other.reviews == .noStars, "others see v1, but saw \(other.reviews.rawValue)")
    try expect(other.elapsed < .seconds(3), "others do not wait, but waited \(oneDecimal(other.elapsed.inSeconds)) s")
    saw(
      "jason waited \(oneDecimal(late.elapsed.inSeconds)) s (two tries of 3 s) and reviews were unavailable; others \(oneDecimal(other.elapsed.inMilliseconds)) ms"
    )
  }

  func abortRatings() throws {
    try apply(["ratings-abort-jason.yaml"])
    let jason = try login("jason")
    let answer = try page(jason)
    try expect(
      answer.reviews == .ratingsUnavailable, "jason's page says that ratings are unavailable, but: \(answer.reviews.rawValue)")
    try expect(answer.elapsed < .seconds(3), "at once, but it took \(oneDecimal(answer.elapsed.inSeconds)) s")
    let other = try page()
    try expect(other.status == 200 && other.reviews == .noStars, "others see v1, but saw \(other.reviews.rawValue)")
    saw(
      "jason: \"Ratings service is currently unavailable\" after \(oneDecimal(answer.elapsed.inMilliseconds)) ms; others are served"
    )
  }

  // MARK: Failover

  func killHolder(of role: String) throws {
    try apply(["reviews-v3.yaml"])
    let before: [RoleInfo] = try client().get("/v1/roles")
    guard let lost = before.first(where: { $0.role == role }), let victim = lost.holder else {
      throw TourFailure("nobody holds \(role)")
    }
    guard let gateway = demo.plan.gateways.first(where: { $0.name.string != victim }) else {
      throw TourFailure("\(victim) is the only gateway")
    }
    let traffic = TrafficGenerator(gateways: [(gateway.address, DemoPlan.gatewayPort)], rate: 50, clients: 16)
    defer { traffic.stop() }
    pause(.seconds(1))
    let killed = ContinuousClock.now
    demo.killNow(victim)
    let after = try eventually(
      within: .seconds(10), "roles of \(victim) move", { try movedRoles(from: before, victim: victim) },
      describe: describeCluster)
    let moved = ContinuousClock.now - killed
    try expect(moved <= .seconds(2), "roles move within 2 s, but took \(oneDecimal(moved.inSeconds)) s")
    saw("killed \(victim); after \(oneDecimal(moved.inMilliseconds)) ms: " + changes(before, after))
    let writeStarted = ContinuousClock.now
    let report = try apply(["all-v1.yaml"], avoiding: victim)
    saw(
      "a write right then: revision \(report.revision) on \(report.serving.joined(separator: ", ")) after \(oneDecimal((ContinuousClock.now - writeStarted).inMilliseconds)) ms"
    )
    let settled = killed + .seconds(2)
    pause(max(.zero, ContinuousClock.now.duration(to: settled + .seconds(4))))
    let early = traffic.samples(since: killed).filter { $0.at < settled }
    let late = traffic.samples(since: settled)
    let lateFailures = late.filter { !$0.succeeded }
    try expect(
      lateFailures.isEmpty,
      "no failure from 2 s after the kill on, but \(lateFailures.count) of \(late.count): \(describe(lateFailures))")
    saw(
      "50 pages/s through \(gateway.name): \(early.filter { !$0.succeeded }.count) of \(early.count) failed in the first 2 s, 0 of \(late.count) after"
    )
    let restarted = ContinuousClock.now
    try demo.restart(victim)
    try restoreAll()
    let revision: NodeStatus? = try demo.client(victim)?.get("/v1/status")
    try expect(
      revision?.servedRevision ?? 0 >= report.revision,
      "\(victim) catches up with revision \(report.revision), but serves \(revision?.servedRevision ?? 0)")
    saw(
      "\(victim) came back with its data after \(oneDecimal((ContinuousClock.now - restarted).inSeconds)) s and serves revision \(revision?.servedRevision ?? 0)"
    )
  }

  /// The roles once none is held by the victim any more and those it held have a higher epoch.
  private func movedRoles(from before: [RoleInfo], victim: String) throws -> [RoleInfo]? {
    let after: [RoleInfo] = try client(avoiding: victim).get("/v1/roles", timeout: .seconds(1))
    let moved = before.filter { $0.holder == victim }.allSatisfy { old in
      after.contains { $0.role == old.role && $0.holder != nil && $0.holder != victim && $0.epoch > old.epoch }
    }
    return moved && after.allSatisfy { $0.holder != nil && $0.holder != victim } ? after : nil
  }

  private func changes(_ before: [RoleInfo], _ after: [RoleInfo]) -> String {
    after.compactMap { new in
      guard let old = before.first(where: { $0.role == new.role }), old.holder != new.holder else { return nil }
      return "\(new.role) \(old.holder ?? "-")/\(old.epoch) → \(new.holder ?? "-")/\(new.epoch)"
    }.joined(separator: ", ")
  }

  func killWorkload() throws {
    guard let victim = demo.plan.workloads.first(where: { $0.service == "details" }) else { throw TourFailure("no details") }
    let traffic = TrafficGenerator(
      gateways: demo.plan.gateways.map { ($0.address, DemoPlan.gatewayPort) }, rate: 50, clients: 16)
    defer { traffic.stop() }
    pause(.seconds(1))
    let killed = ContinuousClock.now
    demo.killNow(victim.label)
    _ = try eventually(within: .seconds(10), "\(victim.label) is no longer an endpoint") {
      let services: [ServiceInfo] = try client().get("/v1/services")
      let endpoints = services.first { $0.name == victim.service }?.endpoints ?? []
      return endpoints.contains { $0.node == victim.node && $0.health == "healthy" } ? nil : true
    }
    let gone = ContinuousClock.now - killed
    pause(.seconds(3))
    let samples = traffic.samples(since: killed)
    let failed = samples.filter { !$0.succeeded }
    try expect(failed.isEmpty, "no page fails, but \(failed.count) of \(samples.count): \(describe(failed))")
    saw("killed \(victim.label); withdrawn after \(oneDecimal(gone.inMilliseconds)) ms; 0 of \(samples.count) pages failed")
    try restoreAll()
    saw("\(victim.label) is back")
  }

  // MARK: Counting

  private func count(_ total: Int, cookie: String? = nil, headers: [String] = []) throws -> [ReviewsSeen: Int] {
    var seen: [ReviewsSeen: Int] = [:]
    for turn in 0..<total {
      let gateways = demo.plan.gateways
      let answer = try page(cookie, headers: headers, gateway: gateways[turn % gateways.count])
      try expect(answer.status == 200, "page \(turn + 1) of \(total) answered \(answer.status)")
      seen[answer.reviews, default: 0] += 1
    }
    return seen
  }

  private func describe(_ seen: [ReviewsSeen: Int]) -> String {
    ReviewsSeen.allCases.compactMap { kind in seen[kind].map { "\(kind.rawValue): \($0)" } }.joined(separator: ", ")
  }

  private func describe(_ failed: [TrafficGenerator.Sample]) -> String {
    var kinds: [String: Int] = [:]
    for sample in failed {
      kinds[sample.status.map { "status \($0), \(sample.reviews.rawValue)" } ?? "no answer", default: 0] += 1
    }
    return kinds.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }.joined(separator: ", ")
  }
}
