import Primitives

/// What a command did. The same on every node, since it is computed from the log alone.
public enum Outcome: Hashable, Sendable {
  /// Applied; for a change set, `revision` is the new revision.
  case applied(revision: LogIndex)
  /// Nothing to change: the state is already so.
  case unchanged(revision: LogIndex)
  /// The expected revision is not the present one.
  case conflict(revision: LogIndex)
  /// The command came under an epoch that is over.
  case staleEpoch(current: RoleEpoch)
  /// A limit would be passed; nothing was changed.
  case limit(Limit)
  /// The command contradicts the state.
  case invalid(Reason)

  public enum Limit: UInt8, Hashable, Sendable {
    case objects = 1, objectBytes, allBytes, changes, trustAnchors, nodes, addresses, fieldBytes, tokens
  }

  public enum Reason: UInt8, Hashable, Sendable {
    /// A key is put or deleted twice in one change set.
    case duplicateKey = 1
    case addressTaken
    case emptyCertificate
    case malformedToken
    case tokenUnknown
    case tokenExpired
    case tokenUsed
    /// Another node has the name, with another authority.
    case nameInUse
    case unknownNode
    case malformedKey

    /// In words for whoever asked.
    public var words: String {
      switch self {
      case .duplicateKey: "the same thing is named twice"
      case .addressTaken: "the address is another host's"
      case .emptyCertificate: "the certificate is empty"
      case .malformedToken: "the join token has no time or no use"
      case .tokenUnknown:
        "the cluster does not know this join token: it was revoked, or is of another cluster; "
          + "make a new one with: mesh-node token create"
      case .tokenExpired: "the join token has expired; make a new one with: mesh-node token create"
      case .tokenUsed: "the join token was used as often as it may be; make a new one with: mesh-node token create"
      case .nameInUse: "another node has this name; choose another, or let the cluster forget that one: mesh-node forget NAME"
      case .unknownNode: "the cluster knows no such node"
      case .malformedKey: "the key has a wrong length"
      }
    }
  }
}

/// What one committed entry did.
public struct AppliedEntry: Hashable, Sendable {
  public let position: LogPosition
  /// Nil for entries that carry no command.
  public let outcome: Outcome?
  /// What readers of the state may have to look at again.
  public let touched: Touched

  public struct Touched: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let objects = Touched(rawValue: 1)
    public static let roles = Touched(rawValue: 2)
    public static let trust = Touched(rawValue: 4)
    public static let addresses = Touched(rawValue: 8)
    public static let nodes = Touched(rawValue: 16)
  }
}
