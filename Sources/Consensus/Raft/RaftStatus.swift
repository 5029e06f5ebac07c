import Primitives

/// What a Raft server knows of itself, for people and for decisions outside of it.
public struct RaftStatus: Sendable, Equatable {
  public enum Duty: String, Sendable, Codable { case follower, preCandidate, candidate, leader, learner, stopped }

  public let local: NodeName
  public let duty: Duty
  public let term: Term
  public let leader: NodeName?
  public let commitIndex: LogIndex
  public let last: LogPosition
  public let snapshotIndex: LogIndex
  public let configuration: ClusterConfiguration
  /// On a leader: what it knows of every other member, in name order.
  public let followers: [Follower]

  public struct Follower: Sendable, Equatable {
    public let name: NodeName
    public let match: LogIndex
    /// Heard since the last check of the quorum.
    public let isActive: Bool
    /// When it last answered, on the leader's clock.
    public let heardAt: Instant
    public let receivesSnapshot: Bool
  }
}

extension RaftStatus {
  /// Members that have not answered this leader for so long that they take no part, although they may be alive: their disk may be
  /// full. They are given no role, and are told like nodes outside of the consensus how far the log is. Sorted.
  public func absentMembers(at now: Instant) -> [NodeName] {
    followers.filter { now - $0.heardAt > ConsensusLimits.memberSilence }.map(\.name)
  }

  /// What a node outside of the consensus knows: the members from the log it follows, the leader from whom it hears.
  public func following(leader: NodeName?, configuration: ClusterConfiguration) -> RaftStatus {
    RaftStatus(
      local: local, duty: duty, term: term, leader: leader, commitIndex: commitIndex, last: last, snapshotIndex: snapshotIndex,
      configuration: configuration, followers: followers)
  }
}

extension Raft {
  public var isLeader: Bool {
    if case .leader = position { true } else { false }
  }

  /// Where the next entry comes to stand, on a leader.
  public var nextIndex: LogIndex { log.last.index.next }

  public var status: RaftStatus {
    RaftStatus(
      local: local, duty: duty, term: term, leader: knownLeader, commitIndex: commitIndex, last: log.last,
      snapshotIndex: log.snapshot?.position.index ?? .zero, configuration: configuration, followers: followers)
  }

  private var duty: RaftStatus.Duty {
    switch position {
    case .follower: configuration.isVoter(local) ? .follower : .learner
    case .preCandidate: .preCandidate
    case .candidate: .candidate
    case .leader: .leader
    case .stopped: .stopped
    }
  }

  private var followers: [RaftStatus.Follower] {
    guard case .leader(let leader) = position else { return [] }
    return peers.compactMap { peer in
      guard let progress = leader.progress[peer] else { return nil }
      let snapshot = if case .snapshot = progress.flow { true } else { false }
      return RaftStatus.Follower(
        name: peer, match: progress.match, isActive: progress.isActive, heardAt: progress.heardAt, receivesSnapshot: snapshot)
    }
  }
}
