import MeshConfig
import Primitives
import Testing

@testable import Traffic

@Suite struct RequestWindowTests {
  private static func at(_ milliseconds: Int64) -> Instant { .zero + .milliseconds(milliseconds) }

  @Test func `requests count for the interval after they began, to a tenth of it`() {
    let window = RequestWindow()
    let interval = Duration.seconds(10)
    for time in [0, 500, 4_000] { window.began(at: Self.at(Int64(time)), interval: interval) }
    #expect(window.requests(at: Self.at(4_100), interval: interval) == 3)
    #expect(window.requests(at: Self.at(9_999), interval: interval) == 3)
    #expect(window.requests(at: Self.at(10_001), interval: interval) == 1)
    #expect(window.requests(at: Self.at(14_001), interval: interval) == 0)
  }

  @Test func `a random sequence counts as a list of times would`() {
    var draws = SeededGenerator(seed: 11)
    let window = RequestWindow()
    let interval = Duration.seconds(1)
    var times: [Int64] = []
    var now: Int64 = 0
    for _ in 0..<5_000 {
      now += Int64(draws.below(30))
      if draws.below(3) > 0 {
        window.began(at: Self.at(now), interval: interval)
        times.append(now)
      }
      let expected = times.count { $0 / 100 > now / 100 - 10 }
      #expect(window.requests(at: Self.at(now), interval: interval) == expected)
    }
  }

  @Test func `with an interval the budget is a share of what began within it`() {
    let load = SharedLoad(now: .zero, interval: nil)
    let budget = ConnectionPoolPolicy.RetryBudget(percent: 20, minConcurrency: 1, interval: .seconds(10))
    for _ in 0..<20 { load.note(budget, at: Self.at(1_000)) }
    for _ in 0..<3 { load.beginRetry() }
    func allows(_ budget: ConnectionPoolPolicy.RetryBudget, at time: Int64) -> Bool {
      load.current(for: budget, at: Self.at(time)).allowsRetry(isUnsent: false, maxRetries: nil, budget: budget)
    }
    #expect(allows(budget, at: 2_000))
    load.beginRetry()
    #expect(!allows(budget, at: 2_000))
    #expect(!allows(budget, at: 20_000))
    var without = budget
    without.interval = nil
    #expect(!allows(without, at: 2_000))
  }
}
