import Primitives

/// This node as its links present it.
public struct LocalNode: Hashable, Sendable {
  public var name: NodeName
  /// The cluster's name; a link to a node of another cluster is refused.
  public var cluster: DNSLabel
  /// Grows with every start of the process; a peer with an older one than was seen is refused.
  public var incarnation: UInt64
  public var trustDomain: String
  /// Where links are accepted, and the address links are dialled from.
  public var address: SocketAddress

  public init(name: NodeName, cluster: DNSLabel, incarnation: UInt64, trustDomain: String, address: SocketAddress) {
    self.name = name
    self.cluster = cluster
    self.incarnation = incarnation
    self.trustDomain = trustDomain
    self.address = address
  }
}

/// Why a peer was accepted.
public enum LinkTrust: Hashable, Sendable {
  /// Its certificate chains to the trust bundle.
  case bundle
  /// It proved that it knows the join secret; its certificate chains to the authority it offered.
  case joinSecret
  /// It proved the join token with that id; its certificate chains to the authority it offered.
  case token(UInt64)
  /// It proved that it knows the token that this node came with.
  case ownToken
}

/// Why a handshake was refused. The numbers are the wire's.
public enum LinkRejection: UInt8, CaseIterable, Sendable, Error {
  case malformedHello = 1
  case versionMismatch = 2
  case wrongCluster = 3
  /// The certificate chains neither to the trust bundle nor to what the peer offered, or is not a node's.
  case untrustedCertificate = 4
  case identityMismatch = 5
  case joinSecretMismatch = 6
  case joinSecretMissing = 7
  case selfConnection = 8
  case nameInUse = 9
  case staleIncarnation = 10
  /// The cluster declined the node: removed, or its name belongs to another authority.
  case declined = 11
  case overloaded = 12
  /// The join token is unknown, expired, used up, or was not proved.
  case tokenRefused = 13
}

/// What happens on links, in the order in which it happens, on the control loop's thread.
public enum LinkEvent: Hashable, Sendable {
  /// A peer proved the join secret; its authority may join the trust bundle. Always before the `up` of its link.
  case introduced(NodeName, incarnation: UInt64, authority: [UInt8])
  /// A peer proved a join token: it may be admitted. Always before the `up` of its link.
  case joining(NodeName, token: UInt64, authority: [UInt8], address: SocketAddress)
  /// The peer's wall clock is that many seconds ahead of this node's, or behind when negative.
  case clockDiffers(NodeName, seconds: Int64)
  /// The first link to a node is up.
  case up(NodeName, incarnation: UInt64, trust: LinkTrust, address: SocketAddress)
  /// No link to the node is left.
  case down(NodeName, reason: String)
  /// The node announced that it leaves. Its `down` follows.
  case leaving(NodeName, reason: String)
  /// This node refused a peer, or was refused by one; the text names both and what to do.
  case refused(LinkRejection, byPeer: Bool, node: NodeName?, address: SocketAddress, text: String)
  /// A connection failed before a handshake, or broke the rules of frames.
  case failed(node: NodeName?, address: SocketAddress, text: String)
}

/// One established link, for `status`.
public struct LinkStatistics: Hashable, Sendable, Codable {
  public var node: NodeName
  public var address: String
  /// True when this node dialled.
  public var outbound: Bool
  public var upSeconds: Double
  /// The smoothed round trip of pings, or nil before the first.
  public var roundTripMilliseconds: Double?
  public var bytesSent: UInt64
  public var bytesReceived: UInt64
  public var framesReceived: UInt64
  public var queuedBytes: Int
  public var callsInFlight: Int
}
