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
    bytes.withUnsafeBufferPointer { _ = head.headers.add(key, Base64.encode($0)) }
  }

  /// Gives the answer the proof that an HTTP/1 client wants to see, when the server was asked over HTTP/2.
  static func completeResponse(_ response: inout ResponseHead, to request: RequestHead) {
    guard let sent = request.headers.value(key), response.headers.value(accept) == nil else { return }
    let proof = SHA1.hash(request.headers.copy(sent) + identifier)
    proof.withUnsafeBufferPointer { _ = response.headers.add(accept, Base64.encode($0)) }
  }

  private static func isWebSocket(_ headers: HeaderBlock) -> Bool {
    headers.value(.upgrade).map { headers.copy($0).map(ASCII.lowercased) == upgrade } ?? false
  }

  private static func name(_ text: String) -> HeaderName {
    guard let name = HeaderName(text) else { preconditionFailure("\(text) is no field name") }
    return name
  }
}
