import Glibc
import Primitives
import Simulation

/// Prints at once, also into a file.
func say(_ text: String) {
  print(text)
  fflush(nil)
}

/// Runs clusters in virtual time: `simulate SEEDS [FIRST]` whole nodes, `simulate seed SEED` one of them with its report,
/// `simulate raft SEEDS [FIRST]` storms over Raft servers alone, `simulate scale NODES` membership, registry and configuration.
@main
struct Simulate {
  static func main() {
    let words = CommandLine.arguments.dropFirst()
    let numbers = words.compactMap { parseDecimal($0.utf8) }
    #if MUTATIONS
      if words.first == "mutations" { exit(Mutations.areCaught(words.dropFirst().first) ? 0 : 1) }
      if let name = words.dropFirst(2).first { Mutation.active = Mutations.named(name) }
    #endif
    if words.first == "scale", let size = numbers.first {
      Scale.report(Int(clamping: size), seconds: numbers.count > 1 ? Int(clamping: numbers[1]) : 10)
      exit(0)
    }
    if words.first == "fan-out", let size = numbers.first {
      Scale.fanOut(max(4, Int(clamping: size)))
      exit(0)
    }
    if words.first == "seed", let seed = numbers.first {
      exit(report(NodeRun(seed: seed, tellsStory: true), isVerbose: true) ? 0 : 1)
    }
    guard let count = numbers.first, count > 0 else {
      say(
        "usage: simulate SEEDS [FIRST] | simulate seed SEED | simulate raft SEEDS [FIRST] | simulate scale NODES | simulate fan-out NODES"
      )
      exit(2)
    }
    let first = numbers.count > 1 ? numbers[1] : UInt64.random(in: 1...(1 << 40))
    exit((words.first == "raft" ? storm(count, from: first) : run(count, from: first)) ? 0 : 1)
  }

  private static func run(_ count: UInt64, from first: UInt64) -> Bool {
    var failed: [UInt64] = []
    var total = NodeFaultCounts()
    let started = ContinuousClock.now
    for seed in first..<(first + count) {
      let run = NodeRun(seed: seed)
      total.add(run.counts)
      if !report(run, isVerbose: false) { failed.append(seed) }
      let done = seed - first + 1
      if done % 100 == 0 { say("\(done) seeds, \(failed.count) failed, \(started.duration(to: .now).inSeconds) s") }
    }
    say("seeds \(first) to \(first + count - 1): \(count - UInt64(failed.count)) passed, \(failed.count) failed")
    if !failed.isEmpty { say("failed: \(failed.map { "\($0)" }.joined(separator: " "))") }
    for (name, number) in total.named { say("  \(name) \(number)") }
    return failed.isEmpty
  }

  private static func storm(_ count: UInt64, from first: UInt64) -> Bool {
    var failed: [UInt64] = []
    var (elections, committed) = (0, 0)
    for seed in first..<(first + count) {
      let run = RaftRun(seed: seed)
      elections += run.counts.elections
      committed += run.counts.committed
      guard !run.violations.isEmpty else { continue }
      failed.append(seed)
      say("seed \(seed) FAILED")
      for violation in run.violations { say("  \(violation)") }
      if count == 1 { say(run.summary) }
    }
    say("seeds \(first) to \(first + count - 1): \(failed.count) failed; \(elections) elections, \(committed) entries decided")
    return failed.isEmpty
  }

  private static func report(_ run: NodeRun, isVerbose: Bool) -> Bool {
    guard !run.violations.isEmpty || isVerbose else { return true }
    say(run.violations.isEmpty ? "seed \(run.seed) passed" : "seed \(run.seed) FAILED")
    for violation in run.violations { say("  \(violation)") }
    if isVerbose {
      say("  \(run.steps) events")
      for line in run.story { say("  \(line)") }
      say(run.summary)
      for (name, number) in run.counts.named { say("  \(name) \(number)") }
    }
    return run.violations.isEmpty
  }
}
