/// Whose a host is, where namespaces belong to tenants that do not trust each other: who writes an object in one of them must not
/// direct what others send to another's hosts (ISTIO-SECURITY-2026-002). The root namespace is the mesh's own and may.
struct TenantRules {
  struct ForeignHost {
    let host: String
    let owner: String
    let path: FieldPath
  }

  private let domain: String
  private let rootNamespace: String
  /// Who sees what says nothing of it itself; empty: everyone.
  private let serviceExports: [String]
  private let ruleExports: [String]
  /// Namespaces with ServiceEntries of a host.
  private var owners: [String: Set<String>] = [:]

  init(_ objects: [MeshObject], settings: ReferenceRules.Settings) {
    domain = settings.domain
    let mesh = MeshConfiguration.of(objects.first { $0.key == MeshConfiguration.key })
    rootNamespace = mesh?.rootNamespace ?? settings.rootNamespace
    serviceExports = mesh?.serviceExportTo ?? []
    ruleExports = mesh?.virtualServiceExportTo ?? []
    for object in objects {
      guard case .serviceEntry(let entry) = object.spec else { continue }
      for host in entry.hosts { owners[host.lowercased(), default: []].insert(object.key.namespace) }
    }
  }

  /// Hosts of other namespaces that an object directs for others than its own namespace's clients.
  func foreignHosts(of object: MeshObject) -> [ForeignHost] {
    let namespace = object.key.namespace
    guard namespace != rootNamespace else { return [] }
    switch object.spec {
    case .virtualService(let rule):
      // Gateways route what comes from outside, by hosts that are nobody's service.
      let gateways = rule.gateways.map { GatewayName.resolve($0, namespace: namespace) }
      guard gateways.isEmpty || gateways.contains(GatewayName.mesh) else { return [] }
      guard reachesOthers(rule.exportTo.isEmpty ? ruleExports : rule.exportTo, namespace) else { return [] }
      return foreign(rule.hosts, namespace)
    case .serviceEntry(let entry):
      guard reachesOthers(entry.exportTo.isEmpty ? serviceExports : entry.exportTo, namespace) else { return [] }
      // Of two entries for a host outside the mesh the older one counts for others: only names of services are at stake.
      return foreign(entry.hosts, namespace).filter { service(in: $0.host) != nil }
    default: return []
    }
  }

  private func reachesOthers(_ exportTo: [String], _ own: String) -> Bool {
    exportTo.isEmpty || exportTo.contains { $0 != "." && $0 != "~" && $0 != own }
  }

  private func foreign(_ hosts: [String], _ namespace: String) -> [ForeignHost] {
    hosts.enumerated().compactMap { index, written in
      let host = HostName.resolve(written, namespace: namespace, domain: domain)
      guard let owner = owner(of: host, besides: namespace) else { return nil }
      return ForeignHost(host: host, owner: owner, path: (.spec / "hosts")[index])
    }
  }

  /// The namespace, other than this one, that a host, or one that a wildcard covers, belongs to.
  private func owner(of host: String, besides namespace: String) -> String? {
    if let found = service(in: host) { return found == namespace ? nil : found }
    if host.hasPrefix("*"), HostName.covers(host, "a.a.svc.\(domain)") { return "every namespace" }
    let covered = owners.filter { known, _ in known == host || host.hasPrefix("*") && HostName.covers(host, known) }
    let all = covered.values.reduce(into: Set<String>()) { $0.formUnion($1) }
    return all.contains(namespace) && !host.hasPrefix("*") ? nil : all.subtracting([namespace]).min()
  }

  /// The namespace in `name.namespace.svc.domain`, and in a wildcard for names of one namespace.
  private func service(in host: String) -> String? {
    let suffix = ".svc.\(domain)"
    guard host.hasSuffix(suffix) else { return nil }
    return host.dropLast(suffix.count).split(separator: ".").last.map(String.init).flatMap { $0 == "*" ? nil : $0 }
  }
}
