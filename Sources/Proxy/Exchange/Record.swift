import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

// The last phase of a request: counted on each side that is ours, and logged, exactly once.
extension Exchange {
  /// Ends the exchange. The connection is told separately whether it may go on.
  func finish() {
    guard phase != .idle else { return }
    phase = .idle
    cancelTimers()
    stopWaiting()
    uncount()
    record()
  }

  private func record() {
    let finished = FinishedRequest(
      status: status, isGRPC: isGRPC, grpcStatus: isGRPC ? grpcStatus : nil, flags: flags, duration: now - began,
      requestBytes: UInt64(head.receivedBytes) + requestBodyBytes, responseBytes: responseHeadBytes + responseBodyBytes,
      requestMessages: requestMessages.count, responseMessages: responseMessages.count)
    if inbound != nil || sourceLocal != nil {
      let hop = inbound == nil ? sourceHop : destinationHop
      worker.telemetry.record(hop, state, finished)
      // A hop taken in process has no other node to count its far side.
      if inbound == nil, let local = localDestinationHop { worker.telemetry.record(local, state, finished) }
    }
    if state.options.accessLog != nil { writeLog() }
  }

  /// The client's side.
  private var sourceHop: Hop {
    var hop = Hop(reporter: .source, isSecure: endpoint.map { $0.isLocal || $0.mesh != nil } ?? false)
    hop.source = source
    hop.destination = endpoint?.workload
    switch plan.outcome {
    case .passthrough:
      hop.unregisteredHost = head.headers.text(head.host)
    case .blackHole:
      hop.unregisteredHost = head.headers.text(head.host)
      hop.unregisteredName = "BlackHoleCluster"
    default: hop.service = cluster.flatMap { snapshot.clusters.indices.contains($0) ? snapshot.clusters[$0].service : nil }
    }
    return hop
  }

  /// The server's side, on the mesh port.
  private var destinationHop: Hop {
    var hop = Hop(reporter: .destination, isSecure: caller.peer != nil)
    hop.source = source
    hop.sourcePrincipal = caller.peer?.identity
    hop.destination = destination
    hop.service = inbound?.service
    return hop
  }

  /// The server's side of a hop between two workloads of this node.
  private var localDestinationHop: Hop? {
    guard let endpoint, endpoint.isLocal, let cluster, upstreamAddressText.isEmpty == false else { return nil }
    var hop = Hop(reporter: .destination, isSecure: true)
    hop.source = source
    hop.destination = endpoint.workload
    hop.service = snapshot.clusters[cluster].service
    return hop
  }

  private func writeLog() {
    let record = AccessLogRecord(
      startMilliseconds: startMilliseconds, loggedProtocol: caller.isHTTP2 ? .http2 : .http11, responseCode: status,
      flags: flags,
      bytesReceived: requestBodyBytes, bytesSent: responseBodyBytes, durationMilliseconds: milliseconds(now - began),
      upstreamServiceMilliseconds: serviceMilliseconds)
    worker.log(record, self)
    notes = nil
  }

  func milliseconds(_ duration: Duration) -> UInt64 { UInt64(max(0, duration.nanosecondsClamped) / 1_000_000) }

  var routeName: String {
    switch plan.outcome {
    case .passthrough: "allow_any"
    case .blackHole: "block_all"
    default: inbound != nil ? "default" : matchedName
    }
  }

  /// The route's name, and after a dot that of the alternative that matched, where it has one (Istio, HTTPMatchRequest).
  private var matchedName: String {
    guard let route else { return "" }
    guard let match = plan.route?.match, route.matches.indices.contains(match), let name = route.matches[match].name else {
      return route.name
    }
    return "\(route.name).\(name)"
  }

  var clusterName: String {
    if let inbound { return "inbound|\(inbound.port)||" }
    if case .blackHole = plan.outcome { return "BlackHoleCluster" }
    guard let cluster, snapshot.clusters.indices.contains(cluster) else { return "" }
    return snapshot.clusters[cluster].name
  }
}

extension Exchange: AccessLogTexts {
  func append(_ field: AccessLogText, to out: inout [UInt8]) {
    let bytes = head.headers.bytes
    switch field {
    case .method: out.append(bytes.span.extracting(head.methodName))
    case .originalPath: out.append(bytes.span.extracting(originalTarget ?? head.target))
    case .responseCodeDetails: out.append(contentsOf: details.utf8)
    case .connectionTerminationDetails: break
    case .upstreamTransportFailureReason: out.append(contentsOf: transportFailure.utf8)
    case .forwardedFor: append(.forwardedFor, bytes, to: &out)
    case .userAgent: append(.userAgent, bytes, to: &out)
    case .requestID: append(.requestID, bytes, to: &out)
    case .authority: out.append(bytes.span.extracting(head.authority))
    case .upstreamHost: out.append(contentsOf: upstreamAddressText.utf8)
    case .upstreamCluster: out.append(contentsOf: clusterName.utf8)
    case .upstreamLocalAddress: out.append(contentsOf: upstreamLocalText.utf8)
    case .downstreamLocalAddress: out.append(contentsOf: caller.localAddressText.utf8)
    case .downstreamRemoteAddress: out.append(contentsOf: caller.addressText.utf8)
    case .requestedServerName: caller.appendServerName(to: &out)
    case .routeName: out.append(contentsOf: routeName.utf8)
    case .requestHeader(let name):
      guard let name = HeaderName(name), let value = head.headers.value(name) else { return }
      out.append(bytes.span.extracting(value))
    case .command(let command): logValues.append(command, max: nil, to: &out)
    }
  }

  private var logValues: ExchangeValues {
    ExchangeValues(exchange: self, response: notes?.response, trailers: notes?.trailers, isLogged: true)
  }

  private func append(_ known: KnownHeader, _ bytes: [UInt8], to out: inout [UInt8]) {
    if let value = head.headers.value(known) { out.append(bytes.span.extracting(value)) }
  }
}

/// Milliseconds since 1970-01-01 UTC.
func wallClockMilliseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return UInt64(max(0, time.tv_sec)) * 1000 + UInt64(max(0, time.tv_nsec)) / 1_000_000
}
