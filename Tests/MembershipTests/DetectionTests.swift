import Membership
import Primitives
import Simulation
import Testing

@Suite struct DetectionTests {
  @Test(arguments: [3, 5, 20]) func `a killed node is called dead by all within 1.5 s`(size: Int) throws {
    for seed in Seeds.handful {
      var cluster = try MembershipCluster(size: size, seed: seed)
      _ = try #require(cluster.run(within: .seconds(5)) { $0.finallyAllAgreeOnLife }, "seed \(seed)")
      cluster.run(for: .seconds(2))
      cluster.kill(size - 1, resetsLinks: false)
      let took = try #require(cluster.run(within: .seconds(5)) { $0.eventuallyAllSee(size - 1, .dead) }, "seed \(seed)")
      #expect(took <= .milliseconds(1500), "seed \(seed)")
      #expect(cluster.falseConvictions.isEmpty, "seed \(seed)")
    }
  }
}
