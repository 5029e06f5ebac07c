import MeshActors
import Primitives

/// Whether this process has ever known all that was decided. What it remembers of an earlier life may lack the last changes (`LastKnown`
/// writes now and then, and a voter's log does not say how far it is decided), so what it shows before would go back in time.
actor CatchingUp {
  private enum State {
    case going
    case done
    /// Those who ask are no longer kept waiting.
    case late
  }

  /// How long those who ask for the configuration wait after the start: several elections.
  private static let patience: Duration = .seconds(2)
  /// Between two attempts while nobody leads.
  private static let interval: Duration = .milliseconds(100)

  private var state = State.going
  private var waiters: [CheckedContinuation<Void, Never>] = []

  /// Asks until somebody who leads has said what is decided, and this node has it.
  func run(_ configuration: ConfigurationClient) async {
    let patience = Task {
      try? await Task.sleep(for: Self.patience)
      self.become(.late)
    }
    while !Task.isCancelled {
      do {
        try await configuration.reachDecided(deadline: .now + Self.patience)
        patience.cancel()
        return become(.done)
      } catch {
        try? await Task.sleep(for: Self.interval)
      }
    }
    patience.cancel()
    become(.late)
  }

  private func become(_ next: State) {
    guard state != .done else { return }
    state = next
    for waiter in waiters { waiter.resume() }
    waiters = []
  }

  /// True once what this node shows is at least what it ever showed; false when that took too long.
  func isDone() async -> Bool {
    if state == .going { await withCheckedContinuation { waiters.append($0) } }
    return state == .done
  }
}
