import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

// CONNECT host:port (RFC 9110 9.3.6): what follows is not HTTP. On a workload's outbound port it opens a connection by the
// mesh's rules; on the mesh port it is how another node hands over an opaque connection (HBONE).
extension Exchange {
  /// Answers a CONNECT request, at once or when the other end is there.
  func openTunnel() {
    guard let errand = tunnelErrand() else { return }
    guard let client else { return }
    // The forwarding counts and logs this connection; as a request it is over.
    phase = .tunnel
    let end: any TCPEnd
    if let socket = client.giveSocket() {
      phase = .idle
      do throws(SystemError) {
        try socket.open()
      } catch {
        return socket.close(abortively: true)
      }
      end = socket
    } else {
      let stream = TunnelEnd(self, client)
      tunnel = stream
      end = stream
    }
    TCPForwarding(end, from: caller, for: errand, worker: worker).open()
  }

  private func tunnelErrand() -> TCPErrand? {
    let host = Array(head.headers.bytes[head.host])
    guard head.form == .authority, let port = head.port, !host.isEmpty else {
      reply(
        ProxyReply(
          LocalReply(status: 400, body: "", flags: .downstreamProtocolError, details: "connect_without_port"), closes: true))
      return nil
    }
    let bare = host.first == 0x5B ? Array(host.dropFirst().dropLast()) : host
    let address = IPAddress(String(decoding: bare, as: UTF8.self))?.unmapped.bytes ?? []
    let request = TCPRequest(host: bare, port: port, address: address)
    if caller.port.isMeshInbound {
      // Without a server name, the authority chooses the workload (HBONE as ztunnel speaks it).
      let named = inbound.map { state.tunnelTarget($0, host: bare, port: port) }
      guard let target = named ?? state.tunnelTarget(host: bare, port: port) else {
        // Never to an address that is not this workload's, whoever asks (checklist F15).
        reply(
          ProxyReply(
            LocalReply(status: 404, body: "", flags: .noRouteFound, details: "connect_to_foreign_address"), closes: false))
        return nil
      }
      return TCPErrand(way: .inbound(target), request: request, source: source)
    }
    guard !isGateway else {
      reply(
        ProxyReply(
          LocalReply(status: 405, body: "", flags: .downstreamProtocolError, details: "connect_not_configured"), closes: true))
      return nil
    }
    return TCPErrand(way: .mesh, request: request, source: source, sourceLocal: sourceLocal)
  }
}

extension ServingState {
  /// The port of the workload that a mesh connection was made for; nil when the authority names another address or port.
  func tunnelTarget(_ asked: InboundTarget, host: [UInt8], port: UInt16) -> InboundTarget? {
    guard snapshot.localWorkloads.indices.contains(asked.localWorkload) else { return nil }
    let workload = snapshot.localWorkloads[asked.localWorkload]
    guard workload.address.utf8.elementsEqual(host), snapshot.workloads.indices.contains(workload.workload) else { return nil }
    let facts = snapshot.workloads[workload.workload]
    return inboundTarget(serverName: Array("\(port).\(facts.name).\(facts.namespace).workload.mesh".utf8))
  }
}

extension ServingState {
  /// The port of a workload of this node by its own address, or by the name of a service that it stands behind.
  func tunnelTarget(host: [UInt8], port: UInt16) -> InboundTarget? {
    let name = String(decoding: host, as: UTF8.self)
    let address = IPAddress(name)
    for local in snapshot.localWorkloads where snapshot.workloads.indices.contains(local.workload) {
      let facts = snapshot.workloads[local.workload]
      func target(_ port: UInt16) -> InboundTarget? {
        inboundTarget(serverName: Array("\(port).\(facts.name).\(facts.namespace).workload.mesh".utf8))
      }
      if let address {
        if IPAddress(local.address) == address, let found = target(port) { return found }
        continue
      }
      for (written, service) in zip(local.ports, local.services) where written.servicePort == port {
        guard let service, snapshot.services.indices.contains(service), snapshot.services[service].host == name else {
          continue
        }
        return target(written.port)
      }
    }
    return nil
  }
}

/// The client's side of a tunnel that is a stream of an HTTP/2 connection.
final class TunnelEnd: TCPEnd {
  weak var observer: (any TCPEndObserver)?
  private let exchange: Exchange
  /// Nil once the stream is over: it may carry another request by then, and so may the exchange.
  private var client: (any Downstream)?
  /// Where the bytes of `read` go while the client is asked for them.
  private var target: UnsafeMutableRawBufferPointer?
  private var targetCount = 0
  /// Bytes that came and found no room.
  private var rest: ArraySlice<UInt8> = []
  private var hasEnded = false
  private var isAccepted = false

  init(_ exchange: Exchange, _ client: any Downstream) {
    self.exchange = exchange
    self.client = client
  }

  // MARK: What the exchange tells

  func received(_ bytes: UnsafeBufferPointer<UInt8>) {
    var bytes = UnsafeRawBufferPointer(bytes)
    if let target, targetCount < target.count {
      let count = min(bytes.count, target.count - targetCount)
      UnsafeMutableRawBufferPointer(rebasing: target[targetCount...]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      targetCount += count
      bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
    }
    rest.append(contentsOf: bytes)
  }

  /// Bytes may be there, or room.
  func moved() { observer?.endReady(self) }

  func gone() {
    detach()
    observer?.endReady(self)
  }

  /// Lets go of the stream and of its exchange.
  private func detach() {
    guard client != nil else { return }
    client = nil
    exchange.tunnel = nil
    exchange.phase = .idle
  }

  // MARK: An end of a relay

  func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    if !rest.isEmpty { return takeRest(into: buffer) }
    if hasEnded { return .endOfStream }
    guard let client else { return .failed(ECONNRESET) }
    target = buffer
    targetCount = 0
    let event = try? client.nextBodyEvent()
    target = nil
    if targetCount > 0 { return .bytes(targetCount) }
    switch event {
    case .data, .needMore: return .wouldBlock
    case .end:
      hasEnded = true
      return .endOfStream
    case nil: return .failed(EPROTO)
    }
  }

  private func takeRest(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    let part = rest.prefix(buffer.count)
    part.withUnsafeBytes { buffer.copyMemory(from: $0) }
    rest = rest.dropFirst(part.count)
    if rest.isEmpty { rest = [] }
    return .bytes(part.count)
  }

  var hasMore: Bool { !rest.isEmpty }

  /// A stream cannot be looked at without taking it; its rules go by what was asked for.
  func peekHello() -> ClientHello.Outcome? { .notTLS }

  var awaitsAnswer: Bool { !isAccepted }

  func accept() {
    guard !isAccepted, let client else { return }
    isAccepted = true
    var response = ResponseHead()
    response.begin(status: 200, framing: .untilClose)
    _ = client.respond(response, closing: false)
    client.beginTunnel()
    client.flush()
  }

  func refuse(_ refusal: TCPForwarding.Refusal) {
    guard !isAccepted, client != nil else { return }
    detach()
    exchange.phase = .deciding
    exchange.reply(
      ProxyReply(LocalReply(status: refusal.status, body: "", flags: [], details: refusal.details), closes: false))
  }

  func write(_ bytes: UnsafeRawBufferPointer) -> IOResult {
    guard let client else { return .failed(EPIPE) }
    guard client.pendingOutput < ProxyLimits.outputHighWater else { return .wouldBlock }
    let part = UnsafeRawBufferPointer(rebasing: bytes.prefix(ProxyLimits.outputHighWater))
    part.withMemoryRebound(to: UInt8.self) { client.write($0) }
    return .bytes(part.count)
  }

  func flush() { client?.flush() }

  func endWriting() -> Bool {
    client?.end(trailers: nil)
    client?.flush()
    return true
  }

  func close(abortively: Bool) {
    observer = nil
    guard let client else { return }
    detach()
    if abortively { client.abort() } else { client.exchangeEnded(keepAlive: false) }
  }

  var plainDescriptor: Int32? { nil }
  var addressText: String { exchange.caller.addressText }
  var localAddressText: String { exchange.caller.localAddressText }
}

extension TCPForwarding.Refusal {
  /// What a client of CONNECT is answered (ztunnel: 401 for a policy, 503 for what cannot be reached).
  var status: UInt16 {
    switch self {
    case .denied: 401
    case .blackHole: 502
    case .noRoute: 404
    case .noCluster, .noEndpoint, .overflow, .connectFailed: 503
    }
  }

  var details: String {
    switch self {
    case .denied: "rbac_access_denied"
    case .noRoute: "route_not_found"
    case .noCluster: "cluster_not_found"
    case .blackHole: "direct_response"
    case .noEndpoint: "no_healthy_upstream"
    case .overflow: "overflow"
    case .connectFailed: "remote_connection_failure"
    }
  }
}
