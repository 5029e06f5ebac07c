import Consensus
import FoundationEssentials
import Primitives
import Simulation
import Testing

/// Whole clusters under drawn faults. MESH_SEEDS="5 6 7" runs those seeds instead of the fixed ones.
struct RaftSimulationTests {
  static let seeds: [UInt64] = {
    let wanted = ProcessInfo.processInfo.environment["MESH_SEEDS"]?.split(separator: " ").compactMap { UInt64($0) } ?? []
    return wanted.isEmpty ? [1, 2, 3, 4, 5, 6] : wanted
  }()

  @Test(arguments: seeds) func `always safe under faults, and eventually live after they end`(_ seed: UInt64) {
    var generator = SeededGenerator(seed: seed &* 7919)
    let faults = RaftFaults.drawn(from: &generator)
    var cluster = RaftCluster(voters: seed % 2 == 0 ? 3 : 5, learners: Int(seed % 3 == 0 ? 1 : 0), seed: seed, faults: faults)
    cluster.run(for: .seconds(10))
    #expect(cluster.checker.violations.isEmpty, "seed \(seed)")
    cluster.heal()
    let decided = cluster.checker.lastDecided
    let isLive = cluster.run(atMost: .seconds(8)) { cluster in
      cluster.names.indices.allSatisfy { cluster.control($0)?.applied.index ?? .zero > decided.advanced(by: 5) }
        && Role.allCases.allSatisfy { cluster.holders(of: $0).count == 1 }
    }
    #expect(isLive, "seed \(seed): no progress after healing\n\(cluster.summary)")
    #expect(cluster.checker.violations.isEmpty, "seed \(seed)")
    let counts = cluster.counts
    #expect(counts.lost + counts.duplicated > 0 && counts.blocked > 0, "seed \(seed): a fault had no effect")
    #expect(counts.crashes > 0 && counts.pauses > 0 && counts.elections > 0, "seed \(seed): a fault had no effect")
    #expect(counts.committed > 5 && counts.readsAnswered > 0, "seed \(seed): nothing was done")
  }

  @Test func `the same seed gives the same run`() {
    func run() -> ([String], RaftFaultCounts, LogIndex) {
      var generator = SeededGenerator(seed: 3)
      var cluster = RaftCluster(voters: 3, seed: 3, faults: .drawn(from: &generator))
      cluster.run(for: .seconds(5))
      return (cluster.checker.violations, cluster.counts, cluster.checker.lastDecided)
    }
    let (first, second) = (run(), run())
    #expect(first.1 == second.1)
    #expect(first.2 == second.2)
  }

  @Test func `the checker finds a disk that forgets`() {
    // Without a memory of its vote and log a server breaks what Raft promises: the canary for the checkers.
    var found = false
    for seed in UInt64(1)...20 where !found {
      var cluster = RaftCluster(voters: 3, seed: seed, faults: .none)
      cluster.run(for: .seconds(2))
      guard let leader = cluster.leader else { continue }
      let others = cluster.names.indices.filter { $0 != leader }
      cluster.crash(others[0])
      cluster.run(for: .milliseconds(200))
      cluster.forgetPromises(others[1])
      cluster.forgetPromises(leader)
      cluster.start(others[0])
      cluster.run(for: .seconds(4))
      found = !cluster.checker.violations.isEmpty
    }
    #expect(found)
  }

  @Test(arguments: [UInt64(1), 2, 3]) func `writes are accepted again soon after the leader was killed`(_ seed: UInt64) throws {
    var cluster = RaftCluster(voters: 3, seed: seed, faults: .none)
    cluster.run(for: .seconds(3))
    let leader = try #require(cluster.leader)
    let decided = cluster.checker.lastDecided
    cluster.crash(leader)
    let isLive = cluster.run(atMost: .milliseconds(500)) { $0.checker.lastDecided > decided.advanced(by: 2) }
    #expect(isLive, "seed \(seed)")
  }

  @Test(arguments: [UInt64(1), 2, 3]) func `roles spread over the nodes and move soon after their holder was killed`(
    _ seed: UInt64
  ) throws {
    var cluster = RaftCluster(voters: 3, seed: seed, faults: .none)
    let isSpread = cluster.run(atMost: .seconds(4)) { cluster in
      Set(Role.allCases.flatMap { cluster.holders(of: $0) }).count == 3
    }
    #expect(isSpread, "seed \(seed)")
    // A leader that has just begun waits for leases that it knows nothing of.
    cluster.run(for: .seconds(2))
    let leader = try #require(cluster.leader)
    let (role, victim) = try #require(
      Role.allCases.compactMap { role in cluster.holders(of: role).first.map { (role, $0) } }.first { $0.1 != leader })
    cluster.crash(victim)
    let hasMoved = cluster.run(atMost: .milliseconds(1200)) { cluster in
      cluster.holders(of: role).contains { $0 != victim }
    }
    #expect(hasMoved, "seed \(seed): \(role) did not move")
    #expect(cluster.checker.violations.isEmpty)
  }

  @Test func `a holder that was paused does not act when it wakes`() throws {
    var cluster = RaftCluster(voters: 3, seed: 8, faults: .none)
    _ = cluster.run(atMost: .seconds(4)) { cluster in Role.allCases.allSatisfy { cluster.holders(of: $0).count == 1 } }
    let role = Role.certificateAuthority
    let holder = try #require(cluster.holders(of: role).first)
    cluster.pause(holder, for: .seconds(4))
    let hasMoved = cluster.run(atMost: .seconds(3)) { !$0.holders(of: role).isEmpty }
    #expect(hasMoved)
    cluster.run(for: .seconds(4))
    #expect(cluster.holders(of: role).count == 1)
    #expect(cluster.holders(of: role) != [holder])
    #expect(cluster.checker.violations.isEmpty)
  }
}
