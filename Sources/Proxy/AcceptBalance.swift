import Synchronization

/// Spreads one listener's connections over the workers.
///
/// The kernel chooses the worker by a hash of the addresses (`SO_REUSEPORT`). That is even for thousands of short connections and
/// uneven for a few long ones, as those of HTTP/2 between nodes are: two of two may land on one worker. So a worker with more than
/// its share hands a new connection to the one with the fewest (Envoy, `ConnectionBalanceConfig.ExactBalance`).
final class AcceptBalance: Sendable {
  private final class Count: Sendable { let open = Atomic<Int>(0) }
  private let counts: [Count]

  init(workers: Int) { counts = (0..<workers).map { _ in Count() } }

  func began(on worker: Int) { counts[worker].open.wrappingAdd(1, ordering: .relaxed) }
  func ended(on worker: Int) { counts[worker].open.wrappingSubtract(1, ordering: .relaxed) }

  /// The worker to serve a connection that `own` accepted. A difference of an eighth is not worth a change of threads.
  func choose(for own: Int) -> Int {
    guard counts.count > 1 else { return own }
    let mine = counts[own].open.load(ordering: .relaxed)
    guard mine > 0 else { return own }
    var (chosen, fewest) = (own, mine)
    for index in counts.indices {
      let open = counts[index].open.load(ordering: .relaxed)
      if open < fewest { (chosen, fewest) = (index, open) }
    }
    return mine - fewest > mine / 8 ? chosen : own
  }
}
