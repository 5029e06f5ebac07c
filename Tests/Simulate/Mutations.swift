#if MUTATIONS
  import Primitives
  import Simulation

  /// Shows that the checkers bite: with each deliberate fault in force a promise is broken on some seed that passes without it.
  enum Mutations {
    /// Which simulation a fault is looked for in.
    enum Schedule {
      /// Whole nodes under faults of every kind; five whose hosts lose their disks one after the other, and nothing else; nodes with
      /// operators that only move roles.
      case nodes, lostDisks, handovers
      /// Servers of one log whose leaders come and go.
      case storm
    }

    static func named(_ name: String) -> Mutation? { Mutation.allCases.first { "\($0)" == name } }

    /// Every fault, the one named, or with `even` or `odd` every other one; false when any goes unnoticed.
    static func areCaught(_ only: String?) -> Bool {
      let chosen = Mutation.allCases.filter { mutation in
        switch only {
        case nil: true
        case "even"?: mutation.rawValue % 2 == 0
        case "odd"?: mutation.rawValue % 2 == 1
        case let name?: "\(mutation)" == name
        }
      }
      return chosen.reduce(!chosen.isEmpty) { all, mutation in isCaught(mutation) && all }
    }

    private static func isCaught(_ mutation: Mutation) -> Bool {
      let seeds = [mutation.knownSeed].compactMap { $0 } + Array(1...mutation.seedsMax)
      for seed in seeds {
        Mutation.active = mutation
        let broken = promises(violations(mutation, seed))
        Mutation.active = nil
        guard !broken.isDisjoint(with: mutation.promises), violations(mutation, seed).isEmpty else { continue }
        say("| `\(mutation)` | \(broken.sorted().joined(separator: ", ")) | \(mutation.schedule) \(seed) |")
        return true
      }
      say("| `\(mutation)` | NOT CAUGHT in \(seeds.count) seeds | \(mutation.schedule) |")
      return false
    }

    private static func violations(_ mutation: Mutation, _ seed: UInt64) -> [String] {
      switch mutation.schedule {
      case .nodes: NodeRun(seed: seed).violations
      case .lostDisks: NodeRun(seed: seed, operators: .lostDisks).violations
      case .handovers: NodeRun(seed: seed, operators: .handovers).violations
      case .storm: RaftRun(seed: seed).violations
      }
    }

    /// The names of the promises that a run broke.
    private static func promises(_ violations: [String]) -> Set<String> {
      Set(violations.map { String($0.prefix { $0 != ":" }) })
    }
  }

  extension Mutation {
    private static let consensus: Set<String> = [
      "election safety", "leader completeness", "state-machine safety", "log matching", "linearizable writes",
      "linearizable reads", "one holder an epoch", "no failure",
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

    fileprivate var schedule: Mutations.Schedule {
      switch self {
      case .voteTwice, .voteForWhoLacksEntries, .commitAlone, .commitEarlierTerms, .appendBlindly, .promiseBeforeWriting,
        .goOnWithoutRoom, .changeManyAtOnce, .voteBeforeHealing:
        .storm
      case .beginAnew: .lostDisks
      case .actAfterHandingOver: .handovers
      default: .nodes
      }
    }

    fileprivate var seedsMax: UInt64 { schedule == .storm ? 400 : 100 }

    /// A seed that has caught it, tried first.
    fileprivate var knownSeed: UInt64? {
      switch self {
      case .voteTwice: 10
      case .voteForWhoLacksEntries, .goOnWithoutRoom, .assignEarly, .forgetFences: 2
      case .commitEarlierTerms: 140
      case .appendBlindly: 8
      case .promiseBeforeWriting: 15
      case .changeManyAtOnce: 81
      case .voteBeforeHealing: 27
      case .readWithoutAsking: 21
      case .actWithoutLease, .actAfterHandingOver: 3
      case .neverRefute: 4
      case .keepVoters: 25
      default: nil
      }
    }
  }
#endif
