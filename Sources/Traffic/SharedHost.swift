import MeshConfig
import Primitives
import Synchronization

/// What one try tells about the endpoint that it went to.
public enum HostResult: Hashable, Sendable {
  case response(status: UInt16)
  /// No connection came about.
  case connectFailed
  /// The connection broke, or the try timed out, after it was made.
  case localOriginFailure
}

/// Which counter ejected an endpoint.
public enum EjectionCause: String, Hashable, Sendable, Codable {
  case consecutive5xx, consecutiveGatewayErrors, consecutiveLocalOriginFailures
}

/// What the workers of this node together know of an endpoint of a cluster beside the snapshot: load and evidence.
///
/// Every field is a relaxed atomic, because each is a count or a moment that is true by itself; a request takes no lock.
public final class SharedHost: Sendable {
  public let key: UInt64
  /// Requests on their way.
  private let requests = Atomic<Int>(0)

  // Outlier detection (Istio, DestinationRule). Moments are nanoseconds of an `Instant`; 0 is none.
  private let serverErrors = Atomic<Int>(0)
  private let gatewayErrors = Atomic<Int>(0)
  private let localFailures = Atomic<Int>(0)
  private let ejectedUntil = Atomic<UInt64>(0)
  /// Ejections so far; each makes the next one longer, each interval without one makes it shorter again.
  private let ejections = Atomic<Int>(0)

  // Connection evidence: a short rest that needs no configuration.
  private let connectFailures = Atomic<Int>(0)
  private let coolsUntil = Atomic<UInt64>(0)

  // Written where tables are built, one after the other.
  private let warmsSince: Atomic<UInt64>
  private let isHealthy: Atomic<Bool>

  /// - Parameter warmsSince: when slow start began; nil for endpoints that were there from the start.
  init(_ endpoint: Endpoint, warmsSince: Instant?) {
    key = endpoint.key
    isHealthy = Atomic(endpoint.health == .healthy)
    self.warmsSince = Atomic(endpoint.health == .healthy ? warmsSince?.nanoseconds ?? 0 : 0)
  }

  /// Takes the owner's word; true when it ended an ejection or a rest.
  func adopt(_ health: EndpointHealth, at now: Instant) -> Bool {
    let was = isHealthy.exchange(health == .healthy, ordering: .relaxed)
    guard health == .healthy, !was else { return false }
    // A host that its owner calls healthy again starts slowly, and old evidence no longer counts (Envoy,
    // `successful_active_health_check_uneject_host`).
    warmsSince.store(now.nanoseconds, ordering: .relaxed)
    clearConnectFailures()
    for counter in 0..<3 { clear(counter) }
    return ejectedUntil.exchange(0, ordering: .relaxed) != 0
  }

  // MARK: Load

  var active: Int { max(0, requests.load(ordering: .relaxed)) }
  func began() { requests.wrappingAdd(1, ordering: .relaxed) }
  func ended() { requests.wrappingSubtract(1, ordering: .relaxed) }

  // MARK: Evidence

  var isEjected: Bool { ejectedUntil.load(ordering: .relaxed) != 0 }

  /// When its rest after failed connections ends, if it rests.
  func rest(at now: Instant) -> Instant? {
    let until = coolsUntil.load(ordering: .relaxed)
    return until > now.nanoseconds ? Instant(nanoseconds: until) : nil
  }

  func warmingSince() -> Instant? {
    let since = warmsSince.load(ordering: .relaxed)
    return since == 0 ? nil : Instant(nanoseconds: since)
  }

  /// Counts a result; the cause when a counter has reached its limit, which starts that counter anew.
  func record(_ result: HostResult, _ policy: OutlierPolicy, at now: Instant) -> EjectionCause? {
    switch result {
    case .response(let status):
      clear(2)
      let isListed = policy.errorCodes.isEmpty || policy.errorCodes.contains(status)
      if isListed, (502...504).contains(status) {
        if reaches(1, policy.consecutiveGatewayErrors) { return .consecutiveGatewayErrors }
      } else {
        clear(1)
      }
      guard policy.errorCodes.isEmpty ? status >= 500 : isListed else {
        clear(0)
        return nil
      }
      return reaches(0, policy.consecutive5xx) ? .consecutive5xx : nil
    case .connectFailed, .localOriginFailure:
      if let limit = policy.consecutiveLocalOriginFailures {
        return reaches(2, limit) ? .consecutiveLocalOriginFailures : nil
      }
      let isGatewayLimit = reaches(1, policy.consecutiveGatewayErrors)
      if reaches(0, policy.consecutive5xx) { return .consecutive5xx }
      return isGatewayLimit ? .consecutiveGatewayErrors : nil
    }
  }

  private func reaches(_ counter: Int, _ limit: Int?) -> Bool {
    let count = withCounter(counter) { $0.wrappingAdd(1, ordering: .relaxed).newValue }
    guard let limit, limit > 0, count >= limit else { return false }
    clear(counter)
    return true
  }

  /// Writes only what changes: a healthy host's cache line stays shared.
  private func clear(_ counter: Int) {
    withCounter(counter) { if $0.load(ordering: .relaxed) != 0 { $0.store(0, ordering: .relaxed) } }
  }

  private func withCounter<Result>(_ counter: Int, _ body: (borrowing Atomic<Int>) -> Result) -> Result {
    switch counter {
    case 0: body(serverErrors)
    case 1: body(gatewayErrors)
    default: body(localFailures)
    }
  }

  /// Base × number of ejections so far, within limits. False when another worker was first.
  func eject(_ policy: OutlierPolicy, at now: Instant) -> Bool {
    let count = ejections.load(ordering: .relaxed) + 1
    let longest = max(policy.baseEjectionTime, TrafficLimits.ejectionTimeMax)
    let time = min(longest, policy.baseEjectionTime * min(count, TrafficLimits.ejectionFactorMax))
    let until = max(1, (now + time).nanoseconds)
    guard ejectedUntil.compareExchange(expected: 0, desired: until, ordering: .relaxed).exchanged else { return false }
    ejections.wrappingAdd(1, ordering: .relaxed)
    for counter in 0..<3 { clear(counter) }
    return true
  }

  /// The periodic sweep: ejections that are over end here. True when this one did.
  func sweep(at now: Instant, intervals: Int) -> Bool {
    let until = ejectedUntil.load(ordering: .relaxed)
    guard until != 0 else {
      let count = ejections.load(ordering: .relaxed)
      if count > 0 { ejections.store(max(0, count - intervals), ordering: .relaxed) }
      return false
    }
    guard now.nanoseconds >= until else { return false }
    return ejectedUntil.compareExchange(expected: until, desired: 0, ordering: .relaxed).exchanged
  }

  /// Begins or lengthens the rest of a host that refuses connections; failures tried at the same moment count once.
  func coolDown(at now: Instant) {
    let old = coolsUntil.load(ordering: .relaxed)
    guard old <= now.nanoseconds else { return }
    let failures = connectFailures.load(ordering: .relaxed)
    let pause = min(TrafficLimits.connectCooldownMax, TrafficLimits.connectCooldownBase * (1 << min(failures, 16)))
    if coolsUntil.compareExchange(expected: old, desired: (now + pause).nanoseconds, ordering: .relaxed).exchanged {
      connectFailures.wrappingAdd(1, ordering: .relaxed)
    }
  }

  /// True when the host was resting.
  @discardableResult
  func clearConnectFailures() -> Bool {
    guard connectFailures.load(ordering: .relaxed) != 0 else { return false }
    connectFailures.store(0, ordering: .relaxed)
    coolsUntil.store(0, ordering: .relaxed)
    return true
  }
}
