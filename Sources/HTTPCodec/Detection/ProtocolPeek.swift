/// What the first bytes of a client say about the protocol it speaks (Istio, protocol selection).
public enum ProtocolPeek: Hashable, Sendable {
  /// The bytes could still begin one of the known protocols.
  case undecided
  case http1
  /// HTTP/2 with prior knowledge (RFC 9113 3.4).
  case http2
  case tls
  /// None of the above: relayed as it is.
  case opaque

  private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  /// Bytes of a method; longer words are no HTTP. The longest registered one, UPDATEREDIRECTREF, has 17.
  private static let methodBytesMax = 20
  /// Bytes of a request line that are waited for before the stream is taken for something else.
  public static let requestLineBytesMax = 8 * 1024

  /// Judges the beginning of a stream. Needs nothing but bytes: no answer depends on time.
  public init(_ bytes: Span<UInt8>) {
    guard !bytes.isEmpty else {
      self = .undecided
      return
    }
    if bytes[0] == 22 {
      self = bytes.count == 1 ? .undecided : bytes[1] == 3 ? .tls : .opaque
    } else if Self.matchesPreface(bytes) {
      // Sixteen bytes are the request line that no HTTP/1 client sends.
      self = bytes.count >= 16 ? .http2 : .undecided
    } else {
      self = Self.requestLine(bytes)
    }
  }

  private static func matchesPreface(_ bytes: Span<UInt8>) -> Bool {
    for index in 0..<min(bytes.count, preface.count) where bytes[index] != preface[index] { return false }
    return true
  }

  /// A method, a target, `HTTP/1.` and a digit.
  private static func requestLine(_ bytes: Span<UInt8>) -> ProtocolPeek {
    var position = 0
    while position < bytes.count, bytes[position] != 0x20 {
      let byte = bytes[position]
      guard byte >= 0x41 && byte <= 0x5A || byte == 0x2D, position < methodBytesMax else { return .opaque }
      position += 1
    }
    guard position < bytes.count else { return .undecided }
    guard position > 0 else { return .opaque }
    let target = position + 1
    position = target
    while position < bytes.count, bytes[position] > 0x20, bytes[position] != 0x7F { position += 1 }
    guard position < bytes.count else { return position < requestLineBytesMax ? .undecided : .opaque }
    guard position > target, bytes[position] == 0x20 else { return .opaque }
    let version: [UInt8] = [0x20, 0x48, 0x54, 0x54, 0x50, 0x2F, 0x31, 0x2E]
    for offset in version.indices {
      guard position + offset < bytes.count else { return .undecided }
      guard bytes[position + offset] == version[offset] else { return .opaque }
    }
    return .http1
  }
}
