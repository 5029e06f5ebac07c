import Primitives

/// Who takes part in the consensus: voters decide, learners only receive the log (Raft thesis §4).
public struct ClusterConfiguration: Hashable, Sendable, CustomStringConvertible {
  /// Sorted, without duplicates.
  public let voters: [NodeName]
  /// Sorted, without duplicates, none of them a voter.
  public let learners: [NodeName]

  public init(voters: [NodeName] = [], learners: [NodeName] = []) {
    let voting = Set(voters)
    self.voters = voting.sorted()
    self.learners = Set(learners).subtracting(voting).sorted()
  }

  /// Voters and learners in name order.
  public var members: [NodeName] { (voters + learners).sorted() }
  /// How many voters make a majority; one more than there are when there are none, so that nothing is ever decided.
  public var quorum: Int { voters.count / 2 + 1 }

  public func isVoter(_ node: NodeName) -> Bool { voters.contains(node) }
  public func contains(_ node: NodeName) -> Bool { voters.contains(node) || learners.contains(node) }

  public func applying(_ change: ConfigurationChange) -> ClusterConfiguration {
    switch change {
    case .addLearner(let node): ClusterConfiguration(voters: voters, learners: learners + [node])
    case .promote(let node): ClusterConfiguration(voters: voters + [node], learners: learners.filter { $0 != node })
    case .remove(let node):
      ClusterConfiguration(voters: voters.filter { $0 != node }, learners: learners.filter { $0 != node })
    }
  }

  public var description: String {
    let voting = voters.map(\.string).joined(separator: ",")
    return learners.isEmpty ? "(\(voting))" : "(\(voting) + \(learners.map(\.string).joined(separator: ",")))"
  }

  func encode(to writer: inout ByteWriter) {
    for group in [voters, learners] {
      writer.count(group.count)
      for node in group { writer.string(node.string) }
    }
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    var groups: [[NodeName]] = []
    for _ in 0..<2 {
      let count = try reader.count(max: ConsensusLimits.membersMax)
      var group: [NodeName] = []
      for _ in 0..<count { group.append(try reader.nodeName()) }
      groups.append(group)
    }
    self.init(voters: groups[0], learners: groups[1])
    guard voters == groups[0], learners == groups[1] else { throw .malformed }
  }
}

/// One step from a configuration to the next: the majorities of both always overlap (Raft thesis §4.1).
public enum ConfigurationChange: Hashable, Sendable {
  /// Starts to replicate the log to a node that does not vote.
  case addLearner(NodeName)
  /// Makes a caught-up learner a voter.
  case promote(NodeName)
  case remove(NodeName)
}

extension ByteReader {
  mutating func nodeName() throws(ByteError) -> NodeName {
    let text = try string(max: NodeName.bytesMax)
    guard let name = try? NodeName(text) else { throw .malformed }
    return name
  }

  /// A term or index small enough to count on from.
  mutating func boundedNumber() throws(ByteError) -> UInt64 {
    let number = try varint()
    guard number <= ConsensusLimits.numberMax else { throw .malformed }
    return number
  }
}
