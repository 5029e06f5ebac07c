#if MUTATIONS
  import Primitives
  import Simulation

  /// Shows that the checkers bite: with each deliberate fault in force a promise is broken on some seed that passes without it.
  enum Mutations {
    /// Seeds tried for each fault.
    private static let seeds: ClosedRange<UInt64> = 1...100

    static func named(_ name: String) -> Mutation? { Mutation.allCases.first { "\($0)" == name } }

    /// Every fault, or the one named; false when any goes unnoticed.
    static func areCaught(_ only: String?) -> Bool {
      let chosen = Mutation.allCases.filter { only == nil || "\($0)" == only }
      return chosen.reduce(!chosen.isEmpty) { all, mutation in isCaught(mutation) && all }
    }

    private static func isCaught(_ mutation: Mutation) -> Bool {
      for seed in seeds {
        Mutation.active = mutation
        let broken = promises(NodeRun(seed: seed))
        Mutation.active = nil
        guard !broken.isDisjoint(with: mutation.promises), NodeRun(seed: seed).violations.isEmpty else { continue }
        say("| `\(mutation)` | \(broken.sorted().joined(separator: ", ")) | \(seed) |")
        return true
      }
      say("| `\(mutation)` | NOT CAUGHT | |")
      return false
    }

    /// The names of the promises that a run broke.
    private static func promises(_ run: NodeRun) -> Set<String> {
      Set(run.violations.map { String($0.prefix { $0 != ":" }) })
    }
  }

  extension Mutation {
    private static let consensus: Set<String> = [
      "election safety", "leader completeness", "state-machine safety", "log matching", "linearizable writes",
      "linearizable reads",
      "one holder an epoch",
    ]
    private static let roles: Set<String> = ["one actor a role", "one holder an epoch"]

    /// One of these has to be broken: any other would say that something else is wrong.
    fileprivate var promises: Set<String> {
      switch self {
      case .voteTwice, .voteForWhoLacksEntries, .commitAlone, .commitEarlierTerms, .appendBlindly, .promiseBeforeWriting,
        .goOnWithoutRoom, .changeManyAtOnce, .beginAnew, .voteBeforeHealing:
        Self.consensus
      case .readWithoutAsking: ["linearizable reads"]
      case .actWithoutLease, .assignEarly, .actAfterHandingOver: Self.roles
      case .forgetFences: ["fenced roles"]
      case .believeRows: ["rows are their owners'"]
      case .takeOlderRows: ["rows never go back"]
      case .neverRefute, .neverPull, .keepVoters: ["convergence"]
      }
    }
  }
#endif
