/// What Ingresses come to, in the words of Istio's own objects: a Gateway for each, and a VirtualService for each host
/// (Istio, `pilot/pkg/config/kube/ingress`).
struct IngressRules {
  private let ingresses: [StoredObject]
  private var classes: [String: IngressClass] = [:]
  private var services: [String: KubernetesService] = [:]
  private let settings: MeshSettings

  /// - Parameter objects: Ingresses, IngressClasses and Services, oldest first.
  init(_ objects: [StoredObject], settings: MeshSettings) {
    self.settings = settings
    for stored in objects {
      switch stored.object.spec {
      case .ingressClass(let value): classes[stored.key.name] = value
      case .service(let value): services["\(stored.key.namespace)/\(stored.key.name)"] = value
      default: break
      }
    }
    ingresses = objects
  }

  /// No name that somebody writes has an underscore.
  private static func name(_ parts: String...) -> String { parts.joined(separator: "_") }

  /// Whether an object was made of an Ingress.
  static func made(_ key: ObjectKey) -> Bool { key.name.utf8.contains(0x5F) }

  /// In the order of the Ingresses' ages.
  var objects: [StoredObject] {
    var result: [StoredObject] = []
    var hosts: [String] = []
    var found: [String: (first: StoredObject, gateways: [String], routes: [Route])] = [:]
    for stored in ingresses {
      guard case .ingress(let ingress) = stored.object.spec, isServed(ingress) else { continue }
      let key = ObjectKey(
        kind: .gateway, namespace: settings.rootNamespace, name: Self.name(stored.key.namespace, stored.key.name))
      result.append(made(key, .gateway(gateway(ingress, namespace: stored.key.namespace)), of: [stored]))
      for (host, routes) in self.routes(ingress, namespace: stored.key.namespace) {
        if found[host] == nil { hosts.append(host) }
        found[host, default: (stored, [], [])].gateways.append("\(key.namespace)/\(key.name)")
        found[host]?.routes += routes
      }
    }
    for (index, host) in hosts.enumerated() {
      guard let entry = found[host] else { continue }
      // Stable: of routes alike the oldest Ingress's comes first.
      let sorted = entry.routes.enumerated().sorted { a, b in
        a.element.comesBefore(b.element) || !b.element.comesBefore(a.element) && a.offset < b.offset
      }
      let key = ObjectKey(
        kind: .virtualService, namespace: entry.first.key.namespace, name: Self.name(entry.first.key.name, "\(index)"))
      let service = VirtualService(
        hosts: [host], gateways: entry.gateways, http: sorted.map(\.element.rule), tls: [], tcp: [], exportTo: [])
      result.append(made(key, .virtualService(service), of: ingresses))
    }
    return result
  }

  /// By annotation or class, as Istio's controller decides by default.
  private func isServed(_ ingress: Ingress) -> Bool {
    guard let name = ingress.className else { return false }
    return classes[name].map { $0.controller == Ingress.istioController } ?? (name == Ingress.istioClass)
  }

  /// What it was made of tells it from what it was made of before.
  private func made(_ key: ObjectKey, _ spec: MeshObject.Spec, of sources: [StoredObject]) -> StoredObject {
    let meta = ObjectMeta(name: key.name, namespace: key.namespace, labels: [:], annotations: [:])
    let bytes = Array(settings.rootNamespace.utf8) + sources.flatMap(\.object.canonical)
    return StoredObject(
      MeshObject(key: key, meta: meta, spec: spec, canonical: bytes), created: sources.map(\.created).min() ?? 0)
  }

  // MARK: Gateway

  private func gateway(_ ingress: Ingress, namespace: String) -> Gateway {
    func server(_ port: UInt16, _ name: String, _ hosts: [String], _ spoken: Gateway.PortProtocol) -> Gateway.Server {
      Gateway.Server(port: port, portName: name, protocol: spoken, hosts: hosts, bind: nil, tls: nil, name: "")
    }
    var servers: [Gateway.Server] = []
    for (index, tls) in ingress.tls.enumerated() {
      guard let secret = tls.secretName else { continue }
      var secure = server(443, "https-443-\(index)", tls.hosts.isEmpty ? ["*"] : tls.hosts, .https)
      secure.tls = Gateway.TLS(simple: "\(namespace)/\(secret)")
      servers.append(secure)
    }
    servers.append(server(80, "http-80", ["*"], .http))
    return Gateway(selector: ["istio": "ingressgateway"], servers: servers)
  }

  // MARK: Routes

  private struct Route {
    let rule: VirtualService.HTTPRoute
    let length: Int
    let isExact: Bool

    /// The longer path first, and the exact one of two that are as long.
    func comesBefore(_ other: Route) -> Bool { length == other.length ? isExact && !other.isExact : length > other.length }
  }

  private func routes(_ ingress: Ingress, namespace: String) -> [(host: String, routes: [Route])] {
    var result = ingress.rules.map { rule in
      let routes = rule.paths.compactMap { path in
        path.backend.flatMap { destination($0, namespace) }.map { Self.route(path, to: $0) }
      }
      return (rule.host.isEmpty ? "*" : rule.host, routes)
    }
    if let backend = ingress.defaultBackend.flatMap({ destination($0, namespace) }) {
      result.append(("*", [Route(rule: Self.rule([], to: backend), length: -1, isExact: false)]))
    }
    return result.filter { !$0.1.isEmpty }
  }

  /// nil when the Service or its port does not exist: then there is no such route.
  private func destination(_ backend: Ingress.Backend, _ namespace: String) -> VirtualService.Destination? {
    let host = "\(backend.service).\(namespace).svc.\(settings.domain)"
    switch backend.port {
    case .number(let number): return VirtualService.Destination(host: host, subset: nil, port: number)
    case .name(let name):
      let port = services["\(namespace)/\(backend.service)"]?.ports.first { $0.name == name }
      return port.map { VirtualService.Destination(host: host, subset: nil, port: $0.port) }
    }
  }

  private static func route(_ path: Ingress.Path, to destination: VirtualService.Destination) -> Route {
    let texts: [VirtualService.TextMatch]
    switch path.type {
    case .exact: texts = [.exact(path.path)]
    case .prefix:
      // Segment by segment; a slash at the end says nothing.
      let trimmed = path.path.hasSuffix("/") ? String(path.path.dropLast()) : path.path
      texts = trimmed.isEmpty ? [.prefix("/")] : [.exact(trimmed), .prefix(trimmed + "/")]
    case .implementationSpecific: texts = Self.legacy(path.path)
    }
    let rule = Self.rule(texts.map { VirtualService.HTTPMatch(uri: $0) }, to: destination)
    var isExact = false
    if case .exact? = texts.first { isExact = path.type != .prefix }
    return Route(rule: rule, length: path.path.utf8.count, isExact: isExact)
  }

  /// `foo.*` and `foo/*` are prefixes, everything else is exact.
  private static func legacy(_ path: String) -> [VirtualService.TextMatch] {
    if ["", "*", "/*", ".*"].contains(path) { return [] }
    if path.hasSuffix(".*") || path.hasSuffix("/*") { return [.prefix(String(path.dropLast(2)))] }
    return [.exact(path)]
  }

  private static func rule(
    _ match: [VirtualService.HTTPMatch], to destination: VirtualService.Destination
  ) -> VirtualService.HTTPRoute {
    let nothing = VirtualService.Headers.Operations(set: [:], add: [:], remove: [])
    let headers = VirtualService.Headers(request: nothing, response: nothing)
    return VirtualService.HTTPRoute(
      name: "", match: match,
      route: [VirtualService.HTTPDestination(destination: destination, weight: 100, headers: headers)], redirect: nil,
      directResponse: nil, delegate: nil, rewrite: nil, timeout: nil, retries: nil, fault: nil, mirrors: [], corsPolicy: nil,
      headers: headers)
  }
}

extension VirtualService.HTTPMatch {
  fileprivate init(uri: VirtualService.TextMatch) {
    self.init(
      name: "", uri: uri, ignoreURICase: false, scheme: nil, method: nil, authority: nil, headers: [], withoutHeaders: [],
      queryParams: [], port: nil, sourceLabels: [:], sourceNamespace: "", gateways: [])
  }
}

extension Gateway.TLS {
  /// TLS with the certificate of a Secret.
  fileprivate init(simple secret: String) {
    self.init(
      httpsRedirect: false, mode: .simple, serverCertificate: nil, privateKey: nil, caCertificates: nil,
      credentialName: secret, subjectAltNames: [], minVersion: nil, maxVersion: nil, credentialNames: [], certificates: [],
      caCredentialName: nil, revocations: nil, cipherSuites: [], curves: [], certificateHashes: [], publicKeyHashes: [])
  }
}
