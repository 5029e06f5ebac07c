import MeshConfig
import Primitives

/// Endpoints that may be chosen now, by locality priority, with the share of the load each priority gets.
///
/// Computed when something changed, not per request.
struct PriorityLevels {
  struct Level {
    /// Indices of hosts, ascending.
    var members: [Int] = []
    /// Running sums of the members' weights; empty when all weights are equal.
    var cumulativeWeights: [UInt64] = []
    /// Percent of the load.
    var share = 0
    /// Whose turn it is: a count for equal weights, else a schedule. Drawn on first use.
    var turn: UInt64?
    var schedule: EarliestDeadline?

    var totalWeight: UInt64 { cumulativeWeights.last ?? UInt64(members.count) }

    func weight(at index: Int) -> UInt64 {
      guard !cumulativeWeights.isEmpty else { return 1 }
      return cumulativeWeights[index] - (index > 0 ? cumulativeWeights[index - 1] : 0)
    }

    /// Where a weight's range starts.
    func start(at index: Int) -> UInt64 {
      cumulativeWeights.isEmpty ? UInt64(index) : index > 0 ? cumulativeWeights[index - 1] : 0
    }

    /// The member whose weight covers `point`, which is below the total.
    func member(at point: UInt64) -> Int {
      guard !cumulativeWeights.isEmpty else { return Int(min(point, UInt64(members.count - 1))) }
      var low = 0
      var high = cumulativeWeights.count - 1
      while low < high {
        let middle = (low + high) / 2
        if cumulativeWeights[middle] > point { high = middle } else { low = middle + 1 }
      }
      return low
    }
  }

  /// Nearest first; priorities without members are left out. Shares sum to 100 unless empty.
  var levels: [Level] = []
  /// True while some priority ignores health because too few of its endpoints are healthy.
  private(set) var isPanicking = false
  /// When the passing of time alone changes this value.
  private(set) var validUntil = Instant.distantFuture

  /// - Parameter hosts: what is known of `endpoints`, in the same order.
  init(
    _ endpoints: [Endpoint], _ hosts: [SharedHost], minHealthPercent: Int, warmup: LoadBalancerPolicy.Warmup?, at now: Instant
  ) {
    var ranks = Ranks(endpoints, hosts)
    ranks.panic(below: minHealthPercent)
    isPanicking = ranks.all.contains(where: \.isPanicking)
    if ranks.isEmpty { ranks.useUnreachable(endpoints, hosts) }
    let resting = Set(
      ranks.all.flatMap(\.usable).filter { index in
        guard let until = hosts[index].rest(at: now) else { return false }
        validUntil = min(validUntil, until)
        return true
      })
    // When every endpoint has just failed, trying one is better than failing for sure.
    let mustUseResting = ranks.all.allSatisfy { $0.usable.allSatisfy(resting.contains) }
    for rank in ranks.all {
      let members = mustUseResting ? rank.usable : rank.usable.filter { !resting.contains($0) }
      guard !members.isEmpty else { continue }
      var level = Level(members: members, share: rank.load)
      level.setWeights(
        Weights(endpoints, hosts, warmup, now, validUntil: &validUntil).of(members, in: rank, endpoints))
      levels.append(level)
    }
    spreadShares()
  }

  /// Each priority takes what the nearer ones cannot; if all together cannot take everything, they share in proportion (Envoy,
  /// "priority levels").
  private mutating func spreadShares() {
    let able = min(100, levels.reduce(0) { $0 + $1.share })
    guard able > 0 else {
      if !levels.isEmpty { levels[0].share = 100 }
      return
    }
    var left = 100
    for index in levels.indices {
      let share = min(left, levels[index].share * 100 / able)
      levels[index].share = share
      left -= share
    }
    if left > 0 { levels[0].share += left }
  }

  /// The level that takes `percent` (0..<100).
  func level(taking percent: Int) -> Int {
    var rest = percent
    for index in levels.indices {
      if rest < levels[index].share { return index }
      rest -= levels[index].share
    }
    return max(0, levels.count - 1)
  }
}

/// The endpoints of one priority.
private struct Rank {
  let priority: Int
  /// Those that count: what starts or leaves has no part in the judgement.
  var present: [Int] = []
  var usable: [Int] = []
  var isPanicking = false
  /// Percent of all load this priority could take, with the overprovisioning factor; in panic by its size alone.
  var load = 0

  var availability: Int { min(100, usable.count * TrafficLimits.overprovisioningPercent / max(1, present.count)) }
}

/// The priorities, nearest first.
private struct Ranks {
  var all: [Rank] = []

  var isEmpty: Bool { all.allSatisfy(\.usable.isEmpty) }

  init(_ endpoints: [Endpoint], _ hosts: [SharedHost]) {
    for priority in Set(endpoints.map(\.priority)).sorted() { all.append(Rank(priority: priority)) }
    let index = Dictionary(all.enumerated().map { ($1.priority, $0) }) { first, _ in first }
    for (host, endpoint) in endpoints.enumerated() {
      guard endpoint.health != .leaving, endpoint.health != .starting, let rank = index[endpoint.priority] else { continue }
      all[rank].present.append(host)
      if endpoint.health == .healthy, !hosts[host].isEjected { all[rank].usable.append(host) }
    }
    for rank in all.indices { all[rank].load = all[rank].availability }
  }

  /// Below the threshold a priority ignores health, unless all priorities together can take the whole load; when every
  /// priority does, the load is spread by their sizes (Envoy, "panic threshold").
  mutating func panic(below percent: Int) {
    let able = min(100, all.reduce(0) { $0 + $1.load })
    guard percent > 0, able < 100 else { return }
    for rank in all.indices where all[rank].usable.count * 100 < percent * all[rank].present.count {
      all[rank].isPanicking = true
      all[rank].usable = all[rank].present
    }
    let total = all.reduce(0) { $0 + $1.present.count }
    guard total > 0, all.allSatisfy({ $0.isPanicking || $0.present.isEmpty }) else { return }
    for rank in all.indices { all[rank].load = max(1, all[rank].present.count * 100 / total) }
  }

  /// Without any healthy endpoint, those whose node is merely out of sight.
  mutating func useUnreachable(_ endpoints: [Endpoint], _ hosts: [SharedHost]) {
    for rank in all.indices {
      all[rank].usable = all[rank].present.filter { endpoints[$0].health == .unreachable && !hosts[$0].isEjected }
      all[rank].load = all[rank].availability
    }
  }
}

/// Weights of endpoints: their own, slow start, and the shares of localities.
private struct Weights {
  private let warmup: LoadBalancerPolicy.Warmup?
  private let factors: [Int: Double]

  init(
    _ endpoints: [Endpoint], _ hosts: [SharedHost], _ warmup: LoadBalancerPolicy.Warmup?, _ now: Instant,
    validUntil: inout Instant
  ) {
    self.warmup = warmup
    var factors: [Int: Double] = [:]
    if let warmup, warmup.duration > .zero {
      for (index, host) in hosts.enumerated() {
        guard let since = host.warmingSince(), now < since + warmup.duration else { continue }
        factors[index] = warmup.factor(after: now - since)
        validUntil = min(validUntil, now + warmup.duration / TrafficLimits.warmupSteps)
      }
    }
    self.factors = factors
  }

  /// Weights of `members`, all endpoints of `rank` that may be chosen.
  func of(_ members: [Int], in rank: Rank, _ endpoints: [Endpoint]) -> [UInt64] {
    let scale = factors.isEmpty ? 1 : Double(TrafficLimits.weightScale)
    let own = members.map { index in
      UInt64(max(1, Double(max(1, endpoints[index].weight)) * scale * (factors[index] ?? 1)))
    }
    guard members.contains(where: { endpoints[$0].localityShare > 0 }) else { return own }
    return byLocality(members, own, rank, endpoints)
  }

  /// A locality's weight is its share × min(1, 1.4 × the part of it that can be chosen), spread over its endpoints (Envoy,
  /// "locality weighted load balancing").
  private func byLocality(_ members: [Int], _ own: [UInt64], _ rank: Rank, _ endpoints: [Endpoint]) -> [UInt64] {
    var present: [Locality: Int] = [:]
    var chosen: [Locality: (count: Int, weight: UInt64)] = [:]
    for index in rank.present { present[endpoints[index].locality, default: 0] += 1 }
    for (index, weight) in zip(members, own) {
      let sum = chosen[endpoints[index].locality] ?? (0, 0)
      chosen[endpoints[index].locality] = (sum.count + 1, sum.weight + weight)
    }
    return zip(members, own).map { index, weight in
      let locality = endpoints[index].locality
      let here = chosen[locality] ?? (1, weight)
      let able = min(1, Double(here.count) / Double(max(1, present[locality] ?? here.count)) * TrafficLimits.overprovisioning)
      let share = Double(endpoints[index].localityShare) * able * Double(weight) / Double(max(1, here.weight))
      return UInt64(max(1, share * Double(TrafficLimits.weightScale)))
    }
  }
}

extension LoadBalancerPolicy.Warmup {
  /// max(minimum, time^(1/aggression)), time counted from 1 s on as a part of the duration (Envoy, "slow start").
  func factor(after elapsed: Duration) -> Double {
    let time = min(1, max(1, elapsed.inSeconds) / max(1e-9, duration.inSeconds))
    return max(minimumPercent / 100, power(time, 1 / max(1e-3, aggression)))
  }
}

/// `base` to the power of `exponent`, for a base in 0...1 and an exponent in 0...1000: whole powers by multiplication, the
/// fraction by square roots.
func power(_ base: Double, _ exponent: Double) -> Double {
  let whole = exponent.rounded(.down)
  var result = 1.0
  for _ in 0..<Int(min(1000, whole)) { result *= base }
  var fraction = exponent - whole
  var root = base
  for _ in 0..<50 where fraction > 0 {
    root = root.squareRoot()
    fraction *= 2
    if fraction >= 1 {
      result *= root
      fraction -= 1
    }
  }
  return result
}

extension PriorityLevels.Level {
  fileprivate mutating func setWeights(_ weights: [UInt64]) {
    guard let first = weights.first, weights.contains(where: { $0 != first }) else { return }
    var sum: UInt64 = 0
    cumulativeWeights = weights.map { weight in
      sum += weight
      return sum
    }
  }
}
