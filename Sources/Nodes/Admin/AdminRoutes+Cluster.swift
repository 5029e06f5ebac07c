import Cluster
import Consensus
import FoundationEssentials
import Membership
import MeshActors
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Transport

/// Members, roles, status, certificates: what a node knows of its cluster and itself.
extension AdminRoutes {
  private var view: ClusterView { node.cluster.view }

  func members() async -> [MemberInfo] {
    let view = view
    let now = EventLoop.monotonicNow()
    let served = Dictionary(view.registry.nodes.map { ($0.owner, $0.row.revisionServed) }) { first, _ in first }
    let workloads = view.registry.workloads(live: [])
    // Who left for good is no member any more; who only stopped is shown as left.
    let staying = view.members.filter { $0.state != .left || view.control.posture(of: $0.name) != .leaving }
    return staying.map { member in
      MemberInfo(
        name: member.name.string, address: member.address.host, state: "\(member.state)", incarnation: member.incarnation,
        locality: member.locality, since: (now - member.since).inSeconds, consensus: duty(of: member.name, view),
        roles: view.control.roles.roles(heldBy: member.name).map { "\($0)" },
        workloads: workloads.filter { $0.owner == member.name && !$0.row.isGateway }.count, revision: served[member.name],
        gateway: workloads.contains { $0.owner == member.name && $0.row.isGateway }, isLocal: member.name == node.node.name)
    }
  }

  private func duty(of name: NodeName, _ view: ClusterView) -> String {
    if view.raft.leader == name { return "leader" }
    if view.raft.configuration.isVoter(name) { return "voter" }
    return view.raft.configuration.contains(name) ? "learner" : "-"
  }

  func roles() -> [RoleInfo] {
    let view = view
    return Role.allCases.map { role in
      let state = view.control.roles[role]
      let liveness = state.holder.flatMap { view.member($0)?.state }.map { "\($0)" } ?? "unknown"
      return RoleInfo(
        role: "\(role)", holder: state.holder?.string, epoch: state.epoch.number,
        holderState: state.holder == nil ? "-" : liveness,
        assignedAt: state.assignedAt == 0 ? nil : Self.time(milliseconds: state.assignedAt), reason: state.reason)
    }
  }

  func status() async -> NodeStatus {
    let view = view
    let serving = await node.snapshots.serving
    let statistics = await node.proxy.statistics()
    let reasons = await node.reasonsNotReady
    let counts = MemberState.allCases.map { state in view.members.filter { $0.state == state }.count }
    return NodeStatus(
      cluster: node.file.cluster.string, node: node.node.name.string, version: MeshVersion.version, address: node.node.address,
      uptimeSeconds: node.startedAt.duration(to: .now).inSeconds, ready: reasons.isEmpty,
      notes: reasons + (await notes(view, serving)),
      consensus: ConsensusInfo(
        state: view.raft.duty.rawValue, term: view.raft.term.number, leader: view.raft.leader?.string,
        commitIndex: view.raft.commitIndex.number, voters: view.raft.configuration.voters.map(\.string),
        learners: view.raft.configuration.learners.map(\.string)),
      revision: view.control.revision.number, servedRevision: serving?.snapshot.revision ?? 0,
      registryDigest: hexString(StoredFact.bytes(view.registry.digestHash)),
      trustBundleVersion: view.control.trust.version.number,
      members: MemberCount(alive: counts[0], suspect: counts[1], dead: counts[2], left: counts[3]),
      listeners: (serving?.listeners ?? []).map { ListenerInfo($0) },
      requests: RequestCount(
        total: statistics.counters.requests, serverErrors: Self.serverErrors(statistics.metrics),
        active: UInt64(max(0, statistics.openConnections))),
      links: await links(), notEnforced: serving?.notEnforced ?? [])
  }

  /// What is wrong without keeping the node from carrying traffic.
  private func notes(_ view: ClusterView, _ serving: SnapshotKeeper.Serving?) async -> [String] {
    var notes: [String] = []
    if !view.quorum.isReachable { notes.append(view.noQuorum.message) }
    if let trouble = await node.identities.trouble { notes.append(trouble) }
    for bundle in await node.bundles.statuses {
      if let trouble = bundle.trouble { notes.append("the SPIFFE bundle of \(bundle.url): \(trouble)") }
    }
    let lagging = await node.outOfStep
    if !lagging.isEmpty { notes.append("registries out of step: \(lagging.map(\.string).joined(separator: ", "))") }
    for (name, seconds) in view.clockLeads.sorted(by: { $0.key < $1.key }) {
      notes.append(
        "the clock of \(name) is \(abs(seconds)) s \(seconds > 0 ? "ahead of" : "behind") this node's; "
          + "certificates may be refused: let both follow one time server")
    }
    if view.localHealthScore > 0 {
      notes.append(
        "this node is slow to answer (health score \(view.localHealthScore)); it waits longer before it suspects others")
    }
    if !node.cluster.secrets.isShared {
      notes.append("no member has given this node the key of the Secrets yet: what needs a Secret is not served")
    }
    for finding in serving?.findings ?? [] { notes.append("\(finding.object) \(finding.path): \(finding.reason)") }
    return notes
  }

  private func links() async -> [LinkInfo] {
    let known = await node.links.statistics()
    return node.file.nodes.filter { $0.name != node.node.name }.map { peer in
      guard let link = known.first(where: { $0.node == peer.name }) else {
        return LinkInfo(peer: peer.name.string, state: "down", roundTripMilliseconds: nil, detail: peer.address)
      }
      return LinkInfo(
        peer: peer.name.string, state: "up", roundTripMilliseconds: link.roundTripMilliseconds,
        detail: "\(link.address), up \(Int(link.upSeconds)) s, \(link.bytesSent) bytes out, \(link.bytesReceived) in")
    }
  }

  private static func serverErrors(_ families: [MetricFamily]) -> UInt64 {
    guard let family = families.first(where: { $0.name == "istio_requests_total" }),
      let code = family.labelNames.firstIndex(of: "response_code"), let reporter = family.labelNames.firstIndex(of: "reporter")
    else { return 0 }
    return family.series.reduce(0) { sum, series in
      guard series.labelValues[code].hasPrefix("5"), series.labelValues[reporter] == "source",
        case .number(let count) = series.value
      else { return sum }
      return sum + UInt64(max(0, count))
    }
  }

  func certificates() async -> [CertificateInfo] {
    let holdings = await node.identities.holdings
    let now = node.parts.clock.seconds
    func info(_ name: String, _ kind: String, _ certificate: Certificate) -> CertificateInfo {
      let life = certificate.notAfter - certificate.notBefore
      let state = now >= certificate.notAfter ? "expired" : certificate.notAfter - now < life / 5 ? "expiring" : "valid"
      return CertificateInfo(
        name: name, kind: kind, issuer: certificate.issuer, serial: hexString(certificate.serial),
        notBefore: Self.time(seconds: certificate.notBefore), notAfter: Self.time(seconds: certificate.notAfter), state: state)
    }
    var list = holdings.node.leaf.map { [info("\(holdings.node.id)", "node", $0)] } ?? []
    for (_, identity) in holdings.workloads.sorted(by: { $0.key < $1.key }) {
      if let leaf = identity.leaf { list.append(info("\(identity.id)", "workload", leaf)) }
    }
    return list + holdings.trust.authorities.map { info($0.subject, "ca", $0) }
  }

  static func time(milliseconds: UInt64) -> String {
    var bytes: [UInt8] = []
    UTCTime.append(milliseconds: milliseconds, to: &bytes)
    return String(decoding: bytes.prefix(19) + [0x5A], as: UTF8.self)
  }

  static func time(seconds: Int64) -> String { time(milliseconds: UInt64(max(0, seconds)) * 1000) }
}
