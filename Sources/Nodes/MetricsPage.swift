import Cluster
import Consensus
import HTTPCodec
import Membership
import MeshActors
import MeshConfig
import Primitives
import Proxy
import Telemetry

/// `/metrics` and `/stats/prometheus` on the metrics port.
struct MetricsPage {
  let node: NodeRuntime

  func answer(_ request: HTTPRequest) async -> HTTPResponse {
    guard request.path == "/metrics" || request.path == "/stats/prometheus" else {
      return HTTPResponse(status: 404, text: "metrics are at /metrics\n")
    }
    guard request.method == "GET" || request.method == "HEAD" else { return HTTPResponse(status: 405, text: "use GET\n") }
    let format = ExpositionFormat(accept: Array((request.header("accept") ?? "").utf8))
    let statistics = await node.proxy.statistics()
    let text = Exposition.text(
      own(statistics) + gossip(await node.cluster.gossipRefusals) + bundles(await node.bundles.statuses) + statistics.metrics,
      format: format)
    return HTTPResponse(status: 200, text: text, type: format.contentType)
  }

  /// Numbers of the node itself, beside Istio's of its traffic.
  private func own(_ statistics: ProxyStatistics) -> [MetricFamily] {
    let view = node.cluster.view
    let alive = view.members.filter { $0.state == .alive }.count
    return [
      gauge("istio_build", "Version of the component.", ["component", "tag"], [(["mesh-node", MeshVersion.version], 1)]),
      gauge(
        "mesh_members", "Members by state, as this node sees them.", ["state"],
        MemberState.allCases.map { state in (["\(state)"], Double(view.members.filter { $0.state == state }.count)) }),
      gauge("mesh_members_alive", "Members that are alive.", [], [([], Double(alive))]),
      gauge("mesh_raft_term", "Term of the Raft server.", [], [([], Double(view.raft.term.number))]),
      gauge("mesh_raft_commit_index", "Highest committed log index.", [], [([], Double(view.raft.commitIndex.number))]),
      gauge("mesh_raft_is_leader", "1 on the Raft leader.", [], [([], view.raft.leader == node.node.name ? 1 : 0)]),
      gauge(
        "mesh_role_epoch", "Epoch of each control role.", ["role"],
        Role.allCases.map { (["\($0)"], Double(view.control.roles[$0].epoch.number)) }),
      gauge(
        "mesh_role_held", "1 where this node holds the role.", ["role"],
        Role.allCases.map { (["\($0)"], view.heldRoles.contains($0) ? 1 : 0) }),
      gauge(
        "mesh_configuration_revision", "Configuration revision known to this node.", [],
        [([], Double(view.control.revision.number))]),
      gauge(
        "mesh_proxy_connections", "Client connections open now.", ["worker"],
        statistics.connectionsByWorker.enumerated().map { (["\($0.offset)"], Double($0.element)) }),
      counter("mesh_proxy_requests_total", "Requests taken by the proxy.", statistics.counters.requests),
      counter(
        "mesh_proxy_requests_refused_total", "Requests refused as malformed or too large.", statistics.counters.requestsRefused),
      counter("mesh_proxy_retries_total", "Tries after the first.", statistics.counters.retries),
      counter("mesh_proxy_handshake_failures_total", "TLS handshakes that failed.", statistics.counters.handshakeFailures),
      counter("mesh_proxy_handshakes_total", "TLS handshakes with clients.", statistics.counters.handshakes),
      counter(
        "mesh_proxy_handshakes_resumed_total", "TLS handshakes with clients that continued an earlier session.",
        statistics.counters.handshakesResumed),
      counter(
        "mesh_proxy_upstream_handshakes_total", "TLS handshakes with servers and other nodes.",
        statistics.counters.upstreamHandshakes),
      counter(
        "mesh_proxy_upstream_handshakes_resumed_total",
        "TLS handshakes with servers and other nodes that continued an earlier session.",
        statistics.counters.upstreamHandshakesResumed),
    ]
  }

  private func gossip(_ refusals: GossipRefusals) -> [MetricFamily] {
    let reasons = [
      ("key", refusals.strangers), ("replay", refusals.replays), ("unreadable", refusals.unreadable),
      ("claim", refusals.claims),
    ]
    return [
      MetricFamily(
        name: "mesh_gossip_refused_total",
        help: "Gossip that was not used: sealed with no accepted key, seen before, not readable, or not credible.",
        kind: .counter, labelNames: ["reason"],
        series: reasons.map { MetricSeries(labelValues: [$0.0], value: .number(Double($0.1))) })
    ]
  }

  /// Of the SPIFFE bundles that the configuration names, by URL; of others nothing is shown.
  private func bundles(_ statuses: [BundleKeeper.Status]) -> [MetricFamily] {
    guard !statuses.isEmpty else { return [] }
    let now = node.parts.clock.seconds
    func series(_ value: (BundleKeeper.Status) -> Double?) -> [([String], Double)] {
      statuses.compactMap { status in value(status).map { (["\(status.url)"], $0) } }
    }
    return [
      gauge(
        "mesh_spiffe_bundle_age_seconds", "Seconds since the SPIFFE bundle was last fetched.", ["url"],
        series { $0.fetchedAtUnixSeconds.map { Double(max(0, now - $0)) } }),
      gauge(
        "mesh_spiffe_bundle_authorities", "Authorities that are trusted because of the SPIFFE bundle.", ["url"],
        series { $0.authorities.map { Double($0) } }),
      MetricFamily(
        name: "mesh_spiffe_bundle_failures_total", help: "Attempts to fetch the SPIFFE bundle that failed.", kind: .counter,
        labelNames: ["url"],
        series: statuses.map { MetricSeries(labelValues: ["\($0.url)"], value: .number(Double($0.failures))) }),
    ]
  }

  private func gauge(_ name: String, _ help: String, _ labels: [String], _ values: [([String], Double)]) -> MetricFamily {
    MetricFamily(
      name: name, help: help, kind: .gauge, labelNames: labels,
      series: values.map { MetricSeries(labelValues: $0.0, value: .number($0.1)) })
  }

  private func counter(_ name: String, _ help: String, _ value: UInt64) -> MetricFamily {
    MetricFamily(
      name: name, help: help, kind: .counter, labelNames: [],
      series: [MetricSeries(labelValues: [], value: .number(Double(value)))])
  }
}

/// `/healthz/ready` and `/healthz/live` on the health port.
struct HealthPage {
  let node: NodeRuntime

  func answer(_ request: HTTPRequest) async -> HTTPResponse {
    switch request.path {
    case "/healthz/ready":
      let reasons = await node.reasonsNotReady
      if reasons.isEmpty { return HTTPResponse(status: 200, text: "ready\n") }
      return HTTPResponse(status: 503, text: reasons.joined(separator: "\n") + "\n")
    case "/healthz/live": return HTTPResponse(status: 200, text: "alive\n")
    default: return HTTPResponse(status: 404, text: "health is at /healthz/ready and /healthz/live\n")
    }
  }
}

extension NodeRuntime {
  /// What keeps this node from carrying traffic; empty when it is ready.
  var reasonsNotReady: [String] {
    get async {
      if isStopping { return ["the node is stopping"] }
      var reasons: [String] = []
      guard let serving = await snapshots.serving else { return ["the proxy has no snapshot yet"] }
      let view = cluster.view
      if serving.snapshot.revision == 0, view.raft.leader == nil {
        reasons.append("no configuration is known and the voters have no leader")
      }
      for listener in serving.listeners {
        if let error = listener.error { reasons.append("a listener could not be opened: \(error)") }
      }
      if let failure = view.failure { reasons.append(failure) }
      return reasons
    }
  }
}
