public struct Route: Sendable {
  /// Name written by the user, else `default`.
  public var name: String
  /// Which object and rule this came from; nil for a service's default route.
  public var origin: RouteOrigin?
  /// Alternatives; empty matches everything.
  public var matches: [RouteMatch]
  public var action: RouteAction
  /// Total time including retries; nil = none.
  public var timeout: Duration?
  /// nil = no retries.
  public var retry: RetryPolicy?
  public var fault: FaultPolicy?
  public var mirrors: [MirrorPolicy]
  public var cors: CORSPolicy?
  public var rewrite: RewritePolicy?
  public var requestHeaders: HeaderOperations
  public var responseHeaders: HeaderOperations
  public var session: SessionPersistence?

  public init(
    name: String, origin: RouteOrigin?, matches: [RouteMatch], action: RouteAction, timeout: Duration? = nil,
    retry: RetryPolicy? = nil, fault: FaultPolicy? = nil, mirrors: [MirrorPolicy] = [], cors: CORSPolicy? = nil,
    rewrite: RewritePolicy? = nil, requestHeaders: HeaderOperations = .none, responseHeaders: HeaderOperations = .none
  ) {
    self.name = name
    self.origin = origin
    self.matches = matches
    self.action = action
    self.timeout = timeout
    self.retry = retry
    self.fault = fault
    self.mirrors = mirrors
    self.cors = cors
    self.rewrite = rewrite
    self.requestHeaders = requestHeaders
    self.responseHeaders = responseHeaders
  }
}

/// Where a route was written, for `explain` and `config routes`.
public struct RouteOrigin: Sendable, Hashable, Codable, CustomStringConvertible {
  public var kind: String
  public var namespace: String
  public var name: String
  /// Index in the list.
  public var rule: Int
  /// `http`, `tcp` or `tls`.
  public var list: String
  public init(kind: String, namespace: String, name: String, rule: Int, list: String = "http") {
    self.kind = kind
    self.namespace = namespace
    self.name = name
    self.rule = rule
    self.list = list
  }
  public var description: String { "\(kind) \(namespace)/\(name) \(list)[\(rule)]" }
}

public enum RouteAction: Sendable {
  /// Never empty. One destination: its weight is ignored. More: weights above 0 only.
  case forward([WeightedDestination])
  case redirect(RedirectPolicy)
  case directResponse(status: UInt16, body: [UInt8])
}

public struct WeightedDestination: Sendable {
  /// nil when the host, port or subset does not exist: 503 NC.
  public var cluster: ClusterIndex?
  /// The name it has or would have.
  public var clusterName: String
  public var weight: UInt32
  public var requestHeaders: HeaderOperations
  public var responseHeaders: HeaderOperations
  public init(
    cluster: ClusterIndex?, clusterName: String, weight: UInt32, requestHeaders: HeaderOperations = .none,
    responseHeaders: HeaderOperations = .none
  ) {
    self.cluster = cluster
    self.clusterName = clusterName
    self.weight = weight
    self.requestHeaders = requestHeaders
    self.responseHeaders = responseHeaders
  }
}
