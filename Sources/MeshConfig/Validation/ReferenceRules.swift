import Primitives

/// Rules between objects: what a route names must exist (Istio, validation).
public enum ReferenceRules {
  /// What checks need to know of the mesh.
  public struct Settings: Hashable, Sendable {
    public var domain: String
    public var rootNamespace: String
    /// Fully qualified hosts that exist by registration.
    public var registeredHosts: Set<String>
    /// Objects may not direct what other namespaces send to hosts that are not their own namespace's.
    public var isolatesTenants = false

    public init(domain: String = "cluster.local", rootNamespace: String = "istio-system", registeredHosts: Set<String> = []) {
      self.domain = domain
      self.rootNamespace = rootNamespace
      self.registeredHosts = registeredHosts
    }
  }

  /// Objects of a state that direct other namespaces' traffic, which isolation of tenants forbids.
  public static func foreignHosts(in objects: [MeshObject], settings: Settings) -> [Finding] {
    var settings = settings
    settings.isolatesTenants = true
    return checkState(objects, settings: settings).filter { $0.code == Finding.Code.foreignHost }
  }

  /// Checks the objects of a change set against the state it leads to.
  static func check(_ changeSet: ChangeSet, in state: [MeshObject], settings: Settings) -> [Finding] {
    let state = State(state, settings: settings)
    return changeSet.objects.flatMap { object -> [Finding] in
      let place = changeSet.places[object.key]
      return state.problems(of: object).map { problem in
        Finding(
          severity: problem.severity, code: problem.code, source: place?.source ?? "",
          position: place?.document.position(of: problem.path), object: object.key.description,
          path: problem.path.description, reason: problem.reason, hint: problem.hint)
      }
    }
  }

  /// Checks a whole state, as after a deletion.
  static func checkState(_ objects: [MeshObject], settings: Settings) -> [Finding] {
    let state = State(objects, settings: settings)
    return objects.sorted { $0.key < $1.key }.flatMap { object in
      state.problems(of: object).map { problem in
        Finding(
          severity: problem.severity, code: problem.code, object: object.key.description, path: problem.path.description,
          reason: problem.reason, hint: problem.hint)
      }
    }
  }

  fileprivate struct Problem {
    let severity: Finding.Severity
    let code: String
    let path: FieldPath
    let reason: String
    let hint: String?
  }

  /// Names that exist in a state.
  fileprivate struct State {
    private let settings: Settings
    private var tenants: TenantRules?
    private var hosts: Set<String>
    private var wildcardHosts: [String] = []
    /// First labels of hosts by the rest of the name, for hints.
    private var neighbours: [Substring: [String]] = [:]
    /// Hosts that the servers of a Gateway name, without namespaces.
    private var gateways: [String: [String]] = [:]
    /// `namespace/name` of the Gateway API's.
    private var kubernetesGateways: Set<String> = []
    private var delegates: Set<String> = []
    /// Subset names by host of the rule.
    private var subsets: [String: Set<String>] = [:]
    /// Those hosts that are wildcards.
    private var wildcardRules: [String] = []

    init(_ objects: [MeshObject], settings: Settings) {
      self.settings = settings
      hosts = Set(settings.registeredHosts.map { $0.lowercased() })
      for object in objects { add(object) }
      if settings.isolatesTenants { tenants = TenantRules(objects, settings: settings) }
      wildcardHosts = hosts.filter { $0.hasPrefix("*") }.sorted()
      wildcardRules = subsets.keys.filter { $0.hasPrefix("*") }.sorted()
      for host in hosts { neighbours[Self.rest(host), default: []].append(String(host.prefix { $0 != "." })) }
    }

    private static func rest(_ host: String) -> Substring { host.drop { $0 != "." } }

    private mutating func add(_ object: MeshObject) {
      let key = object.key
      switch object.spec {
      case .service: hosts.insert("\(key.name).\(key.namespace).svc.\(settings.domain)")
      case .serviceEntry(let entry): hosts.formUnion(entry.hosts.map { $0.lowercased() })
      case .gateway(let gateway):
        gateways["\(key.namespace)/\(key.name)"] = gateway.servers.flatMap(\.hosts).map { host in
          host.split(separator: "/").last.map { $0.lowercased() } ?? host
        }
      case .kubernetesGateway: kubernetesGateways.insert("\(key.namespace)/\(key.name)")
      case .virtualService(let service): if service.hosts.isEmpty { delegates.insert("\(key.namespace)/\(key.name)") }
      case .destinationRule(let rule):
        let host = HostName.resolve(rule.host, namespace: key.namespace, domain: settings.domain)
        subsets[host, default: []].formUnion(rule.subsets.map(\.name))
      default: break
      }
    }

    func problems(of object: MeshObject) -> [Problem] {
      let foreign = (tenants?.foreignHosts(of: object) ?? []).map { item in
        Problem(
          severity: .error, code: Finding.Code.foreignHost, path: item.path,
          reason: "\(item.host) is a host of namespace \(item.owner), and tenants are isolated",
          hint: "write it in namespace \(item.owner), or for this namespace's clients alone: exportTo: ['.']")
      }
      return foreign + references(of: object)
    }

    private func references(of object: MeshObject) -> [Problem] {
      let namespace = object.key.namespace
      switch object.spec {
      case .virtualService(let service): return problems(of: service, namespace)
      case .ingress(let ingress): return problems(of: ingress, namespace)
      case .httpRoute(let route): return problems(of: route.common, route.rules.map(\.backends), namespace)
      case .grpcRoute(let route): return problems(of: route.common, route.rules.map(\.backends), namespace)
      case .connectionRoute(let route): return problems(of: route.common, route.rules.map(\.backends), namespace)
      case .destinationRule(let rule):
        let host = HostName.resolve(rule.host, namespace: namespace, domain: settings.domain)
        return isKnown(host) ? [] : [unknown(host, Finding.Code.unknownRuleHost, .spec / "host")]
      default: return []
      }
    }

    private func isKnown(_ host: String) -> Bool {
      if host.hasPrefix("*") { return hosts.contains { HostName.covers(host, $0) } }
      return hosts.contains(host) || wildcardHosts.contains { HostName.covers($0, host) }
    }

    private func unknown(_ host: String, _ code: String, _ path: FieldPath, status: Int = 503) -> Problem {
      Problem(
        severity: .warning, code: code, path: path, reason: "no service is known as \(host)",
        hint: (nearest(to: host).map { "did you mean '\($0)'? " } ?? "")
          + "it may be registered later; until then requests get \(status)")
    }

    /// The known host that differs least in its first label.
    private func nearest(to host: String) -> String? {
      let rest = Self.rest(host)
      guard let labels = neighbours[rest], labels.count <= ConfigLimits.hintCandidatesMax else { return nil }
      return Spelling.nearest(to: String(host.prefix { $0 != "." }), among: labels).map { $0 + rest }
    }

    /// Subsets that rules define for a host, sorted.
    private func subsets(of host: String) -> [String] {
      var names = subsets[host] ?? []
      for rule in wildcardRules where HostName.covers(rule, host) { names.formUnion(subsets[rule] ?? []) }
      return names.sorted()
    }

    private func problems(of service: VirtualService, _ namespace: String) -> [Problem] {
      var found: [Problem] = []
      for (index, name) in service.gateways.enumerated() {
        let gateway = GatewayName.resolve(name, namespace: namespace)
        if gateway == GatewayName.mesh { continue }
        guard let served = gateways[gateway] else {
          found.append(
            Problem(
              severity: .warning, code: Finding.Code.referenceNotFound, path: (.spec / "gateways")[index],
              reason: "the Gateway \(gateway) is not found", hint: nil))
          continue
        }
        for (position, written) in service.hosts.enumerated() {
          let host = HostName.resolve(written, namespace: namespace, domain: settings.domain)
          if served.contains(where: { HostName.overlap($0, host) }) { continue }
          found.append(
            Problem(
              severity: .warning, code: Finding.Code.hostNotInGateway, path: (.spec / "hosts")[position],
              reason: "no server of the Gateway \(gateway) serves \(host)",
              hint: "its hosts are \(served.joined(separator: ", "))"
            ))
        }
      }
      for (index, route) in service.http.enumerated() {
        let path = (FieldPath.spec / "http")[index]
        if let delegate = route.delegate {
          let name = "\(delegate.namespace.isEmpty ? namespace : delegate.namespace)/\(delegate.name)"
          if !delegates.contains(name) {
            found.append(
              Problem(
                severity: .warning, code: Finding.Code.referenceNotFound, path: path / "delegate",
                reason: "the delegate \(name) is not found, so this route is left out", hint: nil))
          }
        }
        for (position, item) in route.route.enumerated() {
          found += problems(of: item.destination, namespace, (path / "route")[position] / "destination")
        }
        for (position, item) in route.mirrors.enumerated() {
          found += problems(of: item.destination, namespace, (path / "mirrors")[position] / "destination")
        }
      }
      for (name, routes) in [("tls", service.tls.map(\.route)), ("tcp", service.tcp.map(\.route))] {
        for (index, route) in routes.enumerated() {
          for (position, item) in route.enumerated() {
            let path = (FieldPath.spec / name)[index] / "route"
            found += problems(of: item.destination, namespace, path[position] / "destination")
          }
        }
      }
      return found
    }

    /// Parents and backends of a route of the Gateway API.
    private func problems(
      of route: GatewayAPI.RouteParents, _ rules: [[GatewayAPI.Backend]], _ namespace: String
    ) -> [Problem] {
      var found: [Problem] = []
      for (index, parent) in route.parents.enumerated() where parent.group == GatewayAPI.group && parent.kind == "Gateway" {
        let name = "\(parent.namespace ?? namespace)/\(parent.name)"
        if kubernetesGateways.contains(name) { continue }
        found.append(
          Problem(
            severity: .warning, code: Finding.Code.referenceNotFound, path: (.spec / "parentRefs")[index] / "name",
            reason: "the Gateway \(name) is not found", hint: nil))
      }
      for (index, backends) in rules.enumerated() {
        for (position, backend) in backends.enumerated() {
          let reference = backend.reference
          let host: String
          switch (reference.group, reference.kind) {
          case ("", "Service"): host = "\(reference.name).\(reference.namespace ?? namespace).svc.\(settings.domain)"
          case ("networking.istio.io", "Hostname"): host = reference.name.lowercased()
          default: continue
          }
          if isKnown(host) { continue }
          let path = ((.spec / "rules")[index] / "backendRefs")[position] / "name"
          found.append(unknown(host, Finding.Code.referenceNotFound, path, status: 500))
        }
      }
      return found
    }

    private func problems(of ingress: Ingress, _ namespace: String) -> [Problem] {
      var backends: [(Ingress.Backend, FieldPath)] = []
      if let backend = ingress.defaultBackend { backends.append((backend, .spec / "defaultBackend")) }
      for (index, rule) in ingress.rules.enumerated() {
        let paths = (.spec / "rules")[index] / "http" / "paths"
        for (position, path) in rule.paths.enumerated() {
          if let backend = path.backend { backends.append((backend, paths[position] / "backend")) }
        }
      }
      return backends.compactMap { backend, path in
        let host = "\(backend.service).\(namespace).svc.\(settings.domain)"
        return isKnown(host) ? nil : unknown(host, Finding.Code.referenceNotFound, path / "service" / "name")
      }
    }

    private func problems(of destination: VirtualService.Destination, _ namespace: String, _ path: FieldPath) -> [Problem] {
      let host = HostName.resolve(destination.host, namespace: namespace, domain: settings.domain)
      guard isKnown(host) else { return [unknown(host, Finding.Code.referenceNotFound, path / "host")] }
      guard let subset = destination.subset else { return [] }
      let defined = subsets(of: host)
      if defined.contains(subset) { return [] }
      let nearest = Spelling.nearest(to: subset, among: defined).map { "did you mean '\($0)'? " }
      let others = defined.isEmpty ? "" : "its subsets are \(defined.joined(separator: ", ")); "
      return [
        Problem(
          severity: .warning, code: Finding.Code.referenceNotFound, path: path / "subset",
          reason: "no DestinationRule for \(host) defines the subset '\(subset)'",
          hint: (nearest ?? others) + "until one does, requests get 503")
      ]
    }
  }
}
