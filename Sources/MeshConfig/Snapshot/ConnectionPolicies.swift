public struct LoadBalancerPolicy: Sendable, Hashable {
  public var algorithm: Algorithm
  /// Slow start; nil = off.
  public var warmup: Warmup?
  public enum Algorithm: Sendable, Hashable {
    case leastRequest, roundRobin, random, passthrough
    case consistentHash(HashKey, HashTable)
  }
  public enum HashTable: Sendable, Hashable {
    case ring(minimumSize: Int)
    /// `size` is prime.
    case maglev(size: Int)
  }
  /// A new endpoint starts at `minimumPercent` of its weight and grows over `duration` (Istio, DestinationRule).
  public struct Warmup: Sendable, Hashable {
    public var duration: Duration
    public var minimumPercent: Double
    /// 1 grows evenly, more grows faster at first.
    public var aggression: Double
    public init(duration: Duration, minimumPercent: Double = 10, aggression: Double = 1) {
      self.duration = duration
      self.minimumPercent = minimumPercent
      self.aggression = aggression
    }
  }
  public enum HashKey: Sendable, Hashable {
    case header([UInt8]), sourceAddress, queryParameter([UInt8])
    /// `attributes`: further ones of a cookie that is made, each `name` or `name=value`.
    case cookie(name: [UInt8], path: String, ttl: Duration?, attributes: [String] = [])
  }
  public init(algorithm: Algorithm = .leastRequest, warmup: Warmup? = nil) {
    self.algorithm = algorithm
    self.warmup = warmup
  }
}

/// nil = unlimited, or Istio's default. Enforced per cluster per node.
public struct ConnectionPoolPolicy: Sendable, Hashable {
  public var maxConnections: Int?
  public var connectTimeout: Duration
  public var maxPendingRequests: Int?
  public var maxRequests: Int?
  public var maxRequestsPerConnection: Int?
  public var maxRetries: Int?
  public var idleTimeout: Duration
  /// Opaque connections: time without a byte in either direction.
  public var tcpIdleTimeout: Duration = .seconds(3600)
  /// Opaque connections: time after which they are ended, busy or not.
  public var maxConnectionDuration: Duration?
  public var keepAlive: TCPKeepAlive?
  /// Requests at once on one HTTP/2 connection, beside what its peer allows.
  public var maxConcurrentStreams: Int?
  public var http2KeepAlive: HTTP2KeepAlive?
  /// When the destination is called by HTTP/2 although its port does not say so.
  public var http2 = HTTP2Use.byPort
  /// Concurrent retries allowed as a share of the requests; takes the place of `maxRetries`.
  public var retryBudget: RetryBudget?

  /// `h2UpgradePolicy: UPGRADE` is `always`, `useClientProtocol` is `likeClient`.
  public enum HTTP2Use: Sendable, Hashable { case byPort, always, likeClient }

  public struct RetryBudget: Sendable, Hashable {
    public var percent: Double
    public var minConcurrency: Int
    /// How long ago requests began that count; nil: those under way.
    public var interval: Duration?
    public init(percent: Double = 20, minConcurrency: Int = 3, interval: Duration? = nil) {
      self.percent = percent
      self.minConcurrency = minConcurrency
      self.interval = interval
    }
  }

  public init(
    maxConnections: Int? = nil, connectTimeout: Duration = .seconds(10), maxPendingRequests: Int? = nil,
    maxRequests: Int? = nil,
    maxRequestsPerConnection: Int? = nil, maxRetries: Int? = nil, idleTimeout: Duration = .seconds(3600)
  ) {
    self.maxConnections = maxConnections
    self.connectTimeout = connectTimeout
    self.maxPendingRequests = maxPendingRequests
    self.maxRequests = maxRequests
    self.maxRequestsPerConnection = maxRequestsPerConnection
    self.maxRetries = maxRetries
    self.idleTimeout = idleTimeout
  }
}

/// Probes of connections that are silent; nil leaves the system's value (Istio, `tcpKeepalive`).
public struct TCPKeepAlive: Sendable, Hashable {
  public var time: Duration?
  public var interval: Duration?
  public var probes: Int?
  public init(time: Duration? = nil, interval: Duration? = nil, probes: Int? = nil) {
    self.time = time
    self.interval = interval
    self.probes = probes
  }
}

/// When a silent HTTP/2 connection is asked for a sign of life, and how long that may take (Istio, `http2KeepAlive`).
public struct HTTP2KeepAlive: Sendable, Hashable {
  public var interval: Duration
  public var timeout: Duration
  public init(interval: Duration, timeout: Duration) {
    self.interval = interval
    self.timeout = timeout
  }
}

/// Version of the PROXY header sent in front of an upstream connection's bytes.
public enum ProxyProtocolVersion: String, Sendable, Hashable, CaseIterable {
  case v1 = "V1"
  case v2 = "V2"
}

/// Outlier ejection (Istio, DestinationRule); nil counters are off.
public struct OutlierPolicy: Sendable, Hashable {
  public var consecutive5xx: Int?
  public var consecutiveGatewayErrors: Int?
  public var consecutiveLocalOriginFailures: Int?
  public var interval: Duration
  public var baseEjectionTime: Duration
  public var maxEjectionPercent: Int
  public var minHealthPercent: Int
  /// Statuses that count as errors, sorted; empty: 5xx, and of those 502–504 as errors of a gateway.
  public var errorCodes: [UInt16] = []
  public init(
    consecutive5xx: Int? = 5, consecutiveGatewayErrors: Int? = nil, consecutiveLocalOriginFailures: Int? = nil,
    interval: Duration = .seconds(10), baseEjectionTime: Duration = .seconds(30), maxEjectionPercent: Int = 10,
    minHealthPercent: Int = 0
  ) {
    self.consecutive5xx = consecutive5xx
    self.consecutiveGatewayErrors = consecutiveGatewayErrors
    self.consecutiveLocalOriginFailures = consecutiveLocalOriginFailures
    self.interval = interval
    self.baseEjectionTime = baseEjectionTime
    self.maxEjectionPercent = maxEjectionPercent
    self.minHealthPercent = minHealthPercent
  }
}

/// How the connection to an endpoint is secured (Istio, DestinationRule).
public enum UpstreamTLS: Sendable, Hashable {
  /// Mesh endpoints: mTLS with workload identities; others: plaintext.
  case automatic
  case disabled
  case istioMutual
  /// Verify the server against `caCertificates` (a file, or PEM itself) or the system's trust store. SNI defaults to the request's host.
  /// `revocations`: a file of certificates that were taken back.
  case simple(
    serverName: String?, subjectAltNames: [String], caCertificates: String?, insecureSkipVerify: Bool,
    revocations: String? = nil)
  case mutual(
    serverName: String?, subjectAltNames: [String], caCertificates: String?, clientCertificate: String, privateKey: String,
    insecureSkipVerify: Bool, revocations: String? = nil)
}
