import Primitives

/// The canonical bytes of a control state: equal states have equal bytes, and the last 32 are the SHA-256 of the rest.
extension ControlState {
  /// 2 added tokens, gossip keys, postures and preferred holders, 3 the history of revisions; older ones are still read.
  private static let version: UInt8 = 3

  public func snapshot() -> [UInt8] {
    var writer = ByteWriter(reserving: objectBytes + 4096)
    writer.uint8(Self.version)
    applied.encode(to: &writer)
    writer.varint(revision.number)
    writer.raw(history.bytes)
    encodeObjects(to: &writer)
    encodeRoles(to: &writer)
    encodeTrust(to: &writer)
    writer.count(addresses.count)
    for (host, address) in addresses.sorted(by: { $0.value < $1.value }) {
      AddressAllocation(host: host, address: address).encode(to: &writer)
    }
    writer.count(nodes.count)
    for (_, node) in nodes.sorted(by: { $0.key < $1.key }) { node.encode(to: &writer) }
    outcomes.encode(to: &writer)
    encodeMembership(to: &writer)
    revisions.encode(to: &writer)
    let digest = SHA256.digest(of: writer.bytes)
    writer.raw(digest.bytes)
    return writer.bytes
  }

  /// Restores what `snapshot()` wrote.
  public init(restoring bytes: [UInt8]) throws(ControlStateError) {
    guard bytes.count > Digest.byteCount, let first = bytes.first else { throw .corruptSnapshot("too short") }
    let body = Array(bytes.dropLast(Digest.byteCount))
    guard SHA256.digest(of: body).bytes == Array(bytes.suffix(Digest.byteCount)) else {
      throw .corruptSnapshot("its checksum does not match")
    }
    guard (1...Self.version).contains(first) else { throw .unknownVersion(first) }
    do { self = try Self.decode(body, version: first) } catch { throw .corruptSnapshot("\(error)") }
  }

  private static func decode(_ body: [UInt8], version: UInt8) throws(ByteError) -> ControlState {
    var reader = ByteReader(body.dropFirst())
    var state = ControlState()
    state.applied = try LogPosition(from: &reader)
    state.revision = LogIndex(try reader.boundedNumber())
    state.history = try Digest(from: &reader)
    try state.decodeObjects(from: &reader)
    try state.decodeRoles(from: &reader)
    try state.decodeTrust(from: &reader)
    let allocations = try reader.list(max: ConsensusLimits.serviceAddressesMax) { r throws(ByteError) in
      try AddressAllocation(from: &r)
    }
    for allocation in allocations { state.addresses[allocation.host] = allocation.address }
    let nodes = try reader.list(max: ConsensusLimits.nodesMax) { r throws(ByteError) in try AdmittedNode(from: &r) }
    for node in nodes { state.nodes[node.name] = node }
    state.outcomes = try OutcomeMemory(from: &reader)
    if version >= 2 { try state.decodeMembership(from: &reader) }
    if version >= 3 { state.revisions = try RevisionHistory(from: &reader) }
    try reader.finish()
    return state
  }

  // MARK: Parts

  private func encodeObjects(to writer: inout ByteWriter) {
    writer.count(objects.count)
    for (key, object) in sortedObjects {
      key.encode(to: &writer)
      writer.varint(object.created.number)
      writer.varint(object.version.number)
      writer.lengthPrefixed(object.bytes)
    }
  }

  private mutating func decodeObjects(from reader: inout ByteReader) throws(ByteError) {
    for _ in 0..<(try reader.count(max: ConsensusLimits.objectsMax)) {
      let key = try ObjectKey(from: &reader)
      let created = LogIndex(try reader.boundedNumber())
      let version = LogIndex(try reader.boundedNumber())
      let bytes = Array(try reader.lengthPrefixed(max: ConsensusLimits.objectBytesMax))
      objects[key] = StoredObject(bytes: bytes, created: created, version: version)
      objectBytes += bytes.count
    }
  }

  private func encodeRoles(to writer: inout ByteWriter) {
    writer.count(Role.allCases.count)
    for role in Role.allCases {
      let state = roles[role]
      writer.uint8(role.rawValue)
      writer.string(state.holder?.string ?? "")
      writer.varint(state.epoch.number)
      writer.uint64(state.assignedAt)
      writer.string(state.reason)
    }
  }

  private mutating func decodeRoles(from reader: inout ByteReader) throws(ByteError) {
    for _ in 0..<(try reader.count(max: Role.allCases.count)) {
      let role = try Role(from: &reader)
      let holder = try reader.string(max: NodeName.bytesMax)
      let name = try? NodeName(holder)
      guard holder.isEmpty || name != nil else { throw .malformed }
      roles[role] = RoleState(
        holder: name, epoch: RoleEpoch(try reader.boundedNumber()), assignedAt: try reader.uint64(),
        reason: try reader.string(max: ConsensusLimits.noteBytesMax))
    }
  }

  private func encodeMembership(to writer: inout ByteWriter) {
    configuration.encode(to: &writer)
    writer.count(tokens.count)
    for token in tokens { token.encode(to: &writer) }
    writer.count(gossipKeys.count)
    for key in gossipKeys { key.encode(to: &writer) }
    writer.count(postures.count)
    for (node, posture) in postures.sorted(by: { $0.key < $1.key }) {
      writer.string(node.string)
      writer.uint8(posture.rawValue)
    }
    let preferences = Role.allCases.filter { roles[$0].preferred != nil }
    writer.count(preferences.count)
    for role in preferences {
      writer.uint8(role.rawValue)
      writer.string(roles[role].preferred?.string ?? "")
    }
  }

  private mutating func decodeMembership(from reader: inout ByteReader) throws(ByteError) {
    configuration = try ClusterConfiguration(from: &reader)
    tokens = try reader.list(max: ConsensusLimits.tokensMax) { r throws(ByteError) in try JoinToken(from: &r) }
    gossipKeys = try reader.list(max: ConsensusLimits.gossipKeysMax) { r throws(ByteError) in try GossipKey(from: &r) }
    for _ in 0..<(try reader.count(max: ConsensusLimits.nodesMax)) {
      let node = try reader.nodeName()
      guard let posture = NodePosture(rawValue: try reader.uint8()) else { throw .malformed }
      postures[node] = posture
    }
    for _ in 0..<(try reader.count(max: Role.allCases.count)) {
      let role = try Role(from: &reader)
      roles[role].preferred = try reader.nodeName()
    }
  }

  private func encodeTrust(to writer: inout ByteWriter) {
    writer.varint(trust.version.number)
    writer.count(trust.anchors.count)
    for anchor in trust.anchors {
      writer.string(anchor.node.string)
      writer.varint(anchor.added.number)
      writer.lengthPrefixed(anchor.certificate)
    }
  }

  private mutating func decodeTrust(from reader: inout ByteReader) throws(ByteError) {
    trust.version = LogIndex(try reader.boundedNumber())
    trust.anchors = try reader.list(max: ConsensusLimits.trustAnchorsMax) { r throws(ByteError) in
      let node = try r.nodeName()
      let added = LogIndex(try r.boundedNumber())
      let certificate = Array(try r.lengthPrefixed(max: ConsensusLimits.certificateBytesMax))
      return TrustAnchor(
        node: node, certificate: certificate, fingerprint: SHA256.digest(of: certificate), added: added)
    }
  }
}

extension OutcomeMemory {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.count(order.count)
    for id in order {
      writer.uint64(id.high)
      writer.uint64(id.low)
      (self[id] ?? .unchanged(revision: .zero)).encode(to: &writer)
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    self.init()
    for _ in 0..<(try reader.count(max: ConsensusLimits.outcomesMax)) {
      let id = RequestID(high: try reader.uint64(), low: try reader.uint64())
      remember(try Outcome(from: &reader), for: id)
    }
  }
}

extension Outcome {
  /// Also the form in which an outcome travels to the node that asked.
  public func encode(to writer: inout ByteWriter) {
    switch self {
    case .applied(let revision):
      writer.uint8(1)
      writer.varint(revision.number)
    case .unchanged(let revision):
      writer.uint8(2)
      writer.varint(revision.number)
    case .conflict(let revision):
      writer.uint8(3)
      writer.varint(revision.number)
    case .staleEpoch(let epoch):
      writer.uint8(4)
      writer.varint(epoch.number)
    case .limit(let limit):
      writer.uint8(5)
      writer.varint(UInt64(limit.rawValue))
    case .invalid(let reason):
      writer.uint8(6)
      writer.varint(UInt64(reason.rawValue))
    }
  }

  public init(from reader: inout ByteReader) throws(ByteError) {
    let kind = try reader.uint8()
    let number = try reader.boundedNumber()
    switch kind {
    case 1: self = .applied(revision: LogIndex(number))
    case 2: self = .unchanged(revision: LogIndex(number))
    case 3: self = .conflict(revision: LogIndex(number))
    case 4: self = .staleEpoch(current: RoleEpoch(number))
    case 5:
      guard let raw = UInt8(exactly: number), let limit = Limit(rawValue: raw) else { throw .malformed }
      self = .limit(limit)
    case 6:
      guard let raw = UInt8(exactly: number), let reason = Reason(rawValue: raw) else { throw .malformed }
      self = .invalid(reason)
    default: throw .malformed
    }
  }
}
