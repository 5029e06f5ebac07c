import Primitives

/// Events in the order of virtual time; events of one instant keep the order in which they were added.
public struct EventQueue<Event> {
  private var heap: [(at: Instant, order: UInt64, event: Event)] = []
  private var added: UInt64 = 0

  public init() {}

  public var isEmpty: Bool { heap.isEmpty }
  public var nextInstant: Instant? { heap.first?.at }
  public var count: Int { heap.count }

  public mutating func add(_ event: Event, at instant: Instant) {
    heap.append((instant, added, event))
    added += 1
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard precedes(child, parent) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  public mutating func popFirst() -> (at: Instant, event: Event)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return (first.at, first.event) }
    heap[0] = last
    var parent = 0
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, smallest) { smallest = child }
      if smallest == parent { break }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
    return (first.at, first.event)
  }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    heap[a].at != heap[b].at ? heap[a].at < heap[b].at : heap[a].order < heap[b].order
  }
}
