import Primitives

/// Names a proposal, read or configuration change to its proposer until its outcome is known. Local to one server.
public struct RequestToken: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let number: UInt64
  public init(_ number: UInt64) { self.number = number }
  public static func < (a: RequestToken, b: RequestToken) -> Bool { a.number < b.number }
  public var description: String { "#\(number)" }
}

/// A command on its way into the log.
public struct Proposal: Hashable, Sendable {
  public let token: RequestToken
  public let command: [UInt8]
  public init(token: RequestToken, command: [UInt8]) {
    self.token = token
    self.command = command
  }
}

/// What a driver tells a Raft server.
public enum RaftInput: Sendable, Equatable {
  /// `nextDeadline` has come; harmless when early.
  case tick
  /// A message from a peer whose name the link has authenticated.
  case received(RaftMessage, from: NodeName)
  /// Proposals that came together share one write to disk and one message to each follower.
  case propose([Proposal])
  /// A linearizable read: answered by `readReady` once a majority confirmed this leader (Raft thesis §6.4).
  case read(RequestToken)
  case changeConfiguration(RequestToken, ConfigurationChange)
  /// Hands leadership over; nil chooses the voter that is furthest ahead (Raft thesis §3.10).
  case transferLeadership(to: NodeName?)
  /// The state machine's state after applying exactly the entries up to `through`; the log before it is dropped.
  case compact(through: LogIndex, state: [UInt8])
  /// The link to a peer broke. A hint only: no safety depends on it.
  case peerUnreachable(NodeName)
  /// This node has followed the cluster's decisions from outside of the log.
  case historyKnown
  /// A `persist` failed. The server stops for good: what it promised may be lost.
  case storageFailed
  /// A `persist` was refused whole because the disk is full: nothing of it is there, and all before it is. The server takes no
  /// part until a new one takes its place, made of what the disk holds, once there is room.
  case storageFull
}
