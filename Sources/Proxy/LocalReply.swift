import HTTPCodec
import MeshConfig
import Primitives
import Traffic

/// An answer the proxy gives itself: what the decision says, and what the connection adds.
struct ProxyReply {
  var answer: LocalReply
  /// Instead of the answer's text, for a route's own body.
  var body: [UInt8]?
  /// Further fields; values are checked when written.
  var fields: [(name: HeaderName, value: [UInt8])] = []
  /// The connection cannot serve another request.
  var closes = false

  init(_ answer: LocalReply, closes: Bool = false) {
    self.answer = answer
    self.closes = closes
  }

  init(_ error: ProxyError, isRetried: Bool = false, closes: Bool = false) {
    self.init(LocalReply(error, isRetried: isRetried), closes: closes)
    if error == .notProcessed { fields.append((Names.notProcessed, Names.yes)) }
  }

  /// A request that is no valid HTTP; the connection ends, since nobody knows where the next one would begin.
  init(_ error: MessageError) {
    let text = error.status == 400 ? "Bad Request" : error.status == 426 ? "Upgrade Required" : ""
    self.init(
      LocalReply(
        status: UInt16(clamping: error.status), body: text, flags: .downstreamProtocolError,
        details: "http1.\(error.reason.rawValue)"), closes: true)
  }

  /// Appends the reply as bytes on the wire and returns the bytes of its body.
  func write(into output: inout [UInt8], isGRPC: Bool, server: StaticString, withBody: Bool, close: Bool) -> Int {
    let status = isGRPC ? 200 : max(200, min(999, answer.status))
    let body = isGRPC ? [] : body ?? Array(answer.body.utf8)
    output.append(contentsOf: "HTTP/1.1 ".utf8)
    output.appendDecimal(UInt64(status))
    output.append(contentsOf: " \(StatusReason.phrase(Int(status)))\r\n".utf8)
    for field in fields where HeaderBlock.isFieldValue(field.value.span) {
      output.append(contentsOf: field.name.bytes)
      output.append(contentsOf: ": ".utf8)
      output.append(contentsOf: field.value)
      output.append(contentsOf: "\r\n".utf8)
    }
    if answer.isOverloaded { output.append(contentsOf: "x-envoy-overloaded: true\r\n".utf8) }
    if isGRPC { writeGRPC(into: &output) } else if !body.isEmpty { writeType(into: &output) }
    if status != 204, status != 304 { output.append(contentsOf: "content-length: \(body.count)\r\n".utf8) }
    output.append(contentsOf: "server: ".utf8)
    server.withUTF8Buffer { output.append(contentsOf: $0) }
    output.append(contentsOf: close ? "\r\nconnection: close\r\n\r\n".utf8 : "\r\n\r\n".utf8)
    guard withBody, status != 204, status != 304 else { return 0 }
    output.append(contentsOf: body)
    return body.count
  }

  private func writeType(into output: inout [UInt8]) {
    guard !fields.contains(where: { $0.name.known == .contentType }) else { return }
    output.append(contentsOf: "content-type: text/plain\r\n".utf8)
  }

  private func writeGRPC(into output: inout [UInt8]) {
    let status = answer.grpcStatus ?? LocalReply.grpcStatus(forHTTP: answer.status)
    let text = String(decoding: answer.body.utf8.filter { $0 >= 0x20 && $0 < 0x7F && $0 != 0x25 }, as: UTF8.self)
    output.append(contentsOf: "content-type: application/grpc\r\ngrpc-status: \(status)\r\ngrpc-message: \(text)\r\n".utf8)
  }
}

extension UpstreamFailure {
  /// The cause that the client is told.
  var error: ProxyError {
    switch self {
    case .connect(let failure): .connectFailed(failure)
    case .closed: .upstreamClosed
    case .reset: .upstreamReset
    case .malformed: .upstreamProtocolError
    }
  }
}
