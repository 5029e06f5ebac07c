import Consensus
import Primitives

/// A cluster without faults that grows by join tokens and shrinks as members leave, under writes all the time.
public struct GrowthRun {
  /// What a size was like once the cluster had settled.
  public struct Stage: Sendable, Equatable {
    public let nodes: Int
    public let voters: Int
    /// Writes were answered at this size.
    public let isWritable: Bool
  }

  public private(set) var stages: [Stage] = []
  /// Promises that were broken, and what did not come about; empty when all is well.
  public private(set) var violations: [String] = []
  private var cluster: NodeCluster
  private static let patience: Duration = .seconds(60)

  /// Takes each of these sizes in turn, from one node.
  public init(sizes: [Int], votersWanted: Int, seed: UInt64) {
    cluster = NodeCluster(nodes: 1, seed: seed, faults: NodeFaults(), votersWanted: votersWanted)
    for size in sizes {
      while cluster.up.count < size, violations.isEmpty { grow() }
      while cluster.up.count > size, violations.isEmpty { shrink() }
      guard violations.isEmpty else { return }
      look()
    }
    violations += cluster.checker.all
  }

  private mutating func settle(_ what: String, _ condition: (NodeCluster) -> Bool) {
    guard !cluster.run(atMost: Self.patience, until: { condition($0) && $0.lacking.isEmpty }) else { return }
    violations = cluster.checker.all + [what] + cluster.lacking + [cluster.summary]
  }

  private mutating func grow() {
    let size = cluster.up.count + 1
    cluster.join()
    settle("no \(size) nodes") { $0.up.count == size && $0.members.count == size }
  }

  /// The leader goes from every other size, else the newest.
  private mutating func shrink() {
    let size = cluster.up.count - 1
    guard let newest = cluster.up.last, let leader = cluster.leader else { return violations.append("nobody can leave") }
    cluster.tell(.depart(size % 2 == 0 ? leader : newest, tries: 0))
    settle("not down to \(size) nodes") { $0.up.count == size }
  }

  private mutating func look() {
    let before = cluster.counts.writesAcknowledged
    let isWritable = cluster.run(atMost: .seconds(10)) { $0.counts.writesAcknowledged > before + 3 }
    let voters = cluster.leader.flatMap { cluster.nodes[$0].process?.raft.status.configuration.voters.count } ?? 0
    stages.append(Stage(nodes: cluster.up.count, voters: voters, isWritable: isWritable))
  }
}
