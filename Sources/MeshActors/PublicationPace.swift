import Primitives

/// When the next snapshot may be compiled: a change that comes alone at once, those of a burst together.
///
/// Every snapshot is a compile and a turn of each worker, on every node. Istio waits 100 ms for a burst to end before it pushes at all;
/// here only what follows closely on another snapshot waits.
struct PublicationPace {
  /// Between the beginnings of two snapshots, where they are cheap: at most two hundred a second. Those that take longer follow on
  /// each other at once.
  static let interval: Duration = .milliseconds(5)

  private var next: Instant?

  /// How long the next snapshot has to wait.
  func pause(at now: Instant) -> Duration { next.map { max(.zero, $0 - now) } ?? .zero }

  mutating func began(at now: Instant) { next = now + Self.interval }
}
