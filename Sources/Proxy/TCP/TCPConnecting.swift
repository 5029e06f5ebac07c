import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

extension Worker {
  /// Begins to connect an opaque connection's other end; the observer hears how it ended.
  func connectEnd(
    _ target: EndpointAddress, to address: SocketAddress, _ state: ServingState, for forwarding: TCPForwarding
  ) throws(ProxyError.ConnectFailure) -> any TCPEnd {
    if target.key.security == .mesh, let endpoint = forwarding.endpoint {
      return try openTunnel(target, to: address, endpoint, state, for: forwarding)
    }
    let stream = try upstreamStream(
      to: address, target.security, state, keepAlive: forwarding.cluster?.connectionPool.keepAlive)
    let end = SocketEnd(connecting: stream, address: address, loop: loop, for: forwarding)
    end.preface = forwarding.proxyHeader
    do throws(SystemError) {
      try end.open()
    } catch {
      end.close(abortively: true)
      throw .unreachable
    }
    return end
  }

  /// A stream to the endpoint's node, on a connection of the same identity that is there, or on a new one.
  private func openTunnel(
    _ target: EndpointAddress, to address: SocketAddress, _ endpoint: Endpoint, _ state: ServingState,
    for forwarding: TCPForwarding
  ) throws(ProxyError.ConnectFailure) -> any TCPEnd {
    let host = IPAddress(endpoint.address)?.isV6 == true ? "[\(endpoint.address)]" : endpoint.address
    let source = forwarding.errand.source.map { Array(state.snapshot.workloads[$0].key.utf8) }
    guard
      let head = RequestHead.connect(
        to: "\(host):\(endpoint.port)", source: source, forwardedFor: forwarding.caller.addressText)
    else { throw .unreachable }
    let tunnel = UpstreamTunnel(head, to: address, for: forwarding)
    let limit = forwarding.cluster?.connectionPool.connectTimeout ?? state.snapshot.settings.connectTimeout
    if let place = http2Upstream(target.key, for: tunnel) {
      tunnel.begin(on: place)
      return tunnel
    }
    let made = try openHTTP2Upstream(
      target.key, to: address, target.security, nil, nil, state, within: limit, for: tunnel)
    guard let made else { throw .unreachable }
    tunnel.begin(on: made)
    return tunnel
  }
}

extension EndpointAddress {
  /// Without TLS, to an application or to where the client asked.
  static func plain(_ host: String, _ port: UInt16) -> EndpointAddress { EndpointAddress(plain: host, port) }

  private init(plain host: String, _ port: UInt16) {
    key = UpstreamKey(source: -1, endpoint: 0, security: .plain)
    self.host = host
    self.port = port
    security = .plain
    speaksHTTP2 = false
  }
}
