/// VirtualServices with everything resolved that does not depend on the client (Istio, VirtualService).
struct RuleBook: Sendable {
  /// The rules of one object. Compared by identity: an entry is made anew when what it comes from changes.
  final class Entry: Sendable {
    let key: ObjectKey
    let created: UInt64
    /// Fully qualified, lower case, wildcards kept.
    let hosts: [String]
    /// `mesh` or `namespace/name`.
    let gateways: [String]
    let exportTo: Set<String>
    let http: [Rule]
    let tls: [VirtualService.TLSRoute]
    let tcp: [VirtualService.TCPRoute]
    let findings: [Finding]
    /// Objects that it takes rules from, whether they exist or not.
    let delegates: Set<ObjectKey>
    /// Keys of the labels that some match asks of the client.
    let clientLabelKeys: Set<String>
    /// Whether some match asks who the client is.
    let dependsOnClient: Bool

    init(
      _ stored: StoredObject, _ service: VirtualService, http: [Rule], findings: [Finding], delegates: Set<ObjectKey>,
      settings: MeshSettings
    ) {
      key = stored.key
      created = stored.created
      hosts = service.hosts.map { HostName.resolve($0, namespace: stored.key.namespace, domain: settings.domain) }
      gateways = GatewayName.resolve(service.gateways, namespace: stored.key.namespace)
      exportTo = Visibility.resolve(
        service.exportTo, own: stored.key.namespace, byDefault: settings.exportTo.virtualServices)
      tls = service.tls
      tcp = service.tcp
      self.http = http
      self.findings = findings
      self.delegates = delegates
      var keys: Set<String> = []
      var asksNamespace = false
      for rule in http {
        for match in rule.route.match {
          if !match.sourceLabels.isEmpty { keys.formUnion(match.sourceLabels.keys) }
          if !match.sourceNamespace.isEmpty { asksNamespace = true }
        }
      }
      for match in service.tcp.flatMap(\.match) + service.tls.flatMap(\.match).map(\.conditions) {
        keys.formUnion(match.sourceLabels.keys)
        if !match.sourceNamespace.isEmpty { asksNamespace = true }
      }
      clientLabelKeys = keys
      dependsOnClient = asksNamespace || !keys.isEmpty
    }

    var isForMesh: Bool { gateways.contains(GatewayName.mesh) }
    var isForGateways: Bool { gateways.contains { $0 != GatewayName.mesh } }
    /// Whether it decides connections that are not read as HTTP.
    var routesConnections: Bool { !tls.isEmpty || !tcp.isEmpty }

    static func isOlder(_ a: Entry, _ b: Entry) -> Bool {
      (a.created, a.key.name, a.key.namespace) < (b.created, b.key.name, b.key.namespace)
    }
  }
  /// One route with the namespace whose short names it uses.
  struct Rule: Sendable {
    var route: VirtualService.HTTPRoute
    var namespace: String
    var origin: RouteOrigin
  }
  /// The rules of the mesh for one host.
  struct HostRules: Sendable {
    let host: String
    /// Oldest first; never empty.
    var entries: [Entry]
  }

  /// Oldest first.
  private(set) var entries: [Entry] = []
  private(set) var byHost = HostIndex<HostRules>()
  /// Entries for each gateway, oldest first.
  private(set) var byGateway: [String: [Entry]] = [:]
  private(set) var clientLabelKeys: Set<String> = []
  private(set) var findings: [Finding] = []
  /// Hosts that more than one object names.
  private(set) var contested: Set<String> = []
  private var byKey: [ObjectKey: Entry] = [:]
  /// Who takes rules from an object.
  private var users: [ObjectKey: Set<ObjectKey>] = [:]
  private let settings: MeshSettings

  init(settings: MeshSettings) { self.settings = settings }

  /// Takes these objects as they are now, and what takes rules from them. Returns every entry that was or is made of them.
  mutating func update(_ changed: Set<ObjectKey>, _ objects: HeldObjects) -> [Entry] {
    let concerned = changed.reduce(into: changed) { $0.formUnion(users[$1] ?? []) }
    var gone: [Entry] = []
    var made: [Entry] = []
    for key in concerned.sorted() {
      if let old = byKey.removeValue(forKey: key) {
        gone.append(old)
        for delegate in old.delegates { users[delegate]?.remove(key) }
      }
      guard let stored = objects[key]?.stored, case .virtualService(let service) = stored.object.spec, !service.hosts.isEmpty
      else { continue }
      let entry = entry(stored, service, objects)
      byKey[key] = entry
      made.append(entry)
      for delegate in entry.delegates { users[delegate, default: []].insert(key) }
    }
    for key in changed where users[key]?.isEmpty == true { users[key] = nil }
    unfile(gone)
    file(made)
    clientLabelKeys = entries.reduce(into: []) { if !$1.clientLabelKeys.isEmpty { $0.formUnion($1.clientLabelKeys) } }
    findings = entries.flatMap(\.findings)
    return gone + made
  }

  private mutating func unfile(_ gone: [Entry]) {
    if gone.isEmpty { return }
    let ids = Set(gone.map(ObjectIdentifier.init))
    entries.removeAll { ids.contains(ObjectIdentifier($0)) }
    for entry in gone {
      for host in Set(entry.hosts) {
        guard var rules = byHost[host] else { continue }
        rules.entries.removeAll { $0 === entry }
        byHost[host] = rules.entries.isEmpty ? nil : rules
        if rules.entries.count < 2 { contested.remove(host) }
      }
      for gateway in Set(entry.gateways) where gateway != GatewayName.mesh {
        byGateway[gateway]?.removeAll { $0 === entry }
        if byGateway[gateway]?.isEmpty == true { byGateway[gateway] = nil }
      }
    }
  }

  private mutating func file(_ made: [Entry]) {
    if made.isEmpty { return }
    entries = (entries + made).sorted(by: Entry.isOlder)
    for entry in made {
      if entry.isForMesh {
        for host in Set(entry.hosts) {
          let known = byHost[host]?.entries ?? []
          byHost[host] = HostRules(host: host, entries: (known + [entry]).sorted(by: Entry.isOlder))
          if !known.isEmpty { contested.insert(host) }
        }
      }
      for gateway in Set(entry.gateways) where gateway != GatewayName.mesh { byGateway[gateway, default: []].append(entry) }
    }
    let gateways = Set(made.flatMap(\.gateways)).subtracting([GatewayName.mesh])
    for gateway in gateways { byGateway[gateway]?.sort(by: Entry.isOlder) }
  }

  // MARK: Making entries

  private static func name(_ delegate: VirtualService.Delegate, from key: ObjectKey) -> ObjectKey {
    ObjectKey(
      kind: .virtualService, namespace: delegate.namespace.isEmpty ? key.namespace : delegate.namespace, name: delegate.name)
  }

  private func entry(_ stored: StoredObject, _ service: VirtualService, _ objects: HeldObjects) -> Entry {
    let key = stored.key
    var rules: [Rule] = []
    var findings: [Finding] = []
    var delegates: Set<ObjectKey> = []
    for (index, route) in service.http.enumerated() {
      guard let delegate = route.delegate else {
        rules.append(Rule(route: route, namespace: key.namespace, origin: Self.origin(key, index)))
        continue
      }
      let name = Self.name(delegate, from: key)
      delegates.insert(name)
      guard case .virtualService(let target)? = objects[name]?.stored.object.spec, target.hosts.isEmpty,
        Visibility.allows(
          Visibility.resolve(target.exportTo, own: name.namespace, byDefault: settings.exportTo.virtualServices), key.namespace)
      else {
        findings.append(
          Finding(
            severity: .warning, code: Finding.Code.referenceNotFound, object: key.description,
            path: "spec.http[\(index)].delegate",
            reason: "the delegate \(name.namespace)/\(name.name) is not found, so this route is left out"))
        continue
      }
      rules += Self.merge(route, target, name)
    }
    return Entry(stored, service, http: rules, findings: findings, delegates: delegates, settings: settings)
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
