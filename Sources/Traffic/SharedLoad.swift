import MeshConfig
import Primitives
import Synchronization

/// What a cluster carries on this node, counted by all its workers: circuit breakers, retry budget and ejections hold per
/// node, as Envoy's hold per process.
public final class SharedLoad: Sendable {
  private let requests = Atomic<Int>(0)
  private let pending = Atomic<Int>(0)
  private let connections = Atomic<Int>(0)
  private let retries = Atomic<Int>(0)
  private let ejected = Atomic<Int>(0)
  /// Made when a retry budget first looks back.
  private let window = Mutex<RequestWindow?>(nil)
  private let nextSweep: Atomic<UInt64>
  /// Counts changes of who may be chosen; a balancer that has seen less looks again.
  private let changes = Atomic<UInt64>(0)

  init(now: Instant, interval: Duration?) {
    nextSweep = Atomic((now + (interval ?? TrafficLimits.sweepInterval)).nanoseconds)
  }

  /// The counts now.
  public var current: ClusterLoad {
    ClusterLoad(
      activeRequests: requests.load(ordering: .relaxed), pendingRequests: pending.load(ordering: .relaxed),
      connections: connections.load(ordering: .relaxed), activeRetries: retries.load(ordering: .relaxed))
  }

  // MARK: Retry budget

  /// Notes a request where the budget for retries is a share of all that began within an interval.
  public func note(_ budget: ConnectionPoolPolicy.RetryBudget?, at now: Instant) {
    guard let interval = budget?.interval else { return }
    let window = window.withLock { known in
      let made = known ?? RequestWindow()
      known = made
      return made
    }
    window.began(at: now, interval: interval)
  }

  /// The counts now, with the requests that the budget looks back at.
  public func current(for budget: ConnectionPoolPolicy.RetryBudget?, at now: Instant) -> ClusterLoad {
    var load = current
    if let interval = budget?.interval {
      load.recentRequests = window.withLock { $0 }?.requests(at: now, interval: interval) ?? 0
    }
    return load
  }

  // MARK: Circuit breakers

  /// Counts one more request; false when `http2MaxRequests` are under way, and nothing is counted: 503 UO.
  public func beginRequest(_ policy: ConnectionPoolPolicy) -> Bool { Self.take(requests, policy.maxRequests) }
  public func endRequest() { requests.wrappingSubtract(1, ordering: .relaxed) }

  /// Counts one more request that waits for a connection; false when `http1MaxPendingRequests` wait: 503 UO.
  public func beginPending(_ policy: ConnectionPoolPolicy) -> Bool { Self.take(pending, policy.maxPendingRequests) }
  public func endPending() { pending.wrappingSubtract(1, ordering: .relaxed) }

  /// Counts one more connection; false when there are `maxConnections`. `isFirst`: a worker without any connection to the
  /// endpoint gets one all the same, since nothing else would ever serve its requests (Envoy, `ConnPoolImplBase`).
  public func openConnection(_ policy: ConnectionPoolPolicy, isFirst: Bool) -> Bool {
    Self.take(connections, isFirst ? nil : policy.maxConnections)
  }
  public func closedConnection() { connections.wrappingSubtract(1, ordering: .relaxed) }

  public func beginRetry() { retries.wrappingAdd(1, ordering: .relaxed) }
  public func endRetry() { retries.wrappingSubtract(1, ordering: .relaxed) }

  private static func take(_ counter: borrowing Atomic<Int>, _ limit: Int?) -> Bool {
    let count = counter.wrappingAdd(1, ordering: .relaxed).newValue
    guard let limit, count > limit else { return true }
    counter.wrappingSubtract(1, ordering: .relaxed)
    return false
  }

  // MARK: Evidence

  var version: UInt64 { changes.load(ordering: .relaxed) }
  func changed() { changes.wrappingAdd(1, ordering: .relaxed) }

  /// Counts what a try says about its host; why the host was ejected, when it was.
  func report(
    _ result: HostResult, _ host: SharedHost, _ policy: OutlierPolicy?, hosts: Int, at now: Instant
  ) -> EjectionCause? {
    if result == .connectFailed {
      host.coolDown(at: now)
      changed()
    } else if host.clearConnectFailures() {
      changed()
    }
    guard let policy, let cause = host.record(result, policy, at: now), !host.isEjected,
      takeEjection(policy, hosts: hosts)
    else { return nil }
    guard host.eject(policy, at: now) else {
      ejected.wrappingSubtract(1, ordering: .relaxed)
      return nil
    }
    changed()
    return cause
  }

  /// (ejected + 1) / hosts must stay within the limit, so 10 % ejects nothing below ten hosts.
  private func takeEjection(_ policy: OutlierPolicy, hosts: Int) -> Bool {
    let count = ejected.wrappingAdd(1, ordering: .relaxed).newValue
    if count * 100 <= policy.maxEjectionPercent * hosts { return true }
    ejected.wrappingSubtract(1, ordering: .relaxed)
    return false
  }

  /// Ends ejections whose time is over, when an interval has passed; one worker does it for all.
  func sweepIfDue(_ hosts: [SharedHost], interval: Duration?, at now: Instant) {
    let due = nextSweep.load(ordering: .relaxed)
    guard now.nanoseconds >= due else { return }
    let step = UInt64(max(1, max(.milliseconds(1), interval ?? TrafficLimits.sweepInterval).nanosecondsClamped))
    let next = (now + .nanoseconds(Int64(clamping: step))).nanoseconds
    guard nextSweep.compareExchange(expected: due, desired: next, ordering: .relaxed).exchanged else { return }
    let intervals = Int(clamping: 1 + (now.nanoseconds - due) / step)
    for host in hosts where host.sweep(at: now, intervals: intervals) {
      ejected.wrappingSubtract(1, ordering: .relaxed)
      changed()
    }
  }

  /// Counts ejections anew after the hosts have changed.
  func recountEjections(_ hosts: [SharedHost]) { ejected.store(hosts.count { $0.isEjected }, ordering: .relaxed) }
}
