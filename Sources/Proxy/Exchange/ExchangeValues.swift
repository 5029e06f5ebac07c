import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

/// What operators stand for in one exchange, in header values and in its log.
struct ExchangeValues: CommandValues {
  let exchange: Exchange
  /// In operations on a response, and in a log that asks for it.
  var response: HeaderBlock?
  var trailers: HeaderBlock?
  var isLogged = false

  func append(_ command: CommandOperator, to out: inout [UInt8]) {
    switch command {
    case .address(.client, let part): appendClient(part, to: &out)
    case .requestedServerName(let source, let host): appendServerName(source, host, to: &out)
    case _ where exchange.caller.append(command, draws: &exchange.worker.draws, to: &out): break
    case .field, .headBytes, .path, .query, .queryParameter, .traceID, .streamID: appendMessage(command, to: &out)
    case .upstreamProtocol, .upstreamName, .upstreamCluster, .tls(.upstream, _), .certificate(.upstream, _, _),
      .address(.upstream, _), .address(.upstreamLocal, _), .attempts, .transportFailure:
      appendUpstream(command, to: &out)
    case .time(let moment, let pattern, let isLocal):
      moment.append(pattern, isLocal: isLocal, started: startMilliseconds, to: &out)
    case .duration(let from, let to, let unit):
      guard let from = time(of: from), let to = time(of: to), to >= from else { return }
      out += String((to - from).nanosecondsClamped / unit.nanoseconds).utf8
    case .protocol: out += (exchange.caller.isHTTP2 ? "HTTP/2" : "HTTP/1.1").utf8
    case .bytesReceived, .bytesSent, .wireBytes, .headerBytes:
      if let count = byteCount(command) { out += String(count).utf8 }
    case .responseCode: out += String(exchange.status).utf8
    case .responseCodeDetails(let keepsBlanks):
      out += exchange.details.utf8.lazy.map { $0 == 0x20 && !keepsBlanks ? 0x5F : $0 }
    case .responseFlags(let isLong): exchange.flags.append(isLong: isLong, to: &out)
    case .grpcStatus(let form): if let status = grpcStatus { out += form.text(of: status).utf8 }
    case .routeName: out += exchange.routeName.utf8
    case .hostName: out += exchange.snapshot.settings.localNode.string.utf8
    case .uniqueID: RequestID(using: &exchange.worker.draws).append(to: &out)
    case .logType: out += (isLogged ? "DownstreamEnd" : "NotSet").utf8
    case .zero: out += "0".utf8
    default: break
    }
  }

  private func byteCount(_ command: CommandOperator) -> UInt64? {
    switch command {
    case .bytesReceived: exchange.requestBodyBytes
    case .bytesSent: exchange.responseBodyBytes
    case .headerBytes(.clientReceived): UInt64(exchange.head.receivedBytes)
    case .headerBytes(.clientSent): exchange.responseHeadBytes
    case .wireBytes(.clientReceived): UInt64(exchange.head.receivedBytes) + exchange.requestBodyBytes
    case .wireBytes(.clientSent): exchange.responseHeadBytes + exchange.responseBodyBytes
    default: nil
    }
  }

  /// Of a gRPC call, what it said or else what its answer means in gRPC's terms.
  private var grpcStatus: UInt8? {
    guard exchange.isGRPC else { return nil }
    let told = exchange.grpcStatus ?? trailers.flatMap(GRPCStatus.read) ?? response.flatMap(GRPCStatus.read)
    return told ?? (exchange.status == 0 ? nil : LocalReply.grpcStatus(forHTTP: exchange.status))
  }

  // MARK: Time

  /// When the request began. The log's own moment is taken only where there is a log.
  private var startMilliseconds: UInt64 {
    if isLogged { return exchange.startMilliseconds }
    let now = wallClockMilliseconds()
    let age = exchange.milliseconds(exchange.now - exchange.began)
    return now > age ? now - age : now
  }

  private func time(of point: TimePoint) -> Instant? {
    switch point {
    case .requestBegan: exchange.began
    case .requestEnded: exchange.requestEnded == .zero ? nil : exchange.requestEnded
    case .tryBegan: exchange.attempts == 0 ? nil : exchange.tryBegan
    case .sendBegan: exchange.notes?.sendBegan
    case .sendEnded: exchange.notes?.sendEnded
    // A response's fields are changed when its head has come.
    case .responseBegan: isLogged ? exchange.notes?.responseBegan : response == nil ? nil : exchange.now
    case .responseEnded: exchange.notes?.responseEnded
    case .answerBegan: isLogged ? exchange.notes?.answerBegan : nil
    case .answerEnded: isLogged ? exchange.now : nil
    case .now: exchange.now
    }
  }

  // MARK: The client

  /// Behind trusted proxies, who they say it was; nobody says its port.
  private func appendClient(_ part: CommandOperator.AddressPart, to out: inout [UInt8]) {
    let trusted = exchange.trustedClient.map { SocketAddress.ip($0, port: 0) }
    (trusted ?? exchange.caller.address).append(part, to: &out)
  }

  private func appendServerName(_ source: ServerNameSource, _ host: RequestHost, to out: inout [UInt8]) {
    let start = out.count
    if source != .hostFirst { exchange.caller.appendServerName(to: &out) }
    guard source != .serverName, out.count == start else { return }
    let original = Array("x-envoy-original-host".utf8)
    if host != .current { appendField(original, of: exchange.head.headers, to: &out) }
    if host != .original, out.count == start { appendRequestField(Array(":authority".utf8), to: &out) }
  }
}

extension HeaderOperations {
  /// These operations as they are for one request or response.
  func filled(in exchange: Exchange, response: HeaderBlock? = nil) -> HeaderOperations {
    hasFormats ? filled(by: ExchangeValues(exchange: exchange, response: response)) : self
  }
}
