import MeshConfig

/// What a cluster carries on this node now, and the retry budget (Istio, DestinationRule).
public struct ClusterLoad: Hashable, Sendable {
  public var activeRequests: Int
  public var pendingRequests: Int
  public var connections: Int
  public var activeRetries: Int
  /// Requests that began within the interval of the retry budget; 0 where it has none.
  public var recentRequests = 0

  public init(activeRequests: Int = 0, pendingRequests: Int = 0, connections: Int = 0, activeRetries: Int = 0) {
    self.activeRequests = activeRequests
    self.pendingRequests = pendingRequests
    self.connections = connections
    self.activeRetries = activeRetries
  }

  /// Whether one more retry may run. A written budget or `maxRetries` counts every retry, and the budget comes first (Envoy,
  /// `retry_budget`). Without either, retries of requests that may have been processed are limited to a share of the
  /// active requests, so they cannot multiply an overload; a request that was never sent adds no load and is not limited.
  public func allowsRetry(
    isUnsent: Bool, maxRetries: Int?, budget: ConnectionPoolPolicy.RetryBudget? = nil
  ) -> Bool {
    if let budget {
      let considered = max(recentRequests, activeRequests + pendingRequests)
      let share = Double(considered) * budget.percent / 100
      return activeRetries < max(budget.minConcurrency, Int(share))
    }
    if let maxRetries { return activeRetries < maxRetries }
    if isUnsent { return true }
    let share = activeRequests * TrafficLimits.retryBudgetPercent / 100
    return activeRetries < max(TrafficLimits.retryConcurrencyMin, share)
  }
}
