import Primitives

/// When a bundle is asked for again (SPIFFE Federation 4.1, 6.2).
///
/// Pauses vary, so that a cluster's nodes, which learn of a URL at the same moment, do not come together for ever.
struct BundlePace: Hashable, Sendable {
  private var interval = FetchLimits.bundleInterval
  private var failures = 0

  /// The pause after an answer: what the bundle hints at, within bounds, or up to a tenth less.
  mutating func pauseAfterAnswer(hint: Duration?, _ generator: inout SeededGenerator) -> Duration {
    failures = 0
    let (shortest, longest) = (FetchLimits.bundleIntervals.lowerBound, FetchLimits.bundleIntervals.upperBound)
    interval = min(max(hint ?? FetchLimits.bundleInterval, shortest), longest)
    return generator.duration(in: interval * 9 / 10...interval)
  }

  /// The pause after a failure: twice the last one's, at most what is usual, or up to half less.
  mutating func pauseAfterFailure(_ generator: inout SeededGenerator) -> Duration {
    let (first, longest) = (FetchLimits.bundleBackoffs.lowerBound, FetchLimits.bundleBackoffs.upperBound)
    let pause = min(first * (1 << min(failures, 16)), longest)
    failures = min(failures + 1, 16)
    return generator.duration(in: pause / 2...pause)
  }
}
