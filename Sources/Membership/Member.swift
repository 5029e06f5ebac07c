import Primitives

/// Where a node listens for its cluster: a textual IP address and the port of link (TCP) and gossip (UDP).
public struct NodeAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let host: String
  public let port: UInt16

  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  public static func < (a: NodeAddress, b: NodeAddress) -> Bool {
    if a.host.utf8.elementsEqual(b.host.utf8) { return a.port < b.port }
    return a.host.utf8.lexicographicallyPrecedes(b.host.utf8)
  }
  public var description: String { host.utf8.contains(0x3A) ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// What a node says of itself. Only the owner makes a new one, with a higher incarnation.
///
/// All tables and rumors of a process that have one from the same message share it.
public struct MemberRecord: Hashable, Sendable {
  private struct Fields: Hashable, Sendable {
    let name: NodeName
    var address: NodeAddress
    var incarnation: UInt64
    var locality: String
    var protocols: ProtocolRange
    var metadata: [UInt8]
  }
  private var fields: Shared<Fields>

  public init(
    name: NodeName, address: NodeAddress, incarnation: UInt64, locality: String = "",
    protocols: ProtocolRange = ProtocolRange(1...1), metadata: [UInt8] = []
  ) {
    fields = Shared(
      Fields(
        name: name, address: address, incarnation: min(incarnation, MembershipLimits.incarnationMax), locality: locality,
        protocols: protocols, metadata: metadata))
  }

  public var name: NodeName { fields.value.name }
  public var address: NodeAddress {
    get { fields.value.address }
    set { fields.value.address = newValue }
  }
  /// Start time of the process in wall-clock milliseconds, raised by one for every refutation or change of the record.
  public var incarnation: UInt64 {
    get { fields.value.incarnation }
    set { fields.value.incarnation = newValue }
  }
  /// `region/zone/subzone`, as Istio writes localities; may be empty.
  public var locality: String {
    get { fields.value.locality }
    set { fields.value.locality = newValue }
  }
  public var protocols: ProtocolRange {
    get { fields.value.protocols }
    set { fields.value.protocols = newValue }
  }
  /// At most `MembershipLimits.metadataBytesMax` bytes, opaque to the protocol.
  public var metadata: [UInt8] {
    get { fields.value.metadata }
    set { fields.value.metadata = newValue }
  }
}

/// What the others hold of a node.
public enum MemberState: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  case alive = 0
  /// Did not answer; may refute.
  case suspect = 1
  /// Convicted; kept as a tombstone and knocked at, so that a healed partition reunites.
  case dead = 2
  /// Said goodbye itself.
  case left = 3

  public var description: String {
    switch self {
    case .alive: "alive"
    case .suspect: "suspect"
    case .dead: "dead"
    case .left: "left"
    }
  }

  /// Whether traffic and gossip may still be sent to the member.
  public var isLive: Bool { self == .alive || self == .suspect }
}

/// A node as this node sees it.
public struct Member: Hashable, Sendable {
  public var record: MemberRecord
  public var state: MemberState
  /// When the state was entered, on this node's clock.
  public var since: Instant

  public init(record: MemberRecord, state: MemberState, since: Instant) {
    self.record = record
    self.state = state
    self.since = since
  }

  public var name: NodeName { record.name }
  public var address: NodeAddress { record.address }
  public var incarnation: UInt64 { record.incarnation }
  public var locality: String { record.locality }
  public var metadata: [UInt8] { record.metadata }
}

/// One step in the life of a member: `old` is nil when it was unknown, `new` is nil when its tombstone was forgotten.
public struct MemberChange: Hashable, Sendable {
  public let old: Member?
  public let new: Member?

  public init(old: Member?, new: Member?) {
    self.old = old
    self.new = new
  }

  public var name: NodeName? { (new ?? old)?.name }
}

/// A node named by the cluster file or a join token, tried for ever.
public struct Seed: Hashable, Sendable {
  public let name: NodeName
  public let address: NodeAddress

  public init(name: NodeName, address: NodeAddress) {
    self.name = name
    self.address = address
  }
}
