import Consensus
import Primitives
import Testing

/// Steps towards the right voters, carried out on a configuration until nothing is left to do.
struct VoterSelectionTests {
  private func name(_ number: Int) throws -> NodeName { try NodeName("n\(number)") }

  private func candidates(_ count: Int, dead: [Int] = [], going: [Int] = []) throws -> [VoterCandidate] {
    try (1...count).map { number in
      VoterCandidate(
        name: try name(number), isAlive: !dead.contains(number), absence: dead.contains(number) ? .seconds(60) : .zero,
        isGoing: going.contains(number))
    }
  }

  /// Applies changes until there are none; every learner catches up at once.
  private func settled(
    _ voters: [Int], _ candidates: [VoterCandidate], target: Int = 3, leader: Int = 1
  ) throws -> (voters: [String], steps: [ConfigurationChange]) {
    var configuration = ClusterConfiguration(voters: try voters.map(name))
    var steps: [ConfigurationChange] = []
    let selection = VoterSelection(target: target)
    while steps.count < 50 {
      let change = selection.nextChange(
        local: try name(leader), configuration: configuration, candidates: candidates, caughtUp: Set(configuration.learners))
      guard let change else { break }
      steps.append(change)
      configuration = configuration.applying(change)
      let live = configuration.voters.count { voter in candidates.contains { $0.name == voter && $0.isAlive } }
      #expect(live >= configuration.quorum, "after \(change): \(configuration)")
    }
    #expect(configuration.learners.isEmpty)
    return (configuration.voters.map(\.string), steps)
  }

  @Test(arguments: [
    (nodes: 1, target: 3, voters: 1), (2, 3, 1), (3, 3, 3), (4, 3, 3), (5, 5, 5), (6, 7, 5), (9, 7, 7), (9, 1, 1),
  ])
  func `one node grows to an odd number of voters, as many as are wanted`(nodes: Int, target: Int, voters: Int) throws {
    #expect(try settled([1], candidates(nodes), target: target).voters.count == voters)
  }

  @Test func `three nodes shrink to one as the others leave, the leader last`() throws {
    #expect(try settled([1, 2, 3], candidates(3, going: [3])).voters == ["n1"])
    #expect(try settled([1, 2, 3], candidates(3, going: [1, 2]), leader: 1).voters == ["n3"])
  }

  @Test(arguments: [1, 3, 5, 7])
  func `a cluster that grows to nine nodes and shrinks again has as many voters as are wanted at every size`(target: Int) throws
  {
    var voters = [1]
    for nodes in Array(1...9) + Array((1...8).reversed()) {
      // Whoever goes drains first: those of the size before are still there.
      let result = try settled(voters, candidates(9, going: Array(nodes..<9).map { $0 + 1 }), target: target)
      voters = result.voters.compactMap { Int($0.dropFirst()) }
      let wanted = min(target, nodes % 2 == 1 ? nodes : nodes - 1)
      #expect(voters.count == wanted && voters.allSatisfy { $0 <= nodes }, "\(nodes) nodes: \(voters)")
    }
  }

  @Test(arguments: [3, 5, 7]) func `each voter that is lost for good is replaced while there is somebody`(target: Int) throws {
    var voters = Array(1...target)
    for lost in 2...target {
      let result = try settled(voters, candidates(target + lost - 1, dead: Array(2...lost)), target: target)
      voters = result.voters.compactMap { Int($0.dropFirst()) }
      #expect(voters.count == target && !voters.contains(lost), "\(lost) lost: \(voters)")
    }
  }

  @Test func `a voter that stays dead gives its vote to a healthy node that has caught up`() throws {
    let result = try settled([1, 2, 3], candidates(4, dead: [2]))
    #expect(result.voters == ["n1", "n3", "n4"])
    #expect(try result.steps == [.addLearner(name(4)), .remove(name(2)), .promote(name(4))])
  }

  @Test func `a dead voter keeps its vote while nobody can take it`() throws {
    #expect(try settled([1, 2, 3], candidates(3, dead: [2])).steps.isEmpty)
    #expect(try settled([1, 2, 3, 4, 5], candidates(5, dead: [2, 4]), target: 5).steps.isEmpty)
  }

  @Test func `a voter that was dead for a moment keeps its vote`() throws {
    var all = try candidates(4, dead: [2])
    all[1].absence = .seconds(5)
    #expect(try settled([1, 2, 3], all).steps.isEmpty)
  }

  @Test func `a voter that drains is replaced before it goes`() throws {
    let result = try settled([1, 2, 3], candidates(4, going: [3]))
    #expect(try result.steps == [.addLearner(name(4)), .promote(name(4)), .remove(name(3))])
  }

  @Test func `voters are taken from zones that have none`() throws {
    var all = try candidates(4)
    for (index, zone) in ["a", "a", "a", "b"].enumerated() { all[index].zone = zone }
    #expect(try settled([1], all).voters == ["n1", "n2", "n4"])
  }

  @Test func `a learner that is not needed follows by pulling instead`() throws {
    let configuration = ClusterConfiguration(voters: try [1, 2, 3].map(name), learners: try [4, 5].map(name))
    let change = try VoterSelection(target: 3).nextChange(
      local: name(1), configuration: configuration, candidates: candidates(5), caughtUp: [])
    #expect(try change == .remove(name(4)))
  }

  @Test(arguments: 0..<200) func `whatever is dead or leaving, the steps end and keep a live majority`(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let count = 1 + generator.index(below: 9)
    let voters = [1, 3, 5, 7].filter { $0 <= count }[generator.index(below: [1, 3, 5, 7].count { $0 <= count })]
    var all = try candidates(count)
    for index in all.indices.dropFirst() {
      all[index].isGoing = generator.chance(0.3)
      // Never more than a minority of the voters: Raft itself refuses steps without a live majority.
      let dead = all[..<index].prefix(voters).count { !$0.isAlive }
      if generator.chance(0.3), index >= voters || (dead + 1) * 2 < voters {
        all[index].isAlive = false
        all[index].absence = .seconds(Int(generator.below(90)))
      }
    }
    let steps = try stepsKeepingMajority(Array(1...voters), all, target: [1, 3, 5, 7][generator.index(below: 4)])
    #expect(steps < 50)
  }

  private func stepsKeepingMajority(_ voters: [Int], _ all: [VoterCandidate], target: Int) throws -> Int {
    var configuration = ClusterConfiguration(voters: try voters.map(name))
    let selection = VoterSelection(target: target)
    for step in 0..<50 {
      let caughtUp = Set(configuration.learners.filter { learner in all.contains { $0.name == learner && $0.isAlive } })
      guard
        let change = selection.nextChange(
          local: try name(1), configuration: configuration, candidates: all, caughtUp: caughtUp)
      else { return step }
      let next = configuration.applying(change)
      let live = next.voters.count { voter in all.contains { $0.name == voter && $0.isAlive } }
      // Raft would refuse this; nothing else is tried until somebody is back.
      guard live >= next.quorum else { return step }
      configuration = next
    }
    return 50
  }
}
