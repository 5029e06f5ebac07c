import MeshConfig
import Primitives

/// What connections are shared by: never across source identities, endpoints or kinds of security.
struct UpstreamKey: Hashable {
  enum Security: Hashable { case plain, mesh, origination }
  /// A number for the source workload; −1 where the identity does not matter (an application on this node).
  var source: Int32
  var endpoint: UInt64
  var security: Security
  /// False where one connection serves one request only.
  var allowsReuse = true
}

/// The idle connections of one worker, newest first: an application that closes idle connections closes the oldest.
struct UpstreamPool {
  private var idle: [UpstreamKey: [HTTP1Upstream]] = [:]
  /// How long peers kept idle connections open, as far as they were seen to close one.
  private var closedAfter: [UpstreamKey: Duration] = [:]
  private(set) var count = 0
  var idleTimeout: Duration = .seconds(60)

  /// An idle connection, if one is left that its peer has not closed.
  mutating func take(_ key: UpstreamKey, now: Instant, mustBeFresh: Bool) -> HTTP1Upstream? {
    // A request that must not be done twice stays off connections that this peer is about to close.
    if mustBeFresh, let life = closedAfter[key], let newest = idle[key]?.last,
      now - newest.idleSince + ProxyLimits.closeMargin >= life
    {
      return nil
    }
    while let connection = idle[key]?.popLast() {
      count -= 1
      connection.stopIdleTimer()
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
  mutating func learnClose(_ key: UpstreamKey, after idle: Duration) {
    if closedAfter.count >= ProxyLimits.idleUpstreams { closedAfter.removeAll() }
    closedAfter[key] = min(closedAfter[key] ?? idle, idle)
  }

  mutating func give(_ connection: HTTP1Upstream) {
    let there = idle[connection.key]?.count ?? 0
    guard there < ProxyLimits.idleUpstreamsPerKey, count < ProxyLimits.idleUpstreams else {
      connection.close()
      return
    }
    count += 1
    connection.setIdleTimer(idleTimeout)
    idle[connection.key, default: []].append(connection)
  }

  mutating func remove(_ connection: HTTP1Upstream) {
    guard let index = idle[connection.key]?.firstIndex(where: { $0 === connection }) else { return }
    idle[connection.key]?.remove(at: index)
    count -= 1
    if idle[connection.key]?.isEmpty == true { idle[connection.key] = nil }
  }

  mutating func removeAll() -> [HTTP1Upstream] {
    defer {
      idle = [:]
      count = 0
    }
    return idle.values.flatMap { $0 }
  }
}
