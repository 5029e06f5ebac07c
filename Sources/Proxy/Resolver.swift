import Glibc
import Primitives
import Synchronization
import Transport

/// Finds the addresses of names outside the mesh, on a thread of its own: `getaddrinfo` blocks for as long as it likes.
///
/// Answers are kept for `ProxyLimits.resolvedFor`, and the last good one for as long as a newer question fails.
final class Resolver: Sendable {
  typealias Answer = @Sendable ([IPAddress]) -> Void

  private struct Entry {
    var addresses: [IPAddress] = []
    var expires = Instant.zero
    var isAsking = false
    var waiting: [Answer] = []
  }

  private let entries = Mutex<[String: Entry]>([:])
  private let thread: EventLoop

  init() throws(SystemError) {
    thread = try EventLoop(name: "mesh-resolver")
    try thread.start()
  }

  func stop() { thread.stop() }

  /// The known addresses if they are fresh; else nil, and `answer` is called on the resolver's thread. An empty list means
  /// that the name cannot be resolved.
  func addresses(of name: String, now: Instant, answer: @escaping Answer) -> [IPAddress]? {
    if let literal = IPAddress(name) { return [literal] }
    let (known, mustAsk) = entries.withLock { entries -> ([IPAddress]?, Bool) in
      var entry = entries[name] ?? Entry()
      if now < entry.expires { return (entry.addresses, false) }
      if entries[name] == nil, entries.count >= ProxyLimits.resolvedNames { entries.removeAll() }
      let mustAsk = !entry.isAsking
      entry.isAsking = true
      let lastGood = entry.addresses
      // A stale answer serves at once while a new one is fetched.
      if lastGood.isEmpty { entry.waiting.append(answer) }
      entries[name] = entry
      return (lastGood.isEmpty ? nil : lastGood, mustAsk)
    }
    if mustAsk { thread.post { self.ask(name) } }
    return known
  }

  private func ask(_ name: String) {
    let found = Self.resolve(name)
    let (addresses, waiting) = entries.withLock { entries -> ([IPAddress], [Answer]) in
      var entry = entries[name] ?? Entry()
      if !found.isEmpty { entry.addresses = found }
      let life = found.isEmpty ? ProxyLimits.unresolvedFor : ProxyLimits.resolvedFor
      entry.expires = EventLoop.monotonicNow() + life
      entry.isAsking = false
      let waiting = entry.waiting
      entry.waiting = []
      entries[name] = entry
      return (entry.addresses, waiting)
    }
    for answer in waiting { answer(addresses) }
  }

  private static func resolve(_ name: String) -> [IPAddress] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(name, nil, &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var addresses: [IPAddress] = []
    var next = list
    while let info = next, addresses.count < ProxyLimits.addressesPerName {
      if let address = ipAddress(info.pointee), !addresses.contains(address) { addresses.append(address) }
      next = info.pointee.ai_next
    }
    return addresses.filter { !$0.isV6 } + addresses.filter(\.isV6)
  }

  private static func ipAddress(_ info: addrinfo) -> IPAddress? {
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    guard getnameinfo(info.ai_addr, info.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 else {
      return nil
    }
    return IPAddress(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
  }
}
