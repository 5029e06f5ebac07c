import Primitives

/// A budget that refills with time and with good behaviour.
struct TokenBucket {
  private let burst: Double
  private let perSecond: Double
  private var tokens: Double
  private var filled: Instant?

  init(burst: Int, perSecond: Int) {
    self.burst = Double(burst)
    self.perSecond = Double(perSecond)
    tokens = Double(burst)
  }

  /// False when the budget is spent.
  mutating func take(at now: Instant) -> Bool {
    if tokens < 1 || filled == nil { refill(now) }
    guard tokens >= 1 else { return false }
    tokens -= 1
    return true
  }

  private mutating func refill(_ now: Instant) {
    if let filled { tokens = min(burst, tokens + max(0, (now - filled).inSeconds) * perSecond) }
    filled = now
  }

  mutating func give(_ count: Double) { tokens = min(burst, tokens + count) }
}
