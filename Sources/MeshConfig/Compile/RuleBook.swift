/// An object of the configuration with a number that changes whenever its content does.
struct HeldObject: Sendable {
  let stored: StoredObject
  let stamp: UInt64
}

/// VirtualServices with everything resolved that does not depend on the client (Istio, VirtualService).
struct RuleBook: Sendable {
  /// The rules of one object. Compared by identity: an entry is made anew when what it comes from changes.
  final class Entry: Sendable {
    let key: ObjectKey
    /// Fully qualified, lower case, wildcards kept.
    let hosts: [String]
    /// `mesh` or `namespace/name`.
    let gateways: [String]
    let exportTo: Set<String>
    let http: [Rule]
    let tls: [VirtualService.TLSRoute]
    let tcp: [VirtualService.TCPRoute]
    let findings: [Finding]
    /// Keys of the labels that some match asks of the client.
    let clientLabelKeys: Set<String>

    init(
      key: ObjectKey, hosts: [String], gateways: [String], exportTo: Set<String>, http: [Rule], tls: [VirtualService.TLSRoute],
      tcp: [VirtualService.TCPRoute], findings: [Finding] = []
    ) {
      self.key = key
      self.hosts = hosts
      self.gateways = gateways
      self.exportTo = exportTo
      self.http = http
      self.tls = tls
      self.tcp = tcp
      self.findings = findings
      clientLabelKeys = Set(
        http.flatMap(\.route.match).flatMap(\.sourceLabels.keys) + tcp.flatMap(\.match).flatMap(\.sourceLabels.keys)
          + tls.flatMap(\.match).flatMap(\.conditions.sourceLabels.keys))
    }
  }
  /// One route with the namespace whose short names it uses.
  struct Rule: Sendable {
    var route: VirtualService.HTTPRoute
    var namespace: String
    var origin: RouteOrigin
  }

  /// Oldest first.
  let entries: [Entry]
  /// What each entry was made from: the stamps of the object and of its delegates.
  private let sources: [ObjectKey: (stamps: [UInt64], entry: Entry)]
  let clientLabelKeys: Set<String>
  var findings: [Finding] { entries.flatMap(\.findings) }

  /// - Parameters:
  ///   - objects: oldest first.
  ///   - previous: entries whose sources are the same are taken from here.
  init(objects: [HeldObject], settings: MeshSettings, previous: RuleBook? = nil) {
    var delegates: [String: (held: HeldObject, service: VirtualService)] = [:]
    for held in objects {
      guard case .virtualService(let service) = held.stored.object.spec, service.hosts.isEmpty else { continue }
      delegates["\(held.stored.key.namespace)/\(held.stored.key.name)"] = (held, service)
    }
    var entries: [Entry] = []
    var sources: [ObjectKey: (stamps: [UInt64], entry: Entry)] = [:]
    for held in objects {
      guard case .virtualService(let service) = held.stored.object.spec, !service.hosts.isEmpty else { continue }
      let key = held.stored.key
      var stamps = [held.stamp]
      for route in service.http {
        if let delegate = route.delegate { stamps.append(delegates[Self.name(delegate, from: key)]?.held.stamp ?? 0) }
      }
      let entry: Entry
      if let known = previous?.sources[key], known.stamps == stamps {
        entry = known.entry
      } else {
        entry = Self.entry(key, service, delegates, settings)
      }
      entries.append(entry)
      sources[key] = (stamps, entry)
    }
    self.entries = entries
    self.sources = sources
    clientLabelKeys = entries.reduce(into: []) { $0.formUnion($1.clientLabelKeys) }
  }

  private static func name(_ delegate: VirtualService.Delegate, from key: ObjectKey) -> String {
    "\(delegate.namespace.isEmpty ? key.namespace : delegate.namespace)/\(delegate.name)"
  }

  private static func entry(
    _ key: ObjectKey, _ service: VirtualService, _ delegates: [String: (held: HeldObject, service: VirtualService)],
    _ settings: MeshSettings
  ) -> Entry {
    var rules: [Rule] = []
    var findings: [Finding] = []
    for (index, route) in service.http.enumerated() {
      guard let delegate = route.delegate else {
        rules.append(Rule(route: route, namespace: key.namespace, origin: origin(key, index)))
        continue
      }
      let name = name(delegate, from: key)
      guard let target = delegates[name],
        Visibility.allows(
          Visibility.resolve(
            target.service.exportTo, own: target.held.stored.key.namespace, byDefault: settings.exportTo.virtualServices),
          key.namespace)
      else {
        findings.append(
          Finding(
            severity: .warning, code: Finding.Code.referenceNotFound, object: key.description,
            path: "spec.http[\(index)].delegate", reason: "the delegate \(name) is not found, so this route is left out"))
        continue
      }
      rules += merge(route, target.service, target.held.stored.key)
    }
    return Entry(
      key: key, hosts: service.hosts.map { HostName.resolve($0, namespace: key.namespace, domain: settings.domain) },
      gateways: GatewayName.resolve(service.gateways, namespace: key.namespace),
      exportTo: Visibility.resolve(service.exportTo, own: key.namespace, byDefault: settings.exportTo.virtualServices),
      http: rules, tls: service.tls, tcp: service.tcp,
      findings: findings)
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
