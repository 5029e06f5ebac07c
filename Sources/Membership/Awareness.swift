/// How slow this node itself seems to be (Lifeguard §IV.A, local health multiplier): 0 is healthy.
public struct Awareness: Hashable, Sendable {
  public private(set) var score = 0
  private let scoreMax: Int

  init(scoreMax: Int) { self.scoreMax = max(0, scoreMax) }

  /// Positive for what a slow node would see: unanswered probes, missing nacks, having to refute, late timers.
  mutating func add(_ delta: Int) { score = min(scoreMax, max(0, score + delta)) }

  func scaled(_ duration: Duration) -> Duration { duration * (score + 1) }
}
