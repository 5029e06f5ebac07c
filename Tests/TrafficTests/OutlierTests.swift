import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, DestinationRule.

private let start = Instant.seconds(1000)

/// A balancer of `count` endpoints with a ticket for each.
private struct Bench {
  let balancer: LoadBalancer
  var tickets: [HostTicket] = []

  init(_ count: Int, _ policy: OutlierPolicy) {
    balancer = LoadBalancer(cluster((1...UInt64(count)).map { endpoint($0) }, .roundRobin, outliers: policy), now: start)
    var draws = SeededGenerator(seed: 1)
    for _ in 0..<count {
      if case .endpoint(let ticket) = balancer.pick(PickRequest(), now: start, draws: &draws) { tickets.append(ticket) }
    }
    tickets.sort { $0.index < $1.index }
  }

  @discardableResult
  func report(_ result: HostResult, times: Int, host: Int = 0, at now: Instant = start) -> EjectionCause? {
    var cause: EjectionCause?
    for _ in 0..<times { cause = balancer.report(result, tickets[host], now: now) ?? cause }
    return cause
  }

  func isEjected(_ host: Int = 0, at now: Instant = start) -> Bool { balancer.reports(at: now)[host].isEjected }
}

private func policy(_ change: (inout OutlierPolicy) -> Void = { _ in }) -> OutlierPolicy {
  var policy = OutlierPolicy(maxEjectionPercent: 100)
  change(&policy)
  return policy
}

@Test func `five consecutive 5xx eject at once`() {
  let bench = Bench(3, policy())
  #expect(bench.report(.response(status: 500), times: 4) == nil)
  #expect(!bench.isEjected())
  #expect(bench.report(.response(status: 500), times: 1) == .consecutive5xx)
  #expect(bench.isEjected())
}

@Test func `a success in between starts the count anew`() {
  let bench = Bench(3, policy())
  bench.report(.response(status: 503), times: 4)
  bench.report(.response(status: 404), times: 1)
  bench.report(.response(status: 503), times: 4)
  #expect(!bench.isEjected())
}

@Test func `gateway errors are 502, 503 and 504`() {
  let only = policy { ($0.consecutive5xx, $0.consecutiveGatewayErrors) = (nil, 2) }
  let bench = Bench(3, only)
  #expect(bench.report(.response(status: 500), times: 9) == nil)
  bench.report(.response(status: 502), times: 1)
  #expect(bench.report(.response(status: 504), times: 1) == .consecutiveGatewayErrors)
}

@Test func `zero disables a counter`() {
  #expect(Bench(3, policy { $0.consecutive5xx = 0 }).report(.response(status: 500), times: 99) == nil)
}

@Test func `connection failures count as 5xx unless they are split`() {
  #expect(Bench(3, policy()).report(.localOriginFailure, times: 5) == .consecutive5xx)
  let split = policy { $0.consecutiveLocalOriginFailures = 3 }
  #expect(Bench(3, split).report(.connectFailed, times: 3) == .consecutiveLocalOriginFailures)
  let mixed = Bench(3, split)
  mixed.report(.response(status: 500), times: 4)
  mixed.report(.localOriginFailure, times: 2)
  #expect(!mixed.isEjected())
}

@Test func `with fewer than ten hosts nothing is ejected at the default of 10 percent`() {
  #expect(Bench(9, policy { $0.maxEjectionPercent = 10 }).report(.response(status: 500), times: 50) == nil)
  #expect(Bench(10, policy { $0.maxEjectionPercent = 10 }).report(.response(status: 500), times: 50) == .consecutive5xx)
}

@Test func `no more than maxEjectionPercent of the hosts are out together`() {
  let bench = Bench(4, policy { $0.maxEjectionPercent = 50 })
  for host in 0..<4 { bench.report(.response(status: 500), times: 5, host: host) }
  #expect(bench.balancer.reports(at: start).map(\.isEjected) == [true, true, false, false])
}

@Test func `an ejection lasts base × ejections so far, and ends on a sweep`() {
  let bench = Bench(3, policy { $0.interval = .seconds(10) })
  bench.report(.response(status: 500), times: 5, at: start + .seconds(1))
  #expect(bench.isEjected(at: start + .seconds(30)))
  #expect(bench.isEjected(at: start + .seconds(39)), "over at 31 s, but no sweep until 40 s")
  #expect(!bench.isEjected(at: start + .seconds(40)))
  bench.report(.response(status: 500), times: 5, at: start + .seconds(41))
  #expect(bench.isEjected(at: start + .seconds(95)))
  #expect(!bench.isEjected(at: start + .seconds(106)), "60 s the second time")
}

@Test func `a host that stays well is ejected for the base time again`() {
  let bench = Bench(3, policy { $0.interval = .seconds(10) })
  bench.report(.response(status: 500), times: 5)
  var now = start
  for _ in 0..<10 {
    now = now + .seconds(10)
    _ = bench.isEjected(at: now)
  }
  bench.report(.response(status: 500), times: 5, at: now)
  #expect(bench.isEjected(at: now + .seconds(29)))
  #expect(!bench.isEjected(at: now + .seconds(40)))
}

@Test func `ejections never last longer than 300 seconds or the base`() {
  let bench = Bench(3, policy { ($0.interval, $0.baseEjectionTime) = (.seconds(1), .seconds(200)) })
  var now = start
  for _ in 0..<3 {
    bench.report(.response(status: 500), times: 5, at: now)
    #expect(bench.isEjected(at: now))
    now = now + .seconds(302)
    #expect(!bench.isEjected(at: now))
  }
}

@Test func `an ejected endpoint gets no requests, and with all ejected there is no healthy upstream`() {
  let bench = Bench(2, policy())
  var draws = SeededGenerator(seed: 3)
  bench.report(.response(status: 500), times: 5, host: 0)
  for _ in 0..<50 {
    #expect(bench.balancer.pick(PickRequest(), now: start, draws: &draws) == .endpoint(bench.tickets[1]))
  }
  bench.report(.response(status: 500), times: 5, host: 1)
  #expect(bench.balancer.pick(PickRequest(), now: start, draws: &draws) == .none)
}
