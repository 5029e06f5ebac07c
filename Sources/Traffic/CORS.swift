import HTTPCodec
import MeshConfig
import Primitives

/// Cross-origin decisions (Istio, VirtualService).
public enum CORS {
  enum Check: Hashable {
    case notCrossOrigin
    case request(isAllowed: Bool)
    case preflight(isAllowed: Bool)
  }

  private static let options = Array("OPTIONS".utf8)
  private static let origin = Array("origin".utf8)
  private static let requestMethod = Array("access-control-request-method".utf8)
  private static let requestHeaders = Array("access-control-request-headers".utf8)

  static func check(_ request: some RequestView, _ policy: CORSPolicy) -> Check {
    request.withBytes { bytes in
      var cursor = 0
      guard let origin = request.nextHeader(named: Self.origin, from: &cursor) else { return .notCrossOrigin }
      let value = bytes.extracting(origin)
      var isAllowed = false
      for match in policy.allowOrigins where match.matches(value) { isAllowed = true }
      cursor = 0
      let isPreflight =
        Bytes.equal(bytes.extracting(request.methodName), options)
        && request.nextHeader(named: requestMethod, from: &cursor) != nil
      return isPreflight ? .preflight(isAllowed: isAllowed) : .request(isAllowed: isAllowed)
    }
  }

  /// Headers of the answer to a preflight whose origin is allowed. `*` in methods or headers echoes what was asked.
  public static func preflightHeaders(
    _ request: some RequestView, _ policy: CORSPolicy
  ) -> [HeaderOperations.Field] {
    var fields = responseHeaders(request, policy).filter { $0.name != Array("access-control-expose-headers".utf8) }
    append("access-control-allow-methods", policy.allowMethods, asked: first(requestMethod, of: request), to: &fields)
    append("access-control-allow-headers", policy.allowHeaders, asked: first(requestHeaders, of: request), to: &fields)
    if let maxAge = policy.maxAge { append("access-control-max-age", String(maxAge.components.seconds), to: &fields) }
    return fields
  }

  /// Headers added to the response of an allowed cross-origin request.
  public static func responseHeaders(
    _ request: some RequestView, _ policy: CORSPolicy
  ) -> [HeaderOperations.Field] {
    var fields: [HeaderOperations.Field] = []
    if let origin = first(origin, of: request) {
      fields.append(.init(name: Array("access-control-allow-origin".utf8), value: origin))
    }
    if policy.allowCredentials == true { append("access-control-allow-credentials", "true", to: &fields) }
    if !policy.exposeHeaders.isEmpty {
      append("access-control-expose-headers", policy.exposeHeaders.joined(separator: ","), to: &fields)
    }
    return fields
  }

  private static func first(_ name: [UInt8], of request: some RequestView) -> [UInt8]? {
    request.withBytes { bytes in
      var cursor = 0
      guard let range = request.nextHeader(named: name, from: &cursor) else { return nil }
      var value: [UInt8] = []
      value.append(bytes.extracting(range))
      return value
    }
  }

  private static func append(
    _ name: String, _ list: [String], asked: [UInt8]?, to fields: inout [HeaderOperations.Field]
  ) {
    if list.contains("*"), let asked {
      fields.append(.init(name: Array(name.utf8), value: asked))
    } else if !list.isEmpty {
      append(name, list.joined(separator: ","), to: &fields)
    }
  }

  private static func append(_ name: String, _ value: String, to fields: inout [HeaderOperations.Field]) {
    fields.append(.init(name: Array(name.utf8), value: Array(value.utf8)))
  }
}
