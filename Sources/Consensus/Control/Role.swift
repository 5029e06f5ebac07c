import Primitives

/// A control duty held by one node at a time.
public enum Role: UInt8, Sendable, Hashable, Comparable, CaseIterable, Codable, CustomStringConvertible {
  /// Orders and validates configuration writes.
  case configuration = 1
  /// Issues certificates.
  case certificateAuthority = 2
  /// Allocates service addresses, collects tombstones, watches the registry's health.
  case discovery = 3

  /// Whether everything done under the role is an entry of the log, where the epoch refuses what a former holder decides: then two
  /// nodes that both believe to hold it do no harm, and nobody has to wait for the end of a lease.
  public var isFencedByLog: Bool { self == .configuration }

  public static func < (a: Role, b: Role) -> Bool { a.rawValue < b.rawValue }

  public var description: String {
    switch self {
    case .configuration: "configuration"
    case .certificateAuthority: "certificate-authority"
    case .discovery: "discovery"
    }
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    guard let role = Role(rawValue: try reader.uint8()) else { throw .malformed }
    self = role
  }
}

/// The number of an assignment of a role; only grows. Every act under a role carries it, and an older one is refused.
public struct RoleEpoch: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public let number: UInt64
  public init(_ number: UInt64) { self.number = number }
  /// Before the first assignment.
  public static let zero = RoleEpoch(0)
  public var next: RoleEpoch { RoleEpoch(number < ConsensusLimits.numberMax ? number &+ 1 : number) }
  public static func < (a: RoleEpoch, b: RoleEpoch) -> Bool { a.number < b.number }
  public var description: String { "\(number)" }
}

/// Who holds a role, as the log says.
public struct RoleState: Hashable, Sendable {
  /// Nil while the role is vacant.
  public var holder: NodeName?
  public var epoch: RoleEpoch
  /// Wall-clock milliseconds since 1970 at the proposer; for people only.
  public var assignedAt: UInt64
  /// Why it was assigned; for people only.
  public var reason: String
  /// The node that an operator wants to hold it; nil once it does, or when nobody asked.
  public internal(set) var preferred: NodeName?

  public init(holder: NodeName? = nil, epoch: RoleEpoch = .zero, assignedAt: UInt64 = 0, reason: String = "") {
    self.holder = holder
    self.epoch = epoch
    self.assignedAt = assignedAt
    self.reason = reason
  }
}

/// The state of every role.
public struct RoleTable: Hashable, Sendable {
  private var states: [RoleState]

  public init() { states = Role.allCases.map { _ in RoleState() } }

  public subscript(role: Role) -> RoleState {
    get { states[Int(role.rawValue) - 1] }
    set { states[Int(role.rawValue) - 1] = newValue }
  }

  public func roles(heldBy node: NodeName) -> [Role] { Role.allCases.filter { self[$0].holder == node } }
}
