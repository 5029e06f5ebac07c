import Primitives

/// Which side of a request counts it.
public enum Reporter: UInt8, Hashable, Sendable {
  /// The client's node, and gateways.
  case source
  /// The server's node.
  case destination

  var text: String { self == .source ? "source" : "destination" }
}

/// The workload at one end of a request, as the standard metrics label it. An empty string is shown as `unknown`
/// (`latest` for the canonical revision).
public struct WorkloadLabels: Hashable, Sendable {
  public var workload = ""
  public var namespace = ""
  /// The full SPIFFE id, from a verified certificate only.
  public var principal = ""
  public var app = ""
  public var version = ""
  public var canonicalService = ""
  public var canonicalRevision = ""
  public var cluster = ""

  public init() {}

  public init(
    workload: String, namespace: String, principal: String = "", app: String = "", version: String = "",
    canonicalService: String = "", canonicalRevision: String = "", cluster: String = ""
  ) {
    self.workload = workload
    self.namespace = namespace
    self.principal = principal
    self.app = app
    self.version = version
    self.canonicalService = canonicalService
    self.canonicalRevision = canonicalRevision
    self.cluster = cluster
  }

  public static let unknown = WorkloadLabels()
}

/// The service a request was for.
public struct ServiceLabels: Hashable, Sendable {
  /// The FQDN, or the Host without port for what the registry does not know.
  public var host = ""
  /// The short name, or `PassthroughCluster`, `BlackHoleCluster`, `InboundPassthroughCluster`.
  public var name = ""
  public var namespace = ""
  /// False when `host` was chosen by the client: such names are capped (`TelemetryLimits.unregisteredServicesMax`).
  public var isRegistered = true

  public init(host: String, name: String, namespace: String, isRegistered: Bool = true) {
    self.host = host
    self.name = name
    self.namespace = namespace
    self.isRegistered = isRegistered
  }

  public static let unknown = ServiceLabels(host: "", name: "", namespace: "")
}

/// What stays the same for many requests: who calls whom for which service. A worker resolves it once to a `FlowID`.
public struct FlowLabels: Hashable, Sendable {
  public var reporter: Reporter
  public var source: WorkloadLabels
  public var destination: WorkloadLabels
  public var service: ServiceLabels

  public init(reporter: Reporter, source: WorkloadLabels, destination: WorkloadLabels, service: ServiceLabels) {
    self.reporter = reporter
    self.source = source
    self.destination = destination
    self.service = service
  }
}

/// A flow's number in one worker's `RequestMetrics`; a plain integer, cheap to keep beside an endpoint.
public struct FlowID: Hashable, Sendable {
  let index: UInt32
}

public enum RequestProtocol: UInt8, Hashable, Sendable {
  case http, grpc, tcp

  var text: String {
    switch self {
    case .http: "http"
    case .grpc: "grpc"
    case .tcp: "tcp"
    }
  }
}

/// `connection_security_policy`; at the source it is always `unknown`.
public enum ConnectionSecurity: UInt8, Hashable, Sendable {
  case unknown, none, mutualTLS

  var text: String {
    switch self {
    case .unknown: "unknown"
    case .none: "none"
    case .mutualTLS: "mutual_tls"
    }
  }
}

/// What differs from request to request within a flow.
public struct RequestOutcome: Hashable, Sendable {
  public var requestProtocol: RequestProtocol
  /// 0 when no response was sent.
  public var responseCode: UInt16
  /// The gRPC status, or nil for plain HTTP.
  public var grpcStatus: UInt8?
  public var flags: ResponseFlags
  public var security: ConnectionSecurity

  public init(
    requestProtocol: RequestProtocol, responseCode: UInt16, grpcStatus: UInt8? = nil, flags: ResponseFlags = [],
    security: ConnectionSecurity = .unknown
  ) {
    self.requestProtocol = requestProtocol
    self.responseCode = responseCode
    self.grpcStatus = grpcStatus
    self.flags = flags
    self.security = security
  }
}

/// Names and order of the standard labels (Istio 1.32, `istio_stats`).
enum StandardLabels {
  static let flow = [
    "reporter", "source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
    "source_principal", "source_app", "source_version", "source_cluster", "destination_workload",
    "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
    "destination_service", "destination_canonical_service", "destination_canonical_revision", "destination_service_name",
    "destination_service_namespace", "destination_cluster", "request_protocol",
  ]
  static let http = flow + ["response_code", "grpc_response_status", "response_flags", "connection_security_policy"]
  static let tcp = flow + ["response_flags", "connection_security_policy"]

  static func values(_ labels: FlowLabels, _ requestProtocol: RequestProtocol) -> [String] {
    func known(_ value: String) -> String { value.isEmpty ? "unknown" : value }
    func revision(_ value: String) -> String { value.isEmpty ? "latest" : value }
    let (source, target, service) = (labels.source, labels.destination, labels.service)
    return [
      labels.reporter.text, known(source.workload), known(source.canonicalService), revision(source.canonicalRevision),
      known(source.namespace), known(source.principal), known(source.app), known(source.version), known(source.cluster),
      known(target.workload), known(target.namespace), known(target.principal), known(target.app), known(target.version),
      known(service.host), known(target.canonicalService), revision(target.canonicalRevision), known(service.name),
      known(service.namespace), known(target.cluster), requestProtocol.text,
    ]
  }

  static func values(_ labels: FlowLabels, _ outcome: RequestOutcome) -> [String] {
    let flow = values(labels, outcome.requestProtocol)
    let end = [outcome.flags.text, outcome.security.text]
    if outcome.requestProtocol == .tcp { return flow + end }
    return flow + [String(outcome.responseCode), outcome.grpcStatus.map(String.init) ?? ""] + end
  }
}
