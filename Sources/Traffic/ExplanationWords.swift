import MeshConfig
import Primitives

// Words of policies and conditions as users write them.

extension RouteMatch {
  /// Why the alternative did not match, in one line.
  func sentence(for failure: MatchFailure) -> String {
    switch failure {
    case .path: "path is not \(path?.words ?? "")"
    case .scheme: "scheme is not \(scheme?.words ?? "")"
    case .method: "method is not \(method?.words ?? "")"
    case .authority: "authority is not \(authority?.words ?? "")"
    case .header(let index): "header \(headers[index].words)"
    case .withoutHeader(let index): "header \(withoutHeaders[index].nameText) must not be \(withoutHeaders[index].match.words)"
    case .queryParameter(let index): "query parameter \(queryParameters[index].words)"
    }
  }
}

extension FieldMatch {
  var nameText: String { String(decoding: name, as: UTF8.self) }
  var words: String { "\(nameText) is not \(match.words)" }
}

extension PathMatch {
  var words: String {
    switch self {
    case .exact(let bytes): "exactly '\(String(decoding: bytes, as: UTF8.self))'"
    case .prefix(let bytes): "prefix '\(String(decoding: bytes, as: UTF8.self))'"
    case .segmentPrefix(let bytes): "path prefix '\(String(decoding: bytes, as: UTF8.self))'"
    case .regex(let pattern): "regex '\(pattern.source)'"
    }
  }
}

extension StringMatch {
  var words: String {
    switch self {
    case .exact(let bytes): "exactly '\(String(decoding: bytes, as: UTF8.self))'"
    case .prefix(let bytes): "prefix '\(String(decoding: bytes, as: UTF8.self))'"
    case .regex(let pattern): "regex '\(pattern.source)'"
    case .present: "present"
    }
  }
}

extension RetryConditions {
  /// `retryOn` words, in the order of their bits.
  public var words: [String] {
    let names = [
      "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
      "refused-stream", "retriable-status-codes", "retriable-headers", "cancelled", "deadline-exceeded", "internal",
      "resource-exhausted", "unavailable",
    ]
    return names.indices.filter { rawValue & (1 << UInt32($0)) != 0 }.map { names[$0] }
  }
}

extension LoadBalancerPolicy.Algorithm {
  /// The name users write.
  public var word: String {
    switch self {
    case .leastRequest: "LEAST_REQUEST"
    case .roundRobin: "ROUND_ROBIN"
    case .random: "RANDOM"
    case .passthrough: "PASSTHROUGH"
    case .consistentHash(let key, _):
      switch key {
      case .header(let name): "consistentHash header \(String(decoding: name, as: UTF8.self))"
      case .sourceAddress: "consistentHash source address"
      case .queryParameter(let name): "consistentHash query parameter \(String(decoding: name, as: UTF8.self))"
      case .cookie(let name, _, _, _): "consistentHash cookie \(String(decoding: name, as: UTF8.self))"
      }
    }
  }
}

extension UpstreamTLS {
  /// The mode users write; `automatic` when none was written.
  public var word: String {
    switch self {
    case .automatic: "automatic"
    case .disabled: "DISABLE"
    case .istioMutual: "ISTIO_MUTUAL"
    case .simple: "SIMPLE"
    case .mutual: "MUTUAL"
    }
  }
}
