import Glibc
import Nodes
import Primitives

/// A check that did not hold: what was expected and what was seen.
struct TourFailure: Error {
  let message: String
  init(_ message: String) { self.message = message }
}

/// The scripted demo: every step does something to the mesh, checks the effect, and prints the numbers it saw.
final class Tour {
  let demo: DemoCluster
  private var failures = 0
  private var step = 0
  private let started = ContinuousClock.now

  init(_ demo: DemoCluster) { self.demo = demo }

  func run() throws -> ExitStatus {
    defer { demo.stopAll() }
    try demo.startAll()
    for (title, body) in steps {
      step += 1
      Terminal.line("\(Terminal.styled("[\(step)/\(steps.count)]", .dim)) \(Terminal.styled(title, .bold))")
      do { try body() } catch let failure as TourFailure {
        failures += 1
        Terminal.line("      \(Terminal.styled("FAILED", .red)) \(failure.message)")
        // Later steps build on a whole cluster: bring back what this one left broken.
        try? restoreAll()
      }
      if Signals.pending().contains(where: { $0 == SIGINT || $0 == SIGTERM }) { throw CommandFailure("interrupted") }
    }
    let seconds = oneDecimal((ContinuousClock.now - started).inSeconds)
    if failures == 0 {
      Terminal.line("\(Terminal.styled("all \(steps.count) steps held", .green)) in \(seconds) s")
      return .done
    }
    Terminal.line(
      "\(Terminal.styled("\(failures) of \(steps.count) steps failed", .red)) after \(seconds) s; logs in \(demo.logDirectory)")
    return .failed
  }

  private var steps: [(String, () throws -> Void)] {
    [
      ("three nodes form a cluster, roles are spread, workloads are healthy", formCluster),
      ("pages come through both gateways, from all versions of reviews", openPages),
      ("all reviews to v1", routeAllToV1),
      ("reviews 90 % v1, 10 % v2", splitReviews),
      ("jason's reviews to v2, everyone else's to v1", routeJason),
      ("delay fault: jason's ratings are 7 s late", delayRatings),
      ("abort fault: jason's ratings fail with 500", abortRatings),
      ("kill -9 the holder of configuration under load", { [self] in try killHolder(of: "configuration") }),
      ("kill -9 the holder of certificate-authority under load", { [self] in try killHolder(of: "certificate-authority") }),
      ("kill a workload under load", killWorkload),
    ]
  }

  // MARK: Words for the steps

  func saw(_ text: String) { Terminal.line("      \(Terminal.styled("✓", .green)) \(text)") }

  func expect(_ holds: Bool, _ message: @autoclosure () -> String) throws {
    if !holds { throw TourFailure(message()) }
  }

  /// Polls until `condition` gives a value; fails after `limit` with what `describe` says.
  func eventually<Value>(
    within limit: Duration, _ what: String, _ condition: () throws -> Value?, describe: () -> String = { "" }
  ) throws -> Value {
    let deadline = ContinuousClock.now + limit
    while true {
      _ = try demo.supervise(restartAfter: nil)
      if let value = try? condition() { return value }
      guard ContinuousClock.now < deadline else {
        let detail = describe()
        throw TourFailure("\(what): not within \(Int(limit.inSeconds)) s\(detail.isEmpty ? "" : "; \(detail)")")
      }
      pause(.milliseconds(50))
    }
  }

  func client(avoiding node: String? = nil) throws -> AdminClient {
    for entry in demo.plan.nodes where entry.name.string != node && demo.isRunning(entry.name.string) {
      if let client = demo.client(entry.name.string) { return client }
    }
    throw TourFailure("no node runs")
  }

  /// Applies one of the demo's example files and waits until every live node serves it.
  @discardableResult
  func apply(_ files: [String], avoiding node: String? = nil) throws -> ApplyReport {
    let sources: [ConfigSource]
    do {
      sources = try ConfigSources.read(files.map { demo.plan.file.resolved("\(DemoPlan.examples)/\($0)") })
    } catch let error as CommandFailure { throw TourFailure(error.message) }
    let request = ApplyRequest(sources: sources, dryRun: false, wait: true, timeoutMilliseconds: 10_000, namespace: "default")
    do {
      let report = try client(avoiding: node).post("/v1/apply", request, as: ApplyReport.self, timeout: .seconds(15))
      try expect(report.lagging.isEmpty, "applied \(files), but \(report.lagging) do not serve revision \(report.revision)")
      return report
    } catch let failure as AdminFailure {
      throw TourFailure("applying \(files): \(failure.message)")
    }
  }

  func page(_ cookie: String? = nil, headers: [String] = [], gateway: ClusterFile.Node? = nil) throws -> PageAnswer {
    let gateway = gateway ?? demo.plan.gateways[0]
    let cookies = cookie.map { ["cookie: \($0)"] } ?? []
    guard
      let answer = PageClient(address: gateway.address, port: DemoPlan.gatewayPort, timeout: .seconds(20))
        .request("GET", "/productpage", headers: cookies + headers)
    else { throw TourFailure("no answer from the gateway at \(gateway.address):\(DemoPlan.gatewayPort)") }
    return answer
  }

  func login(_ user: String) throws -> String {
    let gateway = demo.plan.gateways[0]
    let answer = PageClient(address: gateway.address, port: DemoPlan.gatewayPort)
      .request("POST", "/login", body: "username=\(user)&passwd=x")
    guard let answer, answer.status == 302, let cookie = answer.cookie("session") else {
      throw TourFailure(
        "login as \(user) answered \(answer.map { "\($0.status)" } ?? "nothing"), expected 302 with a session cookie")
    }
    return cookie
  }

  func restoreAll() throws {
    for child in demo.children where child.process == nil { try demo.restart(child.name) }
    _ = try eventually(within: .seconds(30), "all nodes and workloads are back", { try isWhole() ? true : nil })
  }

  /// Three alive nodes, every role held by a live one, every workload healthy, one revision everywhere.
  func isWhole() throws -> Bool {
    for node in demo.plan.nodes {
      guard let client = demo.client(node.name.string) else { return false }
      let members: [MemberInfo] = try client.get("/v1/members", timeout: .seconds(2))
      let roles: [RoleInfo] = try client.get("/v1/roles", timeout: .seconds(2))
      let services: [ServiceInfo] = try client.get("/v1/services", timeout: .seconds(2))
      let status: NodeStatus = try client.get("/v1/status", timeout: .seconds(2))
      let healthy = services.flatMap(\.endpoints).filter { $0.health == "healthy" }.count
      guard members.filter({ $0.state == "alive" }).count == demo.plan.nodes.count, roles.count == 3,
        roles.allSatisfy({ $0.holder != nil && $0.holderState == "alive" }), healthy == demo.plan.workloads.count, status.ready,
        status.revision > 0, status.servedRevision == status.revision
      else { return false }
    }
    return true
  }
}
