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

  /// For another server of the gateway's port.
  static let misdirected = ProxyReply(
    LocalReply(status: 421, body: "", flags: .noRouteFound, details: "misdirected_request"))

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

  /// Builds the reply's head and returns its body.
  func write(
    into response: inout ResponseHead, isGRPC: Bool, server: [UInt8], answering method: HTTPMethod
  ) -> [UInt8] {
    let status = isGRPC ? 200 : max(200, min(999, answer.status))
    let body = isGRPC ? [] : body ?? Array(answer.body.utf8)
    let hasNoBody = status == 204 || status == 304
    response.begin(
      status: Int(status), framing: hasNoBody || body.isEmpty ? .none : .length(UInt64(body.count)))
    for field in fields { response.headers.add(field.name, field.value) }
    if answer.isOverloaded { response.headers.add(Names.overloaded, Names.yes) }
    if isGRPC {
      addGRPC(to: &response.headers)
    } else if !body.isEmpty, !response.headers.contains(.contentType) {
      response.headers.add(Names.contentType, Names.plainText)
    }
    if !hasNoBody { response.headers.set(Names.contentLength, number: UInt64(body.count)) }
    response.headers.add(Names.server, server)
    return method == .head || hasNoBody ? [] : body
  }

  /// Trailers-only (gRPC over HTTP/2, "Responses"): the status stands in the head, and nothing follows.
  private func addGRPC(to headers: inout HeaderBlock) {
    let status = answer.grpcStatus ?? LocalReply.grpcStatus(forHTTP: answer.status)
    headers.add(Names.contentType, Names.grpc)
    headers.set(Names.grpcStatus, number: UInt64(status))
    headers.add(
      Names.grpcMessage, answer.body.utf8.filter { $0 >= 0x20 && $0 < 0x7F && $0 != 0x25 })
  }
}
