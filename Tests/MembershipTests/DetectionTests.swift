import Membership
import Primitives
import Simulation
import Testing

/// Whole clusters of the SWIM core in virtual time.
@Suite struct DetectionTests {
  private func settled(_ size: Int, seed: UInt64, _ conditions: NetworkConditions = NetworkConditions()) throws
    -> MembershipCluster
  {
    var cluster = try MembershipCluster(size: size, seed: seed, conditions: conditions)
    _ = try #require(cluster.run(within: .seconds(10)) { $0.finallyAllAgreeOnLife }, "seed \(seed)")
    cluster.run(for: .seconds(1))
    return cluster
  }

  @Test(arguments: [2, 3, 5, 20], [true, false])
  func `a killed node is called dead by all within 1.5 s`(size: Int, resetsLinks: Bool) throws {
    for seed in Seeds.handful {
      var cluster = try settled(size, seed: seed)
      cluster.kill(size - 1, resetsLinks: resetsLinks)
      let took = try #require(cluster.run(within: .seconds(5)) { $0.eventuallyAllSee(size - 1, .dead) }, "seed \(seed)")
      #expect(took <= .milliseconds(1500), "seed \(seed)")
      #expect(cluster.falseConvictions.isEmpty, "seed \(seed)")
    }
  }

  @Test func `half of the nodes stalling for 100 to 900 ms convict nobody and are not convicted`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(8, seed: seed)
      var chance = SeededGenerator(seed: seed &+ 77)
      for _ in 0..<20 {
        for index in 0..<4 { cluster.network.pause(index, for: chance.duration(in: .milliseconds(100)...(.milliseconds(900)))) }
        cluster.run(for: .milliseconds(1000))
      }
      #expect(cluster.network.faults.delayedByPause > 0)
      let convictions = cluster.nodes.flatMap(\.history).filter { $0.change.new?.state == .dead }
      #expect(convictions.isEmpty, "seed \(seed)")
      #expect(cluster.run(within: .seconds(3)) { $0.finallyAllAgreeOnLife } != nil, "seed \(seed)")
    }
  }

  @Test func `nobody is convicted when a tenth of the datagrams is lost and a tenth doubled`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(10, seed: seed, NetworkConditions(loss: 0.1, duplication: 0.1))
      cluster.run(for: .seconds(20))
      #expect(cluster.network.faults.lost > 0 && cluster.network.faults.duplicated > 0)
      #expect(cluster.falseConvictions.isEmpty, "seed \(seed)")
    }
  }

  @Test func `nodes that cannot reach each other directly stay alive through others`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(5, seed: seed)
      cluster.cut(from: 0, to: 4)
      cluster.run(for: .seconds(20))
      #expect(cluster.network.faults.cut > 0)
      #expect(cluster.nodes[0].swim.member(cluster.nodes[4].name)?.state.isLive == true, "seed \(seed)")
    }
  }

  @Test func `a node paused for 20 s is called dead and comes back without a restart`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(5, seed: seed)
      cluster.network.pause(4, for: .seconds(20))
      cluster.run(for: .seconds(5))
      #expect(
        cluster.eventuallyAllSee(4, .dead) == false || cluster.nodes[0].swim.member(cluster.nodes[4].name)?.state == .dead)
      cluster.run(for: .seconds(15))
      #expect(cluster.run(within: .seconds(3)) { $0.finallyAllAgreeOnLife } != nil, "seed \(seed)")
      let byThePaused = cluster.nodes[4].history.filter { $0.change.new?.state == .dead }
      #expect(byThePaused.isEmpty, "the node that was away convicts nobody; seed \(seed)")
    }
  }

  @Test func `halves of a partition call each other dead and reunite after it heals`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(8, seed: seed)
      cluster.partition([[0, 1, 2, 3], [4, 5, 6, 7]])
      cluster.run(for: .seconds(30))
      for index in 0..<4 { #expect(cluster.nodes[index].swim.member(cluster.nodes[7].name)?.state == .dead, "seed \(seed)") }
      cluster.heal()
      #expect(cluster.run(within: .seconds(5)) { $0.finallyAllAgreeOnLife } != nil, "seed \(seed)")
    }
  }

  @Test func `a leaving node is seen as left by all and its leave completes`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(6, seed: seed)
      cluster.feed(5, .leave)
      let took = try #require(cluster.run(within: .seconds(2)) { $0.nodes[5].hasLeft && $0.eventuallyAllSee(5, .left) })
      #expect(took <= .milliseconds(1200), "seed \(seed)")
      cluster.run(for: .seconds(5))
      #expect(cluster.eventuallyAllSee(5, .left), "seed \(seed)")
    }
  }

  @Test func `a restarted node is taken back under its higher incarnation, which others verify first hand`() throws {
    for seed in Seeds.handful {
      var cluster = try settled(6, seed: seed)
      cluster.run(for: .seconds(5))
      cluster.kill(5, resetsLinks: true)
      _ = cluster.run(within: .seconds(3)) { $0.eventuallyAllSee(5, .dead) }
      cluster.restart(5)
      #expect(cluster.run(within: .seconds(3)) { $0.finallyAllAgreeOnLife } != nil, "seed \(seed)")
      for index in 0..<5 {
        let seen = cluster.nodes[index].swim.member(cluster.nodes[5].name)?.incarnation ?? 0
        #expect(seen == cluster.nodes[5].swim.local.incarnation && seen > 1_700_000_004_096, "seed \(seed)")
      }
    }
  }

  /// A hundred nodes take ten seconds in a debug build, so they wait for `MESH_SIMULATION_SEEDS`.
  @Test(arguments: Seeds.handful.count > 2 ? [40, 100] : [40])
  func `a large cluster agrees within 3 s of its start`(size: Int) throws {
    var cluster = try MembershipCluster(size: size, seed: 1)
    let took = try #require(cluster.run(within: .seconds(10)) { $0.finallyAllAgreeOnLife })
    #expect(took <= .seconds(3))
    #expect(cluster.largestDatagramBytes <= MembershipLimits.datagramBytesMax)
    #expect(cluster.falseConvictions.isEmpty)
  }

  @Test func `one seed gives one run`() throws {
    var first = try settled(5, seed: 9)
    var second = try settled(5, seed: 9)
    for index in 0..<2 {
      first.network.pause(index, for: .seconds(2))
      second.network.pause(index, for: .seconds(2))
    }
    first.run(for: .seconds(5))
    second.run(for: .seconds(5))
    #expect(first.nodes.map(\.swim) == second.nodes.map(\.swim))
    #expect(first.network.datagramsSent == second.network.datagramsSent)
  }
}
