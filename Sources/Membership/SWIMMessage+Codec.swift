import Primitives

extension SWIMMessage {
  /// Version of this encoding, the first byte of every message.
  static let format: UInt8 = 1
  /// Bytes of an encoded message besides its body and rumors: format, sender, digest, rumor count.
  static func headerBytes(sender: NodeName) -> Int { 1 + 1 + sender.string.utf8.count + 8 + 1 }

  /// The bytes that `init(decoding:)` reads.
  public func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 256)
    writer.uint8(Self.format)
    writer.string(sender.string)
    writer.uint64(registryDigest)
    body.encode(into: &writer)
    writer.count(rumors.count)
    for rumor in rumors { rumor.encode(into: &writer) }
    return writer.bytes
  }

  /// Reads a whole message from untrusted bytes; anything unknown, oversized or left over is an error.
  public init(decoding bytes: ArraySlice<UInt8>) throws(ByteError) {
    guard bytes.count <= MembershipLimits.streamBytesMax else { throw .tooLong }
    var reader = ByteReader(bytes)
    guard try reader.uint8() == Self.format else { throw .malformed }
    sender = try reader.nodeName()
    registryDigest = try reader.uint64()
    body = try Body(from: &reader)
    rumors = []
    for _ in 0..<(try reader.count(max: MembershipLimits.rumorsPerMessageMax)) { rumors.append(try Rumor(from: &reader)) }
    try reader.finish()
  }

  public init(decoding bytes: [UInt8]) throws(ByteError) { try self.init(decoding: bytes[...]) }
}

extension SWIMMessage.Body {
  private enum Tag: UInt8 {
    case ping = 1, pingRequest, acknowledgement, negativeAcknowledgement, gossip, introduction, synchronisation
  }

  fileprivate func encode(into writer: inout ByteWriter) {
    switch self {
    case .ping(let sequence, let target):
      writer.uint8(Tag.ping.rawValue)
      writer.uint32(sequence)
      writer.string(target.string)
    case .pingRequest(let sequence, let target):
      writer.uint8(Tag.pingRequest.rawValue)
      writer.uint32(sequence)
      writer.string(target.string)
    case .acknowledgement(let sequence):
      writer.uint8(Tag.acknowledgement.rawValue)
      writer.uint32(sequence)
    case .negativeAcknowledgement(let sequence):
      writer.uint8(Tag.negativeAcknowledgement.rawValue)
      writer.uint32(sequence)
    case .gossip:
      writer.uint8(Tag.gossip.rawValue)
    case .introduction(let record, let wantsReply):
      writer.uint8(Tag.introduction.rawValue)
      record.encode(into: &writer)
      writer.bool(wantsReply)
    case .synchronisation(let claims, let wantsReply):
      writer.uint8(Tag.synchronisation.rawValue)
      writer.count(claims.count)
      for claim in claims {
        writer.uint8(claim.state.rawValue)
        claim.record.encode(into: &writer)
      }
      writer.bool(wantsReply)
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    guard let tag = Tag(rawValue: try reader.uint8()) else { throw .malformed }
    switch tag {
    case .ping: self = .ping(sequence: try reader.uint32(), target: try reader.nodeName())
    case .pingRequest: self = .pingRequest(sequence: try reader.uint32(), target: try reader.nodeName())
    case .acknowledgement: self = .acknowledgement(sequence: try reader.uint32())
    case .negativeAcknowledgement: self = .negativeAcknowledgement(sequence: try reader.uint32())
    case .gossip: self = .gossip
    case .introduction: self = .introduction(try MemberRecord(from: &reader), wantsReply: try reader.bool())
    case .synchronisation:
      var claims: [SWIMMessage.Claim] = []
      for _ in 0..<(try reader.count(max: MembershipLimits.claimsPerMessageMax)) {
        guard let state = MemberState(rawValue: try reader.uint8()) else { throw .malformed }
        claims.append(SWIMMessage.Claim(record: try MemberRecord(from: &reader), state: state))
      }
      self = .synchronisation(claims, wantsReply: try reader.bool())
    }
  }
}

extension Rumor {
  private enum Tag: UInt8 { case alive = 1, suspect, dead, left }

  fileprivate func encode(into writer: inout ByteWriter) {
    switch self {
    case .alive(let record):
      writer.uint8(Tag.alive.rawValue)
      record.encode(into: &writer)
    case .suspect(let name, let incarnation, let accuser):
      writer.uint8(Tag.suspect.rawValue)
      writer.string(name.string)
      writer.varint(incarnation)
      writer.string(accuser.string)
    case .dead(let name, let incarnation, let accuser):
      writer.uint8(Tag.dead.rawValue)
      writer.string(name.string)
      writer.varint(incarnation)
      writer.string(accuser.string)
    case .left(let name, let incarnation):
      writer.uint8(Tag.left.rawValue)
      writer.string(name.string)
      writer.varint(incarnation)
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    guard let tag = Tag(rawValue: try reader.uint8()) else { throw .malformed }
    switch tag {
    case .alive: self = .alive(try MemberRecord(from: &reader))
    case .suspect:
      self = .suspect(try reader.nodeName(), incarnation: try reader.incarnation(), accuser: try reader.nodeName())
    case .dead: self = .dead(try reader.nodeName(), incarnation: try reader.incarnation(), accuser: try reader.nodeName())
    case .left: self = .left(try reader.nodeName(), incarnation: try reader.incarnation())
    }
  }

  /// Bytes this rumor takes in a message.
  var encodedBytes: Int {
    var writer = ByteWriter(reserving: 256)
    encode(into: &writer)
    return writer.bytes.count
  }
}

extension MemberRecord {
  func encode(into writer: inout ByteWriter) {
    writer.string(name.string)
    writer.string(address.host)
    writer.uint16(address.port)
    writer.varint(incarnation)
    writer.string(locality)
    writer.uint16(protocols.min)
    writer.uint16(protocols.max)
    writer.lengthPrefixed(metadata)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    let name = try reader.nodeName()
    let host = try reader.string(max: MembershipLimits.addressBytesMax)
    let address = NodeAddress(host: host, port: try reader.uint16())
    let incarnation = try reader.incarnation()
    let locality = try reader.string(max: MembershipLimits.localityBytesMax)
    let protocols = try reader.protocolRange()
    let metadata = Array(try reader.lengthPrefixed(max: MembershipLimits.metadataBytesMax))
    self.init(
      name: name, address: address, incarnation: incarnation, locality: locality, protocols: protocols, metadata: metadata)
  }
}

extension ByteReader {
  mutating func nodeName() throws(ByteError) -> NodeName {
    let text = try string(max: NodeName.bytesMax)
    do throws(NameError) { return try NodeName(text) } catch { throw .malformed }
  }

  mutating func incarnation() throws(ByteError) -> UInt64 {
    let value = try varint()
    guard value <= MembershipLimits.incarnationMax else { throw .malformed }
    return value
  }
}
