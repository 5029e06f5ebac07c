import Primitives

/// One workload as the registry publishes it; the compiler's input beside the configuration objects.
public struct WorkloadRecord: Sendable, Hashable {
  public var node: NodeName
  public var name: String
  public var namespace: String
  /// The service named at registration (`run --service`); nil for a gateway.
  public var service: String?
  public var serviceAccount: String
  public var labels: [String: String]
  /// Address the application listens on.
  public var address: String
  /// Address of the owning node's mesh port (15008).
  public var meshAddress: String
  public var meshPort: UInt16
  public var ports: [Port]
  public var locality: Locality
  public var weight: UInt32
  public var health: EndpointHealth
  public var isGateway: Bool
  /// Local workloads in explicit capture: the port of their outbound listener.
  public var outboundPort: UInt16?

  public struct Port: Sendable, Hashable {
    /// Name of the port, as a Service's port name; may be empty.
    public var name: String
    /// The service port this stands for, when given at registration.
    public var servicePort: UInt16?
    /// Where the application listens.
    public var port: UInt16
    public var `protocol`: PortProtocol
    public init(name: String, servicePort: UInt16?, port: UInt16, protocol: PortProtocol) {
      self.name = name
      self.servicePort = servicePort
      self.port = port
      self.protocol = `protocol`
    }
  }

  public init(
    node: NodeName, name: String, namespace: String, service: String?, serviceAccount: String, labels: [String: String],
    address: String, meshAddress: String, meshPort: UInt16, ports: [Port], locality: Locality, weight: UInt32 = 1,
    health: EndpointHealth, isGateway: Bool = false, outboundPort: UInt16? = nil
  ) {
    self.node = node
    self.name = name
    self.namespace = namespace
    self.service = service
    self.serviceAccount = serviceAccount
    self.labels = labels
    self.address = address
    self.meshAddress = meshAddress
    self.meshPort = meshPort
    self.ports = ports
    self.locality = locality
    self.weight = weight
    self.health = health
    self.isGateway = isGateway
    self.outboundPort = outboundPort
  }
}

/// Whether requests may be sent to an endpoint. Only `healthy` is chosen while any such endpoint is left.
public enum EndpointHealth: String, Sendable, Hashable, Codable {
  case starting, healthy, unhealthy, leaving
  /// Its node is suspected or dead: kept for display, last resort only.
  case unreachable
}

/// Application protocol of a port (Istio protocol selection).
public enum PortProtocol: String, Sendable, Hashable, Codable {
  case auto, http, http2, grpc, tcp, tls, https
  /// Whether requests on the port are routed as HTTP.
  public var isHTTP: Bool { self == .http || self == .http2 || self == .grpc || self == .auto }
}

/// What telemetry and peers know of a workload (Istio's standard labels).
public struct WorkloadFacts: Sendable, Hashable {
  public var name: String
  public var namespace: String
  public var node: NodeName
  public var serviceAccount: String
  /// `spiffe://<td>/ns/<ns>/sa/<sa>`
  public var principal: String
  public var app: String
  public var version: String
  public var canonicalService: String
  public var canonicalRevision: String
  public var labels: [String: String]

  /// `<namespace>/<workload name>@<node>`, unique in the mesh.
  public var key: String { "\(namespace)/\(name)@\(node)" }

  public init(
    name: String, namespace: String, node: NodeName, serviceAccount: String, principal: String, app: String, version: String,
    canonicalService: String, canonicalRevision: String, labels: [String: String]
  ) {
    self.name = name
    self.namespace = namespace
    self.node = node
    self.serviceAccount = serviceAccount
    self.principal = principal
    self.app = app
    self.version = version
    self.canonicalService = canonicalService
    self.canonicalRevision = canonicalRevision
    self.labels = labels
  }
}
