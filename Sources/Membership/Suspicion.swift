import Primitives

/// A suspicion and its deadline, which independent confirmations bring forward (Lifeguard §IV.B):
/// `max − (max − min) · log(C + 1) / log(K + 1)`, never below `min`.
struct Suspicion: Hashable, Sendable {
  let startedAt: Instant
  let incarnation: UInt64
  private let shortest: Duration
  private let longest: Duration
  /// K: confirmations that bring the suspicion to its shortest.
  private let expected: Int
  /// Who accused, the first included; sorted, bounded.
  private(set) var accusers: [NodeName]
  /// Time this node was stalled since, which does not count against the accused.
  private var allowance: Duration = .zero
  /// Whether this node's own probe since the start stayed without answer: nobody is convicted on hearsay.
  var ownProbeFailed: Bool
  /// When this node's own probe is due, unless it failed already.
  var verifyAt: Instant?
  /// Set when the accusation was that the member left, so that it ends as `left`.
  var saidToHaveLeft = false

  init(
    incarnation: UInt64, accuser: NodeName, shortest: Duration, longest: Duration, expected: Int, ownProbeFailed: Bool,
    at now: Instant
  ) {
    startedAt = now
    self.incarnation = incarnation
    self.shortest = shortest
    self.longest = longest
    self.expected = max(0, expected)
    self.ownProbeFailed = ownProbeFailed
    accusers = [accuser]
  }

  /// C: accusers besides the first.
  var confirmations: Int { accusers.count - 1 }

  var isConfirmed: Bool { confirmations >= max(1, expected) }

  /// Records another accuser; false when it is not news.
  mutating func confirm(by accuser: NodeName) -> Bool {
    guard accusers.count < MembershipLimits.accusersMax, confirmations < expected, !accusers.contains(accuser) else {
      return false
    }
    accusers.append(accuser)
    return true
  }

  mutating func allow(_ time: Duration) {
    allowance += time
    if let due = verifyAt { verifyAt = due + time }
  }

  var timeout: Duration {
    if expected == 0 { return shortest + allowance }
    let progress = Self.progress(confirmations: confirmations, expected: expected)
    let timeout = longest - (longest - shortest) * progress / 1000
    return max(shortest, timeout) + allowance
  }

  var deadline: Instant { startedAt + timeout }

  /// `1000 · log(C + 1) / log(K + 1)` for K up to 3, as a table so that all platforms agree.
  static func progress(confirmations: Int, expected: Int) -> Int {
    if confirmations >= expected { return 1000 }
    switch (confirmations, expected) {
    case (1, 2): return 631
    case (1, 3): return 500
    case (2, 3): return 792
    default: return 0
    }
  }
}
