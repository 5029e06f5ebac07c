import Primitives

/// One message between members. `ping` to `gossip` fit a datagram; all may travel on a link.
public struct SWIMMessage: Hashable, Sendable {
  /// Who wrote it. On a link it must be the link's authenticated peer.
  public var sender: NodeName
  /// The sender's `Registry.digestHash`, so that differences show within one probe.
  public var registryDigest: UInt64
  public var body: Body
  /// Piggybacked news.
  public var rumors: [Rumor]

  public init(sender: NodeName, registryDigest: UInt64, body: Body, rumors: [Rumor] = []) {
    self.sender = sender
    self.registryDigest = registryDigest
    self.body = body
    self.rumors = rumors
  }

  public enum Body: Hashable, Sendable {
    /// Answer me, if you are `target`: another node may have taken the address.
    case ping(sequence: UInt32, target: NodeName)
    /// Ping `target` for me.
    case pingRequest(sequence: UInt32, target: NodeName)
    case acknowledgement(sequence: UInt32)
    /// I am well, but `pingRequest`'s target did not answer me (Lifeguard's nack).
    case negativeAcknowledgement(sequence: UInt32)
    /// Rumors only.
    case gossip
    /// What I am, first hand; answered in kind when `wantsReply`.
    case introduction(MemberRecord, wantsReply: Bool)
    /// All I know, or a part of it; answered with all the receiver knows when `wantsReply`.
    case synchronisation([Claim], wantsReply: Bool)
  }

  /// A member with the state the sender holds it in.
  public struct Claim: Hashable, Sendable {
    public var record: MemberRecord
    public var state: MemberState

    public init(record: MemberRecord, state: MemberState) {
      self.record = record
      self.state = state
    }
  }
}

/// News about one member, spread by gossip.
public enum Rumor: Hashable, Sendable {
  case alive(MemberRecord)
  case suspect(NodeName, incarnation: UInt64, accuser: NodeName)
  case dead(NodeName, incarnation: UInt64, accuser: NodeName)
  case left(NodeName, incarnation: UInt64)

  /// Whom it is about.
  public var subject: NodeName {
    switch self {
    case .alive(let record): record.name
    case .suspect(let name, _, _), .dead(let name, _, _), .left(let name, _): name
    }
  }
}
