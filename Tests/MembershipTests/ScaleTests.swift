import Primitives
import Simulation
import Testing

/// A small run of what `simulate scale` measures, so that it goes on working.
struct ScaleTests {
  @Test(arguments: [true, false]) func `every node learns of a join and of a death`(hasRegistry: Bool) throws {
    var run = try ScaleRun(size: 64, hasRegistry: hasRegistry)
    run.run(for: .seconds(hasRegistry ? 20 : 2))
    let rest = run.cost(over: .seconds(5), changeEvery: nil)
    // One probe in 200 ms and its answer.
    #expect((9...13).contains(rest.datagrams), "\(rest)")
    for spread in [run.joins(1, within: .seconds(20)), run.deaths(1, within: .seconds(20))] {
      #expect(spread.missing == 0 && spread.delays.count > 50)
    }
    if hasRegistry { #expect(run.rows(1, within: .seconds(20)).missing == 0) }
    #expect(run.mistaken == 0)
  }
}
