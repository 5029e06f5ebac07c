import Primitives

/// One change of the control state, as a log entry carries it.
public enum Command: Hashable, Sendable {
  case noop
  case configuration(ChangeSet)
  case assignRole(RoleGrant)
  /// The holder of `epoch` gives the role back.
  case releaseRole(Role, RoleEpoch)
  /// A node's own CA certificate enters the trust bundle.
  case addTrustAnchor(node: NodeName, certificate: [UInt8])
  /// Under the certificate-authority role.
  case removeTrustAnchor(fingerprint: Digest, epoch: RoleEpoch)
  /// Under the discovery role: stable addresses for service hosts.
  case allocateAddresses([AddressAllocation], epoch: RoleEpoch)
  /// Under the discovery role: addresses of hosts that are gone.
  case freeAddresses([String], epoch: RoleEpoch)
  case admitNode(AdmittedNode)
  /// Removes a dead node: its admission, its authority, its posture.
  case forgetNode(NodeName)
  case createToken(JoinToken)
  case revokeToken(JoinTokenID)
  case joinByToken(TokenJoin)
  case setPosture(NodeName, NodePosture)
  /// Moves a role to a node as soon as the present lease is over.
  case transferRole(Role, to: NodeName)
  case addGossipKey(GossipKey)
}

/// Configuration objects that change together: all of it, or nothing.
public struct ChangeSet: Hashable, Sendable {
  public var puts: [ObjectPut]
  public var deletes: [ObjectKey]
  /// When given, the change applies only to this revision.
  public var expectedRevision: LogIndex?
  /// Chosen by the client; a repeated request is answered with the first one's outcome.
  public var requestID: RequestID
  /// The epoch of the configuration role under which it was validated.
  public var epoch: RoleEpoch
  /// Who asked, for audit.
  public var author: String

  public init(
    puts: [ObjectPut], deletes: [ObjectKey] = [], expectedRevision: LogIndex? = nil, requestID: RequestID,
    epoch: RoleEpoch, author: String
  ) {
    self.puts = puts
    self.deletes = deletes
    self.expectedRevision = expectedRevision
    self.requestID = requestID
    self.epoch = epoch
    self.author = author
  }
}

/// An object's canonical bytes, which this layer does not interpret.
public struct ObjectPut: Hashable, Sendable {
  public let key: ObjectKey
  public let bytes: [UInt8]
  public init(key: ObjectKey, bytes: [UInt8]) {
    self.key = key
    self.bytes = bytes
  }
}

/// 16 bytes chosen at random by the client.
public struct RequestID: Hashable, Sendable, CustomStringConvertible {
  public let high: UInt64
  public let low: UInt64
  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
  public var description: String {
    var writer = ByteWriter(reserving: 16)
    writer.uint64(high)
    writer.uint64(low)
    return hexString(writer.bytes)
  }
}

/// An assignment of a role.
public struct RoleGrant: Hashable, Sendable {
  public let role: Role
  public let holder: NodeName
  /// One more than the role's epoch, or the grant is stale.
  public let epoch: RoleEpoch
  /// Wall-clock milliseconds since 1970, for people only.
  public let at: UInt64
  public let reason: String

  public init(role: Role, holder: NodeName, epoch: RoleEpoch, at: UInt64, reason: String) {
    self.role = role
    self.holder = holder
    self.epoch = epoch
    self.at = at
    self.reason = reason
  }
}

/// An IPv4 address in 240.240.0.0/16, which Istio gives to service hosts for DNS capture.
public struct ServiceAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The low 16 bits: 1...65534.
  public let host: UInt16
  /// Nil for the network's first and last address.
  public init?(host: UInt16) {
    guard host != 0, host != .max else { return nil }
    self.host = host
  }
  public var octets: [UInt8] { [240, 240, UInt8(host >> 8), UInt8(truncatingIfNeeded: host)] }
  public static func < (a: ServiceAddress, b: ServiceAddress) -> Bool { a.host < b.host }
  public var description: String { "240.240.\(host >> 8).\(host & 0xFF)" }
}

/// A service host and its address.
public struct AddressAllocation: Hashable, Sendable {
  /// Lower-case DNS name.
  public let host: String
  public let address: ServiceAddress
  public init(host: String, address: ServiceAddress) {
    self.host = host
    self.address = address
  }
}

/// A node that may take part, as it was admitted.
public struct AdmittedNode: Hashable, Sendable {
  public let name: NodeName
  /// The link's IP address.
  public let address: String
  /// `region/zone/subzone`.
  public let locality: String
  /// True when it can hold the certificate-authority role.
  public let canIssue: Bool

  public init(name: NodeName, address: String, locality: String, canIssue: Bool) {
    self.name = name
    self.address = address
    self.locality = locality
    self.canIssue = canIssue
  }
}
