import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

// The last phase of an opaque connection: counted on each side that is ours, and logged once.
extension TCPForwarding {
  var bytesFromClient: UInt64 { relay?.bytesFromClient ?? 0 }
  var bytesFromServer: UInt64 { relay?.bytesFromServer ?? 0 }

  /// Counts what has moved since the last report.
  func report() {
    let (up, down) = (bytesFromClient, bytesFromServer)
    count(sent: down &- reportedDown, received: up &- reportedUp)
    (reportedUp, reportedDown) = (up, down)
  }

  func count(opened: UInt64 = 0, closed: UInt64 = 0, sent: UInt64 = 0, received: UInt64 = 0) {
    let events = TCPEvents(flags: flags, opened: opened, closed: closed, sent: sent, received: received)
    if case .inbound(let target) = errand.way {
      var hop = Hop(reporter: .destination, isSecure: caller.peer != nil)
      hop.source = errand.source
      hop.sourcePrincipal = caller.peer?.identity
      hop.destination = snapshot.localWorkloads[target.localWorkload].workload
      hop.service = target.service
      return worker.telemetry.record(hop, state, events)
    }
    guard errand.sourceLocal != nil else { return }
    worker.telemetry.record(sourceHop, state, events)
    // A hop taken in process has no other node to count its far side.
    guard let endpoint, endpoint.isLocal, !upstreamAddressText.isEmpty else { return }
    var hop = Hop(reporter: .destination, isSecure: true)
    hop.source = errand.source
    hop.destination = endpoint.workload
    hop.service = cluster?.service
    worker.telemetry.record(hop, state, events)
  }

  private var sourceHop: Hop {
    var hop = Hop(reporter: .source, isSecure: endpoint.map { $0.isLocal || $0.mesh != nil } ?? false)
    hop.source = errand.source
    hop.destination = endpoint?.workload
    switch plan {
    case .passthrough: hop.unregisteredHost = String(decoding: errand.request.host, as: UTF8.self)
    case .blackHole:
      hop.unregisteredHost = String(decoding: errand.request.host, as: UTF8.self)
      hop.unregisteredName = "BlackHoleCluster"
    default: hop.service = cluster?.service
    }
    return hop
  }

  func writeLog() {
    guard state.options.accessLog != nil else { return }
    let duration = UInt64(max(0, (worker.loop.now - began).nanosecondsClamped) / 1_000_000)
    worker.log(
      AccessLogRecord(
        startMilliseconds: startMilliseconds, loggedProtocol: .tcp, responseCode: 0, flags: flags,
        bytesReceived: bytesFromClient, bytesSent: bytesFromServer, durationMilliseconds: duration), self)
  }
}

extension TCPForwarding: AccessLogTexts {
  func append(_ field: AccessLogText, to out: inout [UInt8]) {
    switch field {
    case .connectionTerminationDetails: out.append(contentsOf: termination.utf8)
    case .upstreamTransportFailureReason: out.append(contentsOf: transportFailure.utf8)
    case .upstreamHost: out.append(contentsOf: upstreamAddressText.utf8)
    case .upstreamCluster: out.append(contentsOf: clusterName.utf8)
    case .upstreamLocalAddress: out.append(contentsOf: upstreamLocalText.utf8)
    case .downstreamLocalAddress: out.append(contentsOf: caller.localAddressText.utf8)
    case .downstreamRemoteAddress: out.append(contentsOf: caller.addressText.utf8)
    case .requestedServerName: out.append(contentsOf: errand.request.serverName ?? caller.peer?.serverName ?? [])
    case .command(let command): TCPValues(forwarding: self).append(command, max: nil, to: &out)
    case .method, .originalPath, .responseCodeDetails, .forwardedFor, .userAgent, .requestID, .authority, .routeName,
      .requestHeader:
      break
    }
  }

  var clusterName: String {
    if case .inbound(let target) = errand.way { return "inbound|\(target.port)||" }
    if case .noCluster(let name) = plan { return name }
    return plan == .blackHole ? "BlackHoleCluster" : cluster?.name ?? ""
  }
}
