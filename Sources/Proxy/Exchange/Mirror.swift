import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

/// A copy of a request for a mirror: sent once, its answer thrown away, its failure nobody's concern (Istio, VirtualService).
final class Mirror: UpstreamObserver, TimerHandler {
  private let worker: Worker
  private var head: RequestHead
  private let body: [UInt8]
  private let clusterState: ClusterState
  private let ticket: HostTicket
  private var upstream: (any Upstream)?
  private var timer = TimerToken.none

  /// Picks an endpoint of `cluster` and begins; what cannot be sent at once is dropped.
  static func send(
    _ head: RequestHead, _ body: [UInt8], to cluster: ClusterIndex, from source: Int?, worker: Worker, state: ServingState
  ) {
    guard state.snapshot.clusters.indices.contains(cluster), state === worker.state,
      let clusterState = worker.balancing[cluster]
    else { return }
    let target = state.snapshot.clusters[cluster]
    guard
      case .endpoint(let ticket) = clusterState.balancer.pick(PickRequest(), now: worker.loop.now, draws: &worker.draws),
      target.endpoints.indices.contains(ticket.index), worker.beginMirror(body.count)
    else { return }
    guard clusterState.load.beginRequest(target.connectionPool) else { return worker.endMirror(body.count) }
    let mirror = Mirror(worker, head, body, clusterState, ticket)
    mirror.begin(EndpointAddress(target.endpoints[ticket.index], in: target, source: source, state), target, state)
  }

  private init(_ worker: Worker, _ head: RequestHead, _ body: [UInt8], _ clusterState: ClusterState, _ ticket: HostTicket) {
    self.worker = worker
    self.head = head
    self.body = body
    self.clusterState = clusterState
    self.ticket = ticket
  }

  private func begin(_ address: EndpointAddress, _ cluster: Cluster, _ state: ServingState) {
    clusterState.balancer.started(ticket)
    timer = worker.loop.schedule(after: ProxyLimits.mirrorTime, self)
    // Never on a connection that a client's request could have, so that copies cannot make requests wait.
    var key = address.key
    key.isMirror = true
    if key.security != .mesh { head.headers.remove(Names.betweenNodes) }
    if address.speaksHTTP2 { return beginHTTP2(key, address, cluster, state) }
    if let idle = worker.upstreams.take(key, now: worker.loop.now, mustBeFresh: true) {
      upstream = idle
      return upstreamConnected(idle)
    }
    guard let target = SocketAddress(endpoint: address.host, port: address.port) else { return end() }
    do throws(ProxyError.ConnectFailure) {
      let connection = try worker.openUpstream(
        key, to: target, address.security, cluster.connectionPool, clusterState.load, state)
      guard let connection else { return end() }
      upstream = connection
      try connection.open(for: self, within: cluster.connectionPool.connectTimeout)
    } catch {
      end()
    }
  }

  private func beginHTTP2(_ key: UpstreamKey, _ address: EndpointAddress, _ cluster: Cluster, _ state: ServingState) {
    if let place = worker.http2Upstream(key, for: self) {
      upstream = place
      if place.isReady { upstreamConnected(place) }
      return
    }
    guard let target = SocketAddress(endpoint: address.host, port: address.port) else { return end() }
    let place = try? worker.openHTTP2Upstream(
      key, to: target, address.security, cluster.connectionPool, clusterState.load, state,
      within: cluster.connectionPool.connectTimeout, for: self)
    guard let place else { return end() }
    upstream = place
  }

  private func end() {
    guard timer != .none else { return }
    worker.loop.cancel(timer)
    timer = .none
    clusterState.load.endRequest()
    worker.endMirror(body.count)
    clusterState.balancer.finished(ticket)
    let left = upstream
    upstream = nil
    left?.cancel()
  }

  func timerFired(_ token: TimerToken) { end() }

  func upstreamConnected(_ upstream: any Upstream) {
    upstream.begin(head, for: self)
    if !body.isEmpty { body.withUnsafeBufferPointer { upstream.write($0) } }
    upstream.end(trailers: nil)
    upstream.flush()
  }

  func upstreamEnded(trailers: HeaderBlock?) {
    // The connection looks after itself: it is idle in its pool, or closed.
    upstream = nil
    end()
  }

  func upstreamFailed(_ failure: UpstreamFailure) {
    upstream = nil
    if case .connect = failure.reason {
      clusterState.balancer.report(.connectFailed, ticket, now: worker.loop.now)
    }
    end()
  }

  func upstreamResponded(_ head: inout ResponseHead) {
    if head.status == 101 { end() }
  }
  func upstreamInterim(_ head: inout ResponseHead) {}
  func upstreamBody(_ bytes: UnsafeBufferPointer<UInt8>) {}
  func upstreamCanTakeMore() {}
  func flushClient() {}
}
