/// Istio's validation rules for a ServiceEntry.
enum ServiceEntryRules {
  private static let httpNames: Set<String> = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB"]
  private static let tlsNames: Set<String> = ["HTTPS", "TLS"]

  static func check(_ entry: ServiceEntry, namespace: String, into report: inout Report) {
    checkHosts(entry, into: &report)
    checkAddresses(entry, into: &report)
    checkPorts(entry, into: &report)
    checkEndpoints(entry, into: &report)
    ObjectRules.checkExportTo(entry.exportTo, namespace: namespace, allowsNone: true, into: &report)
    if entry.workloadSelector != nil && !entry.endpoints.isEmpty {
      report.error(.spec / "workloadSelector", "only one of WorkloadSelector or Endpoints can be set")
    } else if entry.workloadSelector != nil && entry.resolution != .fixed {
      report.warning(.spec / "workloadSelector", "selects nothing without resolution STATIC")
    }
  }

  /// A WorkloadEntry of its own: whether names or addresses are meant is known only with a ServiceEntry.
  static func check(_ entry: WorkloadEntry, into report: inout Report) {
    let address = entry.address
    if address.isEmpty {
      report.warning(.spec / "address", "no address: workloads of the network '\(entry.network.prefix(80))' are not reached")
    } else if !address.hasPrefix("unix://") && !AddressForm.isAddress(address) && !NameForm.isHost(address) {
      report.error(.spec / "address", "'\(address.prefix(80))' is not a host name or IP address")
    }
    ObjectRules.checkLabels(entry.labels, at: .spec / "labels", into: &report)
  }

  private static func checkHosts(_ entry: ServiceEntry, into report: inout Report) {
    let path = FieldPath.spec / "hosts"
    if entry.hosts.isEmpty { report.error(path, "required: a ServiceEntry needs at least one host") }
    if entry.hosts.count > 256 { report.error(path, "at most 256 hosts") }
    for (index, host) in entry.hosts.enumerated() {
      if host == "*" {
        report.error(path[index], "hostname cannot be wildcard", hint: "name the domain: *.example.com")
      } else if !NameForm.isWildcardHost(host) || AddressForm.isAddress(host) {
        report.error(path[index], "'\(host.prefix(80))' is not a host name")
      } else if host.hasPrefix("*") && !host.hasPrefix("*.") {
        report.warning(path[index], "'*' should stand for whole labels: *.example.com")
      } else if host.hasPrefix("*") {
        let dns = entry.resolution == .dns || entry.resolution == .dnsRoundRobin
        if dns && entry.endpoints.isEmpty {
          report.error(path[index], "a wildcard cannot be resolved by DNS", hint: "name endpoints or use resolution NONE")
        }
      } else if entry.resolution == .dynamicDNS {
        report.error(path[index], "DYNAMIC_DNS needs a wildcard host")
      }
      if entry.hosts[..<index].contains(host) { report.error(path[index], "the host '\(host.prefix(80))' stands twice") }
    }
  }

  private static func checkAddresses(_ entry: ServiceEntry, into report: inout Report) {
    let path = FieldPath.spec / "addresses"
    if entry.addresses.count > 256 { report.error(path, "at most 256 addresses") }
    if entry.resolution == .dynamicDNS && !entry.addresses.isEmpty { report.error(path, "DYNAMIC_DNS has no addresses") }
    for (index, address) in entry.addresses.enumerated() {
      if !AddressForm.isBlock(address) {
        report.error(path[index], "'\(address.prefix(80))' is not an IP address or CIDR block")
      } else if address.utf8.contains(0x2F) && entry.resolution != .none && entry.resolution != .fixed {
        report.error(path[index], "CIDR addresses are allowed only for NONE/STATIC resolution types")
      }
    }
  }

  private static func checkPorts(_ entry: ServiceEntry, into report: inout Report) {
    let path = FieldPath.spec / "ports"
    for (index, port) in entry.ports.enumerated() {
      if entry.ports[..<index].contains(where: { $0.number == port.number }) {
        report.error(path[index] / "number", "port number cannot be duplicated: \(port.number)")
      }
      if entry.ports[..<index].contains(where: { $0.name == port.name }) {
        report.error(path[index] / "name", "the port name '\(port.name.prefix(80))' stands twice")
      }
      let isTCP = !httpNames.contains(port.protocol) && !tlsNames.contains(port.protocol)
      if isTCP && entry.hosts.count > 1 && entry.resolution != .none {
        let spoken = port.protocol.isEmpty ? "TCP" : port.protocol
        report.error(
          path[index], "several hosts share a \(spoken) port, so they cannot be told apart",
          hint: port.protocol.isEmpty ? "write the port's protocol" : nil)
      }
      if port.targetPort != nil && entry.resolution == .none {
        report.warning(path[index] / "targetPort", "has no effect with resolution NONE")
      }
      if !NameForm.isLabel(port.name.lowercased()) && !port.name.isEmpty {
        report.error(path[index] / "name", "'\(port.name.prefix(80))' is not a port name")
      }
      if isTCP && !port.protocol.isEmpty && entry.addresses.isEmpty {
        report.warning(
          path[index], "a \(port.protocol) port without addresses is reached by its port alone",
          code: Finding.Code.serviceEntryAddresses)
      }
      if entry.resolution == .dynamicDNS && isTCP {
        report.error(path[index] / "protocol", "DYNAMIC_DNS needs an HTTP, HTTP2, GRPC, HTTPS or TLS port")
      }
    }
  }

  private static func checkEndpoints(_ entry: ServiceEntry, into report: inout Report) {
    let path = FieldPath.spec / "endpoints"
    if !entry.endpoints.isEmpty {
      switch entry.resolution {
      case .none: report.error(path, "NONE mode cannot set endpoints")
      case .dynamicDNS: report.error(path, "DYNAMIC_DNS has no endpoints")
      case .dnsRoundRobin where entry.endpoints.count > 1:
        report.error(path, "DNS_ROUND_ROBIN mode cannot have multiple endpoints")
      default: break
      }
    }
    let names = Set(entry.ports.map(\.name))
    for (index, endpoint) in entry.endpoints.enumerated() {
      if let problem = addressProblem(endpoint, entry) { report.error(path[index] / "address", problem) }
      ObjectRules.checkLabels(endpoint.labels, at: path[index] / "labels", into: &report)
      if endpoint.address.hasPrefix("unix://") && entry.ports.count != 1 {
        report.error(path[index] / "address", "a Unix socket endpoint needs exactly one port in the entry")
      }
      for port in endpoint.ports where !names.contains(port.key) {
        report.error(
          path[index] / "ports" / port.key, "endpoint port '\(port.key.prefix(80))' is not defined by the service entry")
      }
    }
  }

  private static func addressProblem(_ endpoint: WorkloadEntry, _ entry: ServiceEntry) -> String? {
    let address = endpoint.address
    if address.isEmpty { return nil }
    switch entry.resolution {
    case .fixed:
      let fits = AddressForm.isAddress(address) || address.hasPrefix("unix://")
      return fits ? nil : "STATIC endpoints need IP addresses or unix:// paths; '\(address.prefix(80))' is neither"
    case .dns, .dnsRoundRobin:
      let fits = AddressForm.isAddress(address) || NameForm.isHost(address)
      return fits ? nil : "'\(address.prefix(80))' is not a host name or IP address"
    case .none, .dynamicDNS: return nil
    }
  }
}
