import MeshConfig

/// What a cluster carries now, and the limits on it: circuit breakers and the retry budget (Istio, DestinationRule), per node.
public struct ClusterLoad: Hashable, Sendable {
  public var activeRequests: Int
  public var pendingRequests: Int
  public var connections: Int
  public var activeRetries: Int

  public init(activeRequests: Int = 0, pendingRequests: Int = 0, connections: Int = 0, activeRetries: Int = 0) {
    self.activeRequests = activeRequests
    self.pendingRequests = pendingRequests
    self.connections = connections
    self.activeRetries = activeRetries
  }

  /// Whether one more request may start; otherwise 503 UO.
  public func admitsRequest(_ policy: ConnectionPoolPolicy) -> Bool {
    policy.maxRequests.map { activeRequests < $0 } ?? true
  }

  /// Whether one more request may wait for a connection; otherwise 503 UO.
  public func admitsPending(_ policy: ConnectionPoolPolicy) -> Bool {
    policy.maxPendingRequests.map { pendingRequests < $0 } ?? true
  }

  /// Whether one more connection may be opened; otherwise requests wait.
  public func admitsConnection(_ policy: ConnectionPoolPolicy) -> Bool {
    policy.maxConnections.map { connections < $0 } ?? true
  }

  /// Whether one more retry may run. An explicit `maxRetries` counts every retry. Without one, retries of requests that may have been
  /// processed are limited to a share of the active requests, so they cannot multiply an overload; a request that was never sent
  /// adds no load and is not limited.
  public func allowsRetry(isUnsent: Bool, maxRetries: Int?) -> Bool {
    if let maxRetries { return activeRetries < maxRetries }
    if isUnsent { return true }
    let share = activeRequests * TrafficLimits.retryBudgetPercent / 100
    return activeRetries < max(TrafficLimits.retryConcurrencyMin, share)
  }
}
