extension GatewayAPI {
  /// The objects of this API joined: which listeners there are, which routes are attached to what, and what is wrong with the rest.
  struct Topology {
    /// A listener of a Gateway, or of a ListenerSet that adds to one.
    struct ServedListener {
      /// The object it is written in.
      let owner: ObjectKey
      let gateway: ObjectKey
      let spec: Listener
      var supportedKinds: [RouteKind] = []
      var accepted = Condition.accepted
      var resolved = Condition.resolved
      var conflicted = Condition.unconflicted
      /// PEM pairs, where TLS ends here.
      var certificates: [Secret] = []
      var clientValidation: ClientValidation?
      /// PEM.
      var clientAuthorities: [UInt8] = []
      var attachedRoutes: Set<ObjectKey> = []

      var isServed: Bool { accepted.isTrue && !conflicted.isTrue && resolved.isTrue }
      var programmed: Condition {
        isServed ? .programmed : Condition("Programmed", false, "Invalid", "the listener is not served")
      }
    }

    /// A route at a listener.
    struct Attachment {
      let route: Int
      let listener: Int
      /// What route and listener have in common; `*` is every host.
      let hostnames: [String]
    }

    /// A route at a Service's own name in the mesh.
    struct MeshAttachment {
      let route: Int
      let host: String
      /// nil: every port.
      let port: UInt16?
    }

    /// What a route hears of one of its parents.
    struct ParentStatus {
      let route: ObjectKey
      let reference: ObjectReference
      var accepted: Condition
      var resolved: Condition
    }

    struct Route {
      let key: ObjectKey
      let created: UInt64
      let common: RouteParents
      /// HTTPRoute and GRPCRoute.
      let rules: [HTTPRule]
      /// TLSRoute and TCPRoute.
      let connectionRules: [ConnectionRule]
    }

    let references: ReferenceTable
    /// Served Gateways, oldest first.
    private(set) var gateways: [(key: ObjectKey, gateway: Gateway)] = []
    /// A Gateway's own listeners, then those of its ListenerSets.
    private(set) var listeners: [ServedListener] = []
    /// Oldest first, then by name.
    private(set) var routes: [Route] = []
    private(set) var attachments: [Attachment] = []
    private(set) var meshAttachments: [MeshAttachment] = []
    private(set) var parents: [ParentStatus] = []
    private(set) var listenerSets: [ObjectKey: Condition] = [:]
    private(set) var gatewayReferences: [ObjectKey: Condition] = [:]
    /// What Gateways show to backends that are called by TLS, where they have a certificate of their own.
    private(set) var backendCertificates: [ObjectKey: BackendCertificate] = [:]
    private(set) var policies: [BackendPolicy] = []
    private(set) var classes: [ObjectKey] = []

    /// - Parameter objects: oldest first.
    init(objects: [StoredObject], services: [Service], domain: String) {
      references = ReferenceTable(objects: objects, services: services, domain: domain)
      gateways = Self.served(objects, &classes)
      for (key, gateway) in gateways {
        for listener in gateway.listeners { add(listener, owner: key, gateway: (key, gateway)) }
        backendCertificates[key] = BackendCertificate(gateway, key, references)
        gatewayReferences[key] = backendCertificates[key]?.resolved
      }
      for stored in objects {
        if case .listenerSet(let set) = stored.object.spec { add(set, stored.key) }
      }
      markConflicts()
      routes = objects.compactMap(Self.route)
      for index in routes.indices { attach(index) }
      policies = BackendPolicy.resolve(objects, references)
    }

    // MARK: Gateways and listeners

    private static func served(
      _ objects: [StoredObject], _ classes: inout [ObjectKey]
    ) -> [(key: ObjectKey, gateway: Gateway)] {
      var names: Set<String> = [GatewayAPI.className]
      for stored in objects {
        guard case .gatewayClass(let item) = stored.object.spec else { continue }
        if item.controllerName == GatewayAPI.controllerName {
          names.insert(stored.key.name)
          classes.append(stored.key)
        } else {
          names.remove(stored.key.name)
        }
      }
      return objects.compactMap { stored in
        guard case .kubernetesGateway(let gateway) = stored.object.spec, names.contains(gateway.className) else { return nil }
        return (stored.key, gateway)
      }
    }

    /// A gateway workload as the client that stands for one of its Gateways.
    func scope(of client: ClientScope, at gateway: ObjectKey?) -> ClientScope {
      guard let gateway, backendCertificates[gateway] != nil else { return client }
      var own = client
      own.gateway = gateway
      return own
    }

    private mutating func add(_ set: ListenerSet, _ key: ObjectKey) {
      let namespace = set.parent.namespace ?? key.namespace
      guard set.parent.group == GatewayAPI.group, set.parent.kind == "Gateway",
        let parent = gateways.first(where: { $0.key.namespace == namespace && $0.key.name == set.parent.name })
      else { return }
      guard references.isSelected(key.namespace, by: parent.gateway.allowedListeners, own: parent.key.namespace) else {
        listenerSets[key] = Condition("Accepted", false, "NotAllowed", "the Gateway does not allow this ListenerSet")
        return
      }
      listenerSets[key] = .accepted
      for listener in set.listeners { add(listener, owner: key, gateway: parent) }
    }

    private mutating func add(_ spec: Listener, owner: ObjectKey, gateway: (key: ObjectKey, gateway: Gateway)) {
      var listener = ServedListener(owner: owner, gateway: gateway.key, spec: spec)
      let known = Self.kinds(ofProtocol: spec.protocol, tls: spec.tls)
      if known.isEmpty {
        listener.accepted = Condition(
          "Accepted", false, "UnsupportedProtocol", "the protocol \(spec.protocol) is not served")
      }
      listener.supportedKinds = known
      if !spec.allowedKinds.isEmpty {
        listener.supportedKinds = spec.allowedKinds.filter(known.contains)
        if listener.supportedKinds.count != spec.allowedKinds.count && !known.isEmpty {
          listener.resolved = Condition(
            "ResolvedRefs", false, "InvalidRouteKinds", "a \(spec.protocol) listener cannot take every kind that is allowed")
        }
      }
      if let tls = spec.tls, !tls.isPassthrough, ["HTTPS", "TLS"].contains(spec.protocol) {
        resolveCertificates(tls, &listener)
        if spec.protocol == "HTTPS" { resolveClients(gateway.gateway.frontend, &listener) }
      }
      listeners.append(listener)
    }

    private func resolveCertificates(_ tls: ListenerTLS, _ listener: inout ServedListener) {
      for reference in tls.certificates {
        do throws(ReferenceProblem) {
          listener.certificates.append(
            try references.certificate(reference, from: listener.owner.namespace, invalid: "InvalidCertificateRef"))
        } catch {
          listener.resolved = Condition("ResolvedRefs", false, error.reason, error.message)
        }
      }
    }

    private func resolveClients(_ frontend: FrontendTLS, _ listener: inout ServedListener) {
      guard let validation = frontend.ports[listener.spec.port] ?? frontend.byDefault else { return }
      listener.clientValidation = validation
      for reference in validation.authorities {
        do throws(ReferenceProblem) {
          listener.clientAuthorities += try references.authorities(
            reference, kind: "Gateway", from: listener.gateway.namespace)
        } catch {
          let reason = error.reason == "InvalidKind" ? "InvalidCACertificateKind" : error.reason
          listener.resolved = Condition("ResolvedRefs", false, reason, error.message)
        }
      }
      if listener.clientAuthorities.isEmpty {
        listener.accepted = Condition(
          "Accepted", false, "NoValidCACertificate", "there is no authority to verify clients with")
      }
    }

    static func kinds(ofProtocol name: String, tls: ListenerTLS?) -> [RouteKind] {
      let names: [String]
      switch name {
      case "HTTP", "HTTPS": names = ["HTTPRoute", "GRPCRoute"]
      case "TLS": names = tls?.isPassthrough == true ? ["TLSRoute"] : ["TLSRoute", "TCPRoute"]
      case "TCP": names = ["TCPRoute"]
      default: names = []
      }
      return names.map { RouteKind(group: GatewayAPI.group, kind: $0) }
    }

    /// Listeners of one Gateway that cannot share a port: the earlier keeps it.
    private mutating func markConflicts() {
      for index in listeners.indices {
        let own = listeners[index]
        for other in listeners[..<index] where other.gateway == own.gateway && other.spec.port == own.spec.port {
          guard !other.conflicted.isTrue, other.accepted.reason != "UnsupportedProtocol" else { continue }
          if Self.transport(other.spec) != Self.transport(own.spec) {
            conflict(index, "ProtocolConflict", "port \(own.spec.port) speaks \(other.spec.protocol) for \(other.spec.name)")
          } else if other.spec.hostname == own.spec.hostname {
            conflict(index, "HostnameConflict", "the listener \(other.spec.name) has this port and host")
          }
        }
      }
    }

    private mutating func conflict(_ index: Int, _ reason: String, _ message: String) {
      listeners[index].conflicted = Condition("Conflicted", true, reason, message)
      listeners[index].accepted = Condition("Accepted", false, reason, message)
    }

    private static func transport(_ listener: Listener) -> String {
      listener.protocol == "HTTPS" ? "TLS" : listener.protocol
    }

    // MARK: Routes

    private static func route(_ stored: StoredObject) -> Route? {
      let key = stored.key
      switch stored.object.spec {
      case .httpRoute(let route):
        return Route(key: key, created: stored.created, common: route.common, rules: route.rules, connectionRules: [])
      case .grpcRoute(let route):
        return Route(key: key, created: stored.created, common: route.common, rules: route.rules, connectionRules: [])
      case .connectionRoute(let route):
        return Route(key: key, created: stored.created, common: route.common, rules: [], connectionRules: route.rules)
      default: return nil
      }
    }

    private mutating func attach(_ index: Int) {
      let route = routes[index]
      let resolved = resolution(of: route)
      for parent in route.common.parents {
        let accepted: Condition?
        if parent.group == GatewayAPI.group && (parent.kind == "Gateway" || parent.kind == "ListenerSet") {
          accepted = attach(index, toListenersOf: parent)
        } else {
          accepted = attach(index, toService: parent)
        }
        guard let accepted else { continue }
        parents.append(ParentStatus(route: route.key, reference: parent, accepted: accepted, resolved: resolved))
      }
    }

    private mutating func attach(_ index: Int, toListenersOf parent: ObjectReference) -> Condition? {
      let route = routes[index]
      let namespace = parent.namespace ?? route.key.namespace
      let kind: ObjectKind = parent.kind == "Gateway" ? .kubernetesGateway : .listenerSet
      let owner = ObjectKey(kind: kind, namespace: namespace, name: parent.name)
      guard gateways.contains(where: { $0.key == owner }) || listenerSets[owner] != nil else { return nil }
      if let set = listenerSets[owner], !set.isTrue {
        return Condition("Accepted", false, "NoMatchingParent", "the ListenerSet itself is not accepted")
      }
      let named = listeners.indices.filter { candidate in
        listeners[candidate].owner == owner && (parent.sectionName.map { $0 == listeners[candidate].spec.name } ?? true)
          && (parent.port.map { $0 == listeners[candidate].spec.port } ?? true)
      }
      guard !named.isEmpty else {
        return Condition("Accepted", false, "NoMatchingParent", "no listener has this name and port")
      }
      let allowed = named.filter { allows(listeners[$0], route) }
      guard !allowed.isEmpty else {
        return Condition("Accepted", false, "NotAllowedByListeners", "no listener takes this kind from this namespace")
      }
      let shared = allowed.map { (listener: $0, hostnames: Self.shared(listeners[$0].spec.hostname, route.common.hostnames)) }
        .filter { !$0.hostnames.isEmpty }
      guard !shared.isEmpty else {
        return Condition("Accepted", false, "NoMatchingListenerHostname", "no listener serves the route's hostnames")
      }
      for item in shared {
        listeners[item.listener].attachedRoutes.insert(route.key)
        attachments.append(Attachment(route: index, listener: item.listener, hostnames: item.hostnames))
      }
      return .accepted
    }

    private func allows(_ listener: ServedListener, _ route: Route) -> Bool {
      listener.supportedKinds.contains(RouteKind(group: GatewayAPI.group, kind: route.key.kind.documentKind))
        && references.isSelected(route.key.namespace, by: listener.spec.allowedNamespaces, own: listener.owner.namespace)
    }

    /// What both have; a listener or route without names has them all.
    static func shared(_ listener: String?, _ route: [String]) -> [String] {
      guard let listener else { return route.isEmpty ? ["*"] : route }
      if route.isEmpty { return [listener] }
      return route.compactMap { TCPRouteCompiler.narrower($0, listener) }
    }

    private mutating func attach(_ index: Int, toService parent: ObjectReference) -> Condition? {
      let isMesh = parent.group.isEmpty && parent.kind == "Service" || parent.kind == "ServiceEntry"
      guard isMesh else { return nil }
      let route = routes[index]
      guard route.key.kind != .udpRoute else {
        return Condition("Accepted", false, "UnsupportedValue", "UDP is not carried")
      }
      guard let hosts = references.meshHosts(parent, from: route.key.namespace) else {
        return Condition("Accepted", false, "NoMatchingParent", "\(parent.kind) \(parent.name) is not found")
      }
      if let port = parent.port, !hosts.contains(where: { references.hasPort(port, host: $0) }) {
        return Condition("Accepted", false, "NoMatchingParent", "\(parent.kind) \(parent.name) has no port \(port)")
      }
      for host in hosts { meshAttachments.append(MeshAttachment(route: index, host: host, port: parent.port)) }
      return .accepted
    }

    /// `ResolvedRefs`: the first reference of the route that leads nowhere.
    private func resolution(of route: Route) -> Condition {
      let backends = route.rules.flatMap(\.backends) + route.connectionRules.flatMap(\.backends)
      let mirrors = (route.rules.flatMap(\.filters) + backends.flatMap(\.filters)).compactMap { filter in
        if case .mirror(let mirror) = filter { mirror.backend } else { nil }
      }
      for reference in backends.map(\.reference) + mirrors {
        do throws(ReferenceProblem) {
          _ = try references.backend(reference, kind: route.key.kind.documentKind, from: route.key.namespace)
        } catch {
          return Condition("ResolvedRefs", false, error.reason, error.message)
        }
      }
      return .resolved
    }
  }
}
