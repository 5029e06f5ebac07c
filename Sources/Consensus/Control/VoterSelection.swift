import Primitives

/// A member as a candidate for a vote.
public struct VoterCandidate: Hashable, Sendable {
  public let name: NodeName
  public var isAlive: Bool
  /// How long it has been dead or gone, on the leader's clock; zero while it is alive or suspect.
  public var absence: Duration
  /// It drains, leaves or was forgotten: it keeps no vote.
  public var isGoing: Bool
  /// The failure domain: voters are spread over as many as there are.
  public var zone: String

  public init(name: NodeName, isAlive: Bool, absence: Duration = .zero, isGoing: Bool = false, zone: String = "") {
    self.name = name
    self.isAlive = isAlive
    self.absence = absence
    self.isGoing = isGoing
    self.zone = zone
  }
}

/// Decides, on the Raft leader, the next step towards the right voters: one change at a time, each of which keeps a live
/// majority (`Raft` refuses any that would not).
///
/// A dead voter's vote is taken away only when a caught-up learner stands ready for it, so that an outage of many nodes never
/// shrinks the majority that is needed to end it.
public struct VoterSelection: Hashable, Sendable {
  /// Voters wanted: 1, 3, 5 or 7.
  public var target: Int
  /// How long a voter may be dead before another node takes its vote.
  public var patience: Duration

  public init(target: Int, patience: Duration = .seconds(30)) {
    self.target = target
    self.patience = patience
  }

  /// How many voters there should be: never an even number. Voters that are dead count, because they may come back.
  public func desiredCount(_ candidates: [VoterCandidate], _ configuration: ClusterConfiguration) -> Int {
    let staying = candidates.count { !$0.isGoing && ($0.isAlive || configuration.isVoter($0.name)) }
    let bounded = max(1, min(target, staying))
    return bounded % 2 == 1 ? bounded : bounded - 1
  }

  /// The next change, or nil when all is well or nothing can be done.
  /// - Parameter caughtUp: learners whose log is nearly the leader's.
  public func nextChange(
    local: NodeName, configuration: ClusterConfiguration, candidates: [VoterCandidate], caughtUp: Set<NodeName>
  ) -> ConfigurationChange? {
    if mutated(.keepVoters) { return nil }
    let known = Dictionary(candidates.map { ($0.name, $0) }) { first, _ in first }
    let desired = desiredCount(candidates, configuration)
    let departing = configuration.voters.filter { known[$0]?.isGoing ?? true }
    let lost = configuration.voters.filter { voter in known[voter].map { !$0.isGoing && $0.absence > patience } ?? false }
    let good = configuration.voters.filter { !departing.contains($0) && !lost.contains($0) }
    let spare = replacements(configuration, candidates, beside: good)
    let ready = spare.first { caughtUp.contains($0) && configuration.learners.contains($0) }
    if good.count + lost.count > desired || (good.count >= desired && !(departing + lost).isEmpty) {
      // Those that go first, then the dead, then the last by name; of each kind the leader itself at the very end.
      let group = [departing, lost, good.reversed()].first { !$0.isEmpty } ?? []
      if let out = group.first(where: { $0 != local }) ?? group.first { return .remove(out) }
    }
    if good.count < desired, let ready {
      // A vote that nobody uses goes before the next one comes, or a majority would need everybody.
      if let dead = lost.first { return .remove(dead) }
      return .promote(ready)
    }
    if good.count < desired, let next = spare.first(where: { !configuration.learners.contains($0) }),
      configuration.learners.count < Self.learnersMax
    {
      return .addLearner(next)
    }
    // Learners are voters in the making; the others follow by pulling.
    let idle = configuration.learners.filter { learner in
      good.count >= desired || known[learner].map { !$0.isAlive || $0.isGoing } ?? true
    }
    return idle.first.map { .remove($0) }
  }

  private static let learnersMax = 2

  /// Live nodes without a vote, those in zones without a voter first, then by name; learners before others of their zone.
  private func replacements(
    _ configuration: ClusterConfiguration, _ candidates: [VoterCandidate], beside good: [NodeName]
  ) -> [NodeName] {
    let zones = Dictionary(candidates.map { ($0.name, $0.zone) }) { first, _ in first }
    func crowd(_ zone: String) -> Int { good.count { zones[$0] == zone } }
    return candidates.filter { $0.isAlive && !$0.isGoing && !configuration.isVoter($0.name) }
      .sorted { a, b in
        let (x, y) = (crowd(a.zone), crowd(b.zone))
        if x != y { return x < y }
        let (p, q) = (configuration.learners.contains(a.name), configuration.learners.contains(b.name))
        return p == q ? a.name < b.name : p
      }.map(\.name)
  }
}
