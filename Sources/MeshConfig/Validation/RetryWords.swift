import Primitives

/// The words of `retryOn` (Istio, VirtualService).
enum RetryWords {
  private static let conditions: [(name: String, condition: RetryConditions)] = [
    ("5xx", .serverError), ("gateway-error", .gatewayError), ("reset", .reset),
    ("reset-before-request", .resetBeforeRequest), ("connect-failure", .connectFailure),
    ("envoy-ratelimited", .rateLimited), ("retriable-4xx", .retriable4xx), ("refused-stream", .refusedStream),
    ("retriable-status-codes", .retriableStatusCodes), ("retriable-headers", .retriableHeaders),
    ("http3-post-connect-failure", []), ("cancelled", .grpcCancelled), ("deadline-exceeded", .grpcDeadlineExceeded),
    ("internal", .grpcInternal), ("resource-exhausted", .grpcResourceExhausted), ("unavailable", .grpcUnavailable),
  ]

  /// Conditions and status codes of a comma-separated list; words that are neither are returned as unknown.
  static func parse(_ text: String) -> (conditions: RetryConditions, statusCodes: [UInt16], unknown: [String]) {
    var result: RetryConditions = []
    var codes: Set<UInt16> = []
    var unknown: [String] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: true) {
      let word = String(part.filter { $0 != " " && $0 != "\t" })
      if word.isEmpty { continue }
      if let known = conditions.first(where: { $0.name == word }) {
        result.formUnion(known.condition)
      } else if let code = parseDecimal(word.utf8, max: 599), code >= 100 {
        codes.insert(UInt16(code))
        result.insert(.retriableStatusCodes)
      } else {
        unknown.append(word)
      }
    }
    return (result, codes.sorted(), unknown)
  }

  static func check(_ retries: VirtualService.Retries, at path: FieldPath, into report: inout Report) {
    if retries.attempts < 0 { report.error(path / "attempts", "attempts cannot be negative") }
    if retries.attempts == 0, retries.perTryTimeout != nil || retries.retryOn != nil || retries.writesRemoteLocalities {
      report.error(
        path, "retries are configured but switched off: attempts is 0 or missing", hint: "write attempts, or nothing else")
    }
    guard let text = retries.retryOn else { return }
    for word in parse(text).unknown {
      let hint = Spelling.nearest(to: word, among: conditions.map(\.name)).map { "did you mean '\($0)'?" }
      report.error(path / "retryOn", "'\(word.prefix(60))' is not a retry condition or status code", hint: hint)
    }
  }
}

extension RetryConditions {
  /// The conditions of a comma-separated list, as callers write it into a header field; words that are none count for nothing
  /// (Envoy, `x-envoy-retry-on`).
  public init(words text: String) { self = RetryWords.parse(text).conditions }

  /// What looks at statuses of gRPC (Envoy, `x-envoy-retry-grpc-on`).
  public static let grpc: RetryConditions = [
    .grpcCancelled, .grpcDeadlineExceeded, .grpcInternal, .grpcResourceExhausted, .grpcUnavailable,
  ]
}
