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
  private(set) var levels: [Level] = []
  /// True while health is ignored because too few endpoints are healthy.
  private(set) var isPanicking = false
  /// When the passing of time alone changes this value.
  private(set) var validUntil = Instant.distantFuture

  init(_ hosts: [HostState], _ policy: OutlierPolicy?, warmup: Duration?, at now: Instant) {
    let usable = Self.usable(hosts, minHealthPercent: policy?.minHealthPercent ?? 0, isPanicking: &isPanicking)
    for index in usable {
      guard let until = hosts[index].coolsUntil, now < until else { continue }
      validUntil = min(validUntil, until)
    }
    let rested = usable.filter { !hosts[$0].isCooling(at: now) }
    // When every endpoint has just failed, trying one is better than failing for sure.
    let available = rested.isEmpty ? usable : rested
    let weights = Self.weights(hosts, warmup: warmup, at: now, validUntil: &validUntil)
    for priority in Set(available.map { hosts[$0].priority }).sorted() {
      var level = Level(members: available.filter { hosts[$0].priority == priority })
      level.setWeights(level.members.map { weights[$0] })
      let total = hosts.count { $0.priority == priority }
      let usableHere = usable.count { hosts[$0].priority == priority }
      level.share = min(100, usableHere * TrafficLimits.overprovisioningPercent / max(1, total))
      levels.append(level)
    }
    spreadShares()
  }

  /// Healthy and not ejected; below the panic threshold every endpoint that is not leaving; without any of those, the ones
  /// whose node is merely out of sight.
  private static func usable(_ hosts: [HostState], minHealthPercent: Int, isPanicking: inout Bool) -> [Int] {
    let healthy = hosts.indices.filter { hosts[$0].health == .healthy && !hosts[$0].isEjected }
    if healthy.count * 100 < minHealthPercent * hosts.count {
      isPanicking = true
      return hosts.indices.filter { hosts[$0].health != .leaving }
    }
    return healthy.isEmpty ? hosts.indices.filter { hosts[$0].health == .unreachable && !hosts[$0].isEjected } : healthy
  }

  /// Weights in thousandths; an endpoint in slow start grows from a tenth to its full weight.
  private static func weights(
    _ hosts: [HostState], warmup: Duration?, at now: Instant, validUntil: inout Instant
  ) -> [UInt64] {
    guard let warmup, warmup > .zero else { return hosts.map { UInt64(max(1, $0.weight)) } }
    var weights: [UInt64] = []
    for host in hosts {
      var permille: UInt64 = 1000
      if let added = host.addedAt, now < added + warmup {
        permille = max(100, UInt64(1000 * max(0, (now - added).inSeconds) / warmup.inSeconds))
        validUntil = min(validUntil, now + warmup / 20)
      }
      weights.append(UInt64(max(1, host.weight)) * permille)
    }
    return weights
  }

  /// Each priority takes what the nearer ones cannot; if all together cannot take everything, they share in proportion (Envoy).
  private mutating func spreadShares() {
    let able = min(100, levels.reduce(0) { $0 + $1.share })
    guard able > 0 else { return }
    var left = 100
    for index in levels.indices {
      let share = min(left, levels[index].share * 100 / able)
      levels[index].share = share
      left -= share
    }
    if left > 0, !levels.isEmpty { levels[0].share += left }
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
