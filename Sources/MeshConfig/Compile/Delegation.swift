/// Merges a root route with a route of its delegate (Istio, VirtualService).
enum Delegation {
  /// The effective route, or nil when the delegate's matches do not lie within the root's.
  static func merge(
    root: VirtualService.HTTPRoute, delegate: VirtualService.HTTPRoute
  ) -> VirtualService.HTTPRoute? {
    guard let match = mergeMatches(root.match, delegate.match) else { return nil }
    var route = delegate
    route.match = match
    route.delegate = nil
    route.name = [root.name, delegate.name].filter { !$0.isEmpty }.joined(separator: "-")
    route.rewrite = delegate.rewrite ?? root.rewrite
    route.directResponse = delegate.directResponse ?? root.directResponse
    route.timeout = delegate.timeout ?? root.timeout
    route.retries = delegate.retries ?? root.retries
    route.fault = delegate.fault ?? root.fault
    if delegate.mirrors.isEmpty { route.mirrors = root.mirrors }
    route.corsPolicy = delegate.corsPolicy ?? root.corsPolicy
    route.headers = VirtualService.Headers(
      request: merge(root.headers.request, delegate.headers.request),
      response: merge(root.headers.response, delegate.headers.response))
    return route
  }

  private static func merge(
    _ root: VirtualService.Headers.Operations, _ delegate: VirtualService.Headers.Operations
  ) -> VirtualService.Headers.Operations {
    VirtualService.Headers.Operations(
      set: root.set.merging(delegate.set) { $1 }, add: root.add.merging(delegate.add) { $1 },
      remove: root.remove + delegate.remove.filter { !root.remove.contains($0) })
  }

  /// Every delegate match joined with a root match it lies within; nil when one of them fits none.
  private static func mergeMatches(
    _ root: [VirtualService.HTTPMatch], _ delegate: [VirtualService.HTTPMatch]
  ) -> [VirtualService.HTTPMatch]? {
    if root.isEmpty { return delegate }
    if delegate.isEmpty { return root }
    var merged: [VirtualService.HTTPMatch] = []
    for inner in delegate {
      guard let joined = root.lazy.compactMap({ join($0, inner) }).first else { return nil }
      merged.append(joined)
    }
    return merged
  }

  private static func join(_ root: VirtualService.HTTPMatch, _ inner: VirtualService.HTTPMatch) -> VirtualService.HTTPMatch? {
    guard root.ignoreURICase == inner.ignoreURICase || root.uri == nil || inner.uri == nil else { return nil }
    guard let uri = narrower(root.uri, inner.uri), let scheme = narrower(root.scheme, inner.scheme),
      let method = narrower(root.method, inner.method), let authority = narrower(root.authority, inner.authority),
      let headers = join(root.headers, inner.headers),
      let withoutHeaders = join(root.withoutHeaders, inner.withoutHeaders),
      let queryParams = join(root.queryParams, inner.queryParams)
    else { return nil }
    if let port = root.port, inner.port != nil && inner.port != port { return nil }
    if !root.sourceNamespace.isEmpty && !inner.sourceNamespace.isEmpty && root.sourceNamespace != inner.sourceNamespace {
      return nil
    }
    if inner.sourceLabels.contains(where: { root.sourceLabels[$0.key] != nil && root.sourceLabels[$0.key] != $0.value }) {
      return nil
    }
    if !inner.gateways.isEmpty && !root.gateways.isEmpty && !inner.gateways.allSatisfy(root.gateways.contains) { return nil }
    return VirtualService.HTTPMatch(
      name: [root.name, inner.name].filter { !$0.isEmpty }.joined(separator: "-"), uri: uri.value,
      ignoreURICase: root.ignoreURICase || inner.ignoreURICase, scheme: scheme.value, method: method.value,
      authority: authority.value, headers: headers, withoutHeaders: withoutHeaders, queryParams: queryParams,
      port: root.port ?? inner.port, sourceLabels: root.sourceLabels.merging(inner.sourceLabels) { $1 },
      sourceNamespace: inner.sourceNamespace.isEmpty ? root.sourceNamespace : inner.sourceNamespace,
      gateways: inner.gateways.isEmpty ? root.gateways : inner.gateways)
  }

  private struct Narrowed {
    let value: VirtualService.TextMatch?
  }

  /// The inner condition when it lies within the outer one. Two regular expressions are never compared.
  private static func narrower(_ root: VirtualService.TextMatch?, _ inner: VirtualService.TextMatch?) -> Narrowed? {
    guard let root else { return Narrowed(value: inner) }
    guard let inner else { return Narrowed(value: root) }
    switch (root, inner) {
    case (.regex, _), (_, .regex): return nil
    case (.present, _): return Narrowed(value: inner)
    case (.exact(let a), .exact(let b)): return a == b ? Narrowed(value: inner) : nil
    case (.prefix(let a), .prefix(let b)), (.prefix(let a), .exact(let b)):
      return b.utf8.starts(with: a.utf8) ? Narrowed(value: inner) : nil
    case (.exact, _), (.prefix, .present): return nil
    }
  }

  private static func join(
    _ root: [Keyed<VirtualService.TextMatch>], _ inner: [Keyed<VirtualService.TextMatch>]
  ) -> [Keyed<VirtualService.TextMatch>]? {
    var joined = root
    for field in inner {
      guard let index = joined.firstIndex(where: { $0.key == field.key }) else {
        joined.append(field)
        continue
      }
      guard let narrowed = narrower(joined[index].value, field.value), let value = narrowed.value else { return nil }
      joined[index] = Keyed(key: field.key, value: value)
    }
    return joined
  }
}
