public struct RetryPolicy: Sendable, Hashable {
  /// Retries after the first try; 0 disables.
  public var attempts: Int
  public var perTryTimeout: Duration?
  public var conditions: RetryConditions
  /// Sorted.
  public var statusCodes: [UInt16]
  public var avoidPreviousHosts: Bool
  public var remoteLocalities: Bool
  /// Back-off base; the maximum is ten times it, with full jitter.
  public var backoff: Duration

  public init(
    attempts: Int, perTryTimeout: Duration? = nil, conditions: RetryConditions, statusCodes: [UInt16] = [],
    avoidPreviousHosts: Bool = true, remoteLocalities: Bool = false, backoff: Duration = .milliseconds(25)
  ) {
    self.attempts = attempts
    self.perTryTimeout = perTryTimeout
    self.conditions = conditions
    self.statusCodes = statusCodes
    self.avoidPreviousHosts = avoidPreviousHosts
    self.remoteLocalities = remoteLocalities
    self.backoff = backoff
  }

  /// Two retries on what never reached the application (Istio's default, retry.go).
  public static let istioDefault = RetryPolicy(
    attempts: 2, conditions: [.connectFailure, .refusedStream, .grpcUnavailable, .grpcCancelled, .retriableStatusCodes])
}

/// Istio's and Envoy's `retryOn` words.
public struct RetryConditions: OptionSet, Sendable, Hashable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let serverError = RetryConditions(rawValue: 1 << 0)  // 5xx
  public static let gatewayError = RetryConditions(rawValue: 1 << 1)
  public static let reset = RetryConditions(rawValue: 1 << 2)
  public static let resetBeforeRequest = RetryConditions(rawValue: 1 << 3)
  public static let connectFailure = RetryConditions(rawValue: 1 << 4)
  public static let rateLimited = RetryConditions(rawValue: 1 << 5)  // envoy-ratelimited
  public static let retriable4xx = RetryConditions(rawValue: 1 << 6)
  public static let refusedStream = RetryConditions(rawValue: 1 << 7)
  public static let retriableStatusCodes = RetryConditions(rawValue: 1 << 8)
  public static let retriableHeaders = RetryConditions(rawValue: 1 << 9)
  public static let grpcCancelled = RetryConditions(rawValue: 1 << 10)
  public static let grpcDeadlineExceeded = RetryConditions(rawValue: 1 << 11)
  public static let grpcInternal = RetryConditions(rawValue: 1 << 12)
  public static let grpcResourceExhausted = RetryConditions(rawValue: 1 << 13)
  public static let grpcUnavailable = RetryConditions(rawValue: 1 << 14)
}
