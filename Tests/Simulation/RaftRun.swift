import Consensus
import Primitives

/// One seed of a storm over Raft servers alone: hundreds of elections, then their end, then what has to come about.
public struct RaftRun: Sendable {
  public let seed: UInt64
  public let violations: [String]
  public let counts: RaftFaultCounts
  public let summary: String

  public init(seed: UInt64, safety: Duration = .seconds(20), liveness: Duration = .seconds(20)) {
    self.seed = seed
    var generator = SeededGenerator(seed: seed)
    let faults = RaftFaults.storm(from: &generator)
    let voters = generator.chance(0.5) ? 3 : 5
    let learners = faults.membershipInterval == nil ? 0 : 2
    var cluster = RaftCluster(voters: voters, learners: learners, seed: seed, faults: faults)
    cluster.run(for: safety)
    cluster.heal()
    var violations = cluster.checker.violations
    if violations.isEmpty, !cluster.run(atMost: liveness, until: { $0.hasConverged }) {
      violations = cluster.checker.violations + ["convergence: nothing is decided by all members"]
    }
    self.violations = violations
    counts = cluster.counts
    summary = cluster.summary
  }
}

extension RaftCluster {
  /// Somebody leads, and every member has applied what is decided in its term.
  var hasConverged: Bool {
    guard let leader, let status = status(leader) else { return false }
    return checker.decided[checker.lastDecided]?.term == status.term
      && names.indices.allSatisfy { index in
        guard status.configuration.contains(names[index]) else { return true }
        return control(index)?.applied.index ?? .zero >= checker.lastDecided.previous.previous
      }
  }
}
