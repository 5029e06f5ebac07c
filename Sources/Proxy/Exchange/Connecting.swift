import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

// How a try gets its connection: one that is there, or a new one.
extension Exchange {
  func connect(to endpoint: Endpoint, in cluster: ClusterIndex) {
    var reach = EndpointReach(
      endpoint, of: snapshot.clusters[cluster].host, snapshot.clusters[cluster].tls, snapshot.clusters[cluster].protocol,
      snapshot.clusters[cluster].connectionPool.http2, source: sourceLocal, state)
    if snapshot.clusters[cluster].connectionPool.http2 == .likeClient, caller.isHTTP2 { reach.speaksHTTP2 = true }
    // gRPC is HTTP/2, where the port says nothing.
    if isGRPC, snapshot.clusters[cluster].protocol == .auto { reach.speaksHTTP2 = true }
    preface = []
    if let version = snapshot.clusters[cluster].proxyProtocol, reach.key.security != .mesh {
      // The header says whose requests a connection carries: those of this client alone.
      preface = caller.proxyHeader(version)
      var hasher = Hasher()
      hasher.combine(reach.key.endpoint)
      hasher.combine(caller.addressText)
      reach.key.endpoint = UInt64(bitPattern: Int64(hasher.finalize()))
    }
    if reuse(&reach.key, http2: reach.speaksHTTP2) { return }
    let target = snapshot.clusters[cluster]
    let address = EndpointAddress(endpoint, in: target, source: sourceLocal, state)
    connectAnew(reach.key, address.host, address.port, target, address.security, http2: reach.speaksHTTP2)
  }

  /// To the application on this node that the mesh peer asked for, in the protocol of its port.
  func connectInbound(_ target: InboundTarget) {
    serve(target.localWorkload)
    let key = UpstreamKey(source: -1, endpoint: target.endpoint, security: .plain)
    let http2 = target.protocol.isHTTP2 || target.protocol == .auto && isGRPC
    let application = snapshot.application(target)
    guard let index = target.cluster else {
      return connect(key: key, application.host, application.port, nil, http2: http2)
    }
    clusterState = worker.inboundBalancing[index]
    guard let clusterState else { return reply(.noCluster(isGatewayAPI: false)) }
    guard countTry(clusterState, snapshot.inbound[index].connectionPool) else { return reply(.overflow) }
    connect(key: key, application.host, application.port, snapshot.inbound[index], http2: http2)
  }

  /// To the request's own host and port (`PassthroughCluster`), in the client's protocol.
  func connectOriginal(_ cluster: Cluster) {
    let asked = caller.destination
    let host = asked.map { String(decoding: $0.host, as: UTF8.self) } ?? head.headers.text(head.host)
    let port = asked?.port ?? head.port ?? 80
    let name = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    let security = cluster.tls.isPlainOutside ? .plain : UpstreamSecurity(cluster.tls, host: name)
    var key = UpstreamKey(source: -2, endpoint: UpstreamKey.endpoint(host, port), security: UpstreamKey.Security(security))
    if !reuse(&key, http2: caller.isHTTP2) { connectAnew(key, name, port, cluster, security, http2: caller.isHTTP2) }
  }

  private func connect(key: UpstreamKey, _ host: String, _ port: UInt16, _ cluster: Cluster?, http2: Bool) {
    var key = key
    if !reuse(&key, http2: http2) { connectAnew(key, host, port, cluster, .plain, http2: http2) }
  }

  /// Sends the request on a connection that there is, or lets it wait for one that is being made; false without either.
  private func reuse(_ key: inout UpstreamKey, http2: Bool) -> Bool {
    key.allowsReuse = http2 || !head.wantsUpgrade
    isMeshTry = key.security == .mesh
    if http2 {
      guard let place = worker.http2Upstream(key, for: self) else { return false }
      upstream = place
      // Otherwise it tells once it is connected.
      if place.isReady { send(on: place) }
      return true
    }
    guard key.allowsReuse, !mustOpenNew,
      let idle = worker.upstreams.take(key, now: now, mustBeFresh: !head.method.isIdempotent)
    else { return false }
    upstream = idle
    send(on: idle)
    return true
  }

  private func connectAnew(
    _ key: UpstreamKey, _ host: String, _ port: UInt16, _ cluster: Cluster?, _ security: UpstreamSecurity, http2: Bool
  ) {
    if let address = SocketAddress(endpoint: host, port: port) { return open(key, address, cluster, security, http2: http2) }
    resolve(host, cluster?.discovery) { exchange, address in
      guard let address else {
        return exchange.tryFailed(UpstreamFailure(.connect(.dns), isSent: false))
      }
      exchange.open(key, .ip(address, port: port), cluster, security, http2: http2)
    }
  }

  private func resolve(_ name: String, _ discovery: Cluster.Discovery?, then: @escaping (Exchange, IPAddress?) -> Void) {
    let token = tryBegan
    let bound = LoopBound((exchange: self, then: then), on: worker.loop)
    let known = worker.resolver.addresses(of: name, now: now) { addresses in
      bound.loop.post {
        let (exchange, then) = bound.value
        // The client may have gone, or another request have begun, while the name was looked up.
        guard exchange.phase == .connecting, exchange.tryBegan == token, exchange.upstream == nil else { return }
        then(exchange, addresses.first)
        exchange.client?.flush()
      }
    }
    if let known {
      then(self, known.isEmpty ? nil : discovery == .logicalDNS ? known[0] : known[max(0, attempts - 1) % known.count])
    }
  }

  private func open(
    _ key: UpstreamKey, _ address: SocketAddress, _ cluster: Cluster?, _ security: UpstreamSecurity, http2: Bool
  ) {
    // A request for the proxy's own port, passed through, would come back for ever.
    if cluster?.discovery == .originalDestination, worker.listens(at: address) {
      return tryFailed(UpstreamFailure(.connect(.unreachable), isSent: false))
    }
    let timeout = cluster?.connectionPool.connectTimeout ?? snapshot.settings.connectTimeout
    let (policy, load) = (cluster?.connectionPool, clusterState?.load)
    do throws(ProxyError.ConnectFailure) {
      if http2 {
        upstream = try worker.openHTTP2Upstream(
          key, to: address, security, policy, load, state, within: timeout, preface: preface, for: self)
      } else {
        let connection = try worker.openUpstream(key, to: address, security, policy, load, state, preface: preface)
        upstream = connection
        try connection?.open(for: self, within: timeout)
      }
      if upstream == nil { waitForConnection(policy ?? ConnectionPoolPolicy()) }
    } catch {
      upstream?.cancel()
      upstream = nil
      tryFailed(UpstreamFailure(.connect(error), isSent: false))
    }
  }
}
