/// VirtualServices with everything resolved that does not depend on the client (Istio, VirtualService).
struct RuleBook {
  struct Entry {
    let key: ObjectKey
    /// Fully qualified, lower case, wildcards kept.
    let hosts: [String]
    /// `mesh` or `namespace/name`.
    let gateways: [String]
    let exportTo: Set<String>
    let http: [Rule]
    let tls: [VirtualService.TLSRoute]
    let tcp: [VirtualService.TCPRoute]
  }
  /// One route with the namespace whose short names it uses.
  struct Rule {
    var route: VirtualService.HTTPRoute
    var namespace: String
    var origin: RouteOrigin
  }

  /// Oldest first.
  let entries: [Entry]
  /// Keys of the labels that some match asks of the client.
  var clientLabelKeys: Set<String> {
    let http = entries.flatMap(\.http).flatMap(\.route.match).flatMap(\.sourceLabels.keys)
    let tcp = entries.flatMap(\.tcp).flatMap(\.match).flatMap(\.sourceLabels.keys)
    let tls = entries.flatMap(\.tls).flatMap(\.match).flatMap(\.conditions.sourceLabels.keys)
    return Set(http + tcp + tls)
  }
  private(set) var findings: [Finding] = []

  init(objects: [StoredObject], settings: MeshSettings) {
    let services: [(stored: StoredObject, service: VirtualService)] = objects.sorted(by: StoredObject.isOlder).compactMap {
      guard case .virtualService(let service) = $0.object.spec else { return nil }
      return ($0, service)
    }
    var delegates: [String: (stored: StoredObject, service: VirtualService)] = [:]
    for item in services where item.service.hosts.isEmpty {
      delegates["\(item.stored.key.namespace)/\(item.stored.key.name)"] = item
    }
    var entries: [Entry] = []
    var findings: [Finding] = []
    for (stored, service) in services where !service.hosts.isEmpty {
      let key = stored.key
      var rules: [Rule] = []
      for (index, route) in service.http.enumerated() {
        guard let delegate = route.delegate else {
          rules.append(Rule(route: route, namespace: key.namespace, origin: Self.origin(key, index)))
          continue
        }
        let name = "\(delegate.namespace.isEmpty ? key.namespace : delegate.namespace)/\(delegate.name)"
        guard let target = delegates[name],
          Visibility.allows(Visibility.resolve(target.service.exportTo, own: target.stored.key.namespace), key.namespace)
        else {
          findings.append(
            Finding(
              severity: .warning, code: Finding.Code.referenceNotFound, object: key.description,
              path: "spec.http[\(index)].delegate", reason: "the delegate \(name) is not found, so this route is left out"))
          continue
        }
        rules += Self.merge(route, target.service, target.stored.key)
      }
      entries.append(
        Entry(
          key: key, hosts: service.hosts.map { HostName.resolve($0, namespace: key.namespace, domain: settings.domain) },
          gateways: GatewayName.resolve(service.gateways, namespace: key.namespace),
          exportTo: Visibility.resolve(service.exportTo, own: key.namespace), http: rules, tls: service.tls,
          tcp: service.tcp))
    }
    self.entries = entries
    self.findings = findings
  }

  private static func origin(_ key: ObjectKey, _ rule: Int) -> RouteOrigin {
    RouteOrigin(kind: key.kind.rawValue, namespace: key.namespace, name: key.name, rule: rule)
  }

  private static func merge(_ root: VirtualService.HTTPRoute, _ delegate: VirtualService, _ key: ObjectKey) -> [Rule] {
    delegate.http.enumerated().compactMap { index, route in
      Delegation.merge(root: root, delegate: route).map {
        Rule(route: $0, namespace: key.namespace, origin: origin(key, index))
      }
    }
  }
}

/// References to gateways: `mesh`, or `namespace/name`.
enum GatewayName {
  static let mesh = "mesh"

  static func resolve(_ written: [String], namespace: String) -> [String] {
    written.isEmpty ? [mesh] : written.map { resolve($0, namespace: namespace) }
  }

  static func resolve(_ name: String, namespace: String) -> String {
    if name == mesh { return mesh }
    if name.hasPrefix("./") { return "\(namespace)/\(name.dropFirst(2))" }
    if name.utf8.contains(0x2F) { return name }
    // The legacy form `name.namespace…`.
    let parts = name.split(separator: ".", maxSplits: 2).map(String.init)
    return parts.count >= 2 ? "\(parts[1])/\(parts[0])" : "\(namespace)/\(name)"
  }
}
