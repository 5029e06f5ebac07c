import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

/// What operators stand for in the log of one opaque connection.
struct TCPValues: CommandValues {
  let forwarding: TCPForwarding

  func append(_ command: CommandOperator, to out: inout [UInt8]) {
    if forwarding.caller.append(command, draws: &forwarding.worker.draws, to: &out) { return }
    switch command {
    case .time(let moment, let pattern, let isLocal):
      moment.append(pattern, isLocal: isLocal, started: forwarding.startMilliseconds, to: &out)
    case .duration(let from, let to, let unit):
      guard let from = time(of: from), let to = time(of: to) else { return }
      out += String(max(0, (to - from).nanosecondsClamped / unit.nanoseconds)).utf8
    case .bytesReceived, .wireBytes(.clientReceived), .wireBytes(.upstreamSent): out += String(forwarding.bytesFromClient).utf8
    case .bytesSent, .wireBytes(.clientSent), .wireBytes(.upstreamReceived): out += String(forwarding.bytesFromServer).utf8
    case .headBytes, .headerBytes, .zero, .responseCode: out += "0".utf8
    case .responseFlags(let isLong): forwarding.flags.append(isLong: isLong, to: &out)
    case .terminationDetails: out += forwarding.termination.utf8
    case .transportFailure: out += forwarding.transportFailure.utf8
    case .attempts: out += String(forwarding.attempts).utf8
    case .upstreamCluster: out += forwarding.clusterName.utf8
    case .upstreamName(let hasPort):
      let name = forwarding.endpoint?.address ?? ""
      let isName = !name.isEmpty && !name.hasPrefix("/") && IPAddress(name) == nil
      if isName { return out += name.utf8 }
      SocketAddress.append(forwarding.upstreamAddressText, hasPort ? .whole : .address(bits: nil), to: &out)
    case .address(.upstream, let part): SocketAddress.append(forwarding.upstreamAddressText, part, to: &out)
    case .address(.upstreamLocal, let part): SocketAddress.append(forwarding.upstreamLocalText, part, to: &out)
    case .requestedServerName:
      if let name = forwarding.errand.request.serverName { out += name } else { forwarding.caller.appendServerName(to: &out) }
    case .hostName: out += forwarding.state.snapshot.settings.localNode.string.utf8
    case .uniqueID: RequestID(using: &forwarding.worker.draws).append(to: &out)
    case .logType: out += "TcpConnectionEnd".utf8
    default: break
    }
  }

  private func time(of point: TimePoint) -> Instant? {
    switch point {
    case .requestBegan: forwarding.began
    case .answerEnded, .now: forwarding.worker.loop.now
    default: nil
    }
  }
}
