import Nodes
import Primitives

extension Command {
  static let members = Command(
    "members", .inspect, summary: "list the nodes of the cluster as this node sees them",
    discussion: "States: alive, suspect (did not answer, may refute), dead, left.",
    options: [watchOption]
  ) { arguments in
    try await watching(
      arguments, "/v1/members", as: [MemberInfo].self,
      compare: { members in members.map { $0.withoutAge } }, table: memberLines)
  }

  static let roles = Command(
    "roles", .inspect, operands: "[transfer ROLE NODE]",
    summary: "list the control roles, who holds them, and under which epoch; or move one",
    discussion: """
      configuration          orders and validates configuration writes
      certificate-authority  issues node and workload certificates
      discovery              allocates service addresses and watches the registry
      A role moves when its holder dies; every move raises the epoch, and acts under an older epoch are refused.
      `roles transfer ROLE NODE` moves one: the holder stops acting first, then the other begins.
      """,
    options: [watchOption]
  ) { arguments in
    guard arguments.operands.isEmpty else { return try transferRole(arguments) }
    return try await watching(arguments, "/v1/roles", as: [RoleInfo].self, table: roleLines)
  }

  static let services = Command(
    "services", .inspect, summary: "list services and the workloads behind them",
    options: [watchOption, .value("namespace", short: "n", "NAME", "only this namespace")]
  ) { arguments in
    let namespace = arguments.value("namespace")
    return try await watching(arguments, "/v1/services", as: [ServiceInfo].self) { services in
      serviceLines(services.filter { namespace == nil || $0.namespace == namespace })
    }
  }

  static let status = Command(
    "status", .inspect, summary: "show the state of one node: readiness, consensus, revision, listeners, links",
    options: [watchOption]
  ) { arguments in
    try await watching(arguments, "/v1/status", as: NodeStatus.self, table: statusLines)
  }

  static let certificates = Command(
    "certificates", .inspect, summary: "list the certificates a node holds and when they expire"
  ) { arguments in
    let list = try AdminClient(arguments).get("/v1/certificates", as: [CertificateInfo].self)
    try show(list, as: arguments.format, table: certificateLines)
    return .done
  }

  private static let watchOption = CommandOption.flag(
    "watch", short: "w", "print again whenever something changes, until interrupted")

  /// Shows the answer once, or with `--watch` whenever what `compare` leaves of it changes.
  private static func watching<Value: Codable & Hashable & Sendable>(
    _ arguments: Arguments, _ path: String, as type: Value.Type,
    compare: (Value) -> Value = { $0 }, table: @escaping @Sendable (Value) -> [String]
  ) async throws -> ExitStatus {
    let client = try AdminClient(arguments)
    let format = try arguments.format
    guard arguments.flag("watch") else {
      try show(client.get(path, as: type), as: format, table: table)
      return .done
    }
    var last: Value?
    while true {
      let value = try client.get(path, as: type)
      if compare(value) != last {
        if last != nil && format == .table { Terminal.line() }
        try show(value, as: format, table: table)
        last = compare(value)
      }
      try await Task.sleep(for: .milliseconds(250))
    }
  }
}

extension MemberInfo {
  /// The member but for how long it has been so, which always changes.
  fileprivate var withoutAge: MemberInfo {
    var member = self
    member.since = 0
    return member
  }
}

func memberLines(_ members: [MemberInfo]) -> [String] {
  var table = Table(
    "NODE", "ADDRESS", "STATE", "SINCE", "CONSENSUS", "ROLES", "WORKLOADS", "REVISION", "INCARNATION", "LOCALITY", states: [2])
  for member in members {
    table.row(
      member.isLocal ? member.name + "*" : member.name, member.address, member.state, age(member.since), member.consensus,
      member.roles.joined(separator: ","), "\(member.workloads)", member.revision.map { "\($0)" } ?? "-",
      "\(member.incarnation)", member.locality)
  }
  return table.lines
}

func roleLines(_ roles: [RoleInfo]) -> [String] {
  var table = Table("ROLE", "HOLDER", "EPOCH", "HOLDER STATE", "SINCE", "REASON", states: [3])
  for role in roles {
    table.row(role.role, role.holder ?? "-", "\(role.epoch)", role.holderState, role.assignedAt ?? "-", role.reason)
  }
  return table.lines
}

func serviceLines(_ services: [ServiceInfo]) -> [String] {
  var table = Table(
    "SERVICE", "NAMESPACE", "PORTS", "ADDRESS", "WORKLOAD", "VERSION", "NODE", "ENDPOINT", "HEALTH", states: [8])
  for service in services {
    let ports = service.ports.joined(separator: ",")
    if service.endpoints.isEmpty {
      table.row(service.name, service.namespace, ports, service.address ?? "-", "-", "-", "-", "-", "no endpoints")
    }
    for (index, endpoint) in service.endpoints.enumerated() {
      table.row(
        index == 0 ? service.name : " ", index == 0 ? service.namespace : " ", index == 0 ? ports : " ",
        index == 0 ? service.address ?? "-" : " ", endpoint.workload, endpoint.version, endpoint.node, endpoint.address,
        endpoint.health)
    }
  }
  return table.isEmpty ? ["No services. Apply Kubernetes Service documents, or start one with: mesh-node run"] : table.lines
}

func statusLines(_ status: NodeStatus) -> [String] {
  let consensus = status.consensus
  var lines = [
    "\(Terminal.styled(status.node, .bold)) at \(status.address), cluster \(status.cluster), version \(status.version)",
    "  ready        \(status.ready ? Terminal.state("ready") : Terminal.styled("not ready", .red)), up \(age(status.uptimeSeconds))",
    "  consensus    \(consensus.state), term \(consensus.term), leader \(consensus.leader ?? "none"), commit \(consensus.commitIndex), "
      + "voters \(consensus.voters.joined(separator: " "))",
    "  revision     \(status.servedRevision) served, \(status.revision) known",
    "  registry     digest \(status.registryDigest)",
    "  trust        bundle version \(status.trustBundleVersion)",
    "  members      \(status.members.alive) alive, \(status.members.suspect) suspect, \(status.members.dead) dead, \(status.members.left) left",
    "  requests     \(status.requests.total) total, \(status.requests.serverErrors) server errors, \(status.requests.active) active",
  ]
  for note in status.notes { lines.append("  \(Terminal.styled("note", .yellow))         \(Terminal.clean(note))") }
  var listeners = Table("LISTENER", "ADDRESS", "SERVES")
  for listener in status.listeners {
    listeners.row(listener.kind, listener.address, listener.error.map { "error: \($0)" } ?? listener.detail)
  }
  lines += [""] + listeners.lines
  if !status.links.isEmpty {
    var links = Table("LINK TO", "STATE", "ROUND TRIP", "DETAIL")
    for link in status.links {
      links.row(link.peer, link.state, link.roundTripMilliseconds.map { "\(oneDecimal($0)) ms" } ?? "-", link.detail)
    }
    lines += [""] + links.lines
  }
  if !status.notEnforced.isEmpty {
    let shown = 20
    lines += ["", "Accepted, not enforced:"] + status.notEnforced.prefix(shown).map { "  \(Terminal.clean($0))" }
    let more = status.notEnforced.count - shown
    if more > 0 { lines.append("  and \(more) more: mesh-node get all -A -o wide") }
  }
  return lines
}

func certificateLines(_ certificates: [CertificateInfo]) -> [String] {
  var table = Table("CERTIFICATE", "KIND", "STATE", "NOT BEFORE", "NOT AFTER", "ISSUER", "SERIAL", states: [2])
  for one in certificates {
    table.row(one.name, one.kind, one.state, one.notBefore, one.notAfter, one.issuer, String(one.serial.prefix(16)))
  }
  return table.lines
}

/// `12s`, `3m10s`, `2h5m`, `4d2h`.
func age(_ seconds: Double) -> String {
  let whole = seconds.isFinite && seconds > 0 ? Int(min(seconds, 1e12)) : 0
  switch whole {
  case ..<60: return "\(whole)s"
  case ..<3600: return "\(whole / 60)m\(whole % 60)s"
  case ..<86400: return "\(whole / 3600)h\(whole % 3600 / 60)m"
  default: return "\(whole / 86400)d\(whole % 86400 / 3600)h"
  }
}

func oneDecimal(_ number: Double) -> String {
  guard number.isFinite, abs(number) < 1e15 else { return "-" }
  let tenths = Int((number * 10).rounded())
  return "\(tenths / 10).\(abs(tenths % 10))"
}
