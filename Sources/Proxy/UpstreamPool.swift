import MeshConfig
import Primitives
import Traffic
import Transport

/// What connections are shared by: never across source identities, endpoints or kinds of security.
struct UpstreamKey: Hashable {
  enum Security: Hashable {
    case plain, mesh, unavailable
    /// With all that it was opened with: what one cluster's settings admit, another's may not.
    case origination(serverName: String, tls: UpstreamTLS)

    init(_ security: UpstreamSecurity) {
      switch security {
      case .plain: self = .plain
      case .unavailable: self = .unavailable
      case .mesh: self = .mesh
      case .origination(let serverName, let tls): self = .origination(serverName: serverName, tls: tls)
      }
    }
  }
  /// A number for the source workload; −1 where the identity does not matter (an application on this node).
  var source: Int32
  var endpoint: UInt64
  var security: Security
  /// False where one connection serves one request only.
  var allowsReuse = true
  /// Copies of requests have connections of their own.
  var isMirror = false

  func hash(into hasher: inout Hasher) {
    // One word: the other parts seldom differ for one endpoint, and hashing is paid by every request.
    hasher.combine(endpoint ^ UInt64(truncatingIfNeeded: source) &* 0x9E37_79B9_7F4A_7C15)
  }

  /// A number for an address that is no endpoint of a snapshot. Keyed by the process: clients choose the host, and nobody
  /// may find two that share connections.
  static func endpoint(_ host: String, _ port: UInt16) -> UInt64 {
    var hasher = Hasher()
    for byte in host.utf8 { hasher.combine(byte) }
    hasher.combine(port)
    return UInt64(bitPattern: Int64(hasher.finalize()))
  }
}

/// How long a connection lives and how much it carries, and who counts it (`connectionPool`).
struct UpstreamTerms {
  var requestsMax = Int.max
  var idleTimeout = ProxyLimits.applicationIdle
  var maxDuration: Duration?
  /// Of an HTTP/2 connection.
  var streamsMax = Int.max
  var keepAlive: HTTP2KeepAlive?
  /// Of the cluster it belongs to; nil for applications of this node and pass-through.
  var load: SharedLoad?

  init(_ policy: ConnectionPoolPolicy?, _ load: SharedLoad?) {
    self.load = load
    guard let policy else { return }
    requestsMax = policy.maxRequestsPerConnection ?? .max
    idleTimeout = policy.idleTimeout > .zero ? policy.idleTimeout : .seconds(3600)
    maxDuration = policy.maxConnectionDuration
    streamsMax = policy.maxConcurrentStreams ?? .max
    keepAlive = policy.http2KeepAlive
  }
}

extension Worker {
  /// Begins to connect. Nil when the cluster has all the connections it may have, and this worker has one of them.
  func openUpstream(
    _ key: UpstreamKey, to address: SocketAddress, _ security: UpstreamSecurity, _ policy: ConnectionPoolPolicy?,
    _ load: SharedLoad?, _ state: ServingState, preface: [UInt8] = []
  ) throws(ProxyError.ConnectFailure) -> HTTP1Upstream? {
    if let policy, let load, !load.openConnection(policy, isFirst: !upstreams.hasConnections(key)) {
      // One that lies idle, but may not carry this request, makes room.
      guard let idle = upstreams.takeOldest(key) else { return nil }
      idle.close()
      guard load.openConnection(policy, isFirst: !upstreams.hasConnections(key)) else { return nil }
    }
    let terms = UpstreamTerms(policy, load)
    counters.upstreamConnects += 1
    counters.upstreamConnections += 1
    upstreams.opened(key)
    do throws(ProxyError.ConnectFailure) {
      let stream = try upstreamStream(to: address, security, state, keepAlive: policy?.keepAlive)
      let connection = HTTP1Upstream(stream, to: address, key: key, terms: terms, worker: self)
      connection.preface = preface
      return connection
    } catch {
      upstreamClosed(key, terms)
      throw error
    }
  }

  func upstreamClosed(_ key: UpstreamKey, _ terms: UpstreamTerms) {
    counters.upstreamConnections -= 1
    upstreams.closed(key)
    terms.load?.closedConnection()
  }
}

/// The idle connections of one worker, newest first: an application that closes idle connections closes the oldest.
final class UpstreamPool {
  private var idle: [UpstreamKey: Shelf] = [:]

  /// The idle connections of one key. A class: taking one and giving it back changes no dictionary, which would allocate.
  private final class Shelf {
    var connections: [HTTP1Upstream] = []
  }

  /// How long peers kept idle connections open, as far as they were seen to close one.
  private var closedAfter: [UpstreamKey: Duration] = [:]
  private(set) var count = 0
  /// Connections there are, busy ones included.
  private var open: [UpstreamKey: Int] = [:]

  /// An idle connection, if one is left that its peer has not closed.
  func take(_ key: UpstreamKey, now: Instant, mustBeFresh: Bool) -> HTTP1Upstream? {
    // A request that must not be done twice stays off connections that this peer is about to close.
    if mustBeFresh, let life = closedAfter[key], let newest = idle[key]?.connections.last,
      now - newest.idleSince + ProxyLimits.closeMargin >= life
    {
      return nil
    }
    guard let shelf = idle[key] else { return nil }
    while let connection = shelf.connections.popLast() {
      count -= 1
      if mustBeFresh || now - connection.idleSince > ProxyLimits.idleCheckAfter, connection.isStale() {
        learnClose(key, after: now - connection.idleSince)
        connection.close()
        continue
      }
      return connection
    }
    return nil
  }

  /// Notes that the peer closed a connection which had lain idle so long; the shortest time counts.
  func learnClose(_ key: UpstreamKey, after idle: Duration) {
    if closedAfter.count >= ProxyLimits.idleUpstreams { closedAfter.removeAll() }
    closedAfter[key] = min(closedAfter[key] ?? idle, idle)
  }

  private func shelf(for key: UpstreamKey) -> Shelf {
    if let known = idle[key] { return known }
    let shelf = Shelf()
    idle[key] = shelf
    return shelf
  }

  func give(_ connection: HTTP1Upstream) {
    let shelf = shelf(for: connection.key)
    guard shelf.connections.count < ProxyLimits.idleUpstreamsPerKey, count < ProxyLimits.idleUpstreams else {
      connection.close()
      return
    }
    count += 1
    connection.startIdleTimer()
    shelf.connections.append(connection)
  }

  func remove(_ connection: HTTP1Upstream) {
    guard let shelf = idle[connection.key], let index = shelf.connections.firstIndex(where: { $0 === connection }) else {
      return
    }
    shelf.connections.remove(at: index)
    count -= 1
    if shelf.connections.isEmpty { idle[connection.key] = nil }
  }

  func hasConnections(_ key: UpstreamKey) -> Bool { open[key] != nil }
  func opened(_ key: UpstreamKey) { open[key, default: 0] += 1 }
  func closed(_ key: UpstreamKey) {
    guard let left = open[key] else { return }
    open[key] = left > 1 ? left - 1 : nil
    if left <= 1 { idle[key] = nil }
  }

  /// The idle connection that was used longest ago, to make room for another.
  func takeOldest(_ key: UpstreamKey) -> HTTP1Upstream? {
    guard let shelf = idle[key], !shelf.connections.isEmpty else { return nil }
    count -= 1
    return shelf.connections.removeFirst()
  }

  func removeAll() -> [HTTP1Upstream] {
    defer {
      idle = [:]
      count = 0
    }
    return idle.values.flatMap(\.connections)
  }
}
