import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Transport

// What operators say of the request, of its answer, and of whom it went to.
extension ExchangeValues {
  func appendMessage(_ command: CommandOperator, to out: inout [UInt8]) {
    switch command {
    case .field(let message, let name, let other, let hasQuery):
      let start = out.count
      append(message, name, to: &out)
      if out.count == start, let other { append(message, other, to: &out) }
      if !hasQuery { Self.dropQuery(from: start, in: &out) }
    case .headBytes(let message): out += String(headBytes(message)).utf8
    case .path(let source, let hasQuery):
      let start = out.count
      if source != .current { appendRequestField(Array("x-envoy-original-path".utf8), to: &out) }
      if source != .original, out.count == start { appendRequestField(Array(":path".utf8), to: &out) }
      if !hasQuery { Self.dropQuery(from: start, in: &out) }
    case .query(let isDecoded):
      let query = self.query
      out += isDecoded ? Self.decoded(query) : query
    case .queryParameter(let name): appendParameter(name, to: &out)
    case .traceID: appendTraceID(to: &out)
    case .streamID:
      if let value = exchange.head.headers.value(.requestID) { out += exchange.head.headers.copy(value) }
    default: break
    }
  }

  private func append(_ message: CommandOperator.Message, _ name: [UInt8], to out: inout [UInt8]) {
    switch message {
    case .request: appendRequestField(name, to: &out)
    case .response where name.elementsEqual(":status".utf8):
      if exchange.status > 0 { out += String(exchange.status).utf8 }
    case .response: if let response { appendField(name, of: response, to: &out) }
    case .trailers: if let trailers { appendField(name, of: trailers, to: &out) }
    }
  }

  func appendRequestField(_ name: [UInt8], to out: inout [UInt8]) {
    let head = exchange.head
    let bytes = head.headers.bytes
    guard name.first == 0x3A else { return appendField(name, of: head.headers, to: &out) }
    if name.elementsEqual(":method".utf8) {
      out.append(bytes.span.extracting(head.methodName))
    } else if name.elementsEqual(":authority".utf8) {
      out.append(bytes.span.extracting(head.authority))
    } else if name.elementsEqual(":path".utf8) {
      out.append(bytes.span.extracting(head.target))
    } else if name.elementsEqual(":scheme".utf8) {
      out += (exchange.caller.isTLS ? "https" : "http").utf8
    }
  }

  func appendField(_ name: [UInt8], of headers: HeaderBlock, to out: inout [UInt8]) {
    guard let name = HeaderName(bytes: name), let value = headers.value(name) else { return }
    let bytes = headers.bytes
    out.append(bytes.span.extracting(value))
  }

  /// Names and values, with those of the pseudo-headers (Envoy, `HeaderMap::byteSize`).
  private func headBytes(_ message: CommandOperator.Message) -> Int {
    let head = exchange.head
    switch message {
    case .request:
      let pseudo = [head.methodName, head.target, head.authority].reduce(0) { $0 + $1.count }
      return head.headers.decodedBytes + pseudo + ":method:path:authority:scheme".utf8.count
        + (exchange.caller.isTLS ? "https" : "http").utf8.count
    case .response: return response.map { $0.decodedBytes + ":status200".utf8.count } ?? 0
    case .trailers: return trailers?.decodedBytes ?? 0
    }
  }

  // MARK: The target

  private static func dropQuery(from start: Int, in out: inout [UInt8]) {
    if let mark = out[start...].firstIndex(of: 0x3F) { out.removeSubrange(mark...) }
  }

  private var query: [UInt8] { exchange.head.query.map { exchange.head.headers.copy($0) } ?? [] }

  /// The first value of that name, decoded.
  private func appendParameter(_ name: [UInt8], to out: inout [UInt8]) {
    for pair in query.split(separator: 0x26) {
      let key = pair.prefix { $0 != 0x3D }
      guard Self.decoded(key) == name else { continue }
      return out += Self.decoded(pair.dropFirst(key.count + 1))
    }
  }

  /// `%41` is `A`; what is no escape stays as it is.
  private static func decoded(_ text: some Collection<UInt8>) -> [UInt8] {
    var out: [UInt8] = []
    var rest = Array(text)[...]
    while let byte = rest.popFirst() {
      if byte == 0x25, let high = rest.first.flatMap(ASCII.hexValue), let low = rest.dropFirst().first.flatMap(ASCII.hexValue) {
        out.append(high << 4 | low)
        rest = rest.dropFirst(2)
      } else {
        out.append(byte)
      }
    }
    return out
  }

  /// As the request's own headers have it: no spans are made here.
  private func appendTraceID(to out: inout [UInt8]) {
    let headers = exchange.head.headers
    if let value = headers.value(.traceparent), let context = TraceContext(traceparent: headers.copy(value)) {
      return out += context.traceIDText.utf8
    }
    appendField(Array("x-b3-traceid".utf8), of: headers, to: &out)
  }

  // MARK: The upstream

  private var upstreamTLS: TLSSession? { exchange.upstream.map(\.tls) ?? exchange.notes?.upstreamTLS }

  func appendUpstream(_ command: CommandOperator, to out: inout [UInt8]) {
    switch command {
    case .upstreamProtocol:
      let isHTTP2 = exchange.upstream?.isHTTP2 ?? exchange.notes?.isUpstreamHTTP2
      if let isHTTP2 { out += (isHTTP2 ? "HTTP/2" : "HTTP/1.1").utf8 }
    case .upstreamCluster: out += exchange.clusterName.utf8
    case .upstreamName(let hasPort):
      let name = exchange.endpoint?.address ?? ""
      let isName = !name.isEmpty && !name.hasPrefix("/") && IPAddress(name) == nil
      if isName { return out += name.utf8 }
      SocketAddress.append(exchange.upstreamAddressText, hasPort ? .whole : .address(bits: nil), to: &out)
    case .tls(_, let fact): upstreamTLS?.append(fact, to: &out)
    case .certificate(_, let owner, let fact): upstreamTLS?.append(owner, fact, to: &out)
    case .address(.upstream, let part): SocketAddress.append(exchange.upstreamAddressText, part, to: &out)
    case .address(_, let part):
      let text = exchange.upstream?.localAddressText ?? exchange.upstreamLocalText
      SocketAddress.append(text, part, to: &out)
    case .attempts: out += String(exchange.attempts).utf8
    case .transportFailure: out += exchange.transportFailure.utf8
    default: break
    }
  }
}
