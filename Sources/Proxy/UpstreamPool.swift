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
  private var idle: [UpstreamKey: [UpstreamConnection]] = [:]
  private(set) var count = 0
  var idleTimeout: Duration = .seconds(60)

  /// An idle connection, if one is left that its peer has not closed.
  mutating func take(_ key: UpstreamKey, now: Instant, mustBeFresh: Bool) -> UpstreamConnection? {
    while let connection = idle[key]?.popLast() {
      count -= 1
      connection.stopIdleTimer()
      if mustBeFresh || now - connection.idleSince > ProxyLimits.idleCheckAfter, connection.isStale() {
        connection.close()
        continue
      }
      return connection
    }
    return nil
  }

  mutating func give(_ connection: UpstreamConnection) {
    let there = idle[connection.key]?.count ?? 0
    guard there < ProxyLimits.idleUpstreamsPerKey, count < ProxyLimits.idleUpstreams else {
      connection.close()
      return
    }
    count += 1
    connection.setIdleTimer(idleTimeout)
    idle[connection.key, default: []].append(connection)
  }

  mutating func remove(_ connection: UpstreamConnection) {
    guard let index = idle[connection.key]?.firstIndex(where: { $0 === connection }) else { return }
    idle[connection.key]?.remove(at: index)
    count -= 1
    if idle[connection.key]?.isEmpty == true { idle[connection.key] = nil }
  }

  mutating func removeAll() -> [UpstreamConnection] {
    defer {
      idle = [:]
      count = 0
    }
    return idle.values.flatMap { $0 }
  }
}
