import MeshConfig
import Primitives
import Testing

@testable import Traffic

// The arithmetic behind the choice, each against a dumb twin or the sentence of its source.

@Suite struct BalancingMathTests {
  // MARK: Turns

  @Test(arguments: [[1, 1], [5, 1, 1], [3, 2], [100, 1], [7, 11, 13, 17], [1, 2, 4, 8, 16]] as [[UInt64]])
  func `after any number of turns each member has had its share but for two`(weights: [UInt64]) {
    var draws = SeededGenerator(seed: 4)
    var turns = EarliestDeadline(weights: weights, draws: &draws)
    let total = Double(weights.reduce(0, +))
    var counts = weights.map { _ in 0.0 }
    for turn in 1...5_000 {
      counts[turns.next()] += 1
      for (count, weight) in zip(counts, weights) {
        #expect(abs(count - Double(turn) * Double(weight) / total) <= 2, "\(weights) after \(turn)")
      }
    }
  }

  @Test func `the earliest deadline goes first`() {
    var draws = SeededGenerator(seed: 9)
    let weights: [UInt64] = [3, 1, 4, 1, 5, 9, 2, 6]
    var turns = EarliestDeadline(weights: weights, draws: &draws)
    // The twin looks at all.
    var again = SeededGenerator(seed: 9)
    var due = weights.map { again.unit() / Double($0) }
    for _ in 0..<2_000 {
      let earliest = due.indices.min { (due[$0], $0) < (due[$1], $1) } ?? 0
      #expect(turns.next() == earliest)
      due[earliest] += 1 / Double(weights[earliest])
    }
  }

  // MARK: Maglev, NSDI 2016

  private func keys(_ count: Int) -> [UInt64] { (1...UInt64(count)).map { StableHash.mix($0) } }
  private func ones(_ count: Int) -> [UInt32] { Array(repeating: 1, count: count) }

  /// The paper's pseudocode (3.4), with whole permutations.
  private func twin(_ keys: [UInt64], size: Int) -> [UInt32] {
    let order = keys.indices.sorted { keys[$0] < keys[$1] }
    let permutations = keys.map { key in
      let offset = Int(StableHash.mix(key) % UInt64(size))
      let skip = Int(StableHash.mix(key ^ 0x6D61_676C_6576) % UInt64(size - 1)) + 1
      return (0..<size).map { (offset + $0 * skip) % size }
    }
    var next = keys.map { _ in 0 }
    var entry = [Int](repeating: -1, count: size)
    var filled = 0
    while true {
      for host in order {
        var candidate = permutations[host][next[host]]
        while entry[candidate] >= 0 {
          next[host] += 1
          candidate = permutations[host][next[host]]
        }
        entry[candidate] = host
        next[host] += 1
        filled += 1
        if filled == size { return entry.map { UInt32($0) } }
      }
    }
  }

  @Test func `the table is the paper's`() {
    for (hosts, size) in [(1, 7), (3, 13), (5, 251), (10, 1009)] {
      #expect(MaglevTable(keys: keys(hosts), weights: ones(hosts), size: size).entries == twin(keys(hosts), size: size))
    }
  }

  @Test func `shares are even within one percent, and follow weights`() {
    func share(_ table: MaglevTable, _ host: Int) -> Double {
      Double(table.entries.count { $0 == UInt32(host) }) / Double(table.entries.count)
    }
    let even = MaglevTable(keys: keys(100), weights: ones(100), size: 65_537)
    for host in 0..<100 { #expect(abs(share(even, host) - 0.01) < 0.0001) }
    let weighted = MaglevTable(keys: keys(3), weights: [1, 2, 5], size: 65_537)
    for (host, weight) in [1.0, 2, 5].enumerated() { #expect(abs(share(weighted, host) - weight / 8) < 0.001) }
  }

  @Test func `when one of a hundred hosts goes few of the others' entries move`() {
    let all = keys(100)
    let before = MaglevTable(keys: all, weights: ones(100), size: 65_537)
    let after = MaglevTable(keys: Array(all.dropLast()), weights: ones(99), size: 65_537)
    let moved = zip(before.entries, after.entries).count { $0 != 99 && $0 != $1 }
    // The paper measures about 2 % for tables a hundred times larger than the number of hosts and less for larger ones.
    #expect(Double(moved) / 65_537 < 0.03)
  }

  @Test func `a host that may not be chosen moves its own keys alone, in both tables`() {
    let tables: [(UInt64, (Int) -> Bool) -> Int?] = [
      MaglevTable(keys: keys(20), weights: ones(20), size: 1009).host(for:accepts:),
      HashRing(keys: keys(20), weights: ones(20), minimumSize: 1024).host(for:accepts:),
    ]
    for table in tables {
      var generator = SeededGenerator(seed: 12)
      var takers: Set<Int> = []
      for _ in 0..<4_000 {
        let hash = generator.next()
        guard let before = table(hash, { _ in true }), let after = table(hash, { $0 != 7 }) else { continue }
        if before == 7 { takers.insert(after) } else { #expect(before == after) }
      }
      #expect(takers.count >= 10, "its keys spread")
      #expect(table(1) { _ in false } == nil)
      #expect(table(1) { $0 == 3 } == 3)
    }
  }

  @Test func `the list's order does not show in a table`() {
    let (all, size) = (keys(9), 1009)
    let there = MaglevTable(keys: all, weights: ones(9), size: size)
    let back = MaglevTable(keys: all.reversed(), weights: ones(9), size: size)
    #expect(there.entries.map { all[Int($0)] } == back.entries.map { all.reversed()[Int($0)] })
  }

  @Test func `a ring has at least its minimum of points, in proportion to weights`() {
    let ring = HashRing(keys: keys(3), weights: [1, 2, 5], minimumSize: 1024)
    var counts = [0, 0, 0]
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<40_000 { if let host = ring.host(for: generator.next(), accepts: { _ in true }) { counts[host] += 1 } }
    for (count, weight) in zip(counts, [1.0, 2, 5]) { #expect(abs(Double(count) / 40_000 - weight / 8) < 0.03, "\(counts)") }
  }

  // MARK: Slow start, Envoy

  @Test func `the weight grows with time to the power of 1 / aggression, from the minimum on`() {
    func factor(_ seconds: Int, minimum: Double = 10, aggression: Double = 1) -> Double {
      LoadBalancerPolicy.Warmup(duration: .seconds(100), minimumPercent: minimum, aggression: aggression)
        .factor(after: .seconds(seconds))
    }
    #expect(factor(0) == 0.1 && factor(50) == 0.5 && factor(100) == 1 && factor(1_000) == 1)
    #expect(factor(0, minimum: 0) == 0.01, "time counts from one second on")
    #expect(abs(factor(25, minimum: 0, aggression: 2) - 0.5) < 1e-9)
    #expect(abs(factor(50, minimum: 0, aggression: 0.5) - 0.25) < 1e-9)
    #expect(factor(10, minimum: 0, aggression: 1.5) > factor(10, minimum: 0))
  }

  @Test(arguments: [(0.25, 0.5, 0.5), (0.5, 2, 0.25), (0.5, 0, 1), (0, 3, 0), (1, 7.3, 1), (0.2, 1.5, 0.0894427191)])
  func `powers are right`(base: Double, exponent: Double, expected: Double) {
    #expect(abs(power(base, exponent) - expected) < 1e-9)
  }

  // MARK: Priorities, Envoy

  private func levels(_ health: [[EndpointHealth]], minHealthPercent: Int = 0) -> PriorityLevels {
    let endpoints = health.enumerated().flatMap { priority, list in
      list.enumerated().map { endpoint(UInt64(priority * 100 + $0 + 1), priority: priority, health: $1) }
    }
    let hosts = endpoints.map { SharedHost($0, warmsSince: nil) }
    return PriorityLevels(endpoints, hosts, minHealthPercent: minHealthPercent, warmup: nil, at: .zero)
  }

  private func some(_ healthy: Int, of total: Int) -> [EndpointHealth] {
    (0..<total).map { $0 < healthy ? .healthy : .unhealthy }
  }

  /// The table of Envoy's documentation on priority levels: percent healthy of P = 0 → traffic to P = 0 and P = 1.
  @Test(arguments: [(100, 100, 0), (72, 100, 0), (71, 99, 1), (50, 70, 30), (25, 35, 65)])
  func `a priority keeps 1.4 times what is healthy of it`(healthy: Int, near: Int, far: Int) {
    #expect(levels([some(healthy, of: 100), some(100, of: 100)]).levels.map(\.share) == (far == 0 ? [100, 0] : [near, far]))
  }

  @Test func `without enough health in all priorities together the load is shared in proportion`() {
    // 20 % and 10 % healthy: 28 and 14 of 42.
    #expect(levels([some(20, of: 100), some(10, of: 100)]).levels.map(\.share) == [67, 33])
  }

  @Test func `a priority panics only while the others cannot take the load`() {
    // 25 % + 35 % able (Envoy's documentation, panic threshold 50).
    #expect(!levels([some(25, of: 100), some(80, of: 100)], minHealthPercent: 50).isPanicking)
    let both = levels([some(5, of: 100), some(5, of: 100)], minHealthPercent: 50)
    #expect(both.isPanicking && both.levels.map(\.members.count) == [100, 100])
    #expect(both.levels.map(\.share) == [50, 50], "in total panic by the number of hosts")
  }

  @Test func `endpoints that leave or start do not count as failures`() {
    #expect(levels([[.healthy, .leaving, .leaving, .starting], some(4, of: 4)]).levels.map(\.share) == [100, 0])
  }

  // MARK: Localities

  @Test func `a locality keeps its share while 1.4 times what is well of it suffices, then gives way`() {
    func shares(well: Int) -> [Double] {
      var endpoints: [Endpoint] = []
      for (zone, share) in [("a", UInt32(800_000)), ("b", 200_000)] {
        for index in 0..<10 {
          var one = endpoint(
            UInt64(endpoints.count + 1), health: zone == "a" && index >= well ? .unhealthy : .healthy, locality: "r/\(zone)/1")
          one.localityShare = share
          endpoints.append(one)
        }
      }
      let hosts = endpoints.map { SharedHost($0, warmsSince: nil) }
      let level = PriorityLevels(endpoints, hosts, minHealthPercent: 0, warmup: nil, at: .zero).levels[0]
      let total = Double(level.totalWeight)
      let ofA = level.members.enumerated().filter { $1 < 10 }.reduce(0) { $0 + Double(level.weight(at: $1.offset)) }
      return [ofA / total, 1 - ofA / total]
    }
    #expect(abs(shares(well: 10)[0] - 0.8) < 0.001)
    #expect(abs(shares(well: 8)[0] - 0.8) < 0.001)
    // Half of a: 0.7 × 80 against 20.
    #expect(abs(shares(well: 5)[0] - 56.0 / 76) < 0.001)
    #expect(shares(well: 0) == [0, 1])
  }
}
