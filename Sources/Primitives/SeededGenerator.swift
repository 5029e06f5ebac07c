/// A seeded pseudo-random generator (xoshiro256**, seeded by SplitMix64; Blackman and Vigna 2018).
///
/// Draws and shuffles are our own: the standard library may change its algorithms between releases, and a seed has to
/// replay the same run for ever. Not for secrets.
public struct SeededGenerator: RandomNumberGenerator, Hashable, Sendable {
  private var s0: UInt64
  private var s1: UInt64
  private var s2: UInt64
  private var s3: UInt64

  public init(seed: UInt64) {
    var x = seed
    func splitMix() -> UInt64 {
      x &+= 0x9E37_79B9_7F4A_7C15
      var z = x
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
    s0 = splitMix()
    s1 = splitMix()
    s2 = splitMix()
    s3 = splitMix()
  }

  public mutating func next() -> UInt64 {
    let product = s1 &* 5
    let result = ((product << 7) | (product >> 57)) &* 9
    let t = s1 << 17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    s3 = (s3 << 45) | (s3 >> 19)
    return result
  }

  /// A number in `0..<bound`; 0 when `bound` is 0. Bias is at most `bound / 2^64` (Lemire's multiply-shift).
  public mutating func below(_ bound: UInt64) -> UInt64 {
    next().multipliedFullWidth(by: bound).high
  }

  /// An index into a collection of `count` elements; `count` must be positive.
  public mutating func index(below count: Int) -> Int { Int(below(UInt64(count))) }

  /// A number in `[0, 1)` with 53 random bits.
  public mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// True with probability `p`.
  public mutating func chance(_ p: Double) -> Bool { unit() < p }

  /// A duration between the two bounds, both inclusive at nanosecond grain.
  public mutating func duration(in range: ClosedRange<Duration>) -> Duration {
    let low = range.lowerBound.nanosecondsClamped
    let high = range.upperBound.nanosecondsClamped
    guard high > low else { return range.lowerBound }
    return .nanoseconds(low &+ Int64(below(UInt64(high &- low) &+ 1)))
  }

  /// Fisher–Yates shuffle with this generator's own bounded draw.
  public mutating func shuffle<Element>(_ elements: inout [Element]) {
    guard elements.count > 1 else { return }
    for i in stride(from: elements.count - 1, through: 1, by: -1) {
      elements.swapAt(i, index(below: i + 1))
    }
  }
}
