import MeshConfig
import Primitives

/// Where keys lead: a ring or a Maglev table over the endpoints of a cluster. Made from endpoint keys and weights alone, so
/// every worker and every node gets the same; endpoints that may not be chosen are passed over without moving other keys.
final class HashTable: Sendable {
  private enum Form: Sendable {
    case ring(HashRing)
    case maglev(MaglevTable)
  }
  private let form: Form
  private let kind: LoadBalancerPolicy.HashTable
  private let keys: [UInt64]
  private let weights: [UInt32]

  private init(_ kind: LoadBalancerPolicy.HashTable, _ keys: [UInt64], _ weights: [UInt32]) {
    self.kind = kind
    self.keys = keys
    self.weights = weights
    switch kind {
    case .ring(let minimumSize): form = .ring(HashRing(keys: keys, weights: weights, minimumSize: minimumSize))
    case .maglev(let size): form = .maglev(MaglevTable(keys: keys, weights: weights, size: size))
    }
  }

  /// The table of a cluster with a consistent-hash policy; `old` when it would be the same.
  static func of(_ cluster: Cluster, after old: HashTable?) -> HashTable? {
    guard case .consistentHash(_, let kind) = cluster.loadBalancer.algorithm, !cluster.endpoints.isEmpty else { return nil }
    let keys = cluster.endpoints.map(\.key)
    let weights = cluster.endpoints.map { max(1, $0.weight) }
    if let old, old.kind == kind, old.keys == keys, old.weights == weights { return old }
    return HashTable(kind, keys, weights)
  }

  /// The host for a key among those that `accepts`; nil when none is.
  func host(for hash: UInt64, accepts: (Int) -> Bool) -> Int? {
    switch form {
    case .ring(let ring): ring.host(for: hash, accepts: accepts)
    case .maglev(let table): table.host(for: hash, accepts: accepts)
    }
  }
}

/// A ring of points: each endpoint owns a number of them in proportion to its weight, and a key belongs to the first point
/// at or after it (Karger et al. 1997; sizes as Envoy's ketama ring).
struct HashRing: Sendable {
  private let points: [(hash: UInt64, host: Int)]

  init(keys: [UInt64], weights: [UInt32], minimumSize: Int) {
    let total = Double(weights.reduce(UInt64(0)) { $0 + UInt64($1) })
    let smallest = Double(weights.min() ?? 1) / max(1, total)
    // The lightest endpoint gets a whole number of points, and the ring at least `minimumSize` (Envoy, ring_hash_lb.cc).
    let scale = min(
      (smallest * Double(minimumSize)).rounded(.up) / smallest, Double(max(TrafficLimits.ringPointsMax, keys.count)))
    var points: [(hash: UInt64, host: Int)] = []
    points.reserveCapacity(Int(scale.rounded(.up)) + keys.count)
    var target = 0.0
    for (host, key) in keys.enumerated() {
      target += scale * Double(weights[host]) / max(1, total)
      var replica: UInt64 = 0
      while Double(points.count) < target {
        replica += 1
        points.append((StableHash.mix(key ^ StableHash.mix(replica)), host))
      }
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

/// Maglev's lookup table: every endpoint fills it along a permutation of its own, turn by turn, so that shares are even and few
/// entries move when endpoints come or go (Eisenbud et al., "Maglev", NSDI 2016, 3.4; weights as in Envoy's maglev_lb.cc).
struct MaglevTable: Sendable {
  /// Host by entry; 32 bits hold every index there can be.
  let entries: [UInt32]

  /// - Parameter size: a prime above the number of endpoints.
  init(keys: [UInt64], weights: [UInt32], size: Int) {
    let size = max(2, size)
    var entries = [UInt32](repeating: .max, count: size)
    // Built in the order of keys, so that the order of the list does not show.
    let order = keys.indices.sorted { keys[$0] < keys[$1] }
    let heaviest = Double(weights.max() ?? 1)
    var next = keys.map { Int(StableHash.mix($0) % UInt64(size)) }
    let skip = keys.map { Int(StableHash.mix($0 ^ 0x6D61_676C_6576) % UInt64(size - 1)) + 1 }
    var turn = weights.map { _ in 0.0 }
    var filled = 0
    var round = 0.0
    while filled < size, !order.isEmpty {
      round += 1
      for host in order {
        // A lighter endpoint takes its turn less often.
        guard round * Double(weights[host]) >= turn[host] else { continue }
        turn[host] += heaviest
        while entries[next[host]] != .max { next[host] = (next[host] + skip[host]) % size }
        entries[next[host]] = UInt32(truncatingIfNeeded: host)
        filled += 1
        if filled == size { break }
      }
    }
    self.entries = entries
  }

  /// The entry's host; when it may not be chosen, the host of another entry that the key alone decides.
  func host(for hash: UInt64, accepts: (Int) -> Bool) -> Int? {
    var probe = hash
    for _ in 0..<TrafficLimits.maglevProbesMax {
      let host = Int(entries[Int(probe % UInt64(entries.count))])
      if accepts(host) { return host }
      probe = StableHash.mix(probe)
    }
    let start = Int(hash % UInt64(entries.count))
    for step in entries.indices {
      let host = Int(entries[(start + step) % entries.count])
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
