import Primitives

/// When the next snapshot may be compiled: a change that comes alone at once, those of a burst together.
///
/// Every snapshot is a compile and a turn of each worker, on every node. Istio waits 100 ms for a burst to end before it pushes at all;
/// here only what follows on another snapshot waits, as long as that one took.
struct PublicationPace {
  /// Between the end of one snapshot and the beginning of the next: at most two hundred a second where they are cheap, and never so
  /// long that people see it where they are dear.
  static let pauses: ClosedRange<Duration> = .milliseconds(5)...(.milliseconds(50))

  private var next: Instant?

  /// How long the next snapshot has to wait.
  func pause(at now: Instant) -> Duration { next.map { max(.zero, $0 - now) } ?? .zero }

  mutating func published(from start: Instant, to end: Instant) {
    next = end + min(max(end - start, Self.pauses.lowerBound), Self.pauses.upperBound)
  }
}
