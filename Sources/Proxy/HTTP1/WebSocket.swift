import HTTPCodec
import Primitives
import Transport

/// What HTTP/1 asks of a WebSocket handshake (RFC 6455 4) and HTTP/2 does not (RFC 8441 5): a key, and the proof that the
/// server has read it. Added where a request or its answer crosses from one to the other.
enum WebSocket {
  private static let key = name("sec-websocket-key")
  private static let accept = name("sec-websocket-accept")
  private static let upgrade = Array("websocket".utf8)
  private static let identifier = Array("258EAFA5-E914-47DA-95CA-C5AB0DC85B11".utf8)

  /// Gives the request the key that an HTTP/1 server wants to see.
  static func completeRequest(_ head: inout RequestHead, draws: inout SeededGenerator) {
    guard isWebSocket(head.headers), head.headers.value(key) == nil else { return }
    var bytes: [UInt8] = []
    for _ in 0..<2 {
      let word = draws.next()
      for shift in stride(from: 0, to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift))) }
    }
    head.headers.add(key, base64(bytes))
  }

  /// Gives the answer the proof that an HTTP/1 client wants to see, when the server was asked over HTTP/2.
  static func completeResponse(_ response: inout ResponseHead, to request: RequestHead) {
    guard let sent = request.headers.value(key), response.headers.value(accept) == nil else { return }
    response.headers.add(accept, base64(SHA1.hash(request.headers.copy(sent) + identifier)))
  }

  private static func isWebSocket(_ headers: HeaderBlock) -> Bool {
    headers.value(.upgrade).map { headers.copy($0).map(ASCII.lowercased) == upgrade } ?? false
  }

  private static func name(_ text: String) -> HeaderName {
    guard let name = HeaderName(text) else { preconditionFailure("\(text) is no field name") }
    return name
  }

  /// RFC 4648 4, with padding.
  private static func base64(_ bytes: [UInt8]) -> [UInt8] {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
      for place in 0..<4 {
        text.append(place <= group.count ? digits[Int(bits >> (18 - 6 * UInt32(place)) & 63)] : 0x3D)
      }
    }
    return text
  }
}
