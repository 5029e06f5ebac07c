import Primitives

/// Istio's validation rules: what a VirtualService must not say although its fields are well-formed.
enum VirtualServiceRules {
  static func check(_ service: VirtualService, namespace: String, into report: inout Report) {
    let isDelegate = service.hosts.isEmpty
    if service.http.isEmpty && service.tls.isEmpty && service.tcp.isEmpty {
      report.error(.spec, "http, tcp or tls must be provided in a VirtualService")
    }
    checkHosts(service, into: &report)
    checkGateways(service.gateways, at: .spec / "gateways", into: &report)
    if isDelegate { checkDelegate(service, into: &report) }
    let appliesToMesh = appliesToMesh(service)
    let onMeshOnly = service.gateways.allSatisfy { $0 == "mesh" }
    for (index, route) in service.http.enumerated() {
      let path = (FieldPath.spec / "http")[index]
      HTTPRouteRules(path: path, isDelegate: isDelegate, appliesToMesh: appliesToMesh).check(route, into: &report)
    }
    RuleReachability.check(service, onMeshOnly: onMeshOnly, into: &report)
    checkTLS(service, into: &report)
    checkTCP(service, into: &report)
    ObjectRules.checkExportTo(service.exportTo, namespace: namespace, into: &report)
  }

  static func appliesToMesh(_ service: VirtualService) -> Bool { service.gateways.isEmpty || service.gateways.contains("mesh") }

  private static func checkHosts(_ service: VirtualService, into report: inout Report) {
    let path = FieldPath.spec / "hosts"
    for (index, host) in service.hosts.enumerated() {
      if host == "*" && appliesToMesh(service) {
        report.error(path[index], "wildcard host * is not allowed for virtual services bound to the mesh gateway")
      } else if !NameForm.isWildcardHost(host) && !AddressForm.isAddress(host) {
        report.error(path[index], "'\(host.prefix(80))' is not a host name")
      }
      for other in service.hosts[..<index] where HostName.overlap(host.lowercased(), other.lowercased()) {
        report.error(path[index], "duplicate hosts: '\(host.prefix(80))' overlaps '\(other.prefix(80))'")
      }
    }
  }

  private static func checkGateways(_ gateways: [String], at path: FieldPath, into report: inout Report) {
    for (index, gateway) in gateways.enumerated() {
      let parts = gateway.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
      let named = parts.count == 2 && (parts[0] == "." || NameForm.isLabel(parts[0])) && NameForm.isSubdomain(parts[1])
      if parts.count == 1 && NameForm.isSubdomain(gateway) {
        if gateway.utf8.contains(0x2E) {
          report.warning(path[index], "a dotted gateway name is read as name.namespace", hint: "write namespace/name")
        }
      } else if !named {
        report.error(path[index], "'\(gateway.prefix(80))' is not a gateway", hint: "write name, namespace/name or mesh")
      }
    }
  }

  private static func checkDelegate(_ service: VirtualService, into report: inout Report) {
    if !service.gateways.isEmpty { report.error(.spec / "gateways", "delegate VirtualService must have no gateways") }
    if !service.tls.isEmpty { report.error(.spec / "tls", "delegate VirtualService must have no tls routes") }
    if !service.tcp.isEmpty { report.error(.spec / "tcp", "delegate VirtualService must have no tcp routes") }
  }

  private static func checkTLS(_ service: VirtualService, into report: inout Report) {
    for (index, route) in service.tls.enumerated() {
      let path = (FieldPath.spec / "tls")[index]
      if route.match.isEmpty { report.error(path / "match", "TLS route must have at least one match condition") }
      if route.route.isEmpty { report.error(path / "route", "TLS route must have at least one destination") }
      for (position, match) in route.match.enumerated() {
        let matchPath = (path / "match")[position]
        if match.sniHosts.isEmpty { report.error(matchPath / "sniHosts", "TLS match must have at least one SNI host") }
        for (sni, host) in match.sniHosts.enumerated() {
          checkSNI(host, at: (matchPath / "sniHosts")[sni], hosts: service.hosts, into: &report)
        }
        checkConditions(match.conditions, at: matchPath, into: &report)
      }
      checkWeights(route.route.map(\.weight), at: path / "route", into: &report)
      for (position, destination) in route.route.enumerated() {
        checkDestination(destination.destination, at: (path / "route")[position] / "destination", into: &report)
      }
    }
  }

  private static func checkSNI(_ host: String, at path: FieldPath, hosts: [String], into report: inout Report) {
    if AddressForm.isAddress(host) {
      report.warning(path, "an IP address is not a server name: clients send none for it")
    } else if !NameForm.isWildcardHost(host) {
      report.error(path, "'\(host.prefix(80))' is not a host name")
    } else if !hosts.contains(where: { HostName.covers($0.lowercased(), host.lowercased()) }) {
      report.error(path, "SNI host \(host.prefix(80)) is not a compatible subset of any of the virtual service hosts")
    }
  }

  private static func checkTCP(_ service: VirtualService, into report: inout Report) {
    for (index, route) in service.tcp.enumerated() {
      let path = (FieldPath.spec / "tcp")[index]
      if route.route.isEmpty { report.error(path / "route", "TCP route must have at least one destination") }
      for (position, match) in route.match.enumerated() {
        checkConditions(match, at: (path / "match")[position], into: &report)
      }
      checkWeights(route.route.map(\.weight), at: path / "route", into: &report)
      for (position, destination) in route.route.enumerated() {
        checkDestination(destination.destination, at: (path / "route")[position] / "destination", into: &report)
      }
    }
  }

  private static func checkConditions(
    _ conditions: VirtualService.ConnectionConditions, at path: FieldPath, into report: inout Report
  ) {
    for (index, subnet) in conditions.destinationSubnets.enumerated() where !AddressForm.isBlock(subnet) {
      report.error((path / "destinationSubnets")[index], "'\(subnet.prefix(80))' is not an IP address or CIDR block")
    }
    checkSource(conditions.sourceLabels, conditions.sourceNamespace, at: path, into: &report)
    checkGateways(conditions.gateways, at: path / "gateways", into: &report)
  }

  static func checkSource(
    _ labels: [String: String], _ namespace: String, at path: FieldPath, into report: inout Report
  ) {
    for (key, value) in labels.sorted(by: { $0.key < $1.key }) {
      if let problem = NameForm.labelProblem(key: key, value: value) { report.error(path / "sourceLabels" / key, problem) }
    }
    if !namespace.isEmpty && !NameForm.isLabel(namespace) { report.error(path / "sourceNamespace", "not a namespace") }
  }

  static func checkMatchGateways(_ gateways: [String], at path: FieldPath, into report: inout Report) {
    checkGateways(gateways, at: path, into: &report)
  }

  static func checkDestination(_ destination: VirtualService.Destination, at path: FieldPath, into report: inout Report) {
    guard !destination.host.isEmpty else { return }
    if destination.host == "*" {
      report.error(path / "host", "a destination cannot be *")
    } else if !NameForm.isWildcardHost(destination.host) && !AddressForm.isAddress(destination.host) {
      report.error(path / "host", "'\(destination.host.prefix(80))' is not a host name")
    }
    if let subset = destination.subset, !NameForm.isLabel(subset.lowercased()) {
      report.error(path / "subset", "'\(subset.prefix(80))' is not a subset name")
    }
  }

  static func checkWeights(_ weights: [Int], at path: FieldPath, into report: inout Report) {
    guard weights.count > 1 else { return }
    var total = 0
    for weight in weights { total += weight }
    if total == 0 { report.error(path, "total destination weight cannot be 0", hint: "give at least one destination a weight") }
    if total > Int(UInt32.max) { report.error(path, "the weights add up to more than \(UInt32.max)") }
  }
}
