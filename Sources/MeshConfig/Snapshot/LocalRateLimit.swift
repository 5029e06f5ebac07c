/// A local rate limit on requests to a workload, or through a gateway (Envoy's `local_ratelimit` filter, which Istio configures
/// by EnvoyFilter). Counted per node.
public struct LocalRateLimit: Sendable, Hashable {
  public struct Bucket: Sendable, Hashable {
    public var maxTokens: Int
    public var tokensPerFill: Int
    public var fillInterval: Duration
    public init(maxTokens: Int, tokensPerFill: Int = 1, fillInterval: Duration) {
      self.maxTokens = maxTokens
      self.tokensPerFill = tokensPerFill
      self.fillInterval = fillInterval
    }
  }

  public var bucket: Bucket
  /// Share of requests that are counted, and share of refusals that are carried out.
  public var enabledPartsPerMillion: UInt32
  public var enforcedPartsPerMillion: UInt32
  public var status: UInt16
  /// On refusals.
  public var responseHeaders: [HeaderOperations.Field]
  /// Adds `x-ratelimit-limit`, `-remaining` and `-reset` to refusals.
  public var addsStanding: Bool

  public init(
    bucket: Bucket, enabledPartsPerMillion: UInt32 = 1_000_000, enforcedPartsPerMillion: UInt32 = 1_000_000,
    status: UInt16 = 429, responseHeaders: [HeaderOperations.Field] = [], addsStanding: Bool = false
  ) {
    self.bucket = bucket
    self.enabledPartsPerMillion = enabledPartsPerMillion
    self.enforcedPartsPerMillion = enforcedPartsPerMillion
    self.status = status
    self.responseHeaders = responseHeaders
    self.addsStanding = addsStanding
  }
}
