import MeshConfig
import Primitives
import Synchronization

/// A token bucket as one number: the moment at which it would be full again (Envoy's `AtomicTokenBucketImpl`, which is the
/// generic cell rate algorithm of ITU-T I.371). Tokens come one by one, `tokensPerFill` in each interval.
public struct TokenBucket: Hashable, Sendable {
  private let nanosecondsPerToken: UInt64
  private let tokensMax: UInt64

  public init(_ policy: LocalRateLimit.Bucket) {
    let interval = UInt64(max(1, policy.fillInterval.nanosecondsClamped))
    nanosecondsPerToken = max(1, interval / UInt64(max(1, policy.tokensPerFill)))
    tokensMax = UInt64(max(1, policy.maxTokens))
  }

  private var span: UInt64 { nanosecondsPerToken.multipliedReportingOverflow(by: tokensMax).partialValue }

  /// Takes one token: the bucket's next state, or nil when it is empty. A bucket starts with 0, which is full.
  func take(from fullAt: UInt64, at now: Instant) -> UInt64? {
    let begin = max(fullAt, now.nanoseconds)
    let (next, overflow) = begin.addingReportingOverflow(nanosecondsPerToken)
    guard !overflow, next - now.nanoseconds <= span else { return nil }
    return next
  }

  /// Whole tokens in the bucket.
  func tokens(_ fullAt: UInt64, at now: Instant) -> Int {
    let missing = fullAt > now.nanoseconds ? fullAt - now.nanoseconds : 0
    return Int(clamping: missing >= span ? 0 : (span - missing) / nanosecondsPerToken)
  }

  /// Time until the bucket has a token again; zero when it has one.
  func wait(_ fullAt: UInt64, at now: Instant) -> Duration {
    let missing = fullAt > now.nanoseconds ? fullAt - now.nanoseconds : 0
    let most = span - nanosecondsPerToken
    return missing <= most ? .zero : .nanoseconds(Int64(clamping: missing - most))
  }
}

/// A rate limit that all workers of the node take from, without a lock.
public final class SharedTokenBucket: Sendable {
  public let policy: LocalRateLimit
  private let bucket: TokenBucket
  private let fullAt = Atomic<UInt64>(0)

  public init(_ policy: LocalRateLimit) {
    self.policy = policy
    bucket = TokenBucket(policy.bucket)
  }

  /// Whether a request may pass; takes a token if so. Only `enforced` refusals concern the request.
  public func admits(at now: Instant, draws: inout SeededGenerator) -> Bool {
    guard Self.isChosen(policy.enabledPartsPerMillion, &draws) else { return true }
    var state = fullAt.load(ordering: .relaxed)
    while let next = bucket.take(from: state, at: now) {
      let (exchanged, original) = fullAt.compareExchange(expected: state, desired: next, ordering: .relaxed)
      if exchanged { return true }
      state = original
    }
    return !Self.isChosen(policy.enforcedPartsPerMillion, &draws)
  }

  private static func isChosen(_ partsPerMillion: UInt32, _ draws: inout SeededGenerator) -> Bool {
    partsPerMillion >= 1_000_000 || draws.below(1_000_000) < UInt64(partsPerMillion)
  }

  /// For `x-ratelimit-remaining` and `x-ratelimit-reset` (draft-polli-ratelimit-headers-03).
  public func standing(at now: Instant) -> (remaining: Int, resetSeconds: Int) {
    let state = fullAt.load(ordering: .relaxed)
    let wait = bucket.wait(state, at: now)
    return (bucket.tokens(state, at: now), Int((wait.inSeconds).rounded(.up)))
  }
}
