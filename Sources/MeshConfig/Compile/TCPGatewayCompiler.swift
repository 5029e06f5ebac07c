import Primitives

/// Gateway ports that are not plaintext HTTP: TLS servers, each found by server name, and TCP (Istio, Gateway).
extension GatewayCompiler {
  /// One listener for each TLS server of a port.
  func secureListeners(
    _ listener: Listener, at place: GatewayPlace, _ units: inout HostUnits, pool: inout ClusterPool, findings: inout [Finding]
  ) -> [GatewayListener] {
    var claimed: Set<String> = []
    var result: [GatewayListener] = []
    for item in listener.servers {
      var names: [String] = []
      for host in item.server.hosts.map({ ServerHost($0, namespace: item.gateway.namespace).host }) {
        if claimed.insert(host).inserted {
          names.append(host)
        } else {
          findings.append(
            Finding(
              severity: .error, code: Finding.Code.conflictingGateways, object: item.gateway.description, path: "spec.servers",
              reason: "ignored for \(host): an earlier TLS server of port \(place.name) has this host",
              hint: "use another host or port"))
        }
      }
      guard !names.isEmpty, let role = role(of: item, at: place, pool: &pool, findings: &findings) else { continue }
      var one = self.listener(item, at: place, role: role)
      if case .https = role { one.table = table(alone(item), at: place, &units, pool: &pool, findings: &findings) }
      one.serverNames = names.map { ServerNamePattern($0) }
      result.append(one)
    }
    return result
  }

  /// A TCP port has one server: the oldest.
  func plainListener(_ listener: Listener, at place: GatewayPlace, pool: inout ClusterPool) -> [GatewayListener] {
    guard let item = listener.servers.first else { return [] }
    let routes = tcpRoutes(item, pool: &pool)
    return [self.listener(item, at: place, role: .tcp(routes))]
  }

  private func alone(_ item: Listener.Item) -> Listener {
    Listener(kind: .tls, gateways: ["\(item.gateway.namespace)/\(item.gateway.name)"], servers: [item])
  }

  private func listener(_ item: Listener.Item, at place: GatewayPlace, role: GatewayListener.Role) -> GatewayListener {
    var result = GatewayListener(
      port: place.port, gateways: alone(item).gateways, localWorkload: localWorkload,
      table: RouteTable(ports: [], fallback: .notFound))
    result.role = role
    result.server = "\(item.gateway.namespace)/\(item.gateway.name)/\(item.server.portName)"
    result.bind = place.bind
    return result
  }

  private func role(
    of item: Listener.Item, at place: GatewayPlace, pool: inout ClusterPool, findings: inout [Finding]
  ) -> GatewayListener.Role? {
    guard let tls = item.server.tls else { return nil }
    switch tls.mode {
    case .passthrough: return .passthrough(serverNames(item, pool: &pool))
    case .autoPassthrough:
      // It would lead every client to every service by name (CVE-2021-31921); nothing here is exported that way.
      findings.append(
        Finding(
          severity: .error, code: Finding.Code.notEnforced, object: item.gateway.description, path: "spec.servers",
          reason: "AUTO_PASSTHROUGH is refused on port \(place.name): no service is exported to other networks",
          hint: "use PASSTHROUGH with tls routes that name what may be reached"))
      return nil
    case .simple, .mutual, .optionalMutual, .istioMutual:
      let settings = ServerTLSCompiler(tls, credentials: credentials(of: item.gateway), defaults: self.settings.tlsDefaults)
        .settings
      for case .missing(let reason) in settings.sources {
        findings.append(
          Finding(
            severity: .warning, code: Finding.Code.referenceNotFound, object: item.gateway.description, path: "spec.servers",
            reason: "TLS handshakes on port \(place.name) fail: \(reason)"))
      }
      if item.server.protocol == .https { return .https(settings) }
      return .tls(settings, tcpRoutes(item, pool: &pool))
    }
  }

  private var opaque: TCPRouteCompiler {
    TCPRouteCompiler(catalog: catalog, book: book, settings: settings, compiler: compiler, client: client)
  }

  private func place(_ item: Listener.Item) -> RouteCompiler.Place {
    RouteCompiler.Place(client: client, gateways: ["\(item.gateway.namespace)/\(item.gateway.name)"], port: item.server.port)
  }

  /// Only the first rule set with a fitting `tcp[]` rule counts.
  private func tcpRoutes(_ item: Listener.Item, pool: inout ClusterPool) -> [TCPRoute] {
    for entry in entries(on: alone(item).gateways) where isBound(entry, to: item) && !boundHosts(entry, item).isEmpty {
      let routes = opaque.routes(entry, at: place(item), isMesh: false, pool: &pool)
      if !routes.isEmpty { return routes }
    }
    return []
  }

  private func serverNames(_ item: Listener.Item, pool: inout ClusterPool) -> [ServerNameRoute] {
    var routes: [ServerNameRoute] = []
    for entry in entries(on: alone(item).gateways) where isBound(entry, to: item) {
      routes += opaque.serverNames(entry, at: place(item), within: boundHosts(entry, item), pool: &pool)
    }
    return TCPRouteCompiler.sorted(routes)
  }
}

/// Turns a server's `tls` block into what the data plane needs (Istio, Gateway).
struct ServerTLSCompiler {
  let settings: ServerTLS

  /// - Parameter defaults: the mesh's, for a server that says nothing itself.
  init(_ written: Gateway.TLS, credentials: CredentialIndex, defaults: MeshConfiguration.TLSDefaults) {
    var names = written.credentialNames
    if let single = written.credentialName { names.append(single) }
    let found = names.map { credentials.credential(named: $0) }
    var tls = ServerTLS(sources: Self.sources(written, found))
    tls.clientCertificate =
      switch written.mode {
      case .mutual, .istioMutual: .required
      case .optionalMutual: .optional
      case .simple, .passthrough, .autoPassthrough: .notAsked
      }
    if let file = written.caCertificates {
      tls.authorities = .file(file)
    } else if let name = written.caCredentialName {
      tls.authorities = credentials.authorities(named: name).map { .material($0) }
    } else {
      tls.authorities = found.lazy.compactMap(\.authorities).first.map { .material($0) }
    }
    tls.acceptsUnverified = written.insecureSkipVerify
    if tls.clientCertificate != .notAsked, tls.authorities == nil, !tls.acceptsUnverified, written.mode != .istioMutual {
      tls.sources.append(.missing("no authorities to verify clients with"))
    }
    tls.subjectAltNames = written.subjectAltNames
    tls.publicKeyHashes = written.publicKeyHashes
    // With or without colons, as OpenSSL and sha256sum print them.
    tls.certificateHashes = written.certificateHashes.map { $0.lowercased().filter { $0 != ":" } }
    let isLeastUnsaid = written.minVersion == nil || written.minVersion == .automatic
    if written.minVersion == .tls13 || isLeastUnsaid && defaults.needsTLS13 { tls.minimum = .tls13 }
    if let maximum = written.maxVersion, maximum != .automatic, maximum != .tls13 { tls.maximum = .tls12 }
    tls.cipherSuites = written.cipherSuites.isEmpty ? defaults.cipherSuites : written.cipherSuites
    tls.curves = written.curves.isEmpty ? defaults.curves : written.curves
    tls.revocations = written.revocations.map { .file($0) }
    settings = tls
  }

  private static func sources(_ written: Gateway.TLS, _ found: [CredentialIndex.Credential]) -> [ServerTLS.Source] {
    if written.mode == .istioMutual { return [.workload] }
    if !found.isEmpty { return found.map(\.source) }
    if !written.certificates.isEmpty {
      return written.certificates.map { .files(certificate: $0.serverCertificate, key: $0.privateKey) }
    }
    guard let certificate = written.serverCertificate, let key = written.privateKey else {
      return [.missing("neither certificate files nor a credentialName is written")]
    }
    return [.files(certificate: certificate, key: key)]
  }
}
