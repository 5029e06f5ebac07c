import Transport

/// Lets one change after another be decided and put into the log, in the order of arrival.
///
/// An actor is free for others while it awaits; changes that read the same state would overtake and refuse each other.
struct SubmissionOrder {
  private var isTaken = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  /// Changes that may wait; each can hold a whole document set in memory.
  static let waitingMax = 256

  /// Takes the turn, or stands in the queue with `wait`. False: it is taken.
  mutating func tryTake() throws(MeshError) -> Bool {
    guard isTaken else {
      isTaken = true
      return true
    }
    guard waiting.count < Self.waitingMax else {
      throw MeshError(.overloaded, "\(Self.waitingMax) changes wait already; try again later", retryable: true)
    }
    return false
  }

  mutating func wait(_ continuation: CheckedContinuation<Void, Never>) { waiting.append(continuation) }

  /// Hands the turn to who came next.
  mutating func leave() {
    guard !waiting.isEmpty else {
      isTaken = false
      return
    }
    waiting.removeFirst().resume()
  }
}
