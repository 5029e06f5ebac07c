import MeshConfig
import Primitives

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

/// What one worker knows of an endpoint beside the snapshot: load and evidence.
struct HostState {
  let key: UInt64
  var weight: UInt32
  var priority: Int
  var health: EndpointHealth
  /// Requests on their way.
  var active = 0
  /// Set for endpoints that appeared after the balancer was made: slow start counts from here.
  var addedAt: Instant?

  // Outlier detection (Istio, DestinationRule).
  private var serverErrors = 0
  private var gatewayErrors = 0
  private var localFailures = 0
  private(set) var ejectedUntil: Instant?
  /// Ejections so far; each makes the next one longer, each sweep without one makes it shorter again.
  private var ejections = 0

  // Connection evidence: a short rest that needs no configuration.
  private var connectFailures = 0
  private(set) var coolsUntil: Instant?

  init(_ endpoint: Endpoint, addedAt: Instant?) {
    key = endpoint.key
    weight = endpoint.weight
    priority = endpoint.priority
    health = endpoint.health
    self.addedAt = addedAt
  }

  mutating func update(_ endpoint: Endpoint) {
    // The owner says that it is healthy again: old connection failures no longer count.
    if endpoint.health == .healthy && health != .healthy { clearConnectFailures() }
    weight = endpoint.weight
    priority = endpoint.priority
    health = endpoint.health
  }

  var isEjected: Bool { ejectedUntil != nil }

  func isCooling(at now: Instant) -> Bool { coolsUntil.map { now < $0 } ?? false }

  /// Counts a result; the cause when a counter has reached its limit.
  mutating func record(_ result: HostResult, _ policy: OutlierPolicy?, at now: Instant) -> EjectionCause? {
    if result == .connectFailed { coolDown(at: now) } else { clearConnectFailures() }
    guard let policy else { return nil }
    switch result {
    case .response(let status):
      localFailures = 0
      serverErrors = status >= 500 ? serverErrors + 1 : 0
      gatewayErrors = (502...504).contains(status) ? gatewayErrors + 1 : 0
    case .connectFailed, .localOriginFailure:
      if policy.consecutiveLocalOriginFailures == nil {
        serverErrors += 1
        gatewayErrors += 1
      } else {
        localFailures += 1
      }
    }
    func reached(_ count: Int, _ limit: Int?) -> Bool { limit.map { $0 > 0 && count >= $0 } ?? false }
    if reached(serverErrors, policy.consecutive5xx) { return .consecutive5xx }
    if reached(gatewayErrors, policy.consecutiveGatewayErrors) { return .consecutiveGatewayErrors }
    if reached(localFailures, policy.consecutiveLocalOriginFailures) { return .consecutiveLocalOriginFailures }
    return nil
  }

  mutating func eject(_ policy: OutlierPolicy, at now: Instant) {
    ejections += 1
    let base = policy.baseEjectionTime
    let longest = max(base, TrafficLimits.ejectionTimeMax)
    let factor = min(ejections, 1_000_000)
    ejectedUntil = now + min(longest, base * factor)
    serverErrors = 0
    gatewayErrors = 0
    localFailures = 0
  }

  /// The periodic sweep: ejections that are over end here. True when this one did.
  mutating func sweep(at now: Instant) -> Bool {
    guard let until = ejectedUntil else {
      ejections = max(0, ejections - 1)
      return false
    }
    guard now >= until else { return false }
    ejectedUntil = nil
    return true
  }

  /// Failures of connections tried at the same moment count once.
  private mutating func coolDown(at now: Instant) {
    guard !isCooling(at: now) else { return }
    let longest = TrafficLimits.connectCooldownMax
    let pause = TrafficLimits.connectCooldownBase * (1 << min(connectFailures, 16))
    connectFailures += 1
    coolsUntil = now + min(longest, pause)
  }

  private mutating func clearConnectFailures() {
    connectFailures = 0
    coolsUntil = nil
  }
}
