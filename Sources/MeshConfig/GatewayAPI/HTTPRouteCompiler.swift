import Primitives

extension GatewayAPI {
  /// Turns rules of HTTPRoutes and GRPCRoutes into routes, in the order in which they precede each other.
  struct HTTPRouteCompiler {
    let topology: Topology
    let settings: MeshSettings

    /// A route with what of the host name it matches; the more specific comes first.
    typealias Candidate = (route: Topology.Route, hostname: String, gateway: ObjectKey?)
    /// Where a host and port lead for the client at hand.
    typealias Destination = (_ target: ReferenceTable.Target) -> (cluster: ClusterIndex?, name: String)
    /// The same, by way of one of the Gateways that the client stands for; nil: none.
    typealias GatewayDestination =
      (_ target: ReferenceTable.Target, _ gateway: ObjectKey?) -> (cluster: ClusterIndex?, name: String)

    /// One alternative of one rule.
    private struct Entry {
      let hostname: String
      let route: Topology.Route
      let gateway: ObjectKey?
      let ruleIndex: Int
      let match: HTTPMatch
    }

    /// The routes of one host, ordered by specificity.
    ///
    /// - Parameter port: redirects that name neither port nor scheme go there.
    func routes(_ candidates: [Candidate], port: UInt16, _ destination: GatewayDestination) -> [MeshConfig.Route] {
      var entries: [Entry] = []
      for item in candidates {
        for (index, rule) in item.route.rules.enumerated() {
          entries += rule.matches.map {
            Entry(hostname: item.hostname, route: item.route, gateway: item.gateway, ruleIndex: index, match: $0)
          }
        }
      }
      // Stable: what is equal stays in the order of routes (oldest first, then by name) and rules.
      let ordered = entries.enumerated().sorted { a, b in
        Self.precedes(a.element, b.element) ?? (a.offset < b.offset)
      }.map(\.element)
      var result: [MeshConfig.Route] = []
      for entry in ordered {
        guard let match = Self.compile(entry.match) else { continue }
        // Alternatives of one rule that follow each other are one route.
        let origin = RouteOrigin(
          kind: entry.route.key.kind.rawValue, namespace: entry.route.key.namespace, name: entry.route.key.name,
          rule: entry.ruleIndex)
        if let last = result.last, last.origin == origin {
          result[result.count - 1].matches.append(match)
          continue
        }
        let rule = entry.route.rules[entry.ruleIndex]
        result.append(route(rule, of: entry.route, origin, match, port: port) { destination($0, entry.gateway) })
      }
      return result
    }

    /// nil when neither comes first by its conditions.
    private static func precedes(_ a: Entry, _ b: Entry) -> Bool? {
      if a.hostname != b.hostname { return HostName.isMoreSpecific(a.hostname, b.hostname) }
      let (left, right) = (rank(a.match), rank(b.match))
      return left == right ? nil : left.lexicographicallyPrecedes(right)
    }

    /// Exact paths, longer prefixes, patterns; then a method, more headers, more query parameters. Smaller comes first.
    private static func rank(_ match: HTTPMatch) -> [Int] {
      let path: [Int]
      if let grpc = match.grpc {
        let exact = grpc.isRegex ? 0 : 1
        path = [0, 1 - exact, -(grpc.service?.utf8.count ?? 0), -(grpc.method?.utf8.count ?? 0)]
      } else {
        switch match.path {
        case .exact(let text): path = [0, 0, -text.utf8.count, 0]
        case .prefix(let text): path = [text.isEmpty ? 3 : 1, 0, -text.utf8.count, 0]
        case .regex(let text): path = [2, 0, -text.utf8.count, 0]
        }
      }
      return path + [match.method == nil ? 1 : 0, -match.headers.count, -match.query.count]
    }

    /// nil when a pattern no longer compiles: it then matches nothing.
    private static func compile(_ match: HTTPMatch) -> RouteMatch? {
      var result = RouteMatch()
      switch match.path {
      case .exact(let text): result.path = .exact(Array(text.utf8))
      case .prefix(let text): result.path = text.isEmpty ? nil : .segmentPrefix(Array(text.utf8))
      case .regex(let text):
        guard let pattern = try? Pattern(text) else { return nil }
        result.path = .regex(pattern)
      }
      // A prefix that takes everything still says what a rewrite replaces.
      if case .prefix("") = match.path, match.grpc == nil { result.path = .segmentPrefix([]) }
      result.method = match.method.map { .exact(Array($0.utf8)) }
      guard let headers = fields(match.headers), let query = fields(match.query) else { return nil }
      result.headers = headers
      result.queryParameters = query
      return result
    }

    private static func fields(_ written: [Field]) -> [FieldMatch]? {
      var result: [FieldMatch] = []
      for field in written {
        guard field.isRegex else {
          result.append(FieldMatch(name: Array(field.name.utf8), match: .exact(Array(field.value.utf8))))
          continue
        }
        guard let pattern = try? Pattern(field.value) else { return nil }
        result.append(FieldMatch(name: Array(field.name.utf8), match: .regex(pattern)))
      }
      return result
    }

    // MARK: Actions

    private func route(
      _ rule: HTTPRule, of parent: Topology.Route, _ origin: RouteOrigin, _ match: RouteMatch, port: UInt16,
      _ destination: Destination
    ) -> MeshConfig.Route {
      let name = rule.name.isEmpty ? "\(parent.key.namespace).\(parent.key.name).\(origin.rule)" : rule.name
      // What stands at the only backend is as good as at the rule.
      let only = rule.backends.count == 1 ? rule.backends[0].filters : []
      let filters = rule.filters + only
      var route = MeshConfig.Route(name: name, origin: origin, matches: [match], action: Self.serverError)
      route.retry = retry(rule)
      route.session = rule.session?.persistence(of: origin.description, rule.matches)
      route.timeout = [rule.requestTimeout, rule.retry == nil ? rule.backendTimeout : nil]
        .compactMap { $0 }.filter { $0 > .zero }.min()
      for filter in filters { apply(filter, to: &route, parent, destination) }
      let isUnsupported = filters.contains { if case .unsupported = $0 { true } else { false } }
      if isUnsupported { return route }
      if let redirect = filters.lazy.compactMap({ Self.redirect($0, port: port) }).first {
        route.action = .redirect(redirect)
        return route
      }
      let weighted = rule.backends.filter { $0.weight > 0 }
      if !weighted.isEmpty {
        route.action = .forward(
          weighted.map { self.destination($0, of: parent, hasOwnFilters: rule.backends.count > 1, destination) })
      }
      return route
    }

    /// A rule that leads nowhere, or to nobody.
    private static let serverError = RouteAction.directResponse(status: 500, body: [])

    private func destination(
      _ backend: Backend, of parent: Topology.Route, hasOwnFilters: Bool, _ destination: Destination
    ) -> WeightedDestination {
      let reference = backend.reference
      var result = WeightedDestination(
        cluster: nil, clusterName: "\(reference.kind) \(reference.namespace ?? parent.key.namespace)/\(reference.name)",
        weight: UInt32(clamping: backend.weight))
      let target = try? topology.references.backend(
        reference, kind: parent.key.kind.documentKind, from: parent.key.namespace)
      if let target {
        let found = destination(target)
        result.cluster = found.cluster
        result.clusterName = found.name
      }
      guard hasOwnFilters else { return result }
      for filter in backend.filters {
        switch filter {
        case .requestHeaders(let change): result.requestHeaders = Self.operations(change)
        case .responseHeaders(let change): result.responseHeaders = Self.operations(change)
        // What cannot be done for one of several backends fails its share, as an unknown filter does.
        case .redirect, .rewrite, .mirror, .cors, .unsupported: result.cluster = nil
        }
      }
      return result
    }

    private func apply(
      _ filter: Filter, to route: inout MeshConfig.Route, _ parent: Topology.Route, _ destination: Destination
    ) {
      switch filter {
      case .requestHeaders(let change): route.requestHeaders = Self.joined(route.requestHeaders, Self.operations(change))
      case .responseHeaders(let change): route.responseHeaders = Self.joined(route.responseHeaders, Self.operations(change))
      case .rewrite(let rewrite): route.rewrite = Self.rewrite(rewrite)
      case .cors(let cors): route.cors = Self.cors(cors)
      case .mirror(let mirror):
        let target = try? topology.references.backend(
          mirror.backend, kind: parent.key.kind.documentKind, from: parent.key.namespace)
        let found = target.map(destination)
        route.mirrors.append(
          MirrorPolicy(
            cluster: found?.cluster, clusterName: found?.name ?? mirror.backend.name, partsPerMillion: mirror.partsPerMillion))
      case .redirect, .unsupported: break
      }
    }

    private static func joined(_ first: HeaderOperations, _ second: HeaderOperations) -> HeaderOperations {
      HeaderOperations(remove: first.remove + second.remove, set: first.set + second.set, add: first.add + second.add)
    }

    private static func operations(_ change: HeaderChange) -> HeaderOperations {
      func field(_ field: Field) -> HeaderOperations.Field {
        HeaderCompiler.field((field.name.lowercased(), field.value))
      }
      return HeaderOperations(
        remove: change.remove.map { Array($0.lowercased().utf8) }, set: change.set.map(field), add: change.add.map(field))
    }

    private static func rewrite(_ written: Rewrite) -> RewritePolicy {
      let authority = written.hostname.map { Array($0.utf8) }
      switch written.path {
      case .full(let path): return RewritePolicy(uri: whole(path), authority: authority)
      case .prefix(let prefix): return RewritePolicy(uri: .replace(Array(prefix.utf8)), authority: authority)
      case nil: return RewritePolicy(uri: nil, authority: authority)
      }
    }

    /// The whole path, whatever part of it matched.
    private static func whole(_ path: String) -> RewritePolicy.URI? {
      guard let everything = try? Pattern("^.*$") else { return nil }
      let substitution = path.utf8.flatMap { $0 == 0x5C ? [0x5C, 0x5C] : [$0] }
      return .regex(everything, substitution: substitution)
    }

    private static func redirect(_ filter: Filter, port: UInt16) -> RedirectPolicy? {
      guard case .redirect(let written) = filter else { return nil }
      let destination: RedirectPolicy.Port =
        if let number = written.port {
          .number(number)
        } else if written.scheme != nil {
          .fromProtocolDefault
        } else {
          .number(port)
        }
      var policy = RedirectPolicy(
        uri: nil, prefixRewrite: nil, authority: written.hostname.map { Array($0.utf8) },
        scheme: written.scheme.map { Array($0.utf8) }, port: destination, status: UInt16(clamping: written.status))
      switch written.path {
      case .full(let path): policy.uri = Array(path.utf8)
      case .prefix(let prefix): policy.prefixRewrite = Array(prefix.utf8)
      case nil: break
      }
      return policy
    }

    private static func cors(_ written: CORS) -> CORSPolicy {
      let origins = written.origins.compactMap { origin -> StringMatch? in
        if origin == "*" { return .present }
        guard origin.utf8.contains(0x2A) else { return .exact(Array(origin.utf8)) }
        let pattern = origin.split(separator: "*", omittingEmptySubsequences: false).map { quoted(String($0)) }
        return (try? Pattern(pattern.joined(separator: ".*"))).map { .regex($0) }
      }
      return CORSPolicy(
        allowOrigins: origins, allowMethods: written.methods, allowHeaders: written.headers, exposeHeaders: written.exposed,
        maxAge: written.maxAge, allowCredentials: written.allowsCredentials ? true : nil, forwardUnmatchedPreflights: false)
    }

    private static func quoted(_ text: String) -> String {
      text.unicodeScalars.map { NameForm.isAlphanumeric(UInt8(truncatingIfNeeded: $0.value)) ? "\($0)" : "\\\($0)" }.joined()
    }

    /// With a `retry` block every failure of the connection is tried again (Gateway API, HTTPRouteRetry).
    private func retry(_ rule: HTTPRule) -> RetryPolicy? {
      guard let written = rule.retry else { return settings.defaultRetry.attempts > 0 ? settings.defaultRetry : nil }
      let attempts = written.attempts ?? 2
      guard attempts > 0 else { return nil }
      var policy = settings.defaultRetry
      policy.attempts = attempts
      policy.perTryTimeout = rule.backendTimeout.flatMap { $0 > .zero ? $0 : nil }
      policy.conditions.formUnion([.connectFailure, .reset, .retriableStatusCodes])
      policy.statusCodes = written.codes.map { UInt16(clamping: $0) }.sorted()
      if let backoff = written.backoff { policy.backoff = backoff }
      return policy
    }
  }
}
