import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Synchronization
import Testing
import Transport

@testable import Proxy

/// The resolver against a name server of this test.
@Suite struct ResolverTests {
  @Test func `answers of both families come in turn and are kept for their life`() async throws {
    let server = try NameServer(["both.example": .addresses(v4: ["192.0.2.1", "192.0.2.2"], v6: ["2001:db8::1"], ttl: 60)])
    let resolver = try Resolver(servers: server.address)
    defer { resolver.stop() }
    let found = await Self.ask(resolver, "both.example")
    #expect(Set(found.map(\.description)) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"])
    #expect(found.count == 3 && found[0].isV6 != found[1].isV6)
    let asked = server.questions
    #expect(resolver.addresses(of: "both.example", now: EventLoop.monotonicNow()) { _ in } == found)
    #expect(server.questions == asked)
  }

  @Test func `a name that does not exist is not asked for again at once`() async throws {
    let server = try NameServer([:])
    let resolver = try Resolver(servers: server.address)
    defer { resolver.stop() }
    #expect(await Self.ask(resolver, "nowhere.example").isEmpty)
    let asked = server.questions
    #expect(asked > 0)
    #expect(resolver.addresses(of: "nowhere.example", now: EventLoop.monotonicNow()) { _ in } == [])
    #expect(server.questions == asked)
  }

  @Test func `the last good answer serves on when newer questions fail`() async throws {
    let server = try NameServer(["gone.example": .addresses(v4: ["192.0.2.7"], v6: [], ttl: 1)])
    let resolver = try Resolver(servers: server.address)
    defer { resolver.stop() }
    let good = await Self.ask(resolver, "gone.example")
    #expect(good.map(\.description) == ["192.0.2.7"])
    server.answer("gone.example", with: .failure)
    let later = EventLoop.monotonicNow() + .seconds(3600)
    #expect(resolver.addresses(of: "gone.example", now: later) { _ in } == good)
    #expect(resolver.addresses(of: "gone.example", now: later) { _ in } == good)
  }

  @Test func `names of the hosts file and addresses need no server`() async throws {
    let server = try NameServer([:])
    let resolver = try Resolver(servers: server.address)
    defer { resolver.stop() }
    #expect(resolver.addresses(of: "192.0.2.9", now: .zero) { _ in }?.map(\.description) == ["192.0.2.9"])
    #expect(await Self.ask(resolver, "localhost").contains { $0.isLoopback })
    #expect(server.questions == 0)
  }

  @Test func `watched names are asked for again when their answers are over, and others are told`() async throws {
    let server = try NameServer(["db.example": .addresses(v4: ["192.0.2.1", "192.0.2.2"], v6: [], ttl: 1)])
    let resolver = try Resolver(servers: server.address)
    defer { resolver.stop() }
    let watch = NameWatch(resolver)
    let (changes, report) = AsyncStream<Void>.makeStream()
    var next = changes.makeAsyncIterator()
    watch.watch(["db.example", "nowhere.example"]) { report.yield() }
    await next.next()
    #expect(Set(watch.addresses["db.example"]?.map(\.description) ?? []) == ["192.0.2.1", "192.0.2.2"])
    server.answer("db.example", with: .addresses(v4: ["192.0.2.3"], v6: [], ttl: 1))
    await next.next()
    #expect(watch.addresses["db.example"]?.map(\.description) == ["192.0.2.3"])
    #expect(watch.addresses["nowhere.example"] == nil)
    // What fails later leaves the last good answer, and what is not watched is forgotten.
    server.answer("db.example", with: .failure)
    watch.watch(["nowhere.example"]) {}
    #expect(watch.addresses.isEmpty)
  }

  @Test(arguments: [(Cluster.Discovery.dns, 2), (.logicalDNS, 1)])
  func `a name that stands for itself is called at its addresses in turn, or at the first alone`(
    discovery: Cluster.Discovery, addresses: Int
  ) async throws {
    let origin = Origin.text("here")
    // Nobody listens at the first address; a retry goes to the second, where there is a second.
    let server = try NameServer(["two.example": .addresses(v4: ["127.71.9.54", "127.0.0.1"], v6: [], ttl: 60)])
    let resolver = try Resolver(servers: server.address)
    let order = await Self.ask(resolver, "two.example").map(\.description)
    resolver.stop()
    let place = Endpoint.Place(
      key: 4, address: "two.example", port: origin.port, workload: nil, isLocal: false, mesh: nil,
      locality: Locality(parsing: ""))
    var mesh = TestMesh(endpoints: [Endpoint(place, weight: 1, health: .healthy)])
    var cluster = mesh.cluster()
    cluster.discovery = discovery
    mesh.clusters = [cluster]
    var options = ProxyOptions()
    options.nameServers = server.address
    let (answer, _) = try await mesh.run(options) {
      TestClient(port: $0).request("GET / HTTP/1.1\r\nhost: reviews\r\n\r\n")
    }
    let reachable = addresses == 2 || order.first == "127.0.0.1"
    #expect((answer?.status == 200) == reachable)
  }

  private static func ask(_ resolver: Resolver, _ name: String) async -> [IPAddress] {
    await withCheckedContinuation { continuation in
      let known = resolver.addresses(of: name, now: EventLoop.monotonicNow()) { continuation.resume(returning: $0) }
      if let known { continuation.resume(returning: known) }
    }
  }
}

/// Just enough of a name server (RFC 1035) on a port of its own: A and AAAA over UDP.
private final class NameServer: Sendable {
  enum Record {
    case addresses(v4: [String], v6: [String], ttl: UInt32)
    /// SERVFAIL.
    case failure
  }
  private struct State {
    var records: [String: Record]
    var questions = 0
  }

  let address: String
  private let descriptor: Int32
  private let state: Mutex<State>

  init(_ records: [String: Record]) throws {
    state = Mutex(State(records: records))
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    try #require(descriptor >= 0)
    self.descriptor = descriptor
    var own = sockaddr_in()
    own.sin_family = sa_family_t(AF_INET)
    own.sin_addr.s_addr = inet_addr("127.71.9.53")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &own) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        bind(descriptor, raw, length) == 0 && getsockname(descriptor, raw, &length) == 0
      }
    }
    try #require(bound)
    address = "127.71.9.53:\(UInt16(bigEndian: own.sin_port))"
    var thread = pthread_t()
    let context = Unmanaged.passRetained(self).toOpaque()
    pthread_create(
      &thread, nil,
      { context in
        guard let context else { return nil }
        Unmanaged<NameServer>.fromOpaque(context).takeRetainedValue().serve()
        return nil
      }, context)
  }

  var questions: Int { state.withLock { $0.questions } }
  func answer(_ name: String, with record: Record) { state.withLock { $0.records[name] = record } }

  private func serve() {
    var buffer = [UInt8](repeating: 0, count: 1500)
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    while true {
      var peer = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let count = withUnsafeMutablePointer(to: &peer) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          recvfrom(descriptor, &buffer, buffer.count, 0, $0, &length)
        }
      }
      guard count > 12 else { break }
      let reply = reply(to: Array(buffer[..<count]))
      _ = withUnsafeMutablePointer(to: &peer) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(descriptor, reply, reply.count, 0, $0, length) }
      }
    }
    close(descriptor)
  }

  private func reply(to query: [UInt8]) -> [UInt8] {
    var labels: [String] = []
    var position = 12
    while position < query.count, query[position] > 0 {
      let end = position + 1 + Int(query[position])
      guard end < query.count else { break }
      labels.append(String(decoding: query[(position + 1)..<end], as: UTF8.self))
      position = end
    }
    guard position + 5 <= query.count else { return [] }
    let type = query[position + 2]
    let record = state.withLock { state in
      state.questions += 1
      return state.records[labels.joined(separator: ".").lowercased()]
    }
    var answers: [[UInt8]] = []
    var code: UInt8 = 3
    var life: UInt32 = 0
    switch record {
    case .addresses(let v4, let v6, let ttl):
      code = 0
      life = ttl
      answers = (type == 1 ? v4 : type == 28 ? v6 : []).compactMap { IPAddress($0)?.bytes }
    case .failure: code = 2
    case nil: break
    }
    var reply = Array(query[0..<2]) + [0x81, 0x80 | code, 0, 1, 0, UInt8(answers.count), 0, 0, 0, 0]
    reply += query[12..<(position + 5)]
    for answer in answers {
      reply += [0xC0, 12, 0, type, 0, 1]
      reply += withUnsafeBytes(of: life.bigEndian) { Array($0) }
      reply += [0, UInt8(answer.count)] + answer
    }
    return reply
  }
}
