import Glibc
import Primitives
import Simulation

/// Prints what a cluster of that size costs and how soon it knows: `simulate scale NODES [SECONDS]`.
enum Scale {
  /// Registries of more nodes do not fit one process: every node has a row of every other. Membership alone is looked at then.
  private static let registryNodesMax = 2000

  static func report(_ size: Int, seconds: Int) {
    let before = residentBytes()
    let hasRegistry = size <= registryNodesMax
    guard size >= 16, var run = try? ScaleRun(size: size, hasRegistry: hasRegistry) else { return say("at least 16 nodes") }
    say(
      "\(size) nodes\(hasRegistry ? "" : ", membership alone"); times in virtual milliseconds: p50, p99, max, who did not hear")
    sayMemory(size, since: before)
    let warm = cpu { run.run(for: .seconds(hasRegistry ? 40 : 2)) }
    say("  CPU at the beginning: \(tenths(warm)) s")
    sayMemory(size, since: before)
    sayCost("at rest", &run, size, seconds, changeEvery: nil)
    if hasRegistry { say("  a row: " + words(run.rows(5, within: .seconds(30)))) }
    say("  a join: " + words(run.joins(hasRegistry ? 5 : 2, within: .seconds(30))))
    say("  a death: " + words(run.deaths(hasRegistry ? 5 : 2, within: .seconds(60))))
    for rate in [1, 10, 100] where hasRegistry {
      sayCost("\(rate) rows change a second", &run, size, seconds, changeEvery: .seconds(1) / rate)
    }
    if !hasRegistry { sayCost("after a death", &run, size, seconds, changeEvery: nil) }
    say("  nodes held for anything but alive: \(run.mistaken)")
    sayMemory(size, since: before)
  }

  private static func sayCost(
    _ what: String, _ run: inout ScaleRun, _ size: Int, _ seconds: Int, changeEvery interval: Duration?
  ) {
    var cost: ScaleRun.Cost?
    let used = cpu { cost = run.cost(over: .seconds(seconds), changeEvery: interval) }
    guard let cost else { return }
    say("  \(what): " + words(cost) + ", CPU \(tenths(used / Double(seconds) / Double(size) * 1e6)) µs a node a second")
  }

  private static func sayMemory(_ size: Int, since before: Int) {
    let bytes = residentBytes() - before
    say("  memory: \(bytes >> 20) MiB, \(bytes / size / 1024) KiB a node, \(bytes / size / size) bytes for each that one knows")
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
