import Primitives
import Transport

extension ClientConnection {
  /// Connections that do not tell are not closed to make room.
  var evictableSince: Instant? { nil }
}

// Which clients a worker takes, and which it lets go for others.
extension Worker {
  /// Whether a new client is taken. When the node is full, clients that have been idle longest make room (slowloris).
  func admits(_ peer: SocketAddress, descriptor: Int32) -> Bool {
    if overload.isNearlyFull { evictIdle() }
    var admission = overload.admission(from: peer.ip, descriptor: descriptor)
    if admission == .full {
      evictIdle()
      admission = overload.admission(from: peer.ip, descriptor: descriptor)
    }
    if admission == .admitted { return true }
    counters.connectionsRefused += 1
    return false
  }

  /// Closes a share of the connections that are idle, those first that have been so longest.
  func evictIdle() {
    guard loop.now >= evictionAllowedAt else { return }
    var idle: [(since: Instant, connection: any ClientConnection)] = []
    for connection in clientConnections {
      if let since = connection.evictableSince { idle.append((since, connection)) }
    }
    guard !idle.isEmpty else {
      evictionAllowedAt = loop.now + OverloadLimits.evictionPause
      return
    }
    idle.sort { $0.since < $1.since }
    for (_, connection) in idle.prefix(max(1, idle.count / OverloadLimits.evictionShare)) {
      counters.connectionsEvicted += 1
      connection.close()
    }
  }

  /// One worker watches memory for all.
  func watchMemory() {
    let level = overload.measured(memoryBytes: MemoryGauge.residentBytes())
    if level > .normal { evictIdle() }
    loop.schedule(after: OverloadLimits.interval) { [weak self] in self?.watchMemory() }
  }
}

extension Exchange {
  /// The client sends its request's body more slowly than it must, and not because nobody takes it.
  var bodyIsTooSlow: Bool {
    let elapsed = now - began
    guard elapsed > OverloadLimits.bodyGrace, (upstream?.pendingOutput ?? 0) < ProxyLimits.outputLowWater else { return false }
    return Double(requestBodyBytes) < elapsed.inSeconds * OverloadLimits.bodyBytesPerSecondMin
  }
}
