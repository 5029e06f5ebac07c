import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

/// What operators in header values stand for in one exchange.
struct ExchangeValues: HeaderValues {
  let exchange: Exchange
  /// In operations on a response.
  let response: HeaderBlock?

  func append(_ command: HeaderCommand, to out: inout [UInt8]) {
    let caller = exchange.caller
    switch command {
    case .requestHeader(let name, let other): append(name, other, to: &out) { requestField($0, to: &$1) }
    case .responseHeader(let name, let other): append(name, other, to: &out) { responseField($0, to: &$1) }
    case .requestPath:
      let bytes = exchange.head.headers.bytes
      out.append(bytes.span.extracting(exchange.head.path))
    case .startTime(let pattern): TimePattern.append(startMilliseconds, pattern, to: &out)
    case .httpProtocol: out += (caller.isHTTP2 ? "HTTP/2" : "HTTP/1.1").utf8
    case .responseCode: if exchange.status > 0 { out += String(exchange.status).utf8 }
    case .responseFlags: exchange.flags.append(to: &out)
    case .responseCodeDetails: out += exchange.details.utf8
    case .downstreamRemoteAddress: out += caller.addressText.utf8
    case .downstreamRemoteIP: out += caller.ipText
    case .downstreamRemotePort: if let port = caller.address.port { out += String(port).utf8 }
    case .downstreamLocalAddress: out += caller.localAddressText.utf8
    case .downstreamLocalIP: if let ip = caller.localAddress.ip { out += ip.description.utf8 }
    case .downstreamLocalPort: if let port = caller.localAddress.port { out += String(port).utf8 }
    case .downstreamPeerURI: if let peer = caller.peer { out += peer.identity.description.utf8 }
    case .downstreamLocalURI: if let own = ownIdentity { out += own.description.utf8 }
    case .requestedServerName: out += caller.peer?.serverName ?? []
    case .upstreamAddress: out += exchange.upstreamAddressText.utf8
    case .upstreamIP: out += upstreamParts.host.utf8
    case .upstreamPort: out += upstreamParts.port.utf8
    case .upstreamCluster: out += exchange.clusterName.utf8
    case .routeName: out += exchange.routeName.utf8
    case .hostName: out += exchange.snapshot.settings.localNode.string.utf8
    }
  }

  private func append(
    _ name: [UInt8], _ other: [UInt8]?, to out: inout [UInt8], _ field: ([UInt8], inout [UInt8]) -> Void
  ) {
    let start = out.count
    field(name, &out)
    if out.count == start, let other { field(other, &out) }
  }

  private func requestField(_ name: [UInt8], to out: inout [UInt8]) {
    let head = exchange.head
    let bytes = head.headers.bytes
    guard name.first == 0x3A else { return Self.field(name, of: head.headers, to: &out) }
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

  private func responseField(_ name: [UInt8], to out: inout [UInt8]) {
    if let response { Self.field(name, of: response, to: &out) }
  }

  private static func field(_ name: [UInt8], of headers: HeaderBlock, to out: inout [UInt8]) {
    guard let name = HeaderName(bytes: name), let value = headers.value(name) else { return }
    let bytes = headers.bytes
    out.append(bytes.span.extracting(value))
  }

  /// When the request began. The log's own moment is taken only where there is a log.
  private var startMilliseconds: UInt64 {
    let now = wallClockMilliseconds()
    let age = exchange.milliseconds(exchange.now - exchange.began)
    return now > age ? now - age : now
  }

  private var ownIdentity: SPIFFEID? {
    let local = exchange.inbound?.localWorkload ?? exchange.sourceLocal
    return local.flatMap {
      exchange.snapshot.localWorkloads.indices.contains($0) ? exchange.snapshot.localWorkloads[$0].identity : nil
    }
  }

  private var upstreamParts: (host: Substring, port: Substring) {
    let text = exchange.upstreamAddressText
    guard let colon = text.lastIndex(of: ":") else { return (text[...], "") }
    return (text[..<colon], text[text.index(after: colon)...])
  }
}

extension HeaderOperations {
  /// These operations as they are for one request or response.
  func filled(in exchange: Exchange, response: HeaderBlock? = nil) -> HeaderOperations {
    hasFormats ? filled(by: ExchangeValues(exchange: exchange, response: response)) : self
  }
}
