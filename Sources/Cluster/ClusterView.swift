import Consensus
import Membership
import Primitives
import Transport

/// What this node knows of its cluster at one moment. A value: whoever reads it keeps it.
public struct ClusterView: Sendable {
  public var members: [Member]
  public var raft: RaftStatus
  public var control: ControlState
  /// Roles that this node may act under, as of the last change; ask `ClusterRuntime.epoch(of:)` before acting.
  public var heldRoles: [Role]
  public var registry: Registry
  /// Counts changes of the registry on this node.
  public var registryVersion: UInt64
  public var localHealthScore: Int
  /// Seconds by which other nodes' wall clocks are ahead of this one's, where that matters.
  public var clockLeads: [NodeName: Int64] = [:]
  /// Why consensus or storage stopped on this node; nil while all is well.
  public var failure: String?

  public func member(_ name: NodeName) -> Member? { members.first { $0.name == name } }
  public var aliveNodes: [NodeName] { members.filter { $0.state == .alive }.map(\.name) }

  /// Whether enough voters are alive to decide anything, and who is missing.
  public var quorum: (isReachable: Bool, missing: [NodeName]) { Self.quorum(raft, members) }

  /// What to say when nothing can be decided.
  public var noQuorum: MeshError { Self.noQuorum(raft, members) }

  static func quorum(_ raft: RaftStatus, _ members: [Member]) -> (isReachable: Bool, missing: [NodeName]) {
    let voters = raft.configuration.voters
    let missing = voters.filter { voter in members.first { $0.name == voter }?.state.isLive != true }
    return (voters.count - missing.count >= (raft.hasBegun ? raft.configuration.quorum : voters.count), missing)
  }

  static func noQuorum(_ raft: RaftStatus, _ members: [Member]) -> MeshError {
    let voters = raft.configuration.voters
    let missing = quorum(raft, members).missing
    let words = missing.map { name in
      let state = members.first { $0.name == name }?.state
      return "\(name) is \(state.map { "\($0)" } ?? "not known yet")"
    }.joined(separator: ", ")
    guard raft.hasBegun else {
      return MeshError(
        .noQuorum,
        """
        the cluster has not begun: its first leader needs the votes of \(voters.map(\.string).joined(separator: ", ")); \
        \(words). Nothing was changed. Start what is missing; from then on a majority is enough.
        """)
    }
    let present = voters.filter { !missing.contains($0) }
    return MeshError(
      .noQuorum,
      """
      no quorum: \(present.count) of \(voters.count) voters alive \
      (\(present.isEmpty ? "none" : present.map(\.string).joined(separator: ", "))), \(raft.configuration.quorum) needed; \
      \(words). Nothing was changed. Routing goes on; start a missing node to write again.
      """)
  }
}

extension RaftStatus {
  /// False on a voter that has no log yet: until the first leader there is nothing that a majority could decide.
  var hasBegun: Bool { last.index > .zero || !configuration.isVoter(local) }
}

/// What changed since the last view.
public struct ClusterChange: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  public static let members = ClusterChange(rawValue: 1)
  public static let objects = ClusterChange(rawValue: 2)
  public static let roles = ClusterChange(rawValue: 4)
  public static let trust = ClusterChange(rawValue: 8)
  public static let addresses = ClusterChange(rawValue: 16)
  public static let registry = ClusterChange(rawValue: 32)
  public static let raft = ClusterChange(rawValue: 64)
  public static let all = ClusterChange(rawValue: 255)
}
