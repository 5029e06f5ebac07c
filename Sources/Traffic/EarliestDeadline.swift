import Primitives

/// Weighted turns: each member's next turn is due 1/weight after its last, and the earliest goes first (Envoy's EDF scheduler).
/// After any number of picks each member has had its share but for one or two.
struct EarliestDeadline {
  private struct Turn {
    var deadline: Double
    var member: Int
  }
  /// A binary heap by deadline.
  private var heap: [Turn] = []
  private let weights: [Double]

  /// - Parameter draws: places the first turns within their period, so that workers do not march in step.
  init(weights: [UInt64], draws: inout SeededGenerator) {
    self.weights = weights.map { Double(max(1, $0)) }
    for (member, weight) in self.weights.enumerated() { heap.append(Turn(deadline: draws.unit() / weight, member: member)) }
    for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }

  /// The member whose turn it is; there must be one.
  mutating func next() -> Int {
    let member = heap[0].member
    heap[0].deadline += 1 / weights[member]
    sink(0)
    return member
  }

  private mutating func sink(_ start: Int) {
    var index = start
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2] where child < heap.count && isEarlier(child, least) { least = child }
      if least == index { return }
      heap.swapAt(index, least)
      index = least
    }
  }

  private func isEarlier(_ a: Int, _ b: Int) -> Bool {
    (heap[a].deadline, heap[a].member) < (heap[b].deadline, heap[b].member)
  }
}
