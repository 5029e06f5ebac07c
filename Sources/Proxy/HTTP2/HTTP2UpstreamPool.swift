import MeshConfig
import Primitives
import Traffic
import Transport

/// The HTTP/2 connections of one worker that take requests. Few of them: another is made only when the peer allows no more
/// streams on those there are.
struct HTTP2UpstreamPool {
  private var connections: [UpstreamKey: [HTTP2UpstreamConnection]] = [:]

  /// A connection that takes a request, or will when it is there.
  func connection(for key: UpstreamKey) -> HTTP2UpstreamConnection? {
    guard let candidates = connections[key] else { return nil }
    for connection in candidates where connection.hasRoom { return connection }
    return nil
  }

  mutating func add(_ connection: HTTP2UpstreamConnection) { connections[connection.key, default: []].append(connection) }

  mutating func remove(_ connection: HTTP2UpstreamConnection) {
    guard let index = connections[connection.key]?.firstIndex(where: { $0 === connection }) else { return }
    connections[connection.key]?.remove(at: index)
    if connections[connection.key]?.isEmpty == true { connections[connection.key] = nil }
  }

  mutating func removeAll() -> [HTTP2UpstreamConnection] {
    defer { connections = [:] }
    return connections.values.flatMap { $0 }
  }
}

extension Worker {
  /// A place on a connection to the endpoint, where there is one.
  func http2Upstream(_ key: UpstreamKey, for observer: any UpstreamObserver) -> HTTP2Upstream? {
    http2Upstreams.connection(for: key)?.reserve(for: observer)
  }

  /// A place on a connection that is made for it. Nil when the cluster has all the connections it may have.
  func openHTTP2Upstream(
    _ key: UpstreamKey, to address: SocketAddress, _ security: UpstreamSecurity, _ policy: ConnectionPoolPolicy?,
    _ load: SharedLoad?, _ state: ServingState, within timeout: Duration, preface: [UInt8] = [],
    for observer: any UpstreamObserver
  ) throws(ProxyError.ConnectFailure) -> HTTP2Upstream? {
    if let policy, let load, !load.openConnection(policy, isFirst: !upstreams.hasConnections(key)) { return nil }
    var terms = UpstreamTerms(policy, load)
    // Between nodes a connection is only ended by its peer's leaving, or by lying idle for as long as its cluster says.
    if key.security == .mesh, policy == nil { terms.idleTimeout = ProxyLimits.meshIdle }
    counters.upstreamConnects += 1
    counters.upstreamConnections += 1
    upstreams.opened(key)
    do throws(ProxyError.ConnectFailure) {
      let stream = try upstreamStream(to: address, security, state, http2: true, keepAlive: policy?.keepAlive)
      let connection = HTTP2UpstreamConnection(stream, to: address, key: key, terms: terms, worker: self)
      connection.preface = preface
      try connection.open(within: timeout)
      http2Upstreams.add(connection)
      return connection.reserve(for: observer)
    } catch {
      upstreamClosed(key, terms)
      throw error
    }
  }
}
