/// Istio's validation rules for the hosts of a Gateway.
enum GatewayRules {
  static func check(_ gateway: Gateway, name: String, into report: inout Report) {
    if name.utf8.contains(0x2E) {
      report.error(.root.field("metadata") / "name", "the name of a Gateway has no dots: references are namespace/name")
    }
    for (index, server) in gateway.servers.enumerated() {
      let path = (FieldPath.spec / "servers")[index] / "hosts"
      if server.hosts.isEmpty { report.error(path, "a server needs at least one host", hint: "write '*' for every host") }
      for (position, host) in server.hosts.enumerated() {
        if let problem = problem(of: host) { report.error(path[position], problem) }
      }
    }
    if gateway.selector.isEmpty {
      report.warning(.spec / "selector", "no selector: the ports open on every gateway workload")
    }
  }

  /// `host`, or `namespace/host` where the namespace may be `*` or `.`.
  private static func problem(of host: String) -> String? {
    let parts = host.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count <= 2, let name = parts.last else { return "'\(host.prefix(80))' is not a host: at most one '/'" }
    if parts.count == 2, parts[0] != "*", parts[0] != ".", !NameForm.isLabel(parts[0]) {
      return "'\(parts[0].prefix(80))' is not a namespace, '.' or '*'"
    }
    if AddressForm.isAddress(name) || name == "*" { return nil }
    if !name.utf8.contains(0x2E) { return "'\(name.prefix(80))' is a short name: clients send whole ones" }
    if name.hasPrefix("*") && !name.hasPrefix("*.") { return "'\(name.prefix(80))': '*' stands for whole labels" }
    return NameForm.isWildcardHost(name) ? nil : "'\(name.prefix(80))' is not a host name"
  }
}
