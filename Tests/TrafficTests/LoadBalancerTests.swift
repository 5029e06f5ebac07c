import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, DestinationRule.

private let start = Instant.seconds(1000)

/// Indices picked in `count` picks without load.
private func picks(
  _ balancer: LoadBalancer, count: Int, seed: UInt64 = 5, _ request: PickRequest = PickRequest(), now: Instant = start
) -> [Int] {
  var draws = SeededGenerator(seed: seed)
  return (0..<count).compactMap { _ in
    if case .endpoint(let ticket) = balancer.pick(request, now: now, draws: &draws) { ticket.index } else { nil }
  }
}

private func ticket(_ balancer: LoadBalancer, _ index: Int, now: Instant = start) -> HostTicket? {
  var draws = SeededGenerator(seed: 1)
  for _ in 0..<1000 {
    if case .endpoint(let ticket) = balancer.pick(PickRequest(), now: now, draws: &draws), ticket.index == index {
      return ticket
    }
  }
  return nil
}

private func endpoints(_ count: Int) -> [Endpoint] { (1...UInt64(count)).map { endpoint($0) } }

@Test(arguments: [LoadBalancerPolicy.Algorithm.leastRequest, .roundRobin, .random])
func `an idle cluster is shared by weight`(algorithm: LoadBalancerPolicy.Algorithm) {
  let weights: [UInt32] = [1, 2, 5]
  let balancer = LoadBalancer(
    cluster(weights.enumerated().map { endpoint(UInt64($0 + 1), weight: $1) }, algorithm), now: start)
  let picked = picks(balancer, count: 40_000)
  for (index, weight) in weights.enumerated() {
    #expect(isPlausible(picked.count { $0 == index }, of: 40_000, p: Double(weight) / 8), "\(algorithm) \(index)")
  }
}

@Test func `round robin takes equal endpoints turn by turn`() {
  let balancer = LoadBalancer(cluster(endpoints(4), .roundRobin), now: start)
  let picked = picks(balancer, count: 40)
  for index in 4..<40 { #expect(picked[index] == picked[index - 4]) }
  #expect(Set(picked.prefix(4)).count == 4)
}

@Test func `least request never picks the busier of two, and keeps load in proportion to weight`() throws {
  let two = LoadBalancer(cluster(endpoints(2)), now: start)
  two.started(try #require(ticket(two, 0)))
  #expect(picks(two, count: 200).allSatisfy { $0 == 1 })

  let weighted = LoadBalancer(cluster([endpoint(1, weight: 1), endpoint(2, weight: 3)]), now: start)
  var draws = SeededGenerator(seed: 8)
  for _ in 0..<400 {
    if case .endpoint(let ticket) = weighted.pick(PickRequest(), now: start, draws: &draws) { weighted.started(ticket) }
  }
  let active = weighted.reports(at: start).map(\.active)
  #expect(abs(active[1] - 300) <= 2, "\(active)")
}

@Test func `two choices keep the most loaded of many endpoints far below a random choice's`() {
  func mostLoaded(_ algorithm: LoadBalancerPolicy.Algorithm) -> Int {
    let balancer = LoadBalancer(cluster(endpoints(100), algorithm), now: start)
    var draws = SeededGenerator(seed: 3)
    for _ in 0..<1000 {
      if case .endpoint(let ticket) = balancer.pick(PickRequest(), now: start, draws: &draws) { balancer.started(ticket) }
    }
    return balancer.reports(at: start).map(\.active).max() ?? 0
  }
  #expect(mostLoaded(.leastRequest) <= 13)
  #expect(mostLoaded(.random) >= 17)
}

@Test func `only healthy endpoints are picked, unreachable ones as the last resort, others never`() {
  func picked(_ health: [EndpointHealth]) -> Set<Int> {
    let list = health.enumerated().map { endpoint(UInt64($0 + 1), health: $1) }
    return Set(picks(LoadBalancer(cluster(list), now: start), count: 100))
  }
  #expect(picked([.healthy, .unhealthy, .starting, .leaving, .unreachable]) == [0])
  #expect(picked([.unhealthy, .starting, .leaving, .unreachable]) == [3])
  #expect(picked([.unhealthy, .starting, .leaving]) == [])
  #expect(picked([]) == [])
}

@Test func `below the panic threshold health is ignored`() {
  let policy = OutlierPolicy(minHealthPercent: 50)
  let list = [EndpointHealth.healthy, .unhealthy, .unhealthy, .leaving].enumerated().map {
    endpoint(UInt64($0 + 1), health: $1)
  }
  let balancer = LoadBalancer(cluster(list, outliers: policy), now: start)
  #expect(Set(picks(balancer, count: 200)) == [0, 1, 2])
  #expect(balancer.isPanicking)
}

@Test func `pass-through clusters go to the original destination`() {
  var draws = SeededGenerator(seed: 1)
  let balancer = LoadBalancer(cluster([], discovery: .originalDestination), now: start)
  #expect(balancer.pick(PickRequest(), now: start, draws: &draws) == .originalDestination)
}

@Test func `retries avoid hosts already tried while another is left`() {
  let balancer = LoadBalancer(cluster(endpoints(3)), now: start)
  #expect(Set(picks(balancer, count: 200, PickRequest(tried: [1]))) == [1, 2])
  #expect(Set(picks(balancer, count: 200, PickRequest(tried: [1, 2]))) == [2])
  #expect(picks(balancer, count: 200, PickRequest(tried: [1, 2, 3])).count == 200)
}

// MARK: Locality

@Test func `the nearest priority takes everything while it is healthy`() {
  let balancer = LoadBalancer(cluster([endpoint(1), endpoint(2, priority: 1), endpoint(3, priority: 3)]), now: start)
  #expect(Set(picks(balancer, count: 200)) == [0])
}

@Test func `load spills to the next priority as the nearest fails`() {
  // Two of four healthy: 50 % × 1.4 = 70 % stays.
  let near = [EndpointHealth.healthy, .healthy, .unhealthy, .unhealthy].enumerated().map {
    endpoint(UInt64($0 + 1), health: $1)
  }
  let balancer = LoadBalancer(cluster(near + [endpoint(5, priority: 1)]), now: start)
  let picked = picks(balancer, count: 20_000)
  #expect(isPlausible(picked.count { $0 < 4 }, of: 20_000, p: 0.7))
}

@Test func `priorities that together cannot take everything share it in proportion`() {
  // One of five healthy in each: 20 % × 1.4 = 28 % and 28 %.
  let list = (0..<10).map { index in
    endpoint(UInt64(index + 1), priority: index / 5, health: index % 5 == 0 ? .healthy : .unhealthy)
  }
  let picked = picks(LoadBalancer(cluster(list), now: start), count: 20_000)
  #expect(isPlausible(picked.count { $0 == 0 }, of: 20_000, p: 0.5))
}

@Test func `a priority without healthy endpoints is skipped, and a retry finds the next when the nearest was tried`() {
  let down = LoadBalancer(cluster([endpoint(1, health: .unhealthy), endpoint(2, priority: 2)]), now: start)
  #expect(Set(picks(down, count: 100)) == [1])
  let up = LoadBalancer(cluster([endpoint(1), endpoint(2, priority: 2)]), now: start)
  #expect(Set(picks(up, count: 100, PickRequest(tried: [1]))) == [1])
  #expect(Set(picks(up, count: 100, PickRequest(tried: [9], prefersRemote: true))) == [1])
}

// MARK: Connection evidence

@Test func `an endpoint that refuses connections rests, longer each time, and comes back`() throws {
  let balancer = LoadBalancer(cluster(endpoints(2)), now: start)
  let first = try #require(ticket(balancer, 0))
  balancer.report(.connectFailed, first, now: start)
  balancer.report(.connectFailed, first, now: start)
  #expect(Set(picks(balancer, count: 100)) == [1])
  let later = start + .milliseconds(501)
  #expect(Set(picks(balancer, count: 100, now: later)) == [0, 1])
  balancer.report(.connectFailed, first, now: later)
  #expect(Set(picks(balancer, count: 100, now: later + .milliseconds(900))) == [1])
  #expect(Set(picks(balancer, count: 100, now: later + .milliseconds(1001))) == [0, 1])
  balancer.report(.response(status: 200), first, now: later + .milliseconds(1001))
  balancer.report(.connectFailed, first, now: later + .seconds(2))
  #expect(Set(picks(balancer, count: 100, now: later + .milliseconds(2600))) == [0, 1])
}

@Test func `when every endpoint has just failed one is tried all the same`() throws {
  let balancer = LoadBalancer(cluster(endpoints(1)), now: start)
  balancer.report(.connectFailed, try #require(ticket(balancer, 0)), now: start)
  #expect(picks(balancer, count: 10).count == 10)
}

@Test func `an endpoint that is healthy again after being unhealthy need not rest`() throws {
  let shared = Shared([cluster(endpoints(2))], now: start)
  let balancer = LoadBalancer(cluster(endpoints(2)), shared)
  balancer.report(.connectFailed, try #require(ticket(balancer, 0)), now: start)
  shared.update(cluster([endpoint(1, health: .unhealthy), endpoint(2)]), balancer, now: start)
  shared.update(cluster(endpoints(2)), balancer, now: start)
  #expect(Set(picks(balancer, count: 100)) == [0, 1])
}

// MARK: Snapshots

@Test func `a new snapshot keeps what is known of endpoints that stay, wherever they stand in the list`() throws {
  let shared = Shared([cluster(endpoints(3))], now: start)
  let balancer = LoadBalancer(cluster(endpoints(3)), shared)
  let third = try #require(ticket(balancer, 2))
  balancer.started(third)
  shared.update(cluster([endpoint(3), endpoint(4)]), balancer, now: start)
  #expect(balancer.reports(at: start).map(\.active) == [1, 0])
  balancer.finished(third)
  balancer.finished(third)
  #expect(balancer.reports(at: start).map(\.active) == [0, 0])
  shared.update(cluster([]), balancer, now: start)
  balancer.finished(third)
  #expect(balancer.report(.connectFailed, third, now: start) == nil)
}

@Test func `slow start gives a new endpoint a tenth of its share at first and all of it in the end`() {
  let warmup = LoadBalancerPolicy.Warmup(duration: .seconds(100))
  let shared = Shared([cluster(endpoints(1), .leastRequest, warmup: warmup)], now: start)
  let balancer = LoadBalancer(cluster(endpoints(1), .leastRequest, warmup: warmup), shared)
  shared.update(cluster(endpoints(2), .leastRequest, warmup: warmup), balancer, now: start)
  func share(_ now: Instant) -> Int { picks(balancer, count: 20_000, now: now).count { $0 == 1 } }
  #expect(isPlausible(share(start + .seconds(1)), of: 20_000, p: 0.1 / 1.1))
  #expect(isPlausible(share(start + .seconds(50)), of: 20_000, p: 0.5 / 1.5))
  #expect(isPlausible(share(start + .seconds(101)), of: 20_000, p: 0.5))
}

// MARK: Consistent hashing

private let byHeader = LoadBalancerPolicy.Algorithm.consistentHash(.header(bytes("x-user")), .ring(minimumSize: 1024))

@Test func `the same key goes to the same endpoint on every worker, and keys spread`() {
  let a = LoadBalancer(cluster(endpoints(5), byHeader), now: start)
  let b = LoadBalancer(cluster(endpoints(5), byHeader), now: start)
  var counts = [Int](repeating: 0, count: 5)
  var generator = SeededGenerator(seed: 77)
  for _ in 0..<5000 {
    let hash = generator.next()
    let one = picks(a, count: 1, seed: 1, PickRequest(hash: hash))
    #expect(one == picks(b, count: 1, seed: 2, PickRequest(hash: hash)))
    counts[one[0]] += 1
  }
  #expect(counts.allSatisfy { $0 > 700 && $0 < 1300 }, "\(counts)")
}

@Test func `when an endpoint goes only its own keys move`() {
  let before = LoadBalancer(cluster(endpoints(5), byHeader), now: start)
  let gone = [endpoint(1), endpoint(2), endpoint(3, health: .unhealthy), endpoint(4), endpoint(5)]
  let after = LoadBalancer(cluster(gone, byHeader), now: start)
  var generator = SeededGenerator(seed: 78)
  for _ in 0..<2000 {
    let request = PickRequest(hash: generator.next())
    let old = picks(before, count: 1, request)[0]
    let new = picks(after, count: 1, request)[0]
    #expect(old == 2 ? new != 2 : new == old)
  }
}

@Test func `without a key the choice is random`() {
  let balancer = LoadBalancer(cluster(endpoints(3), byHeader), now: start)
  #expect(Set(picks(balancer, count: 200)) == [0, 1, 2])
}

@Test func `the endpoint of a session is taken while it is fit, and was not tried`() {
  let balancer = LoadBalancer(cluster(endpoints(3)), now: start)
  var request = PickRequest()
  request.preferred = 2
  #expect(Set(picks(balancer, count: 100, request)) == [1])
  request.tried = [2]
  #expect(!picks(balancer, count: 100, request).contains(1))
  request.tried = []
  request.preferred = 99
  #expect(Set(picks(balancer, count: 200, request)) == [0, 1, 2])
  let ill = LoadBalancer(cluster([endpoint(1), endpoint(2, health: .unhealthy), endpoint(3)]), now: start)
  request.preferred = 2
  #expect(Set(picks(ill, count: 100, request)) == [0, 2])
}

@Test func `keys come from the header, query parameter, cookie or address named`() {
  var draws = SeededGenerator(seed: 1)
  func key(_ request: TestRequest, _ key: LoadBalancerPolicy.HashKey, address: String = "1.2.3.4") -> StickyKey {
    StickyKey(request, key, sourceAddress: bytes(address), draws: &draws)
  }
  let jo = key(TestRequest(headers: [("x-user", "jo")]), .header(bytes("x-user")))
  #expect(jo.hash != nil)
  #expect(key(TestRequest("GET", "/?u=jo"), .queryParameter(bytes("u"))) == jo)
  let cookie = LoadBalancerPolicy.HashKey.cookie(name: bytes("id"), path: "/", ttl: nil)
  for line in ["id=jo", "a=b; id=jo", "xid=no; id=\"jo\"; c=d", "id=jo; id=other"] {
    #expect(key(TestRequest(headers: [("cookie", line)]), cookie) == jo, "\(line)")
  }
  #expect(key(TestRequest(headers: [("cookie", "xid=jo; idx=jo; id")]), cookie) == .absent)
  #expect(key(TestRequest(), .header(bytes("x-user"))) == .absent)
  #expect(key(TestRequest(), .sourceAddress) == key(TestRequest("PUT", "/x"), .sourceAddress))
  #expect(key(TestRequest(), .sourceAddress) != key(TestRequest(), .sourceAddress, address: "1.2.3.5"))
}

@Test func `a missing cookie with a lifetime is made, and hashes to the same endpoint when it comes back`() throws {
  var draws = SeededGenerator(seed: 1)
  let policy = LoadBalancerPolicy.HashKey.cookie(name: bytes("id"), path: "/shop", ttl: .seconds(60))
  let made = StickyKey(TestRequest(), policy, sourceAddress: [], draws: &draws)
  guard case .newCookie(let hash, let setCookie) = made else {
    Issue.record("no cookie was made")
    return
  }
  let line = String(decoding: setCookie, as: UTF8.self)
  #expect(line.hasPrefix("id=\"") && line.hasSuffix("\"; Max-Age=60; Path=/shop; HttpOnly"))
  let back = String(try #require(line.split(separator: ";").first))
  #expect(StickyKey(TestRequest(headers: [("cookie", back)]), policy, sourceAddress: [], draws: &draws) == .hash(hash))
}
