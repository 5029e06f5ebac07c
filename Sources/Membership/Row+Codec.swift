import Primitives

extension Row {
  /// First bytes of every signed payload: a signature over a row can never pass for one over anything else.
  static let domain = Array("mesh-node/row/1\u{0}".utf8)
  private static let tombstoneFlag: UInt8 = 1

  /// The bytes that the owner signs and others verify, `domain` included.
  public func payload() -> [UInt8] {
    var writer = ByteWriter(appendingTo: Self.domain)
    writer.string(key.owner.string)
    writer.uint8(key.kind.rawValue)
    writer.string(key.namespace)
    writer.string(key.name)
    writer.varint(version.incarnation)
    writer.varint(version.sequence)
    switch content {
    case .tombstone(let deletedAt):
      writer.uint8(Self.tombstoneFlag)
      writer.varint(deletedAt)
    case .node(let row):
      writer.uint8(0)
      row.encode(into: &writer)
    case .workload(let row):
      writer.uint8(0)
      row.encode(into: &writer)
    case .opaque(let bytes):
      writer.uint8(0)
      writer.raw(bytes)
    }
    return writer.bytes
  }

  /// Reads a payload. Only the head must be understood; a body that is not becomes `.opaque`.
  public init(payload: [UInt8]) throws(ByteError) {
    guard payload.count <= MembershipLimits.payloadBytesMax else { throw .tooLong }
    var reader = ByteReader(payload)
    guard try reader.bytes(count: Self.domain.count).elementsEqual(Self.domain) else { throw .malformed }
    let owner = try reader.nodeName()
    let kind = RowKind(rawValue: try reader.uint8())
    let namespace = try reader.string(max: MembershipLimits.rowNameBytesMax)
    let name = try reader.string(max: MembershipLimits.rowNameBytesMax)
    guard namespace.utf8.allSatisfy({ $0 < 0x80 }), name.utf8.allSatisfy({ $0 < 0x80 }) else { throw .malformed }
    guard kind != .node || (namespace.isEmpty && name.isEmpty) else { throw .malformed }
    let key = RowKey(owner: owner, kind: kind, namespace: namespace, name: name)
    let version = try RowVersion(from: &reader)
    let flags = try reader.uint8()
    if flags == Self.tombstoneFlag, kind != .node {
      let deletedAt = try reader.varint()
      try reader.finish()
      self.init(key: key, version: version, content: .tombstone(deletedAtMilliseconds: deletedAt))
    } else {
      guard flags == 0 else { throw .malformed }
      let body = try reader.bytes(count: reader.remaining)
      self.init(key: key, version: version, content: try Self.content(of: key, body: body))
    }
  }

  private static func content(of key: RowKey, body: ArraySlice<UInt8>) throws(ByteError) -> Content {
    switch key.kind {
    case .node: return .node(try NodeRow(decoding: body))
    case .workload:
      // A newer version may have written it: it goes on to those who understand it.
      guard let row = try? WorkloadRow(decoding: body), row.namespace.string == key.namespace, row.name.string == key.name
      else { return .opaque(Array(body)) }
      return .workload(row)
    default: return .opaque(Array(body))
    }
  }
}

extension RowVersion {
  func encode(into writer: inout ByteWriter) {
    writer.varint(incarnation)
    writer.varint(sequence)
  }
  init(from reader: inout ByteReader) throws(ByteError) {
    let incarnation = try reader.incarnation()
    let sequence = try reader.varint()
    // A process writes fewer rows than this; above it the owner could not write another.
    guard sequence <= MembershipLimits.incarnationMax else { throw .malformed }
    self.init(incarnation: incarnation, sequence: sequence)
  }
}

extension NodeRow {
  fileprivate func encode(into writer: inout ByteWriter) {
    writer.count(certificates.count)
    for certificate in certificates { writer.lengthPrefixed(certificate) }
    writer.uint16(meshPort)
    writer.uint16(protocols.min)
    writer.uint16(protocols.max)
    writer.varint(revisionServed)
    writer.varint(trustBundleVersion)
    floor.encode(into: &writer)
  }

  /// What a newer version appends is ignored: every version must be able to verify rows.
  fileprivate init(decoding bytes: ArraySlice<UInt8>) throws(ByteError) {
    var reader = ByteReader(bytes)
    var certificates: [[UInt8]] = []
    for _ in 0..<(try reader.count(max: MembershipLimits.certificatesMax)) {
      certificates.append(Array(try reader.lengthPrefixed(max: MembershipLimits.certificateBytesMax)))
    }
    let meshPort = try reader.uint16()
    let protocols = try reader.protocolRange()
    let revision = try reader.varint()
    self.init(
      certificates: certificates, meshPort: meshPort, protocols: protocols, revisionServed: revision,
      trustBundleVersion: try reader.varint())
    floor = try RowVersion(from: &reader)
  }
}

extension WorkloadRow {
  fileprivate func encode(into writer: inout ByteWriter) {
    writer.string(name.string)
    writer.string(namespace.string)
    writer.string(service.string)
    writer.string(serviceAccount.string)
    writer.count(labels.count)
    for label in labels {
      writer.string(label.key)
      writer.string(label.value)
    }
    writer.string(address)
    writer.count(ports.count)
    for port in ports { port.encode(into: &writer) }
    writer.string(locality)
    writer.uint32(weight)
    writer.uint8(health.rawValue)
    writer.bool(isGateway)
    writer.varint(createdAtMilliseconds)
  }

  fileprivate init(decoding bytes: ArraySlice<UInt8>) throws(ByteError) {
    var reader = ByteReader(bytes)
    let name = try reader.nodeName()
    let namespace = try reader.nodeName()
    let service = try reader.nodeName()
    let account = try reader.nodeName()
    var labels: [Label] = []
    for _ in 0..<(try reader.count(max: MembershipLimits.labelsMax)) {
      let key = try reader.string(max: MembershipLimits.labelKeyBytesMax)
      labels.append(Label(key: key, value: try reader.string(max: MembershipLimits.labelValueBytesMax)))
    }
    let address = try reader.string(max: MembershipLimits.addressBytesMax)
    var ports: [Port] = []
    for _ in 0..<(try reader.count(max: MembershipLimits.portsMax)) { ports.append(try Port(from: &reader)) }
    let locality = try reader.string(max: MembershipLimits.localityBytesMax)
    let weight = try reader.uint32()
    guard weight <= MembershipLimits.weightMax, let health = WorkloadHealth(rawValue: try reader.uint8()) else {
      throw .malformed
    }
    let isGateway = try reader.bool()
    self.init(
      name: name, namespace: namespace, service: service, serviceAccount: account, labels: labels, address: address,
      ports: ports, locality: locality, weight: weight, health: health, isGateway: isGateway,
      createdAtMilliseconds: try reader.varint())
    try reader.finish()
  }
}

extension WorkloadRow.Port {
  fileprivate func encode(into writer: inout ByteWriter) {
    writer.string(name)
    writer.bool(servicePort != nil)
    if let servicePort { writer.uint16(servicePort) }
    writer.uint16(port)
    writer.string(appProtocol)
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    let name = try reader.string(max: DNSLabel.bytesMax)
    let servicePort = try reader.bool() ? try reader.uint16() : nil
    let port = try reader.uint16()
    self.init(
      name: name, servicePort: servicePort, port: port, appProtocol: try reader.string(max: MembershipLimits.protocolBytesMax))
  }
}
