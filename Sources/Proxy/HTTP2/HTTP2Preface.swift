/// The bytes an HTTP/2 client begins with (RFC 9113 3.4). They are no HTTP/1 request, so that a listener without TLS can
/// tell the two apart by what comes first ("prior knowledge").
enum HTTP2Preface {
  enum Match { case no, part, whole }

  private static let bytes = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  /// Whether the first bytes of a connection are the preface, as far as they have come.
  static func match(_ received: UnsafeBufferPointer<UInt8>) -> Match {
    for index in 0..<min(received.count, bytes.count) where received[index] != bytes[index] { return .no }
    return received.count >= bytes.count ? .whole : .part
  }
}
