import HTTPCodec
import MeshConfig
import Primitives

/// How one try ended.
public enum TryOutcome: Hashable, Sendable {
  /// No connection came about: nothing was sent.
  case connectFailed
  /// The peer said that it did not process the request: refused stream, stream above GOAWAY's last, or a node without the workload.
  case notProcessed
  /// The connection or stream ended before response headers. `isRequestSent`: at least one byte may have left.
  case reset(isRequestSent: Bool)
  case perTryTimeout
  /// The circuit breaker refused the try.
  case overflow
  case response(TryResponse)
}

/// What retry conditions look at in a response head.
public struct TryResponse: Hashable, Sendable {
  public var status: UInt16
  /// In headers of a response without body (trailers-only); nil otherwise.
  public var grpcStatus: UInt8?
  /// Marked `x-envoy-overloaded`, `x-envoy-ratelimited`.
  public var isOverloaded: Bool
  public var isRateLimited: Bool
  /// Has one of the fields that make it worth another try.
  public var hasRetriableHeader = false

  public init(status: UInt16, grpcStatus: UInt8? = nil, isOverloaded: Bool = false, isRateLimited: Bool = false) {
    self.status = status
    self.grpcStatus = grpcStatus
    self.isOverloaded = isOverloaded
    self.isRateLimited = isRateLimited
  }
}

/// What a retry decision is made from.
public struct RetryInput: Hashable, Sendable {
  /// nil = no retries.
  public var policy: RetryPolicy?
  public var outcome: TryOutcome
  public var method: HTTPMethod
  /// Tries before this one that the policy allowed.
  public var retriesDone: Int
  /// Times the request was already sent elsewhere because a node had not processed it.
  public var repicksDone: Int
  /// The request body can be sent once more from its first byte.
  public var canReplayBody: Bool
  /// A byte of a response has gone to the client.
  public var hasResponseBegun: Bool
  public var now: Instant
  public var deadline: Instant
  /// Concurrent retries and requests of the cluster.
  public var load: ClusterLoad
  /// `connectionPool.http.maxRetries`; nil = the default budget.
  public var maxRetries: Int?
  /// `retryBudget`, which takes the place of `maxRetries`.
  public var budget: ConnectionPoolPolicy.RetryBudget?

  public init(
    policy: RetryPolicy?, outcome: TryOutcome, method: HTTPMethod, retriesDone: Int = 0, repicksDone: Int = 0,
    canReplayBody: Bool = true, hasResponseBegun: Bool = false, now: Instant, deadline: Instant = .distantFuture,
    load: ClusterLoad = ClusterLoad(), maxRetries: Int? = nil
  ) {
    self.policy = policy
    self.outcome = outcome
    self.method = method
    self.retriesDone = retriesDone
    self.repicksDone = repicksDone
    self.canReplayBody = canReplayBody
    self.hasResponseBegun = hasResponseBegun
    self.now = now
    self.deadline = deadline
    self.load = load
    self.maxRetries = maxRetries
  }
}

/// Whether a request is sent again, and if not, why.
public enum RetryDecision: Hashable, Sendable {
  /// Send it elsewhere at once; counts as a repick, not as a retry.
  case repick
  /// Send it again after the pause; counts as a retry.
  case retry(after: Duration)
  case giveUp(Reason)

  public enum Reason: String, Hashable, Sendable, CaseIterable {
    case noPolicy = "no_policy"
    case conditionNotListed = "condition_not_listed"
    case notIdempotent = "not_idempotent"
    case exhausted
    case bodyNotReplayable = "body_not_replayable"
    case responseBegun = "response_begun"
    case overBudget = "over_budget"
    case pastDeadline = "past_deadline"
    case overflow
    case markedByUpstream = "marked_by_upstream"
  }

  /// Decides by three classes, stricter than Istio (which replays what may have been processed):
  /// never sent or provably not processed → any method; sent → idempotent methods, or when the user's own `retryOn` names
  /// the condition; otherwise never.
  public init(_ input: RetryInput, draws: inout SeededGenerator) {
    self = Self.decide(input, draws: &draws)
  }

  private static func decide(_ input: RetryInput, draws: inout SeededGenerator) -> RetryDecision {
    if input.hasResponseBegun { return .giveUp(.responseBegun) }
    if input.outcome == .overflow { return .giveUp(.overflow) }
    if input.outcome == .notProcessed, input.repicksDone < TrafficLimits.repicksMax {
      if !input.canReplayBody { return .giveUp(.bodyNotReplayable) }
      return input.now < input.deadline ? .repick : .giveUp(.pastDeadline)
    }
    guard let policy = input.policy, policy.attempts > 0 else { return .giveUp(.noPolicy) }
    if case .response(let response) = input.outcome {
      let mayRetryLimited = policy.conditions.contains(.rateLimited) && !response.isOverloaded
      if response.isOverloaded || response.isRateLimited && !mayRetryLimited { return .giveUp(.markedByUpstream) }
    }
    guard policy.lists(input.outcome) else { return .giveUp(.conditionNotListed) }
    guard input.outcome.isUnsent || input.method.isIdempotent || !policy.isIstioDefault else { return .giveUp(.notIdempotent) }
    guard input.retriesDone < policy.attempts else { return .giveUp(.exhausted) }
    guard input.canReplayBody else { return .giveUp(.bodyNotReplayable) }
    guard
      input.load.allowsRetry(
        isUnsent: input.outcome.isUnsent, maxRetries: input.maxRetries, budget: input.budget)
    else {
      return .giveUp(.overBudget)
    }
    let pause = backoff(base: policy.backoff, retry: input.retriesDone, draws: &draws)
    return input.now + pause < input.deadline ? .retry(after: pause) : .giveUp(.pastDeadline)
  }

  /// Full jitter: uniform in [0, base × (2^(retry + 1) − 1)], at most ten times the base (Envoy, "exponential backoff").
  public static func backoff(base: Duration, retry: Int, draws: inout SeededGenerator) -> Duration {
    let factor = min((1 << min(max(0, retry) + 1, 16)) - 1, TrafficLimits.backoffMaxFactor)
    return draws.duration(in: .zero...max(.zero, base * factor))
  }
}

extension TryOutcome {
  /// Class one: the application cannot have seen the request.
  var isUnsent: Bool {
    switch self {
    case .connectFailed, .notProcessed, .reset(isRequestSent: false): true
    case .reset, .perTryTimeout, .overflow, .response: false
    }
  }
}

extension RetryPolicy {
  /// Istio's default conditions: nothing in them was asked for by the user.
  var isIstioDefault: Bool { conditions == RetryPolicy.istioDefault.conditions && statusCodes.isEmpty }

  /// Whether `retryOn` names this outcome (Envoy's meaning of each word).
  func lists(_ outcome: TryOutcome) -> Bool {
    let anyReset: RetryConditions = [.reset, .serverError, .gatewayError]
    switch outcome {
    case .connectFailed: return !conditions.isDisjoint(with: anyReset.union([.connectFailure, .resetBeforeRequest]))
    case .notProcessed: return !conditions.isDisjoint(with: anyReset.union([.refusedStream, .resetBeforeRequest]))
    case .reset(isRequestSent: false):
      return !conditions.isDisjoint(with: anyReset.union([.connectFailure, .resetBeforeRequest]))
    case .reset(isRequestSent: true), .perTryTimeout: return !conditions.isDisjoint(with: anyReset)
    case .overflow: return false
    case .response(let response): return lists(response)
    }
  }

  private func lists(_ response: TryResponse) -> Bool {
    let status = response.status
    if conditions.contains(.serverError), (500...599).contains(status) { return true }
    if conditions.contains(.gatewayError), (502...504).contains(status) { return true }
    if conditions.contains(.retriable4xx), status == 409 { return true }
    if conditions.contains(.rateLimited), response.isRateLimited { return true }
    if conditions.contains(.retriableHeaders), response.hasRetriableHeader { return true }
    if conditions.contains(.retriableStatusCodes), statusCodes.contains(status) { return true }
    switch response.grpcStatus {
    case 1: return conditions.contains(.grpcCancelled)
    case 4: return conditions.contains(.grpcDeadlineExceeded)
    case 8: return conditions.contains(.grpcResourceExhausted)
    case 13: return conditions.contains(.grpcInternal)
    case 14: return conditions.contains(.grpcUnavailable)
    default: return false
    }
  }
}
