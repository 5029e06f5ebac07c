import Primitives

/// A row as it travels: the payload its owner wrote and the owner's signature over exactly these bytes.
public struct SignedRow: Hashable, Sendable {
  public let payload: [UInt8]
  public let signature: [UInt8]

  public init(payload: [UInt8], signature: [UInt8]) {
    self.payload = payload
    self.signature = signature
  }

  /// Bytes it takes in a message, but for two length prefixes.
  var bytes: Int { payload.count + signature.count }

  func encode(into writer: inout ByteWriter) {
    writer.lengthPrefixed(payload)
    writer.lengthPrefixed(signature)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    payload = Array(try reader.lengthPrefixed(max: MembershipLimits.payloadBytesMax))
    signature = Array(try reader.lengthPrefixed(max: MembershipLimits.signatureBytesMax))
  }
}
