import Dispatch
import MeshConfig
import Primitives
import Synchronization
import Testing
import Traffic

// What workers of one node share (Envoy counts circuit breakers and outliers per process).

private let start = Instant.seconds(1000)

/// Two workers' balancers over the same knowledge.
private struct Pair {
  let shared: Shared
  let a: LoadBalancer
  let b: LoadBalancer
  let cluster: Cluster

  init(_ endpoints: [Endpoint], _ algorithm: LoadBalancerPolicy.Algorithm = .leastRequest, outliers: OutlierPolicy? = nil) {
    cluster = TrafficTests.cluster(endpoints, algorithm, outliers: outliers)
    shared = Shared([cluster], now: start)
    a = LoadBalancer(cluster, shared)
    b = LoadBalancer(cluster, shared)
  }
}

private func ticket(_ balancer: LoadBalancer, _ index: Int) -> HostTicket? {
  var draws = SeededGenerator(seed: 1)
  for _ in 0..<1000 {
    if case .endpoint(let ticket) = balancer.pick(PickRequest(), now: start, draws: &draws), ticket.index == index {
      return ticket
    }
  }
  return nil
}

private func picked(_ balancer: LoadBalancer, now: Instant = start) -> Set<Int> {
  var draws = SeededGenerator(seed: 2)
  return Set(
    (0..<200).compactMap { _ in
      if case .endpoint(let ticket) = balancer.pick(PickRequest(), now: now, draws: &draws) { ticket.index } else { nil }
    })
}

@Test func `what one worker sends, another counts`() throws {
  let pair = Pair([endpoint(1), endpoint(2)])
  let first = try #require(ticket(pair.a, 0))
  pair.a.started(first)
  #expect(picked(pair.b) == [1], "least request sees the other worker's load")
  pair.a.finished(first)
  #expect(picked(pair.b) == [0, 1])
}

@Test func `errors seen by different workers add up to one ejection, and both keep away`() throws {
  let pair = Pair([endpoint(1), endpoint(2), endpoint(3)], outliers: OutlierPolicy(maxEjectionPercent: 100))
  let first = try #require(ticket(pair.a, 0))
  for _ in 0..<2 { #expect(pair.a.report(.response(status: 500), first, now: start) == nil) }
  for _ in 0..<2 { #expect(pair.b.report(.response(status: 500), first, now: start) == nil) }
  #expect(pair.a.report(.response(status: 500), first, now: start) == .consecutive5xx)
  #expect(picked(pair.a) == [1, 2] && picked(pair.b) == [1, 2])
  // Whichever worker looks first ends it for both.
  #expect(picked(pair.b, now: start + .seconds(41)) == [0, 1, 2])
  #expect(picked(pair.a, now: start + .seconds(41)) == [0, 1, 2])
}

@Test func `a refused connection makes the endpoint rest for all workers`() throws {
  let pair = Pair([endpoint(1), endpoint(2)])
  pair.a.report(.connectFailed, try #require(ticket(pair.a, 0)), now: start)
  #expect(picked(pair.b) == [1])
}

@Test func `the ejection limit holds for the node`() throws {
  let pair = Pair((1...4).map { endpoint($0) }, outliers: OutlierPolicy(maxEjectionPercent: 50))
  for (balancer, host) in [(pair.a, 0), (pair.b, 1), (pair.a, 2), (pair.b, 3)] {
    guard let ticket = ticket(balancer, host) else { continue }
    for _ in 0..<5 { balancer.report(.response(status: 500), ticket, now: start) }
  }
  #expect(pair.a.reports(at: start).count { $0.isEjected } == 2)
}

@Test func `an owner that calls its endpoint healthy again ends the ejection`() throws {
  let pair = Pair([endpoint(1), endpoint(2)], outliers: OutlierPolicy(maxEjectionPercent: 100))
  let first = try #require(ticket(pair.a, 0))
  for _ in 0..<5 { pair.a.report(.response(status: 500), first, now: start) }
  func update(_ health: EndpointHealth) {
    let outliers = OutlierPolicy(maxEjectionPercent: 100)
    pair.shared.update(
      cluster([endpoint(1, health: health), endpoint(2)], outliers: outliers), pair.a, pair.b, now: start + .seconds(1))
  }
  update(.unhealthy)
  #expect(picked(pair.a) == [1])
  update(.healthy)
  #expect(picked(pair.a) == [0, 1] && picked(pair.b) == [0, 1])
}

@Test func `limits hold when threads race for the last place`() {
  let load = LoadTable([cluster([endpoint(1)])], now: start).entry(0, of: cluster([endpoint(1)])).load
  let policy = ConnectionPoolPolicy(maxRequests: 10)
  let highest = Mutex(0)
  let admitted = Mutex(0)
  DispatchQueue.concurrentPerform(iterations: 4) { _ in
    for _ in 0..<20_000 where load.beginRequest(policy) {
      let active = load.current.activeRequests
      // Others may be between counting themselves and taking that back, one each.
      highest.withLock { $0 = max($0, active) }
      admitted.withLock { $0 += 1 }
      load.endRequest()
    }
  }
  #expect(highest.withLock { $0 } <= 10 + 4)
  #expect(admitted.withLock { $0 } > 0)
  #expect(load.current == ClusterLoad())
}

@Test func `clusters of one name under different rules are kept apart, in their order`() {
  let two = [cluster([endpoint(1)]), cluster([endpoint(1), endpoint(2)])]
  let first = LoadTable(two, now: start)
  let entries = (0..<2).map { first.entry($0, of: two[$0]) }
  let second = LoadTable(two, after: first, now: start)
  #expect(entries[0].load !== entries[1].load)
  for index in 0..<2 { #expect(entries[index].load === second.known(index)?.load) }
}

@Test func `workers that call a cluster for the first time at once share what it carries`() {
  let table = LoadTable([cluster([endpoint(1)])], now: start)
  let found = Mutex<Set<ObjectIdentifier>>([])
  DispatchQueue.concurrentPerform(iterations: 8) { _ in
    let load = table.entry(0, of: cluster([endpoint(1)])).load
    found.withLock { _ = $0.insert(ObjectIdentifier(load)) }
  }
  #expect(found.withLock { $0.count } == 1)
}
