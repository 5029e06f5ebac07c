import Primitives
import Synchronization
import Transport

/// Finds the addresses of names outside the mesh, on a loop of its own.
///
/// Answers are kept for as long as the name server says, within bounds; the last good one serves on while a newer question fails or
/// is on its way; failures are kept for a moment, so that a name that does not exist is not asked for with every request.
final class Resolver: Sendable {
  typealias Answer = @Sendable ([IPAddress]) -> Void

  private struct Entry {
    var addresses: [IPAddress] = []
    var expires = Instant.zero
    var isAsking = false
    var waiting: [Answer] = []
  }

  private let entries = Mutex<[String: Entry]>([:])
  /// Seconds that an answer is good for that does not say it itself (Istio, `dnsRefreshRate`).
  private let refreshSeconds = Atomic<Int64>(60)
  private let loop: EventLoop
  private let channel: LoopBound<DNSChannel>

  /// - Parameter servers: `address:port,…`; nil: those of the system's resolver.
  init(servers: String? = nil) throws(SystemError) {
    loop = try EventLoop(name: "mesh-resolver")
    channel = LoopBound(try DNSChannel(loop: loop, servers: servers), on: loop)
    try loop.start()
  }

  func stop() { loop.stop() }

  func refresh(every rate: Duration) { refreshSeconds.store(max(1, rate.components.seconds), ordering: .relaxed) }

  /// The known addresses if they are fresh, or good enough until newer ones come; else nil, and `answer` is called on the
  /// resolver's thread. An empty list means that the name cannot be resolved.
  func addresses(of name: String, now: Instant, answer: @escaping Answer) -> [IPAddress]? {
    if let literal = IPAddress(name) { return [literal] }
    let (known, mustAsk) = entries.withLock { entries -> ([IPAddress]?, Bool) in
      var entry = entries[name] ?? Entry()
      if now < entry.expires { return (entry.addresses, false) }
      if entries[name] == nil, entries.count >= ProxyLimits.resolvedNames { Self.makeRoom(&entries) }
      let mustAsk = !entry.isAsking
      entry.isAsking = true
      let lastGood = entry.addresses
      // A stale answer serves at once while a new one is fetched.
      if lastGood.isEmpty { entry.waiting.append(answer) }
      entries[name] = entry
      return (lastGood.isEmpty ? nil : lastGood, mustAsk)
    }
    if mustAsk { loop.post { self.channel.value.ask(name) { self.take($0, for: name) } } }
    return known
  }

  /// Looks a name up now. `answer` is called on the resolver's thread with what is good then, and for how long.
  func ask(_ name: String, answer: @escaping @Sendable ([IPAddress], _ life: Duration) -> Void) {
    loop.post {
      self.channel.value.ask(name) { found in
        self.take(found, for: name)
        answer(found.addresses, self.life(of: found))
      }
    }
  }

  /// Calls `body` on the resolver's thread after a time.
  func after(_ time: Duration, _ body: @escaping @Sendable () -> Void) {
    let loop = loop
    loop.post { loop.schedule(after: time, body) }
  }

  /// Drops a quarter of the names: those that expire first and that nobody waits for.
  private static func makeRoom(_ entries: inout [String: Entry]) {
    let idle = entries.filter { !$0.value.isAsking }.sorted { ($0.value.expires, $0.key) < ($1.value.expires, $1.key) }
    for (name, _) in idle.prefix(max(1, ProxyLimits.resolvedNames / 4)) { entries[name] = nil }
  }

  private func take(_ found: DNSAnswer, for name: String) {
    let (addresses, waiting) = entries.withLock { entries -> ([IPAddress], [Answer]) in
      var entry = entries[name] ?? Entry()
      if !found.addresses.isEmpty { entry.addresses = found.addresses }
      entry.expires = EventLoop.monotonicNow() + life(of: found)
      entry.isAsking = false
      let waiting = entry.waiting
      entry.waiting = []
      entries[name] = entry
      return (entry.addresses, waiting)
    }
    for answer in waiting { answer(addresses) }
  }

  private func life(of answer: DNSAnswer) -> Duration {
    if answer.addresses.isEmpty { return ProxyLimits.unresolvedFor }
    let life = answer.life ?? .seconds(refreshSeconds.load(ordering: .relaxed))
    return min(max(life, ProxyLimits.resolvedForMin), ProxyLimits.resolvedForMax)
  }
}
