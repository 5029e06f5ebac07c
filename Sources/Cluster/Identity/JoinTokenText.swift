import Consensus
import Membership
import Primitives
import Transport

/// A join token as people carry it: the secret, and what a node needs to know to reach the cluster.
///
/// The secret stands nowhere else. The log keeps what is derived from it, which is what both sides prove to each other.
public struct JoinTokenText: Hashable, Sendable {
  public let id: JoinTokenID
  let secret: [UInt8]
  public let cluster: DNSLabel
  public let trustDomain: String
  /// Voters that the cluster should have.
  public let voters: Int
  /// Ports of link, mesh, metrics, health, and the first outbound one.
  public let ports: [UInt16]
  /// Nodes to ask, by name and address of their link.
  public private(set) var contacts: [Seed]
  /// What else all nodes have to have in common.
  public let common: Common

  public struct Common: Hashable, Sendable {
    /// What names of services end in.
    public var domain = "cluster.local"
    /// Objects may not direct what other namespaces send to hosts that are not their own namespace's.
    public var isolatesTenants = false

    public init() {}
  }

  public static let contactsMax = 8
  private static let prefix = "mesh1-"
  private static let secretBytes = 32
  private static let portCount = 5
  /// Digits of the longest token: eight contacts with longest names.
  private static let textBytesMax = 4_096

  /// A new token with a random secret.
  public init(
    cluster: DNSLabel, trustDomain: String, voters: Int, ports: [UInt16], contacts: [Seed], common: Common = Common()
  ) {
    id = JoinTokenID(secureRandom(count: 8).reduce(0) { $0 << 8 | UInt64($1) })
    secret = secureRandom(count: Self.secretBytes)
    self.cluster = cluster
    self.trustDomain = trustDomain
    self.voters = voters
    self.ports = ports
    self.contacts = Array(contacts.prefix(Self.contactsMax))
    self.common = common
  }

  /// What the log keeps and links prove.
  public var key: [UInt8] {
    HKDF.derive(material: secret, salt: Array(cluster.string.utf8), info: Array("mesh-node join token".utf8), count: 32)
  }
  public var linkToken: LinkToken { LinkToken(id: id.number, key: key) }

  /// Asks the contact at that address first; false when there is none.
  public mutating func prefer(contactAt address: String) -> Bool {
    guard let index = contacts.firstIndex(where: { $0.address.host == address || $0.address.description == address }) else {
      return false
    }
    contacts.insert(contacts.remove(at: index), at: 0)
    return true
  }

  /// The contacts in words.
  public var contactList: String { contacts.map { "\($0.name) at \($0.address)" }.joined(separator: ", ") }

  public var text: String {
    var writer = ByteWriter(reserving: 256)
    writer.uint64(id.number)
    writer.raw(secret)
    writer.string(cluster.string)
    writer.string(trustDomain)
    writer.count(voters)
    for port in ports { writer.uint16(port) }
    writer.count(contacts.count)
    for contact in contacts {
      writer.string(contact.name.string)
      writer.string(contact.address.host)
      writer.uint16(contact.address.port)
    }
    // Left out where it is as everywhere, so that versions before this can read the token.
    if common != Common() {
      writer.string(common.domain)
      writer.bool(common.isolatesTenants)
    }
    let check = SHA256.hash(writer.bytes).prefix(4)
    return Self.prefix + hexString(writer.bytes + check)
  }

  /// Reads a token; the error says what is wrong with it in words.
  public init(parsing text: String) throws(FileError) {
    let blank: (UInt8) -> Bool = { $0 == 0x20 || (0x09...0x0D).contains($0) }
    let digits = text.utf8.filter { !blank($0) }
    guard digits.count <= Self.textBytesMax, digits.starts(with: Self.prefix.utf8),
      let bytes = Self.bytes(of: digits.dropFirst(Self.prefix.utf8.count)), bytes.count > 4,
      SHA256.hash(Array(bytes.dropLast(4))).prefix(4).elementsEqual(bytes.suffix(4))
    else { throw FileError("the join token is not whole; copy all of it, or make a new one with: mesh-node token create") }
    do { self = try Self(reading: Array(bytes.dropLast(4))) } catch {
      throw FileError("the join token was made by another version of mesh-node; make a new one with: mesh-node token create")
    }
  }

  private static func bytes(of digits: some Sequence<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    var high: UInt8?
    for digit in digits {
      let value: UInt8
      switch digit {
      case 0x30...0x39: value = digit - 0x30
      case 0x61...0x66: value = digit - 0x57
      default: return nil
      }
      if let first = high {
        bytes.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return high == nil ? bytes : nil
  }

  private init(reading bytes: [UInt8]) throws {
    var reader = ByteReader(bytes)
    id = JoinTokenID(try reader.uint64())
    secret = Array(try reader.bytes(count: Self.secretBytes))
    cluster = try DNSLabel(reader.string(max: DNSLabel.bytesMax))
    trustDomain = try reader.string(max: 255)
    try SPIFFEID.checkTrustDomain(trustDomain.utf8)
    voters = try reader.count(max: 7)
    var ports: [UInt16] = []
    for _ in 0..<Self.portCount { ports.append(try reader.uint16()) }
    self.ports = ports
    var contacts: [Seed] = []
    for _ in 0..<(try reader.count(max: Self.contactsMax)) {
      let name = try NodeName(reader.string(max: NodeName.bytesMax))
      let host = try reader.string(max: 64)
      guard IPAddress(host) != nil else { throw ByteError.malformed }
      contacts.append(Seed(name: name, address: NodeAddress(host: host, port: try reader.uint16())))
    }
    self.contacts = contacts
    var common = Common()
    if !reader.isAtEnd {
      common.domain = try reader.string(max: 253)
      for label in common.domain.split(separator: ".", omittingEmptySubsequences: false) { _ = try DNSLabel(String(label)) }
      common.isolatesTenants = try reader.bool()
    }
    self.common = common
    try reader.finish()
  }
}
