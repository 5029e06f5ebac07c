import Glibc
import Primitives
import Simulation

/// Prints what a cluster of that size costs and how soon it knows: `simulate scale NODES [SECONDS]`.
enum Scale {
  static func report(_ size: Int, seconds: Int) {
    guard size >= 16, var run = try? ScaleRun(size: size) else { return say("at least 16 nodes") }
    say("\(size) nodes; times in virtual milliseconds: p50, p99, max, and how many did not hear")
    let before = residentBytes()
    let warm = cpu { run.run(for: .seconds(40)) }
    say("  CPU while all come to know each other: \(tenths(warm / 40)) s a virtual second")
    say("  memory: \((residentBytes() - min(before, residentBytes()) / 2) / size / 1024) KiB a node")
    var rest: ScaleRun.Cost?
    let idle = cpu { rest = run.cost(over: .seconds(seconds), changeEvery: nil) }
    if let rest {
      say("  at rest: " + words(rest) + ", CPU \(tenths(idle / Double(seconds) / Double(size) * 1e6)) µs a node a second")
    }
    say("  a row: " + words(run.rows(5, within: .seconds(30))))
    say("  a join: " + words(run.joins(5, within: .seconds(30))))
    say("  a death: " + words(run.deaths(5, within: .seconds(60))))
    for rate in [1, 10, 100] {
      var churn: ScaleRun.Cost?
      let busy = cpu { churn = run.cost(over: .seconds(seconds), changeEvery: .seconds(1) / rate) }
      if let churn {
        say(
          "  \(rate) rows change a second: " + words(churn)
            + ", CPU \(tenths(busy / Double(seconds) / Double(size) * 1e6)) µs a node a second")
      }
    }
    say("  nodes held for anything but alive: \(run.mistaken)")
    say("  memory: \(residentBytes() / size / 1024) KiB a node, much of it shared in one process")
  }

  static func fanOut(_ size: Int) {
    for bytes in [500, 20_000] {
      var run = FanOutRun(nodes: size, changes: 100, objectBytes: bytes, seed: 1)
      let behind = run.run()
      let sorted = run.delays.sorted()
      guard let last = sorted.last else { return }
      let marks = [0.5, 0.99].map { sorted[Int(Double(sorted.count) * $0)] }.map(milliseconds) + [milliseconds(last)]
      say(
        "\(size) nodes, changes of \(bytes) bytes: decided to applied p50, p99, max \(marks.joined(separator: ", ")) ms; "
          + "the leader sends \(run.leaderBytes / 100 / 1024) KiB a change, all \(run.totalBytes / 100 / 1024); \(behind) left behind"
      )
    }
  }

  private static func words(_ spread: ScaleRun.Spread) -> String {
    let marks = [0.5, 0.99, 1.0].map { milliseconds(spread.quantile($0)) }
    return marks.joined(separator: ", ") + " (\(spread.missing))"
  }

  private static func words(_ cost: ScaleRun.Cost) -> String {
    "\(tenths(cost.datagrams)) datagrams, \(tenths(cost.streams)) messages on links, \(Int(cost.bytes)) bytes a node a second "
      + "(at most \(Int(cost.bytesMax)))"
  }

  private static func milliseconds(_ duration: Duration) -> String { tenths(duration.inSeconds * 1000) }
  private static func tenths(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }

  private static func cpu(_ body: () -> Void) -> Double {
    func used() -> Double {
      var time = timespec()
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
      return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
    let start = used()
    body()
    return used() - start
  }

  private static func residentBytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 128)
    guard fgets(&buffer, 128, file) != nil else { return 0 }
    let words = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: " ")
    return words.count > 1 ? (Int(words[1]) ?? 0) * 4096 : 0
  }
}
