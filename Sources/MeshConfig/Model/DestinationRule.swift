/// Traffic policy towards a host (`networking.istio.io` DestinationRule). Absent and zero differ, so most is optional.
public struct DestinationRule: Hashable, Sendable {
  public var host: String
  public var trafficPolicy: TrafficPolicy?
  public var subsets: [Subset]
  public var exportTo: [String]
  /// Labels of the client workloads this applies to; nil = all.
  public var workloadSelector: [String: String]?

  public struct Subset: Hashable, Sendable {
    public var name: String
    public var labels: [String: String]
    public var trafficPolicy: TrafficPolicy?
  }

  public struct TrafficPolicy: Hashable, Sendable {
    public var blocks: Blocks
    public var portLevelSettings: [PortPolicy]
    public var retryBudget: RetryBudget?
    public var proxyProtocol: ProxyProtocolVersion?
  }

  /// What exists at destination and at port level. A port's blocks replace the destination's as a whole.
  public struct Blocks: Hashable, Sendable {
    public var loadBalancer: LoadBalancer?
    public var connectionPool: ConnectionPool?
    public var outlierDetection: OutlierDetection?
    public var tls: ClientTLS?

    var isEmpty: Bool { loadBalancer == nil && connectionPool == nil && outlierDetection == nil && tls == nil }
  }

  public struct PortPolicy: Hashable, Sendable {
    public var port: UInt16
    public var blocks: Blocks
  }

  public struct LoadBalancer: Hashable, Sendable {
    public var simple: Simple?
    public var consistentHash: ConsistentHash?
    public var locality: LocalitySetting?
    public var warmup: LoadBalancerPolicy.Warmup?

    public enum Simple: String, CaseIterable, Hashable, Sendable {
      case unspecified = "UNSPECIFIED"
      case leastConnections = "LEAST_CONN"
      case random = "RANDOM"
      case passthrough = "PASSTHROUGH"
      case roundRobin = "ROUND_ROBIN"
      case leastRequest = "LEAST_REQUEST"
    }
  }

  public struct ConsistentHash: Hashable, Sendable {
    public var key: Key?
    /// A ring of at least 1024 points by default.
    public var table: LoadBalancerPolicy.HashTable
    public enum Key: Hashable, Sendable {
      case header(String)
      /// `attributes`: further ones of a cookie that is made, each `name` or `name=value`.
      case cookie(name: String, path: String, ttl: Duration?, attributes: [String])
      case sourceAddress
      case queryParameter(String)
    }
  }

  public struct LocalitySetting: Hashable, Sendable {
    public var enabled: Bool?
    public var distribute: [Distribution]
    public var failover: [Failover]
    public var failoverPriority: [String]

    public struct Distribution: Hashable, Sendable {
      public var from: String
      /// Locality (wildcards allowed) → percent.
      public var to: [Keyed<Int>]
    }
    public struct Failover: Hashable, Sendable {
      public var from: String
      public var to: String
    }
  }

  public struct ConnectionPool: Hashable, Sendable {
    public var maxConnections: Int?
    public var connectTimeout: Duration?
    public var tcpIdleTimeout: Duration?
    public var maxConnectionDuration: Duration?
    public var keepAlive: TCPKeepAlive?
    public var http1MaxPendingRequests: Int?
    public var http2MaxRequests: Int?
    public var maxRequestsPerConnection: Int?
    public var maxRetries: Int?
    public var httpIdleTimeout: Duration?
    /// nil: as the mesh says.
    public var upgradesHTTP1: Bool?
    public var useClientProtocol: Bool
    public var maxConcurrentStreams: Int?
    public var http2KeepAlive: HTTP2KeepAlive?
  }

  public struct OutlierDetection: Hashable, Sendable {
    public var consecutive5xxErrors: Int?
    public var consecutiveGatewayErrors: Int?
    public var splitExternalLocalOriginErrors: Bool
    public var consecutiveLocalOriginFailures: Int?
    public var interval: Duration?
    public var baseEjectionTime: Duration?
    public var maxEjectionPercent: Int?
    public var minHealthPercent: Int?
    /// Statuses that count as errors, sorted; empty: 5xx.
    public var errorCodes: [UInt16]
  }

  public struct ClientTLS: Hashable, Sendable {
    public var mode: Mode
    public var clientCertificate: String?
    public var privateKey: String?
    public var caCertificates: String?
    public var credentialName: String?
    public var subjectAltNames: [String]
    public var sni: String?
    public var insecureSkipVerify: Bool
    /// `caCrl`: a file of certificates that were taken back.
    public var revocations: String?
    public enum Mode: String, CaseIterable, Hashable, Sendable {
      case disable = "DISABLE"
      case simple = "SIMPLE"
      case mutual = "MUTUAL"
      case istioMutual = "ISTIO_MUTUAL"
    }
  }

  public struct RetryBudget: Hashable, Sendable {
    public var percent: Double
    public var minRetryConcurrency: Int
    /// How long ago requests began that count; nil: those under way.
    public var interval: Duration?
  }
}
