import HTTPCodec
import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, VirtualService: retries.

private func decide(
  _ policy: RetryPolicy?, _ outcome: TryOutcome, _ method: HTTPMethod = .get, _ change: (inout RetryInput) -> Void = { _ in }
) -> RetryDecision {
  var input = RetryInput(policy: policy, outcome: outcome, method: method, now: .seconds(10))
  change(&input)
  var draws = SeededGenerator(seed: 4)
  return RetryDecision(input, draws: &draws)
}

private func isRetry(_ decision: RetryDecision) -> Bool { if case .retry = decision { true } else { false } }

private func policy(_ conditions: RetryConditions, _ codes: [UInt16] = [], attempts: Int = 2) -> RetryPolicy {
  RetryPolicy(attempts: attempts, conditions: conditions, statusCodes: codes)
}

private let reset = TryOutcome.reset(isRequestSent: true)

private func response(_ status: UInt16, grpc: UInt8? = nil) -> TryOutcome {
  .response(TryResponse(status: status, grpcStatus: grpc))
}

@Test(arguments: [HTTPMethod.get, .post, .patch, .delete, .connect, .other])
func `what was never sent is retried for any method`(method: HTTPMethod) {
  #expect(isRetry(decide(.istioDefault, .connectFailed, method)))
  #expect(isRetry(decide(.istioDefault, .reset(isRequestSent: false), method)))
  #expect(decide(.istioDefault, .notProcessed, method) == .repick)
}

@Test(arguments: [HTTPMethod.get, .post, .put])
func `an application that executed and then reset is not asked twice by default`(method: HTTPMethod) {
  #expect(decide(.istioDefault, reset, method) == .giveUp(.conditionNotListed))
  #expect(decide(.istioDefault, .perTryTimeout, method) == .giveUp(.conditionNotListed))
}

@Test func `a 503 of the application is not retried by default`() {
  #expect(decide(.istioDefault, response(503)) == .giveUp(.conditionNotListed))
}

@Test func `a gRPC status of the application is retried by default for idempotent methods only`() {
  #expect(decide(.istioDefault, response(200, grpc: 14), .post) == .giveUp(.notIdempotent))
  #expect(isRetry(decide(.istioDefault, response(200, grpc: 14), .get)))
  #expect(isRetry(decide(policy(.grpcUnavailable), response(200, grpc: 14), .post)))
}

@Test(
  arguments: [
    (RetryConditions.serverError, response(500), true), (.serverError, response(599), true),
    (.serverError, response(499), false),
    (.serverError, reset, true), (.serverError, .perTryTimeout, true), (.gatewayError, response(500), false),
    (.gatewayError, response(502), true), (.gatewayError, response(504), true), (.gatewayError, .perTryTimeout, true),
    (.reset, reset, true), (.reset, response(503), false), (.connectFailure, reset, false),
    (.connectFailure, .connectFailed, true), (.retriable4xx, response(409), true), (.retriable4xx, response(404), false),
    (.resetBeforeRequest, reset, false), (.resetBeforeRequest, .reset(isRequestSent: false), true),
    (.refusedStream, .connectFailed, false), (.grpcCancelled, response(200, grpc: 1), true),
    (.grpcDeadlineExceeded, response(200, grpc: 4), true), (.grpcInternal, response(200, grpc: 13), true),
    (.grpcResourceExhausted, response(200, grpc: 8), true), (.grpcUnavailable, response(200, grpc: 13), false),
    (.grpcUnavailable, response(503), false),
  ] as [(RetryConditions, TryOutcome, Bool)])
func `each word of retryOn names its own outcomes`(conditions: RetryConditions, outcome: TryOutcome, expected: Bool) {
  #expect(isRetry(decide(policy(conditions), outcome)) == expected)
}

@Test func `the user's own words allow what may have been processed, for any method`() {
  #expect(isRetry(decide(policy(.serverError), response(503), .post)))
  #expect(isRetry(decide(policy(.reset), reset, .post)))
  #expect(isRetry(decide(policy(.retriableStatusCodes, [418]), response(418), .post)))
  #expect(decide(policy(.retriableStatusCodes, [418]), response(419)) == .giveUp(.conditionNotListed))
}

@Test func `overflow is never retried, nor what is marked overloaded or rate limited`() {
  let all = policy(RetryConditions(rawValue: .max), [429, 503])
  #expect(decide(all, .overflow) == .giveUp(.overflow))
  #expect(decide(all, .response(TryResponse(status: 503, isOverloaded: true))) == .giveUp(.markedByUpstream))
  let limited = TryOutcome.response(TryResponse(status: 429, isRateLimited: true))
  #expect(decide(policy(.retriableStatusCodes, [429]), limited) == .giveUp(.markedByUpstream))
  #expect(isRetry(decide(policy(.rateLimited), limited)))
}

@Test func `attempts counts retries, and zero or less disables them`() {
  #expect(isRetry(decide(policy(.reset), reset) { $0.retriesDone = 1 }))
  #expect(decide(policy(.reset), reset) { $0.retriesDone = 2 } == .giveUp(.exhausted))
  #expect(decide(policy(.reset, attempts: 0), reset) == .giveUp(.noPolicy))
  #expect(decide(policy(.reset, attempts: -1), reset) == .giveUp(.noPolicy))
  #expect(decide(nil, .connectFailed) == .giveUp(.noPolicy))
}

@Test func `a request that a node did not process goes elsewhere at once, without a policy, a bounded number of times`() {
  #expect(decide(nil, .notProcessed, .post) == .repick)
  #expect(decide(nil, .notProcessed, .post) { $0.repicksDone = 3 } == .giveUp(.noPolicy))
  #expect(isRetry(decide(.istioDefault, .notProcessed, .post) { $0.repicksDone = 3 }))
  #expect(decide(nil, .notProcessed) { $0.canReplayBody = false } == .giveUp(.bodyNotReplayable))
  #expect(decide(nil, .notProcessed) { $0.deadline = .seconds(10) } == .giveUp(.pastDeadline))
}

@Test func `nothing is retried after the response began or when the body is gone`() {
  #expect(decide(.istioDefault, .connectFailed) { $0.hasResponseBegun = true } == .giveUp(.responseBegun))
  #expect(decide(.istioDefault, .connectFailed) { $0.canReplayBody = false } == .giveUp(.bodyNotReplayable))
}

@Test func `a retry never outlives the caller's deadline`() {
  #expect(decide(.istioDefault, .connectFailed) { $0.deadline = .seconds(10) } == .giveUp(.pastDeadline))
  var it = policy(.connectFailure)
  it.backoff = .seconds(100)
  #expect(decide(it, .connectFailed) { $0.deadline = .seconds(10.0001) } == .giveUp(.pastDeadline))
}

@Test func `maxRetries limits all concurrent retries, the default budget only those that may have been processed`() {
  #expect(decide(.istioDefault, .connectFailed) { ($0.maxRetries, $0.load.activeRetries) = (3, 3) } == .giveUp(.overBudget))
  #expect(isRetry(decide(.istioDefault, .connectFailed) { ($0.maxRetries, $0.load.activeRetries) = (3, 2) }))
  #expect(isRetry(decide(.istioDefault, .connectFailed) { $0.load.activeRetries = 1000 }))
  func sent(_ retries: Int, of requests: Int) -> RetryDecision {
    decide(policy(.reset), reset) { $0.load = ClusterLoad(activeRequests: requests, activeRetries: retries) }
  }
  #expect(isRetry(sent(2, of: 1)))
  #expect(sent(3, of: 1) == .giveUp(.overBudget))
  #expect(isRetry(sent(19, of: 100)))
  #expect(sent(20, of: 100) == .giveUp(.overBudget))
}

@Test func `back-off has full jitter below base times 1, 3, 7, then 10`() {
  var draws = SeededGenerator(seed: 11)
  for (retry, factor) in [(0, 1), (1, 3), (2, 7), (3, 10), (60, 10)] {
    let limit = Duration.milliseconds(25) * factor
    let pauses = (0..<4000).map { _ in RetryDecision.backoff(base: .milliseconds(25), retry: retry, draws: &draws) }
    #expect(pauses.allSatisfy { $0 >= .zero && $0 <= limit })
    let mean = pauses.reduce(0) { $0 + $1.inSeconds } / 4000
    #expect(abs(mean - limit.inSeconds / 2) < limit.inSeconds * 0.02)
  }
}

@Test func `circuit breakers admit up to their limits and are off by default`() {
  let load = LoadTable([cluster([endpoint(1)])], now: .zero).entry(0, of: cluster([endpoint(1)])).load
  let (off, two) = (ConnectionPoolPolicy(), ConnectionPoolPolicy(maxConnections: 2, maxPendingRequests: 2, maxRequests: 2))
  func admitted(_ take: () -> Bool) -> [Bool] { (0..<3).map { _ in take() } }
  #expect(admitted { load.beginRequest(two) } == [true, true, false])
  #expect(admitted { load.beginPending(two) } == [true, true, false])
  #expect(admitted { load.openConnection(two, isFirst: false) } == [true, true, false])
  #expect(load.current == ClusterLoad(activeRequests: 2, pendingRequests: 2, connections: 2))
  load.endRequest()
  #expect(admitted { load.beginRequest(two) } == [true, false, false])
  #expect(admitted { load.beginRequest(off) } == [true, true, true])
}

@Test func `a worker without a connection to the endpoint gets one beyond maxConnections`() {
  let load = LoadTable([cluster([endpoint(1)])], now: .zero).entry(0, of: cluster([endpoint(1)])).load
  let one = ConnectionPoolPolicy(maxConnections: 1)
  #expect(load.openConnection(one, isFirst: true) && load.openConnection(one, isFirst: true))
  #expect(!load.openConnection(one, isFirst: false))
  load.closedConnection()
  load.closedConnection()
  #expect(load.openConnection(one, isFirst: false))
}

@Test func `a written retry budget is a share of all requests and takes the place of maxRetries`() {
  let budget = ConnectionPoolPolicy.RetryBudget(percent: 25, minConcurrency: 2)
  func allows(_ retries: Int, of requests: Int, pending: Int = 0) -> Bool {
    ClusterLoad(activeRequests: requests, pendingRequests: pending, activeRetries: retries)
      .allowsRetry(isUnsent: true, maxRetries: 0, budget: budget)
  }
  #expect(allows(1, of: 1) && !allows(2, of: 1))
  #expect(allows(24, of: 100) && !allows(25, of: 100))
  #expect(allows(25, of: 100, pending: 8))
}

// MARK: Time limits, Istio, VirtualService

@Test func `the caller's timeout is capped by the route's, and zero means none`() {
  #expect(RequestTimeouts.total(route: .seconds(2), caller: .seconds(5)) == .seconds(2))
  #expect(RequestTimeouts.total(route: .seconds(5), caller: .seconds(2)) == .seconds(2))
  #expect(RequestTimeouts.total(route: nil, caller: .seconds(2)) == .seconds(2))
  #expect(RequestTimeouts.total(route: .zero, caller: nil) == nil)
  #expect(RequestTimeouts.deadline(from: .seconds(1), total: nil) == .distantFuture)
  #expect(RequestTimeouts.tryDeadline(from: .seconds(1), perTry: .seconds(5), deadline: .seconds(3)) == .seconds(3))
  #expect(RequestTimeouts.tryDeadline(from: .seconds(1), perTry: .seconds(1), deadline: .seconds(3)) == .seconds(2))
}

@Test(
  arguments: [
    ("1H", Duration.seconds(3600)), ("2M", .seconds(120)), ("3S", .seconds(3)), ("4m", .milliseconds(4)),
    ("5u", .microseconds(5)),
    ("99999999n", .nanoseconds(99_999_999)), ("", nil), ("S", nil), ("1", nil), ("-1S", nil), ("+1S", nil), ("1x", nil),
    ("123456789S", nil), ("1 S", nil),
  ] as [(String, Duration?)])
func `grpc-timeout has at most eight digits and a unit`(header: String, expected: Duration?) {
  #expect(RequestTimeouts.grpcTimeout(bytes(header).span) == expected)
}

// MARK: Executed once

/// An origin that, whatever happens to it, may have executed what it was sent.
@Test(arguments: [HTTPMethod.post, .patch, .other])
func `under the default policy what may have been executed is never sent again`(method: HTTPMethod) {
  var generator = SeededGenerator(seed: 2026)
  var draws = SeededGenerator(seed: 7)
  for trial in 0..<100_000 {
    var executions = 0
    var input = RetryInput(policy: .istioDefault, outcome: .connectFailed, method: method, now: .seconds(1))
    tries: for _ in 0..<20 {
      let outcomes: [(TryOutcome, mayHaveRun: Bool)] = [
        (.connectFailed, false), (.notProcessed, false), (.reset(isRequestSent: false), false),
        (.reset(isRequestSent: true), true), (.perTryTimeout, true),
        (.response(TryResponse(status: UInt16(400 + generator.index(below: 200)))), true),
        (.response(TryResponse(status: 200, grpcStatus: UInt8(generator.index(below: 17)))), true),
      ]
      let (outcome, mayHaveRun) = outcomes[generator.index(below: outcomes.count)]
      if mayHaveRun { executions += 1 }
      input.outcome = outcome
      switch RetryDecision(input, draws: &draws) {
      case .giveUp: break tries
      case .repick: input.repicksDone += 1
      case .retry: input.retriesDone += 1
      }
    }
    if executions > 1 {
      Issue.record("trial \(trial): executed \(executions) times")
      return
    }
  }
}
