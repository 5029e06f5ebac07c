/// What deciding one request may cost, and what balancing keeps. Each value has its unit and its reason.
public enum TrafficLimits {
  /// Retries that a caller may ask for itself, whatever its field says.
  public static let callerRetriesMax: UInt64 = 100
  /// Members of a caller's list of statuses or field names that are looked at.
  public static let callerListMax = 64
  /// Milliseconds of a time limit that a caller may set: a day.
  public static let callerTimeoutMillisecondsMax: UInt64 = 86_400_000
  /// Times one request may be sent elsewhere because a node said it did not process it. Three covers a rolling restart that
  /// meets the same request twice; more would only hide a routing loop.
  public static let repicksMax = 3
  /// Draws that try to avoid hosts already tried before a scan looks for one (Envoy's `host_selection_retry_max_attempts`).
  public static let reselectionsMax = 5
  /// Points of a hash ring: 8 MB at 16 bytes a point, and as many as 500 for each of 1,000 endpoints.
  public static let ringPointsMax = 500_000
  /// Entries of a Maglev table looked at by chance before they are searched in order: with half of all endpoints out, one
  /// key in four billion needs the search.
  static let maglevProbesMax = 32
  /// Steps in which the weights of endpoints in slow start grow.
  static let warmupSteps = 20
  /// Grain of weights that are no whole numbers: slow start and shares of localities.
  static let weightScale = 10_000
  /// Between two sweeps for ejections that are over, where no interval is configured (Envoy's `interval`).
  static let sweepInterval: Duration = .seconds(10)
  /// Ejections in a row that still lengthen the next one; beyond, only the arithmetic would overflow.
  static let ejectionFactorMax = 1_000_000
  /// The longest ejection of an outlier (Envoy's `max_ejection_time`).
  public static let ejectionTimeMax: Duration = .seconds(300)
  /// How long an endpoint rests after its first failed connection; doubled by each further failure in a row.
  public static let connectCooldownBase: Duration = .milliseconds(500)
  /// The longest such rest: an endpoint that comes back is used again within this time.
  public static let connectCooldownMax: Duration = .seconds(10)
  /// Share of a priority's endpoints that may fail before load spills to the next: 100 / 140 (Envoy's overprovisioning).
  public static let overprovisioningPercent = 140
  static let overprovisioning = 1.4
  /// Concurrent retries always allowed, and the share of active requests allowed above that (Istio's `retryBudget` defaults).
  public static let retryConcurrencyMin = 3
  public static let retryBudgetPercent = 20
  /// Largest back-off as a multiple of its base (Istio).
  public static let backoffMaxFactor = 10
  /// Bytes of a rewritten path: a request line must still fit into what servers accept.
  public static let rewrittenPathBytesMax = 16 * 1024
  /// Bytes of a header value that is made of parts of a message; a longer one is left out.
  public static let headerValueBytesMax = 8 * 1024
  /// Mirrors of one route that a plan can name.
  public static let mirrorsMax = 32
  /// Routes, matches and endpoints an explanation lists before it only counts them.
  public static let explainedRulesMax = 500
  public static let explainedEndpointsMax = 1000
  /// Digits of a `grpc-timeout` (gRPC over HTTP/2, "TimeoutValue").
  public static let grpcTimeoutDigitsMax = 8
}
