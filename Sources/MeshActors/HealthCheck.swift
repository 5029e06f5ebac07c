/// How a node finds out whether a workload is well: what to ask, how often, and how many answers decide (Istio, WorkloadGroup
/// `probe`; Kubernetes, readiness probes).
public struct HealthCheck: Sendable, Hashable {
  public enum Method: Sendable, Hashable {
    /// The port takes connections.
    case tcp
    /// 2xx or 3xx on this path.
    case http(path: String)
    /// `SERVING` by the gRPC health-checking protocol; the empty service is the server as a whole.
    case grpc(service: String)
    /// Exit code 0 of this command, which the node starts as its own user.
    case command([String])
  }

  public var method: Method
  /// Before the first question.
  public var initialDelay: Duration = .zero
  /// Between two questions; a workload that is starting or failing is asked sooner.
  public var period: Duration = .seconds(1)
  /// For one answer.
  public var timeout: Duration = .seconds(2)
  /// Good answers in a row that make a workload healthy, and bad ones that make it unhealthy.
  public var successThreshold = 1
  public var failureThreshold = 2

  public init(_ method: Method = .tcp) { self.method = method }

  /// Arguments of a command, and bytes of all of them.
  public static let commandArgumentsMax = 64
  public static let commandBytesMax = 8 * 1024
}

/// What a run of answers says about a workload.
struct HealthTally {
  private var successes = 0
  private var failures = 0

  /// Counts an answer; the verdict when it has just become certain.
  mutating func count(_ verdict: HealthVerdict, isHealthy: Bool, _ check: HealthCheck) -> HealthVerdict? {
    switch verdict {
    case .healthy:
      failures = 0
      successes += 1
      return !isHealthy && successes >= check.successThreshold ? .healthy : nil
    case .unhealthy:
      successes = 0
      failures += 1
      return isHealthy && failures >= check.failureThreshold ? verdict : nil
    }
  }

  /// Answers differ from what is published: the next question comes soon.
  func isUndecided(isHealthy: Bool) -> Bool { isHealthy ? failures > 0 : successes > 0 }
}
