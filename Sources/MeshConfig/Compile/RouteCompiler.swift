import Primitives

/// Compiles the `http[]` rules that apply to one proxy and port into routes (Istio, VirtualService).
final class RouteCompiler: Sendable {
  /// The proxy whose table this is: static conditions are decided against it.
  struct Place: Sendable {
    let client: ClientScope
    /// `mesh`, or the gateways served, `namespace/name`.
    let gateways: Set<String>
    let port: UInt16
  }

  typealias Lookup = (DestinationQuery) -> DestinationAnswer

  let settings: MeshSettings

  init(settings: MeshSettings) { self.settings = settings }

  /// Every destination that `routes` may look up, in the order of the rules.
  func queries(_ rules: [RuleBook.Rule], at place: Place) -> [DestinationQuery] {
    var found: [DestinationQuery] = []
    for rule in rules {
      let written = rule.route
      guard written.match.isEmpty || written.match.contains(where: { applies($0, rule.namespace, at: place) }) else { continue }
      for item in written.route { found.append(query(item.destination, rule.namespace, at: place)) }
      for mirror in written.mirrors { found.append(query(mirror.destination, rule.namespace, at: place)) }
    }
    return found
  }

  func routes(_ rules: [RuleBook.Rule], at place: Place, _ lookup: Lookup) -> [Route] {
    rules.compactMap { route($0, at: place, lookup) }
  }

  private func route(_ rule: RuleBook.Rule, at place: Place, _ lookup: Lookup) -> Route? {
    let written = rule.route
    let applicable = written.match.filter { applies($0, rule.namespace, at: place) }
    let matches = applicable.compactMap(MatchCompiler.compile)
    if matches.isEmpty && !written.match.isEmpty { return nil }
    guard let action = action(rule, at: place, lookup) else { return nil }
    let request = HeaderCompiler.request(written.headers.request)
    var rewrite = written.rewrite.flatMap(Self.rewrite)
    if let authority = request.authority, rewrite?.authority == nil {
      rewrite = RewritePolicy(uri: rewrite?.uri, authority: authority)
    }
    return Route(
      name: written.name.isEmpty ? "default" : written.name, origin: rule.origin, matches: matches, action: action,
      timeout: written.timeout.flatMap { $0 > .zero ? $0 : nil }, retry: retry(written.retries),
      fault: written.fault.flatMap(Self.fault), mirrors: mirrors(rule, at: place, lookup),
      cors: written.corsPolicy.map(Self.cors), rewrite: rewrite, requestHeaders: request.operations,
      responseHeaders: HeaderCompiler.response(written.headers.response))
  }

  /// Conditions on where the request enters. `gateways` replaces the object's list and switches the source conditions off.
  private func applies(_ match: VirtualService.HTTPMatch, _ namespace: String, at place: Place) -> Bool {
    if let port = match.port, port != place.port { return false }
    if !match.gateways.isEmpty {
      return match.gateways.contains { place.gateways.contains(GatewayName.resolve($0, namespace: namespace)) }
    }
    guard match.sourceNamespace.isEmpty || match.sourceNamespace == place.client.namespace else { return false }
    return Labels.match(match.sourceLabels, place.client.labels)
  }

  private func action(_ rule: RuleBook.Rule, at place: Place, _ lookup: Lookup) -> RouteAction? {
    if let redirect = rule.route.redirect { return .redirect(Self.redirect(redirect)) }
    if let response = rule.route.directResponse {
      return .directResponse(status: UInt16(clamping: response.status), body: response.body)
    }
    let written = rule.route.route
    let weighted = written.count > 1 ? written.filter { $0.weight > 0 } : written
    guard !weighted.isEmpty else { return nil }
    var destinations: [WeightedDestination] = []
    for item in weighted {
      let target = destination(item.destination, rule.namespace, at: place, lookup)
      let request = HeaderCompiler.request(item.headers.request)
      destinations.append(
        WeightedDestination(
          cluster: target.cluster, clusterName: target.name, weight: UInt32(clamping: max(1, item.weight)),
          requestHeaders: request.withAuthority, responseHeaders: HeaderCompiler.response(item.headers.response)))
    }
    return .forward(destinations)
  }

  private func destination(
    _ written: VirtualService.Destination, _ namespace: String, at place: Place, _ lookup: Lookup
  ) -> DestinationAnswer { lookup(query(written, namespace, at: place)) }

  /// A destination as it is asked for; an unwritten port is the only one of the service, else the listener's.
  func query(_ written: VirtualService.Destination, _ namespace: String, at place: Place) -> DestinationQuery {
    DestinationQuery(
      host: HostName.resolve(written.host, namespace: namespace, domain: settings.domain), subset: written.subset,
      port: written.port, listenerPort: place.port)
  }

  private func mirrors(_ rule: RuleBook.Rule, at place: Place, _ lookup: Lookup) -> [MirrorPolicy] {
    var result: [MirrorPolicy] = []
    for mirror in rule.route.mirrors where mirror.percentage > 0 {
      let target = destination(mirror.destination, rule.namespace, at: place, lookup)
      result.append(
        MirrorPolicy(
          cluster: target.cluster, clusterName: target.name, partsPerMillion: Self.partsPerMillion(mirror.percentage)))
    }
    return result
  }

  private func retry(_ written: VirtualService.Retries?) -> RetryPolicy? {
    let policy = RetryPolicy(written, over: settings.defaultRetry)
    return policy.attempts > 0 ? policy : nil
  }

  /// The route of a service that no rule claims: everything to the service.
  func defaultRoute(_ target: DestinationAnswer) -> Route {
    Route(
      name: "default", origin: nil, matches: [],
      action: .forward([WeightedDestination(cluster: target.cluster, clusterName: target.name, weight: 1)]), retry: retry(nil))
  }

  // MARK: Policies that need nothing but what is written

  /// 0–100 with a grain of 0.0001.
  static func partsPerMillion(_ percentage: Double) -> UInt32 {
    UInt32(min(1_000_000, max(0, (percentage * 10_000).rounded())))
  }

  private static func rewrite(_ written: VirtualService.Rewrite) -> RewritePolicy? {
    let authority = written.authority.map { Array($0.utf8) }
    if let uri = written.uri { return RewritePolicy(uri: .replace(Array(uri.utf8)), authority: authority) }
    guard let regex = written.uriRegexRewrite, let pattern = try? Pattern(regex.match) else {
      return authority.map { RewritePolicy(uri: nil, authority: $0) }
    }
    return RewritePolicy(uri: .regex(pattern, substitution: Array(regex.rewrite.utf8)), authority: authority)
  }

  private static func redirect(_ written: VirtualService.Redirect) -> RedirectPolicy {
    func bytes(_ text: String?) -> [UInt8]? { text.flatMap { $0.isEmpty ? nil : Array($0.utf8) } }
    let port: RedirectPolicy.Port?
    switch (written.port, written.derivePort) {
    case (let number?, _): port = .number(number)
    case (nil, .fromProtocolDefault): port = .fromProtocolDefault
    case (nil, .fromRequestPort): port = .fromRequestPort
    case (nil, nil): port = nil
    }
    return RedirectPolicy(
      uri: bytes(written.uri), prefixRewrite: bytes(written.prefixRewrite), authority: bytes(written.authority),
      scheme: bytes(written.scheme), port: port, status: UInt16(clamping: written.redirectCode))
  }

  private static func fault(_ written: VirtualService.Fault) -> FaultPolicy? {
    let abort: FaultPolicy.Abort?
    if let status = written.abort?.httpStatus {
      abort = .http(UInt16(clamping: status))
    } else {
      abort = written.abort?.grpcStatus.flatMap(GRPCStatusNames.code).map { .grpc($0) }
    }
    return FaultPolicy(
      delayDuration: written.delay?.fixedDelay, delayPartsPerMillion: partsPerMillion(written.delay?.percentage ?? 0),
      abort: abort, abortPartsPerMillion: partsPerMillion(written.abort?.percentage ?? 0))
  }

  private static func cors(_ written: VirtualService.CORS) -> CORSPolicy {
    // Envoy also tries each matcher on "*", so the exact origin `*` allows every origin.
    let origins = written.allowOrigins.map { $0 == .exact("*") ? .present : $0 }
    return CORSPolicy(
      allowOrigins: origins.compactMap(MatchCompiler.text), allowMethods: written.allowMethods,
      allowHeaders: written.allowHeaders, exposeHeaders: written.exposeHeaders, maxAge: written.maxAge,
      allowCredentials: written.allowCredentials, forwardUnmatchedPreflights: written.unmatchedPreflights != .ignore)
  }
}
