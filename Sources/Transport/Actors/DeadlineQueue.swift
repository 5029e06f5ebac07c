import Synchronization

/// Calls back when deadlines pass: a heap and one sleeping task for all calls of a system.
final class DeadlineQueue: Sendable {
  typealias Clock = ContinuousClock

  private struct Entry {
    var deadline: Clock.Instant
    var session: CallSession
    var call: UInt64
  }

  private struct State {
    /// A binary heap, the earliest first.
    var heap: [Entry] = []
    var sleepingUntil: Clock.Instant?
    var sleeper: Task<Void, Never>?
    var compactAt = 1_024
  }

  private let state = Mutex(State())

  func add(_ deadline: Clock.Instant, session: CallSession, call: UInt64) {
    state.withLock { state in
      if state.heap.count >= state.compactAt { Self.compact(&state) }
      state.heap.append(Entry(deadline: deadline, session: session, call: call))
      Self.siftUp(&state.heap)
      if let until = state.sleepingUntil, until <= deadline { return }
      sleep(until: deadline, &state)
    }
  }

  private func sleep(until deadline: Clock.Instant, _ state: inout State) {
    state.sleeper?.cancel()
    state.sleepingUntil = deadline
    state.sleeper = Task.detached { [weak self] in
      do { try await Clock().sleep(until: deadline) } catch { return }
      self?.expire()
    }
  }

  private func expire() {
    let now = Clock.now
    let due = state.withLock { state in
      var due: [Entry] = []
      while let first = state.heap.first, first.deadline <= now {
        due.append(first)
        Self.removeFirst(&state.heap)
      }
      state.sleepingUntil = nil
      state.sleeper = nil
      if let next = state.heap.first { sleep(until: next.deadline, &state) }
      return due
    }
    for entry in due { entry.session.expire(entry.call) }
  }

  func stop() {
    state.withLock { state in
      state.sleeper?.cancel()
      state.heap = []
    }
  }

  /// Answered calls leave their entry behind; it goes when they have become the larger part.
  private static func compact(_ state: inout State) {
    var live = state.heap.filter { $0.session.isPending($0.call) }
    live.sort { $0.deadline < $1.deadline }
    state.heap = live
    state.compactAt = max(1_024, live.count * 2)
  }

  private static func siftUp(_ heap: inout [Entry]) {
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].deadline < heap[parent].deadline else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private static func removeFirst(_ heap: inout [Entry]) {
    heap.swapAt(0, heap.count - 1)
    heap.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && heap[child].deadline < heap[smallest].deadline { smallest = child }
      guard smallest != parent else { return }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
  }
}
