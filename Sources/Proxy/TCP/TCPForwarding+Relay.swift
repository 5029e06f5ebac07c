import MeshConfig
import Primitives
import Traffic
import Transport

/// From the moment both ends are there.
extension TCPForwarding {
  /// Notes that a workload of this node has a connection that it may still need.
  func serve() {
    var local: Int?
    if case .inbound(let target) = errand.way { local = target.localWorkload }
    if let endpoint, endpoint.isLocal, let workload = endpoint.workload { local = state.localWorkload(of: workload) }
    guard let local, state.activity.indices.contains(local), serving == nil else { return }
    state.activity[local].began()
    serving = (snapshot.workloads[snapshot.localWorkloads[local].workload].key, state.activity[local])
  }

  func endServing() {
    serving?.activity.ended()
    serving = nil
  }

  func startRelay(to end: any TCPEnd) {
    phase = .relaying
    count(opened: 1)
    wasOpened = true
    if let limit = cluster?.connectionPool.maxConnectionDuration {
      durationTimer = worker.loop.schedule(after: limit, self)
    }
    client.accept()
    let relay = TCPRelay(client: client, server: end, worker: worker, observer: self)
    self.relay = relay
    let heard = heard, answered = answered
    self.heard = []
    self.answered = []
    // Before TLS where there is any; on the way to another node it is the first of what the application gets.
    relay.start(preamble: end is SocketEnd ? [] : proxyHeader, heard: heard, answered: answered)
  }

  /// Who the client is, for a server that asks for it (DestinationRule `proxyProtocol`).
  var proxyHeader: [UInt8] { cluster?.proxyProtocol.map { caller.proxyHeader($0) } ?? [] }

  func relayMoved() {
    lastMoved = now
    if reportTimer == .none { reportTimer = worker.loop.schedule(after: ProxyLimits.tcpReportInterval, self) }
  }

  func relayEnded(_ ending: TCPRelay.Ending) {
    switch ending {
    case .finished: break
    case .clientFailed: flags.insert(.downstreamConnectionTermination)
    case .serverFailed: flags.insert(.upstreamRemoteReset)
    }
    finish()
  }
}
