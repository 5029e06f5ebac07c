/// Hosts that rules may lead to, with the namespaces that see them.
struct VisibleHosts {
  /// What analyzers ask of a host.
  struct Host {
    let ports: [Int]
    /// Labels of the workloads behind it; empty when there are none to select.
    let selector: [String: String]
  }

  private struct Place: Hashable {
    /// A namespace, or `*`.
    let scope: String
    let host: String
  }
  private var hosts: [Place: Host] = [:]
  private var wildcards: [(place: Place, host: Host)] = []
  private let domain: String

  init(_ input: AnalysisInput) {
    domain = input.domain
    for entry in input.all("ServiceEntry") {
      let host = Host(
        ports: entry.spec["ports"].items.compactMap { $0["number"].number },
        selector: entry.spec["workloadSelector"]["labels"].textMap)
      for name in entry.spec["hosts"].texts {
        for scope in Self.scopes(entry.spec["exportTo"].texts, entry.namespace) { add(name, host, entry.namespace, scope) }
      }
    }
    for service in input.all("Service") {
      let host = Host(ports: service.spec["ports"].items.compactMap { $0["port"].number }, selector: [:])
      let exported = service.annotations["networking.istio.io/exportTo"]?.split(separator: ",").map { item in
        String(item.drop { $0 == " " }.prefix { $0 != " " })
      }
      for scope in Self.scopes(exported ?? [], service.namespace) { add(service.name, host, service.namespace, scope) }
    }
  }

  /// Namespaces and `*`; nothing written means everyone.
  static func scopes(_ exportTo: [String], _ own: String) -> [String] {
    if exportTo.isEmpty || exportTo.contains("*") { return ["*"] }
    return exportTo.map { $0 == "." ? own : $0 }
  }

  private mutating func add(_ name: String, _ host: Host, _ namespace: String, _ scope: String) {
    let place = Place(scope: scope, host: HostName.resolve(name, namespace: namespace, domain: domain))
    hosts[place] = host
    if place.host.hasPrefix("*") { wildcards.append((place, host)) }
  }

  /// The host that a rule of `namespace` means, seen by all to whom the rule is exported.
  func host(_ name: String, from namespace: String, exportTo: [String]) -> Host? {
    let resolved = HostName.resolve(name, namespace: namespace, domain: domain)
    if let host = hosts[Place(scope: "*", host: resolved)] { return host }
    for scope in exportTo.isEmpty ? [namespace] : exportTo.map({ $0 == "." ? namespace : $0 }) {
      if let host = hosts[Place(scope: scope, host: resolved)] { return host }
    }
    guard !name.isEmpty else { return nil }
    return wildcards.first { wildcard in
      (wildcard.place.scope == "*" || wildcard.place.scope == namespace) && HostName.covers(wildcard.place.host, resolved)
    }?.host
  }
}
