import Primitives
import Simulation
import Testing

/// Whole nodes under faults: a fixed handful of seeds, and a fresh one each time.
struct NodeClusterTests {
  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
  func `a cluster of whole nodes keeps every promise under faults and converges when they end`(_ seed: UInt64) {
    let run = NodeRun(seed: seed, safety: .seconds(15))
    #expect(run.violations.isEmpty, "seed \(seed)\n\(run.summary)")
  }

  @Test func `so does one of a seed that nobody has seen`() {
    let seed = UInt64.random(in: 1_000_000 ... .max)
    let run = NodeRun(seed: seed, safety: .seconds(15))
    #expect(run.violations.isEmpty, "seed \(seed)\n\(run.summary)")
  }
}
