import Primitives

extension ProtocolRange {
  /// The versions of the link protocol that this program speaks.
  public static let links = ProtocolRange(1...1)
}

/// What each side says first on a link (docs/wire.md).
struct LinkHello: Hashable, Sendable {
  static let magic = Array("MESH".utf8)
  static let proofBytes = 32

  var versions = ProtocolRange.links
  var cluster: DNSLabel
  var node: NodeName
  var incarnation: UInt64
  /// The link is meant to take the place of the one that exists.
  var isReplacement: Bool
  var authorities: [[UInt8]]
  /// Empty when the sender has no join secret.
  var proof: [UInt8]
  /// A join token that the sender has, proved.
  var token: TokenProof?
  /// The sender's wall clock in seconds since 1970; nil from versions that do not say it.
  var wallSeconds: UInt64?

  struct TokenProof: Hashable, Sendable {
    var id: UInt64
    var proof: [UInt8]

    var idBytes: [UInt8] {
      var writer = ByteWriter(reserving: 8)
      writer.uint64(id)
      return writer.bytes
    }
  }

  var body: [UInt8] {
    var writer = ByteWriter()
    writer.raw(Self.magic)
    writer.uint16(versions.min)
    writer.uint16(versions.max)
    writer.string(cluster.string)
    writer.string(node.string)
    writer.uint64(incarnation)
    writer.bool(isReplacement)
    writer.count(authorities.count)
    for authority in authorities { writer.lengthPrefixed(authority) }
    writer.lengthPrefixed(proof)
    writer.bool(token != nil)
    if let token {
      writer.uint64(token.id)
      writer.raw(token.proof)
    }
    writer.uint64(wallSeconds ?? 0)
    return writer.bytes
  }

  /// Reads a Hello. Bytes after the fields of this version belong to newer ones and are skipped.
  init(parsing body: [UInt8]) throws(ByteError) {
    var reader = ByteReader(body)
    guard try reader.bytes(count: 4).elementsEqual(Self.magic) else { throw .malformed }
    versions = try reader.protocolRange()
    cluster = try Self.label(reader.string(max: LinkLimits.clusterNameBytesMax))
    node = try Self.label(reader.string(max: NodeName.bytesMax))
    incarnation = try reader.uint64()
    isReplacement = try reader.bool()
    authorities = []
    for _ in 0..<(try reader.count(max: LinkLimits.offeredAuthoritiesMax)) {
      authorities.append(Array(try reader.lengthPrefixed(max: LinkLimits.certificateBytesMax)))
    }
    proof = Array(try reader.lengthPrefixed(max: Self.proofBytes))
    guard proof.isEmpty || proof.count == Self.proofBytes else { throw .malformed }
    guard !reader.isAtEnd else { return }
    if try reader.bool() {
      token = TokenProof(id: try reader.uint64(), proof: Array(try reader.bytes(count: Self.proofBytes)))
    }
    let seconds = try reader.uint64()
    wallSeconds = seconds == 0 ? nil : seconds
  }

  init(
    versions: ProtocolRange = .links, cluster: DNSLabel, node: NodeName, incarnation: UInt64, isReplacement: Bool,
    authorities: [[UInt8]], proof: [UInt8],
    token: TokenProof? = nil, wallSeconds: UInt64? = nil
  ) {
    self.versions = versions
    self.token = token
    self.wallSeconds = wallSeconds
    self.cluster = cluster
    self.node = node
    self.incarnation = incarnation
    self.isReplacement = isReplacement
    self.authorities = authorities
    self.proof = proof
  }

  private static func label(_ text: String) throws(ByteError) -> DNSLabel {
    guard let label = try? DNSLabel(text) else { throw .malformed }
    return label
  }
}

/// A code with words for people: the body of Reject and Goodbye.
struct LinkNotice: Hashable, Sendable {
  var code: UInt8
  var text: String

  /// Goodbye: the sender leaves the cluster or stops.
  static let leaving: UInt8 = 1
  /// Goodbye: another link has taken over; this one ends when both sides have said so and no call is open.
  static let replaced: UInt8 = 2

  init(code: UInt8, text: String) {
    self.code = code
    self.text = text
  }

  init(parsing body: [UInt8]) throws(ByteError) {
    var reader = ByteReader(body)
    code = try reader.uint8()
    text = try reader.string(max: LinkLimits.textBytesMax)
    // What a peer writes goes to a log: one line, no control characters.
    guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F && !(0x80...0x9F).contains($0.value) }) else {
      throw .malformed
    }
  }

  var body: [UInt8] {
    var writer = ByteWriter()
    writer.uint8(code)
    let bytes =
      text.utf8.count <= LinkLimits.textBytesMax ? text : String(text.unicodeScalars.prefix(LinkLimits.textBytesMax / 4))
    writer.string(bytes)
    return writer.bytes
  }
}
