import Primitives
import Transport

/// Callers that each ask again as soon as they have their answer.
struct CallLoad {
  let echo: Echo
  let bytes: Int
  let concurrency: Int
  var isBrief = false

  /// One line of JSON: calls, seconds, and percentiles of the time a call took.
  func run(for duration: Duration) async throws -> String {
    let body = [UInt8](repeating: 0x61, count: bytes)
    let start = ContinuousClock.now
    let end = start + duration
    let times = try await withThrowingTaskGroup(of: [UInt32].self) { group in
      for _ in 0..<concurrency {
        group.addTask {
          var times: [UInt32] = []
          var before = ContinuousClock.now
          while before < end {
            let answer = isBrief ? try await echo.brief(body) : try await echo.echo(body)
            guard answer.count == body.count else { throw BenchError("another answer than was sent") }
            let after = ContinuousClock.now
            times.append(UInt32(clamping: (after - before).inMicroseconds))
            before = after
          }
          return times
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    let seconds = (ContinuousClock.now - start).inSeconds
    let sorted = times.sorted()
    return
      "{\"calls\": \(times.count), \"seconds\": \(seconds), \"p50\": \(sorted.share(0.5)), \"p99\": \(sorted.share(0.99))}"
  }
}

extension [UInt32] {
  /// The value that this share of the sorted values does not exceed.
  func share(_ share: Double) -> UInt32 {
    isEmpty ? 0 : self[Swift.min(count - 1, Int(Double(count) * share))]
  }
}

extension Duration {
  var inMicroseconds: Int64 { components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000 }
}
