import Glibc
import Primitives
import Simulation

/// Runs whole clusters of nodes in virtual time: `simulate SEEDS [FIRST]`, or `simulate seed SEED` for one, with its report.
@main
struct Simulate {
  static func main() {
    let words = CommandLine.arguments.dropFirst()
    let numbers = words.compactMap { parseDecimal($0.utf8) }
    #if MUTATIONS
      if words.first == "mutations" { exit(catchMutations() ? 0 : 1) }
    #endif
    if words.first == "seed", let seed = numbers.first { exit(report(NodeRun(seed: seed), isVerbose: true) ? 0 : 1) }
    guard let count = numbers.first, count > 0 else {
      print("usage: simulate SEEDS [FIRST] | simulate seed SEED")
      exit(2)
    }
    let first = numbers.count > 1 ? numbers[1] : UInt64.random(in: 1...(1 << 40))
    exit(run(count, from: first) ? 0 : 1)
  }

  #if MUTATIONS
    /// Runs seeds with each deliberate fault in force until one of them shows it; a fault that none shows has gone unnoticed.
    private static func catchMutations() -> Bool {
      var unnoticed: [Mutation] = []
      for mutation in Mutation.allCases {
        Mutation.active = mutation
        let caught = (1...60 as ClosedRange<UInt64>).lazy.map { NodeRun(seed: $0) }.first { !$0.violations.isEmpty }
        if let caught {
          print("\(mutation): caught by seed \(caught.seed): \(caught.violations[0])")
        } else {
          print("\(mutation): NOT CAUGHT")
          unnoticed.append(mutation)
        }
      }
      Mutation.active = nil
      return unnoticed.isEmpty
    }
  #endif

  private static func run(_ count: UInt64, from first: UInt64) -> Bool {
    var failed: [UInt64] = []
    var total = NodeFaultCounts()
    let started = ContinuousClock.now
    for seed in first..<(first + count) {
      let run = NodeRun(seed: seed)
      total.add(run.counts)
      if !report(run, isVerbose: false) { failed.append(seed) }
      let done = seed - first + 1
      if done % 100 == 0 { print("\(done) seeds, \(failed.count) failed, \(started.duration(to: .now).inSeconds) s") }
    }
    print("seeds \(first) to \(first + count - 1): \(count - UInt64(failed.count)) passed, \(failed.count) failed")
    if !failed.isEmpty { print("failed: \(failed.map { "\($0)" }.joined(separator: " "))") }
    for (name, number) in total.named { print("  \(name) \(number)") }
    return failed.isEmpty
  }

  private static func report(_ run: NodeRun, isVerbose: Bool) -> Bool {
    guard !run.violations.isEmpty || isVerbose else { return true }
    print(run.violations.isEmpty ? "seed \(run.seed) passed" : "seed \(run.seed) FAILED")
    for violation in run.violations { print("  \(violation)") }
    if isVerbose {
      print(run.summary)
      for (name, number) in run.counts.named { print("  \(name) \(number)") }
    }
    return run.violations.isEmpty
  }
}
