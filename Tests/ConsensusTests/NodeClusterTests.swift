import Primitives
import Simulation
import Testing

/// Whole nodes under faults, and storms over Raft alone: fixed seeds and a fresh one each time. `make simulate` runs many more;
/// what they found has a test of its own, because a seed shows something else with every change.
struct NodeClusterTests {
  private static let fixed: [UInt64] = [6]

  @Test(arguments: fixed + [UInt64.random(in: 1_000_000...(1 << 40))])
  func `a cluster of whole nodes keeps every promise under faults and converges when they end`(_ seed: UInt64) {
    let run = NodeRun(seed: seed)
    let words = run.violations.joined(separator: "\n")
    #expect(run.violations.isEmpty, "make simulate SEED=\(seed)\n\(words)\n\(run.summary)")
    #expect(run.counts.crashes + run.counts.pauses > 0 && run.counts.lost > 0, "seed \(seed): a fault had no effect")
  }

  /// What these seeds found was wrong in the simulation: a leader of an earlier term was asked for what was decided in a later
  /// one (4), entries were applied while others still were (35), and a late write left a gap where a log had rotted.
  @Test(arguments: [4, 35, 471_644_047_766, UInt64.random(in: 1_000_000...(1 << 40))])
  func `servers of one log keep every promise while leaders come and go, and decide again when that ends`(_ seed: UInt64) {
    let run = RaftRun(seed: seed)
    #expect(run.violations.isEmpty, "simulate raft 1 \(seed)\n\(run.violations.joined(separator: "\n"))\n\(run.summary)")
  }

  @Test func `a cluster that grows to nine nodes and shrinks to one has up to seven voters, and is written to at every size`() {
    let run = GrowthRun(sizes: [1, 2, 3, 5, 7, 9, 7, 5, 3, 2, 1], votersWanted: 7, seed: 1)
    #expect(run.violations.isEmpty, "\(run.violations.joined(separator: "\n"))")
    #expect(run.stages.map(\.voters) == [1, 1, 3, 5, 7, 7, 7, 5, 3, 1, 1])
    #expect(run.stages.allSatisfy { $0.isWritable }, "\(run.stages)")
  }

  @Test func `one seed gives one run`() {
    let runs = (0..<2).map { _ in NodeRun(seed: 6, safety: .seconds(3), liveness: .zero, tellsStory: true) }
    #expect(runs[0].story == runs[1].story && runs[0].counts == runs[1].counts)
  }
}
