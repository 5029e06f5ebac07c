import Primitives

extension Command {
  private static let version: UInt8 = 1

  /// The bytes of a log entry. Larger than `ConsensusLimits.commandBytesMax` is refused when it is proposed.
  public func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 256)
    writer.uint8(Self.version)
    switch self {
    case .noop:
      writer.uint8(0)
    case .configuration(let change):
      writer.uint8(1)
      change.encode(to: &writer)
    case .assignRole(let grant):
      writer.uint8(2)
      grant.encode(to: &writer)
    case .releaseRole(let role, let epoch):
      writer.uint8(3)
      writer.uint8(role.rawValue)
      writer.varint(epoch.number)
    case .addTrustAnchor(let node, let certificate):
      writer.uint8(4)
      writer.string(node.string)
      writer.lengthPrefixed(certificate)
    case .removeTrustAnchor(let fingerprint, let epoch):
      writer.uint8(5)
      writer.raw(fingerprint.bytes)
      writer.varint(epoch.number)
    case .allocateAddresses(let allocations, let epoch):
      writer.uint8(6)
      writer.varint(epoch.number)
      writer.count(allocations.count)
      for allocation in allocations { allocation.encode(to: &writer) }
    case .freeAddresses(let hosts, let epoch):
      writer.uint8(7)
      writer.varint(epoch.number)
      writer.count(hosts.count)
      for host in hosts { writer.string(host) }
    case .admitNode(let node):
      writer.uint8(8)
      node.encode(to: &writer)
    case .forgetNode(let name):
      writer.uint8(9)
      writer.string(name.string)
    case .createToken(let token):
      writer.uint8(10)
      token.encode(to: &writer)
    case .revokeToken(let id):
      writer.uint8(11)
      writer.uint64(id.number)
    case .joinByToken(let join):
      writer.uint8(12)
      join.encode(to: &writer)
    case .setPosture(let node, let posture):
      writer.uint8(13)
      writer.string(node.string)
      writer.uint8(posture.rawValue)
    case .transferRole(let role, let node):
      writer.uint8(14)
      writer.uint8(role.rawValue)
      writer.string(node.string)
    case .addGossipKey(let key):
      writer.uint8(15)
      key.encode(to: &writer)
    }
    return writer.bytes
  }

  public init(decoding bytes: [UInt8]) throws(ByteError) {
    var reader = ByteReader(bytes)
    guard try reader.uint8() == Self.version else { throw .malformed }
    self = try Self.command(kind: try reader.uint8(), from: &reader)
    try reader.finish()
  }

  private static func command(kind: UInt8, from reader: inout ByteReader) throws(ByteError) -> Command {
    switch kind {
    case 0: return .noop
    case 1: return .configuration(try ChangeSet(from: &reader))
    case 2: return .assignRole(try RoleGrant(from: &reader))
    case 3:
      let role = try Role(from: &reader)
      return .releaseRole(role, RoleEpoch(try reader.boundedNumber()))
    case 4:
      let node = try reader.nodeName()
      return .addTrustAnchor(
        node: node, certificate: Array(try reader.lengthPrefixed(max: ConsensusLimits.certificateBytesMax)))
    case 5:
      let fingerprint = try Digest(from: &reader)
      return .removeTrustAnchor(fingerprint: fingerprint, epoch: RoleEpoch(try reader.boundedNumber()))
    case 6:
      let epoch = RoleEpoch(try reader.boundedNumber())
      let allocations = try reader.list(max: ConsensusLimits.allocationsMax) { r throws(ByteError) in
        try AddressAllocation(from: &r)
      }
      return .allocateAddresses(allocations, epoch: epoch)
    case 7:
      let epoch = RoleEpoch(try reader.boundedNumber())
      let hosts = try reader.list(max: ConsensusLimits.allocationsMax) { r throws(ByteError) in try r.hostName() }
      return .freeAddresses(hosts, epoch: epoch)
    case 8: return .admitNode(try AdmittedNode(from: &reader))
    case 9: return .forgetNode(try reader.nodeName())
    case 10: return .createToken(try JoinToken(from: &reader))
    case 11: return .revokeToken(JoinTokenID(try reader.uint64()))
    case 12: return .joinByToken(try TokenJoin(from: &reader))
    case 13:
      let node = try reader.nodeName()
      guard let posture = NodePosture(rawValue: try reader.uint8()) else { throw .malformed }
      return .setPosture(node, posture)
    case 14:
      let role = try Role(from: &reader)
      return .transferRole(role, to: try reader.nodeName())
    case 15: return .addGossipKey(try GossipKey(from: &reader))
    default: throw .malformed
    }
  }
}

extension ByteReader {
  /// A counted list; memory grows only with bytes that are really there.
  mutating func list<Element>(
    max: Int, _ element: (inout ByteReader) throws(ByteError) -> Element
  ) throws(ByteError) -> [Element] {
    let count = try count(max: max)
    var elements: [Element] = []
    for _ in 0..<count { elements.append(try element(&self)) }
    return elements
  }

  /// A host name in lower-case ASCII, so that equal strings are equal bytes.
  mutating func hostName() throws(ByteError) -> String {
    let host = try string(max: ConsensusLimits.keyFieldBytesMax)
    let isPlain = host.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !(0x41...0x5A).contains($0) }
    guard isPlain, !host.isEmpty else { throw .malformed }
    return host
  }

  mutating func address() throws(ByteError) -> ServiceAddress {
    guard let address = ServiceAddress(host: try uint16()) else { throw .malformed }
    return address
  }
}

extension ChangeSet {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.uint64(requestID.high)
    writer.uint64(requestID.low)
    writer.varint(epoch.number)
    writer.string(author)
    writer.bool(expectedRevision != nil)
    if let expectedRevision { writer.varint(expectedRevision.number) }
    writer.count(puts.count)
    for put in puts {
      put.key.encode(to: &writer)
      writer.lengthPrefixed(put.bytes)
    }
    writer.count(deletes.count)
    for key in deletes { key.encode(to: &writer) }
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    requestID = RequestID(high: try reader.uint64(), low: try reader.uint64())
    epoch = RoleEpoch(try reader.boundedNumber())
    author = try reader.string(max: ConsensusLimits.noteBytesMax)
    expectedRevision = try reader.bool() ? LogIndex(try reader.boundedNumber()) : nil
    puts = try reader.list(max: ConsensusLimits.changesMax) { r throws(ByteError) in
      let key = try ObjectKey(from: &r)
      return ObjectPut(key: key, bytes: Array(try r.lengthPrefixed(max: ConsensusLimits.commandBytesMax)))
    }
    deletes = try reader.list(max: ConsensusLimits.changesMax) { r throws(ByteError) in try ObjectKey(from: &r) }
  }
}

extension RoleGrant {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.uint8(role.rawValue)
    writer.string(holder.string)
    writer.varint(epoch.number)
    writer.uint64(at)
    writer.string(reason)
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    role = try Role(from: &reader)
    holder = try reader.nodeName()
    epoch = RoleEpoch(try reader.boundedNumber())
    at = try reader.uint64()
    reason = try reader.string(max: ConsensusLimits.noteBytesMax)
  }
}

extension AddressAllocation {
  func encode(to writer: inout ByteWriter) {
    writer.string(host)
    writer.uint16(address.host)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    host = try reader.hostName()
    address = try reader.address()
  }
}

extension AdmittedNode {
  func encode(to writer: inout ByteWriter) {
    writer.string(name.string)
    writer.string(address)
    writer.string(locality)
    writer.bool(canIssue)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    name = try reader.nodeName()
    address = try reader.string(max: ConsensusLimits.addressBytesMax)
    locality = try reader.string(max: ConsensusLimits.addressBytesMax)
    canIssue = try reader.bool()
  }
}
