import MeshConfig
import Primitives

/// Why the proxy itself answers, or ends, a request. One cause, one details token.
public enum ProxyError: Hashable, Sendable {
  case noRoute
  case noCluster(isGatewayAPI: Bool)
  case blackHole
  case noHealthyUpstream
  case requestTimeout
  case perTryTimeout
  case connectFailed(ConnectFailure)
  /// The upstream closed the connection before its response began.
  case upstreamClosed
  /// The upstream reset the stream before its response began.
  case upstreamReset
  /// A circuit breaker's limit was reached.
  case overflow
  case upstreamProtocolError
  case faultAbort(FaultPolicy.Abort)
  /// An AuthorizationPolicy said no; nil when no ALLOW rule matched.
  case accessDenied(policy: String?)
  case rateLimited
  case malformedRequest(token: String)
  case headersTooLarge
  case lowVersion
  case bodyTooLarge
  /// The workload left or never was here; the sender may try elsewhere, whatever the method.
  case notProcessed
  case streamIdle
  case overloaded

  public enum ConnectFailure: Hashable, Sendable {
    case refused, timedOut, unreachable
    case tls(String)
    case dns
  }
}

/// The answer a `ProxyError` becomes (Envoy, response flags).
public struct LocalReply: Hashable, Sendable {
  public var status: UInt16
  public var body: String
  public var flags: ResponseFlags
  /// `%RESPONSE_CODE_DETAILS%`: no blank, no quote.
  public var details: String
  /// Adds `x-envoy-overloaded: true`.
  public var isOverloaded = false
  /// Set when a gRPC client is to see exactly this status (`abort.grpcStatus`).
  public var grpcStatus: UInt8?

  public init(status: UInt16, body: String, flags: ResponseFlags, details: String) {
    self.status = status
    self.body = body
    self.flags = flags
    self.details = details
  }

  /// - Parameter isRetried: the request had been retried before this failure, which the reset texts mention.
  public init(_ error: ProxyError, isRetried: Bool = false) {
    func reset(_ reason: String, _ flags: ResponseFlags, status: UInt16 = 503) -> LocalReply {
      let when = isRetried ? "retried and the latest reset reason" : "reset reason"
      return LocalReply(
        status: status, body: "upstream connect error or disconnect/reset before headers. \(when): \(reason)", flags: flags,
        details: "upstream_reset_before_response_started{\(Self.token(reason))}")
    }
    switch error {
    case .noRoute: self.init(status: 404, body: "", flags: .noRouteFound, details: "route_not_found")
    case .noCluster(let isGatewayAPI):
      self.init(status: isGatewayAPI ? 500 : 503, body: "", flags: .noClusterFound, details: "cluster_not_found")
    case .blackHole: self.init(status: 502, body: "", flags: [], details: "direct_response")
    case .noHealthyUpstream:
      self.init(status: 503, body: "no healthy upstream", flags: .noHealthyUpstream, details: "no_healthy_upstream")
    case .requestTimeout:
      self.init(status: 504, body: "upstream request timeout", flags: .upstreamRequestTimeout, details: "response_timeout")
    case .perTryTimeout:
      self.init(
        status: 504, body: "upstream request timeout", flags: .upstreamRequestTimeout, details: "upstream_per_try_timeout")
    case .connectFailed(let failure):
      self = reset(Self.text(failure), failure == .dns ? .dnsResolutionFailed : .upstreamConnectionFailure)
    case .upstreamClosed: self = reset("connection termination", .upstreamConnectionTermination)
    case .upstreamReset: self = reset("remote reset", .upstreamRemoteReset)
    case .overflow:
      self = reset("overflow", .upstreamOverflow)
      isOverloaded = true
    case .upstreamProtocolError: self = reset("protocol error", .upstreamProtocolError, status: 502)
    case .faultAbort(let abort): self.init(abort)
    case .accessDenied(let policy):
      self.init(
        status: 403, body: "RBAC: access denied", flags: [],
        details: "rbac_access_denied_matched_policy[\(policy.map(Self.token) ?? "none")]")
    case .rateLimited:
      self.init(status: 429, body: "local_rate_limited", flags: .rateLimited, details: "local_rate_limited")
    case .malformedRequest(let token):
      self.init(status: 400, body: "Bad Request", flags: .downstreamProtocolError, details: Self.token(token))
    case .headersTooLarge:
      self.init(status: 431, body: "", flags: .downstreamProtocolError, details: "headers_too_large")
    case .lowVersion:
      self.init(status: 426, body: "Upgrade Required", flags: .downstreamProtocolError, details: "low_version")
    case .bodyTooLarge:
      self.init(status: 413, body: "Payload Too Large", flags: .downstreamProtocolError, details: "request_payload_too_large")
    case .notProcessed: self.init(status: 503, body: "", flags: .localReset, details: "workload_not_here")
    case .streamIdle: self.init(status: 408, body: "stream timeout", flags: .streamIdleTimeout, details: "stream_idle_timeout")
    case .overloaded:
      self.init(status: 503, body: "envoy overloaded", flags: .overloadManager, details: "overload")
      isOverloaded = true
    }
  }

  private init(_ abort: FaultPolicy.Abort) {
    switch abort {
    case .http(let status):
      self.init(status: status, body: "fault filter abort", flags: .faultInjected, details: "fault_filter_abort")
    case .grpc(let code):
      self.init(status: 200, body: "fault filter abort", flags: .faultInjected, details: "fault_filter_abort")
      grpcStatus = code
    }
  }

  private static func text(_ failure: ProxyError.ConnectFailure) -> String {
    switch failure {
    case .refused: "remote connection failure, transport failure reason: delayed connect error: Connection refused"
    case .unreachable: "remote connection failure, transport failure reason: delayed connect error: No route to host"
    case .timedOut: "connection timeout"
    case .tls(let reason): "remote connection failure, transport failure reason: TLS_error: \(reason)"
    case .dns: "dns resolution failure"
    }
  }

  /// Blanks and what would break a log field become underscores.
  private static func token(_ text: String) -> String {
    String(decoding: text.utf8.map { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 ? $0 : 0x5F }, as: UTF8.self)
  }

  /// The `grpc-status` a gRPC client sees for an HTTP status; the reply itself is 200 and its body goes to `grpc-message`.
  public static func grpcStatus(forHTTP status: UInt16) -> UInt8 {
    switch status {
    case 400: 13
    case 401: 16
    case 403: 7
    case 404: 12
    case 429, 502, 503, 504: 14
    default: 2
    }
  }
}
