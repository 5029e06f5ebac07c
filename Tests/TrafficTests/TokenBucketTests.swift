import Dispatch
import MeshConfig
import Primitives
import Synchronization
import Testing

@testable import Traffic

// Envoy, local rate limit: `max_tokens`, `tokens_per_fill`, `fill_interval`.

private let start = Instant.seconds(1000)

private func limit(
  _ most: Int, _ perFill: Int, every interval: Duration, enabled: UInt32 = 1_000_000, enforced: UInt32 = 1_000_000
) -> SharedTokenBucket {
  SharedTokenBucket(
    LocalRateLimit(
      bucket: LocalRateLimit.Bucket(maxTokens: most, tokensPerFill: perFill, fillInterval: interval),
      enabledPartsPerMillion: enabled, enforcedPartsPerMillion: enforced))
}

private func passed(_ bucket: SharedTokenBucket, _ count: Int, at now: Instant = start, seed: UInt64 = 3) -> Int {
  var draws = SeededGenerator(seed: seed)
  return (0..<count).count { _ in bucket.admits(at: now, draws: &draws) }
}

@Test func `a bucket starts full, empties, and fills at its rate up to its size`() {
  let bucket = limit(10, 10, every: .seconds(60))
  #expect(passed(bucket, 50) == 10)
  #expect(passed(bucket, 50, at: start + .seconds(5)) == 0)
  #expect(passed(bucket, 50, at: start + .seconds(6)) == 1)
  #expect(passed(bucket, 50, at: start + .seconds(36)) == 5)
  #expect(passed(bucket, 50, at: start + .seconds(100_000)) == 10)
}

@Test func `it agrees with a bucket that counts in fractions`() {
  for seed in 1...20 as ClosedRange<UInt64> {
    var generator = SeededGenerator(seed: seed)
    let (most, perFill) = (1 + generator.index(below: 20), 1 + generator.index(below: 9))
    let bucket = limit(most, perFill, every: .seconds(1))
    var tokens = Double(most)
    var now = start
    var draws = SeededGenerator(seed: 1)
    for _ in 0..<500 {
      let pause = Duration.milliseconds(1 + generator.index(below: 400))
      now = now + pause
      tokens = min(Double(most), tokens + pause.inSeconds * Double(perFill))
      let admits = bucket.admits(at: now, draws: &draws)
      // A hair's breadth from a whole token the two may differ by rounding.
      if abs(tokens - 1) > 1e-6 { #expect(admits == (tokens >= 1), "seed \(seed)") }
      if admits { tokens -= 1 }
    }
  }
}

@Test func `only the enabled share is counted and only the enforced share refused`() {
  #expect(passed(limit(1, 1, every: .seconds(60), enabled: 0), 100) == 100)
  #expect(passed(limit(1, 1, every: .seconds(60), enforced: 0), 100) == 100)
  let half = passed(limit(1, 1, every: .seconds(3600), enforced: 500_000), 10_001) - 1
  #expect(isPlausible(half, of: 10_000, p: 0.5))
}

@Test func `workers together take no more tokens than there are`() {
  let bucket = limit(1000, 1, every: .seconds(3600))
  let total = Mutex(0)
  DispatchQueue.concurrentPerform(iterations: 4) { thread in
    let count = passed(bucket, 2000, seed: UInt64(thread))
    total.withLock { $0 += count }
  }
  #expect(total.withLock { $0 } == 1000)
}

@Test func `the standing tells what is left and when there is more`() {
  let bucket = limit(3, 1, every: .seconds(10))
  #expect(bucket.standing(at: start) == (3, 0))
  _ = passed(bucket, 3)
  #expect(bucket.standing(at: start) == (0, 10))
  #expect(bucket.standing(at: start + .seconds(4)) == (0, 6))
  #expect(bucket.standing(at: start + .seconds(10)) == (1, 0))
}

@Test func `extreme policies neither trap nor block`() {
  #expect(passed(limit(Int(UInt32.max), Int(UInt32.max), every: .milliseconds(50)), 100) == 100)
  #expect(passed(limit(1, 1, every: .seconds(Int64.max / 2_000_000_000)), 3) <= 1)
}
