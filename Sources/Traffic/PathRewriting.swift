import HTTPCodec
import MeshConfig
import Primitives

/// New paths and Location values of a matched route (Istio, VirtualService).
public enum PathRewriting {
  /// The path after `rewrite.uri`, without query; nil when the route does not rewrite it or the result is too long
  /// or would not be a path.
  public static func path(
    of request: some RequestView, _ route: Route, match: Int?
  ) -> [UInt8]? {
    guard let uri = route.rewrite?.uri else { return nil }
    return request.withBytes { bytes in
      let path = bytes.extracting(request.path)
      let new: [UInt8]?
      switch uri {
      case .replace(let replacement): new = replacing(path, route.pathMatch(match), with: replacement)
      case .regex(let pattern, let substitution):
        new = pattern.replacing(in: path, with: substitution, bytesMax: TrafficLimits.rewrittenPathBytesMax)
      }
      guard let new, new.first == 0x2F, new.count <= TrafficLimits.rewrittenPathBytesMax else { return nil }
      return new
    }
  }

  /// Appends the Location of a redirect: scheme, authority, path and query.
  public static func appendLocation(
    of request: some RequestView, _ context: RequestContext, _ route: Route, _ redirect: RedirectPolicy, match: Int?,
    to out: inout [UInt8]
  ) {
    let scheme = redirect.scheme ?? context.scheme
    out.append(contentsOf: scheme)
    out.append(contentsOf: "://".utf8)
    request.withBytes { bytes in
      if let authority = redirect.authority {
        out.append(contentsOf: authority)
      } else {
        out.append(bytes.extracting(request.host))
      }
      appendPort(of: request, context, redirect, scheme: scheme, to: &out)
      if let uri = redirect.uri {
        out.append(contentsOf: uri)
      } else if let prefix = redirect.prefixRewrite {
        out.append(contentsOf: replacing(bytes.extracting(request.path), route.pathMatch(match), with: prefix))
      } else {
        out.append(bytes.extracting(request.path))
      }
      if let query = request.query {
        out.append(0x3F)
        out.append(bytes.extracting(query))
      }
    }
  }

  /// Appends the Location of a request that must use `https`: the same host and target, and no port.
  public static func appendHTTPSLocation(of request: some RequestView, to out: inout [UInt8]) {
    out.append(contentsOf: "https://".utf8)
    request.withBytes { bytes in
      out.append(bytes.extracting(request.host))
      out.append(bytes.extracting(request.target))
    }
  }

  /// `:80` with http and `:443` with https are left out. Without `port` the request's own port stays only where neither
  /// host nor scheme was replaced.
  private static func appendPort(
    of request: some RequestView, _ context: RequestContext, _ redirect: RedirectPolicy, scheme: [UInt8], to out: inout [UInt8]
  ) {
    let isHTTPS = scheme.elementsEqual("https".utf8)
    let port: UInt16?
    switch redirect.port {
    case .number(let number): port = number
    case .fromProtocolDefault: port = nil
    case .fromRequestPort: port = request.port ?? context.port
    case nil: port = redirect.authority == nil && redirect.scheme == nil ? request.port : nil
    }
    guard let port, port != (isHTTPS ? 443 : 80) else { return }
    out.append(0x3A)
    out.append(contentsOf: String(port).utf8)
  }

  /// The matched prefix replaced literally, or the whole path for exact, regex and match-less rules. A Gateway API prefix is
  /// replaced on a segment boundary, so `/foo` → `/` maps `/foo/bar` to `/bar`.
  private static func replacing(_ path: Span<UInt8>, _ match: PathMatch?, with replacement: [UInt8]) -> [UInt8] {
    var new: [UInt8] = []
    switch match {
    case .prefix(let prefix) where path.count >= prefix.count:
      new.append(contentsOf: replacement)
      new.append(path.extracting(prefix.count..<path.count))
    case .segmentPrefix(let prefix):
      let length = min(path.count, prefix.last == 0x2F ? prefix.count - 1 : prefix.count)
      let rest = path.extracting(length..<path.count)
      new.append(contentsOf: replacement)
      if replacement.last == 0x2F, !rest.isEmpty { new.removeLast() }
      new.append(rest)
      if new.isEmpty { new.append(0x2F) }
    default: new.append(contentsOf: replacement)
    }
    return new
  }
}

extension Route {
  /// The path condition of the alternative that matched; nil when it had none.
  func pathMatch(_ match: Int?) -> PathMatch? {
    match.flatMap { matches.indices.contains($0) ? matches[$0].path : nil }
  }
}
