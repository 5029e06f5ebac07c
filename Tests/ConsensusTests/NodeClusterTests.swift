import Primitives
import Simulation
import Testing

/// Whole nodes under faults: seeds that once showed a bug, told in docs/reliability.md, and a fresh one each time. `make simulate`
/// runs many more.
struct NodeClusterTests {
  private static let fixed: [UInt64] = [6, 22, 83]

  @Test(arguments: fixed + [UInt64.random(in: 1_000_000...(1 << 40))])
  func `a cluster of whole nodes keeps every promise under faults and converges when they end`(_ seed: UInt64) {
    let run = NodeRun(seed: seed)
    let words = run.violations.joined(separator: "\n")
    #expect(run.violations.isEmpty, "make simulate SEED=\(seed)\n\(words)\n\(run.summary)")
    #expect(run.counts.crashes + run.counts.pauses > 0 && run.counts.lost > 0, "seed \(seed): a fault had no effect")
  }

  @Test func `one seed gives one run`() {
    let runs = (0..<2).map { _ in NodeRun(seed: 6, safety: .seconds(4), tellsStory: true) }
    #expect(runs[0].story == runs[1].story && runs[0].counts == runs[1].counts)
  }
}
