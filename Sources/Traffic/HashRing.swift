import MeshConfig
import Primitives

/// A ring of points: each endpoint owns a number of them in proportion to its weight, and a key belongs to the first point
/// at or after it. Points depend on endpoint keys alone, so every worker and every node builds the same ring.
struct HashRing: Sendable {
  private let points: [(hash: UInt64, host: Int)]

  init(keys: [UInt64], weights: [UInt32], minimumSize: Int) {
    let size = min(max(minimumSize, keys.count), TrafficLimits.ringPointsMax)
    let total = weights.reduce(UInt64(0)) { $0 + UInt64(max(1, $1)) }
    var points: [(hash: UInt64, host: Int)] = []
    points.reserveCapacity(size + keys.count)
    for (host, key) in keys.enumerated() {
      let share = UInt64(size) * UInt64(max(1, weights[host])) / max(1, total)
      for replica in 0..<max(1, share) { points.append((StableHash.mix(key ^ StableHash.mix(replica &+ 1)), host)) }
    }
    self.points = points.sorted { ($0.hash, keys[$0.host]) < ($1.hash, keys[$1.host]) }
  }

  /// The first host clockwise from `hash` that `accepts`; nil when none does.
  func host(for hash: UInt64, accepts: (Int) -> Bool) -> Int? {
    var low = 0
    var high = points.count
    while low < high {
      let middle = (low + high) / 2
      if points[middle].hash < hash { low = middle + 1 } else { high = middle }
    }
    for step in 0..<points.count {
      let host = points[(low + step) % points.count].host
      if accepts(host) { return host }
    }
    return nil
  }
}

/// A hash that is the same in every process and release (FNV-1a with SplitMix64's finaliser); not against an adversary.
enum StableHash {
  static func mix(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  static func hash(_ bytes: Span<UInt8>) -> UInt64 {
    var h: UInt64 = 0xCBF2_9CE4_8422_2325
    for index in bytes.indices { h = (h ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01B3 }
    return mix(h)
  }
}
