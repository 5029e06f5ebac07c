import CAres
import Glibc
import Primitives
import Transport

/// What a lookup came to.
struct DNSAnswer: Sendable {
  /// In the order to try them; empty when the name has no address or nobody answered.
  var addresses: [IPAddress]
  /// The shortest life among the addresses; nil for names of the hosts file and for failures.
  var life: Duration?
}

/// c-ares on an event loop: A and AAAA together, the hosts file first, servers as resolv.conf names them. On its loop only.
final class DNSChannel: EventHandler {
  private let loop: EventLoop
  private var channel: OpaquePointer?
  private var watched: [Int32: Registration] = [:]
  private var pending = 0
  private var isTicking = false

  /// Servers are asked anew after this time, the next one after that; so a lookup ends within some seconds.
  private static let tryMilliseconds: Int32 = 1_000
  private static let tries: Int32 = 2
  /// How often c-ares looks at its clock while lookups are under way.
  private static let tick: Duration = .milliseconds(50)

  /// - Parameter servers: `address:port,…`; nil: those of resolv.conf.
  init(loop: EventLoop, servers: String? = nil) throws(SystemError) {
    self.loop = loop
    guard ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS else {
      throw SystemError("start the resolver", code: ENOMEM)
    }
    var options = ares_options()
    options.timeout = Self.tryMilliseconds
    options.tries = Self.tries
    options.sock_state_cb_data = Unmanaged.passUnretained(self).toOpaque()
    options.sock_state_cb = { data, descriptor, readable, writable in
      guard let data else { return }
      Unmanaged<DNSChannel>.fromOpaque(data).takeUnretainedValue().watch(descriptor, readable != 0 || writable != 0)
    }
    let mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB
    guard ares_init_options(&channel, &options, Int32(mask)) == ARES_SUCCESS else {
      throw SystemError("read the resolver's settings", code: EINVAL)
    }
    if let servers, ares_set_servers_ports_csv(channel, servers) != ARES_SUCCESS {
      throw SystemError("use the name servers \(servers)", code: EINVAL)
    }
  }

  deinit { if let channel { ares_destroy(channel) } }

  private final class Query {
    let channel: DNSChannel
    let answer: (DNSAnswer) -> Void
    init(_ channel: DNSChannel, _ answer: @escaping (DNSAnswer) -> Void) {
      self.channel = channel
      self.answer = answer
    }
  }

  /// Looks a name up; `answer` is called once, perhaps before this returns.
  func ask(_ name: String, _ answer: @escaping (DNSAnswer) -> Void) {
    pending += 1
    var hints = ares_addrinfo_hints()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    let query = Unmanaged.passRetained(Query(self, answer)).toOpaque()
    ares_getaddrinfo(
      channel, name, nil, &hints,
      { data, _, _, result in
        guard let data else { return }
        let query = Unmanaged<Query>.fromOpaque(data).takeRetainedValue()
        query.channel.pending -= 1
        query.answer(DNSChannel.answer(result))
        if let result { ares_freeaddrinfo(result) }
      }, query)
    keepTime()
  }

  // MARK: Driving c-ares

  private func watch(_ descriptor: Int32, _ isWanted: Bool) {
    if !isWanted {
      if let registration = watched.removeValue(forKey: descriptor) { loop.deregister(registration) }
    } else if watched[descriptor] == nil {
      // A descriptor that cannot be watched is served by the clock's ticks.
      watched[descriptor] = try? loop.register(descriptor, self)
    }
  }

  func ready(_ readiness: Readiness) { process() }

  /// Reads and writes all sockets: there are few, and c-ares asks for no particular one.
  private func process() {
    guard let channel else { return }
    for descriptor in watched.keys.sorted() { ares_process_fd(channel, descriptor, descriptor) }
    if watched.isEmpty { ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD) }
  }

  private func keepTime() {
    guard !isTicking, pending > 0 else { return }
    isTicking = true
    loop.schedule(after: Self.tick) { [weak self] in
      guard let self else { return }
      isTicking = false
      process()
      keepTime()
    }
  }

  // MARK: Answers

  private static func answer(_ result: UnsafeMutablePointer<ares_addrinfo>?) -> DNSAnswer {
    var found: [IPAddress] = []
    var life: Int32?
    var next = result?.pointee.nodes
    while let node = next, found.count < ProxyLimits.addressesPerName {
      if let address = address(node.pointee), !found.contains(address) {
        found.append(address)
        let ttl = node.pointee.ai_ttl
        if ttl > 0 { life = min(life ?? ttl, ttl) }
      }
      next = node.pointee.ai_next
    }
    return DNSAnswer(addresses: interleaved(found), life: life.map { .seconds(Int64($0)) })
  }

  private static func address(_ node: ares_addrinfo_node) -> IPAddress? {
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    guard getnameinfo(node.ai_addr, node.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 else {
      return nil
    }
    return IPAddress(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
  }

  /// Families in turn, beginning with the one that the system prefers (RFC 8305, section 4).
  static func interleaved(_ addresses: [IPAddress]) -> [IPAddress] {
    guard let first = addresses.first else { return [] }
    let preferred = addresses.filter { $0.isV6 == first.isV6 }
    let others = addresses.filter { $0.isV6 != first.isV6 }
    var result: [IPAddress] = []
    for index in 0..<max(preferred.count, others.count) {
      if preferred.indices.contains(index) { result.append(preferred[index]) }
      if others.indices.contains(index) { result.append(others[index]) }
    }
    return result
  }
}
