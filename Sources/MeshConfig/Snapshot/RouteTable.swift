import Primitives
import Telemetry

/// Virtual hosts by port and host name: what one source workload, or one gateway port, can reach.
public struct RouteTable: Sendable {
  /// Sorted by port.
  public var ports: [PortTable]
  /// What happens to a host that no virtual host claims.
  public var fallback: Fallback

  public enum Fallback: Sendable, Hashable {
    /// Mesh, ALLOW_ANY: to the request's own destination; index of `PassthroughCluster`.
    case passthrough(ClusterIndex)
    /// Mesh, REGISTRY_ONLY: 502, `BlackHoleCluster`.
    case blackHole
    /// Gateway: 404 NR.
    case notFound
  }

  public struct PortTable: Sendable {
    public var port: UInt16
    public var virtualHosts: [VirtualHost]
    /// Exact host names (without port) → index into `virtualHosts`.
    public var exact: ByteTable<Int>
    /// Wildcard suffixes such as `.example.com`, longest first; the bare `*` has an empty suffix and comes last.
    public let wildcards: [(suffix: [UInt8], virtualHost: Int)]
    /// The same for looking up.
    public let suffixes: SuffixIndex

    public init(
      port: UInt16, virtualHosts: [VirtualHost], exact: ByteTable<Int>, wildcards: [(suffix: [UInt8], virtualHost: Int)]
    ) {
      self.port = port
      self.virtualHosts = virtualHosts
      self.exact = exact
      self.wildcards = wildcards
      suffixes = SuffixIndex(wildcards.map { (suffix: $0.suffix, value: $0.virtualHost) })
    }
  }

  public init(ports: [PortTable], fallback: Fallback) {
    self.ports = ports
    self.fallback = fallback
  }
}

public struct VirtualHost: Sendable {
  /// `reviews.default.svc.cluster.local:9080`, Istio's naming.
  public var name: String
  public var domains: [String]
  /// Its routes, compiled when a request first needs them: most hosts of a large mesh are never called from a node.
  public var content: CallByNeed<HostRoutes>

  public init(name: String, domains: [String], routes: [Route]) {
    self.init(name: name, domains: domains, content: CallByNeed(HostRoutes(routes)))
  }

  public init(name: String, domains: [String], content: CallByNeed<HostRoutes>) {
    self.name = name
    self.domains = domains
    self.content = content
  }

  /// What requests are routed by.
  @inlinable public var compiled: HostRoutes { content.value }
  /// For people: routes that no request has needed are compiled for this look only.
  public var routes: [Route] { content.glimpse.routes }
  /// Whether a request has needed the routes.
  public var isInUse: Bool { content.isMade }
}

/// The routes of a virtual host.
public final class HostRoutes: Sendable {
  /// First match wins.
  public let routes: [Route]
  /// Which routes a path can fulfil; nil where there are few.
  public let index: RouteIndex?

  public init(_ routes: [Route]) {
    self.routes = routes
    index = RouteIndex(routes)
  }
}

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

// MARK: - Matching

/// One alternative; all of its conditions must hold (VirtualService `http[].match[]`).
public struct RouteMatch: Sendable {
  /// On the path without query.
  public var path: PathMatch?
  public var ignorePathCase: Bool
  public var scheme: StringMatch?
  public var method: StringMatch?
  /// Host as sent, port included.
  public var authority: StringMatch?
  public var headers: [FieldMatch]
  public var withoutHeaders: [FieldMatch]
  public var queryParameters: [FieldMatch]
  public var name: String?

  public init(
    path: PathMatch? = nil, ignorePathCase: Bool = false, scheme: StringMatch? = nil, method: StringMatch? = nil,
    authority: StringMatch? = nil, headers: [FieldMatch] = [], withoutHeaders: [FieldMatch] = [],
    queryParameters: [FieldMatch] = [], name: String? = nil
  ) {
    self.path = path
    self.ignorePathCase = ignorePathCase
    self.scheme = scheme
    self.method = method
    self.authority = authority
    self.headers = headers
    self.withoutHeaders = withoutHeaders
    self.queryParameters = queryParameters
    self.name = name
  }
}

public enum PathMatch: Sendable {
  case exact([UInt8])
  /// Plain string prefix (VirtualService).
  case prefix([UInt8])
  /// Segment-wise prefix without trailing slash (Gateway API).
  case segmentPrefix([UInt8])
  case regex(Pattern)
}

public enum StringMatch: Sendable {
  case exact([UInt8])
  case prefix([UInt8])
  case regex(Pattern)
  /// Any value, empty included.
  case present
}

/// A condition on a header (name lower case; pseudo-headers `:method`, `:path`, `:authority`, `:scheme`) or a query parameter.
public struct FieldMatch: Sendable {
  public var name: [UInt8]
  public var match: StringMatch
  public init(name: [UInt8], match: StringMatch) {
    self.name = name
    self.match = match
  }
}

// MARK: - Actions and policies

/// Applied in the order remove, set, add (Istio).
public struct HeaderOperations: Sendable, Hashable {
  /// Lower-case names.
  public var remove: [[UInt8]]
  public var set: [Field]
  public var add: [Field]
  public struct Field: Sendable, Hashable {
    public var name: [UInt8]
    public var value: [UInt8]
    /// What the value is made of, where it is not the same for every message.
    public var format: CommandFormat?
    public init(name: [UInt8], value: [UInt8], format: CommandFormat? = nil) {
      self.name = name
      self.value = value
      self.format = format
    }
  }
  public static let none = HeaderOperations(remove: [], set: [], add: [])
  public var isEmpty: Bool { remove.isEmpty && set.isEmpty && add.isEmpty }
  /// Whether some value depends on the message.
  public var hasFormats: Bool { add.contains { $0.format != nil } || self.set.contains { $0.format != nil } }
  public init(remove: [[UInt8]], set: [Field], add: [Field]) {
    self.remove = remove
    self.set = set
    self.add = add
  }
}

public struct RewritePolicy: Sendable {
  public var uri: URI?
  public var authority: [UInt8]?
  public enum URI: Sendable {
    /// Replaces the matched prefix literally, or the whole path for exact and regex matches.
    case replace([UInt8])
    /// RE2 substitution with `\1` groups.
    case regex(Pattern, substitution: [UInt8])
  }
  public init(uri: URI?, authority: [UInt8]?) {
    self.uri = uri
    self.authority = authority
  }
}

public struct RedirectPolicy: Sendable, Hashable {
  public var uri: [UInt8]?
  public var prefixRewrite: [UInt8]?
  public var authority: [UInt8]?
  public var scheme: [UInt8]?
  public var port: Port?
  public var status: UInt16
  public enum Port: Sendable, Hashable { case number(UInt16), fromProtocolDefault, fromRequestPort }
  public init(uri: [UInt8]?, prefixRewrite: [UInt8]?, authority: [UInt8]?, scheme: [UInt8]?, port: Port?, status: UInt16) {
    self.uri = uri
    self.prefixRewrite = prefixRewrite
    self.authority = authority
    self.scheme = scheme
    self.port = port
    self.status = status
  }
}

/// Percentages are 0…100 with a grain of 0.0001 (millionths), kept as parts per million.
public struct FaultPolicy: Sendable, Hashable {
  public var delay: (duration: Duration, partsPerMillion: UInt32)? {
    delayDuration.map { ($0, delayPartsPerMillion) }
  }
  public var delayDuration: Duration?
  public var delayPartsPerMillion: UInt32
  public var abort: Abort?
  public var abortPartsPerMillion: UInt32
  public enum Abort: Sendable, Hashable { case http(UInt16), grpc(UInt8) }
  public init(delayDuration: Duration?, delayPartsPerMillion: UInt32, abort: Abort?, abortPartsPerMillion: UInt32) {
    self.delayDuration = delayDuration
    self.delayPartsPerMillion = delayPartsPerMillion
    self.abort = abort
    self.abortPartsPerMillion = abortPartsPerMillion
  }
}

public struct MirrorPolicy: Sendable, Hashable {
  public var cluster: ClusterIndex?
  public var clusterName: String
  public var partsPerMillion: UInt32
  public init(cluster: ClusterIndex?, clusterName: String, partsPerMillion: UInt32) {
    self.cluster = cluster
    self.clusterName = clusterName
    self.partsPerMillion = partsPerMillion
  }
}

public struct CORSPolicy: Sendable {
  public var allowOrigins: [StringMatch]
  public var allowMethods: [String]
  public var allowHeaders: [String]
  public var exposeHeaders: [String]
  public var maxAge: Duration?
  public var allowCredentials: Bool?
  public var forwardUnmatchedPreflights: Bool
  public init(
    allowOrigins: [StringMatch], allowMethods: [String], allowHeaders: [String], exposeHeaders: [String], maxAge: Duration?,
    allowCredentials: Bool?, forwardUnmatchedPreflights: Bool
  ) {
    self.allowOrigins = allowOrigins
    self.allowMethods = allowMethods
    self.allowHeaders = allowHeaders
    self.exposeHeaders = exposeHeaders
    self.maxAge = maxAge
    self.allowCredentials = allowCredentials
    self.forwardUnmatchedPreflights = forwardUnmatchedPreflights
  }
}

public struct RetryPolicy: Sendable, Hashable {
  /// Retries after the first try; 0 disables.
  public var attempts: Int
  public var perTryTimeout: Duration?
  public var conditions: RetryConditions
  /// Sorted.
  public var statusCodes: [UInt16]
  public var avoidPreviousHosts: Bool
  public var remoteLocalities: Bool
  /// Back-off base; the maximum is ten times it, with full jitter.
  public var backoff: Duration

  public init(
    attempts: Int, perTryTimeout: Duration? = nil, conditions: RetryConditions, statusCodes: [UInt16] = [],
    avoidPreviousHosts: Bool = true, remoteLocalities: Bool = false, backoff: Duration = .milliseconds(25)
  ) {
    self.attempts = attempts
    self.perTryTimeout = perTryTimeout
    self.conditions = conditions
    self.statusCodes = statusCodes
    self.avoidPreviousHosts = avoidPreviousHosts
    self.remoteLocalities = remoteLocalities
    self.backoff = backoff
  }

  /// Two retries on what never reached the application (Istio's default, retry.go).
  public static let istioDefault = RetryPolicy(
    attempts: 2, conditions: [.connectFailure, .refusedStream, .grpcUnavailable, .grpcCancelled, .retriableStatusCodes])
}

/// Istio's and Envoy's `retryOn` words.
public struct RetryConditions: OptionSet, Sendable, Hashable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let serverError = RetryConditions(rawValue: 1 << 0)  // 5xx
  public static let gatewayError = RetryConditions(rawValue: 1 << 1)
  public static let reset = RetryConditions(rawValue: 1 << 2)
  public static let resetBeforeRequest = RetryConditions(rawValue: 1 << 3)
  public static let connectFailure = RetryConditions(rawValue: 1 << 4)
  public static let rateLimited = RetryConditions(rawValue: 1 << 5)  // envoy-ratelimited
  public static let retriable4xx = RetryConditions(rawValue: 1 << 6)
  public static let refusedStream = RetryConditions(rawValue: 1 << 7)
  public static let retriableStatusCodes = RetryConditions(rawValue: 1 << 8)
  public static let retriableHeaders = RetryConditions(rawValue: 1 << 9)
  public static let grpcCancelled = RetryConditions(rawValue: 1 << 10)
  public static let grpcDeadlineExceeded = RetryConditions(rawValue: 1 << 11)
  public static let grpcInternal = RetryConditions(rawValue: 1 << 12)
  public static let grpcResourceExhausted = RetryConditions(rawValue: 1 << 13)
  public static let grpcUnavailable = RetryConditions(rawValue: 1 << 14)
}

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

// MARK: - Gateways

/// Where a gateway listens: what listeners have in common that share a port.
public struct GatewayPlace: Sendable, Hashable {
  public var port: UInt16
  public var bind: String?

  public init(port: UInt16, bind: String? = nil) {
    self.port = port
    self.bind = bind
  }

  /// How the place is said to people: the socket, or the port, with its address where it is not the node's.
  public var name: String {
    guard let bind else { return "\(port)" }
    return bind.hasPrefix("unix://") ? bind : "\(bind):\(port)"
  }
}

/// One port, or Unix socket, opened by this node's gateway workload.
public struct GatewayListener: Sendable {
  /// 0 for a Unix socket.
  public var port: UInt16
  /// Gateways merged here, `namespace/name`, oldest first.
  public var gateways: [String]
  /// The gateway workload (identity and facts): index into `MeshSnapshot.localWorkloads`.
  public var localWorkload: Int
  /// Its `ports` has exactly one entry, for this port.
  public var table: RouteTable
  /// Hosts answered with a redirect to https; lower case.
  public let httpsRedirectHosts: [String]
  /// The same for looking up.
  public let redirectHosts: HostSet
  /// What the port speaks. Listeners of TLS servers share a port, one for each server.
  public var role = Role.http
  /// Server names that lead to a TLS server.
  public var serverNames: [ServerNamePattern] = []
  /// Names the server in all snapshots: `namespace/gateway/port name`.
  public var server = ""
  /// The address to open, or `unix://` with a path; nil: the node's address.
  public var bind: String?
  public var place: GatewayPlace { GatewayPlace(port: port, bind: bind) }
  /// Every connection begins with a PROXY header; one without is closed.
  public var expectsProxyProtocol = false

  public init(port: UInt16, gateways: [String], localWorkload: Int, table: RouteTable, httpsRedirectHosts: [String] = []) {
    self.port = port
    self.gateways = gateways
    self.localWorkload = localWorkload
    self.table = table
    self.httpsRedirectHosts = httpsRedirectHosts
    redirectHosts = HostSet(httpsRedirectHosts)
  }
}
