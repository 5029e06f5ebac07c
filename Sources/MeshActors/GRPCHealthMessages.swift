import Primitives

/// One call of `grpc.health.v1.Health/Check` as bytes: HTTP/2 with prior knowledge, one stream, no dynamic table (RFC 9113,
/// RFC 7541, gRPC health-checking protocol).
enum GRPCHealthRequest {
  private static let path = "/grpc.health.v1.Health/Check"
  /// Bytes of a service name; what is longer is nobody's.
  static let serviceBytesMax = 100

  static func bytes(service: String, authority: String) -> [UInt8] {
    var bytes = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    appendFrame(type: 4, flags: 0, stream: 0, [], to: &bytes)
    // :method POST and :scheme http are in the static table; the rest are literals that are not indexed.
    var block: [UInt8] = [0x83, 0x86]
    appendField([0x04], path, to: &block)
    appendField([0x01], String(authority.prefix(100)), to: &block)
    appendField([0x0F, 0x10], "application/grpc", to: &block)
    block += [0x00, 2]
    block += Array("te".utf8)
    appendText("trailers", to: &block)
    appendFrame(type: 1, flags: 0x4, stream: 1, block, to: &bytes)
    var message: [UInt8] = []
    let name = Array(service.utf8.prefix(serviceBytesMax))
    if !name.isEmpty { message = [0x0A, UInt8(name.count)] + name }
    appendFrame(type: 0, flags: 0x1, stream: 1, [0, 0, 0, 0, UInt8(message.count)] + message, to: &bytes)
    return bytes
  }

  private static func appendField(_ name: [UInt8], _ value: String, to block: inout [UInt8]) {
    block += name
    appendText(value, to: &block)
  }

  private static func appendText(_ text: String, to block: inout [UInt8]) {
    let bytes = Array(text.utf8.prefix(126))
    block.append(UInt8(bytes.count))
    block += bytes
  }

  private static func appendFrame(type: UInt8, flags: UInt8, stream: UInt8, _ payload: [UInt8], to bytes: inout [UInt8]) {
    bytes += [0, UInt8(payload.count >> 8 & 0xFF), UInt8(payload.count & 0xFF), type, flags, 0, 0, 0, stream]
    bytes += payload
  }
}

/// Reads frames until the answer's message, or the end of its stream.
struct GRPCHealthReader {
  private var bytes: [UInt8] = []
  private var message: [UInt8] = []

  mutating func receive(_ more: some Sequence<UInt8>) { bytes += more }

  /// nil while more is needed.
  mutating func next() -> HealthVerdict? {
    while bytes.count >= 9 {
      let length = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
      guard length <= 16_384 else { return .unhealthy("not an HTTP/2 answer") }
      guard bytes.count >= 9 + length else { return nil }
      let (type, flags, stream) = (bytes[3], bytes[4], bytes[8])
      let payload = Array(bytes[9..<(9 + length)])
      bytes.removeFirst(9 + length)
      if let verdict = use(type, flags, stream, payload) { return verdict }
    }
    return nil
  }

  private mutating func use(_ type: UInt8, _ flags: UInt8, _ stream: UInt8, _ payload: [UInt8]) -> HealthVerdict? {
    let isEnd = flags & 0x1 != 0
    switch type {
    case 0 where stream == 1:
      message += payload
      return verdict(isEnd: isEnd)
    case 1 where stream == 1 && isEnd: return verdict(isEnd: true)
    case 3 where stream == 1: return .unhealthy("the call was reset")
    case 7: return .unhealthy("the server goes away")
    default: return nil
    }
  }

  private func verdict(isEnd: Bool) -> HealthVerdict? {
    guard message.count >= 5 else { return isEnd ? .unhealthy("no health service, or not this one") : nil }
    let length = Int(message[3]) << 8 | Int(message[4])
    guard message[0] == 0, message[1] == 0, message[2] == 0 else { return .unhealthy("an answer of another form") }
    guard message.count >= 5 + length else { return isEnd ? .unhealthy("the answer was cut") : nil }
    // HealthCheckResponse { status = 1: an enum }; an absent field is UNKNOWN.
    let fields = message[5..<(5 + length)]
    guard fields.first == 0x08, let status = fields.dropFirst().first else { return .unhealthy("status UNKNOWN") }
    return status == 1 ? .healthy : .unhealthy(status == 2 ? "status NOT_SERVING" : "status \(status)")
  }
}
