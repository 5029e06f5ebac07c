/// Latencies in nanoseconds with a relative error below 1 %: 128 buckets for each power of two.
struct Histogram {
  private static let bits = 7
  private var counts = [UInt64](repeating: 0, count: 64 << Histogram.bits)
  private(set) var total: UInt64 = 0

  mutating func add(_ value: UInt64) {
    counts[Self.bucket(value)] += 1
    total += 1
  }

  private static func bucket(_ value: UInt64) -> Int {
    let exponent = max(0, 63 - value.leadingZeroBitCount - bits)
    return (exponent << bits) + Int(value >> UInt64(exponent))
  }

  private static func middle(_ bucket: Int) -> UInt64 {
    let exponent = max(0, (bucket >> bits) - 1)
    let low = UInt64(bucket - (exponent << bits)) << UInt64(exponent)
    return low + (UInt64(1) << UInt64(exponent)) / 2
  }

  /// The value that `share` (0…1) of all are not above.
  func quantile(_ share: Double) -> UInt64 {
    let wanted = max(1, UInt64((Double(total) * share).rounded(.up)))
    var seen: UInt64 = 0
    for bucket in counts.indices where counts[bucket] > 0 {
      seen += counts[bucket]
      if seen >= wanted { return Self.middle(bucket) }
    }
    return 0
  }

  /// Microseconds at the usual places, as members of a JSON object.
  var members: String {
    func microseconds(_ share: Double) -> String { "\(Double(quantile(share) / 100) / 10)" }
    return #""p50":\#(microseconds(0.5)),"p99":\#(microseconds(0.99)),"p999":\#(microseconds(0.999))"#
  }
}
