/// Names one object of the configuration.
public struct ObjectKey: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  public let kind: ObjectKind
  /// Empty for kinds without namespace.
  public let namespace: String
  public let name: String

  public init(kind: ObjectKind, namespace: String, name: String) {
    self.kind = kind
    self.namespace = namespace
    self.name = name
  }

  /// `VirtualService default/reviews`
  public var description: String { namespace.isEmpty ? "\(kind.rawValue) \(name)" : "\(kind.rawValue) \(namespace)/\(name)" }

  public static func < (a: ObjectKey, b: ObjectKey) -> Bool {
    (a.kind.rawValue, a.namespace, a.name) < (b.kind.rawValue, b.namespace, b.name)
  }
}

/// `metadata` of an object, as far as the mesh reads it.
public struct ObjectMeta: Hashable, Sendable {
  public var name: String
  public var namespace: String
  public var labels: [String: String]
  public var annotations: [String: String]
}

/// An accepted object: its typed content and its canonical bytes.
public struct MeshObject: Hashable, Sendable {
  public let key: ObjectKey
  public let meta: ObjectMeta
  public let spec: Spec
  /// The whole document as JSON with sorted keys, without status and server-side metadata: equal objects have equal bytes.
  /// `MeshObject.decode(canonical:)` reads it back. A Secret's values are left out: `stored(sealing:)` keeps them.
  public let canonical: [UInt8]

  public enum Spec: Hashable, Sendable {
    case virtualService(VirtualService)
    case destinationRule(DestinationRule)
    case gateway(Gateway)
    case serviceEntry(ServiceEntry)
    case workloadEntry(WorkloadEntry)
    case workloadGroup(WorkloadGroup)
    case sidecar(Sidecar)
    case proxyConfig(ProxyConfig)
    case envoyFilter(EnvoyFilter)
    case peerAuthentication(PeerAuthentication)
    case authorizationPolicy(AuthorizationPolicy)
    case requestAuthentication(RequestAuthentication)
    case telemetry(TelemetryPolicy)
    case proxyExtension(ProxyExtension)
    case gatewayClass(GatewayAPI.GatewayClass)
    case kubernetesGateway(GatewayAPI.Gateway)
    case listenerSet(GatewayAPI.ListenerSet)
    case httpRoute(GatewayAPI.HTTPRoute)
    case grpcRoute(GatewayAPI.GRPCRoute)
    /// TLSRoute, TCPRoute and UDPRoute; the key's kind tells which.
    case connectionRoute(GatewayAPI.ConnectionRoute)
    case referenceGrant(GatewayAPI.ReferenceGrant)
    case backendTLSPolicy(GatewayAPI.BackendTLSPolicy)
    case service(KubernetesService)
    case serviceAccount
    case namespace
    case secret(Secret)
    case configMap(ConfigMap)
    /// Endpoints and EndpointSlice.
    case endpoints(KubernetesEndpoints)
    case ingress(Ingress)
    case ingressClass(IngressClass)
  }

  /// The values of a Secret are not in its canonical bytes, so they are compared by themselves.
  public static func == (a: MeshObject, b: MeshObject) -> Bool {
    guard a.key == b.key && a.canonical == b.canonical else { return false }
    guard case .secret(let left) = a.spec, case .secret(let right) = b.spec else { return true }
    return left == right
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

/// An object in the configuration state with its age.
public struct StoredObject: Hashable, Sendable {
  public let object: MeshObject
  /// Revision of the first accepted write: Istio's creation time. An update keeps it.
  public let created: UInt64

  public init(_ object: MeshObject, created: UInt64) {
    self.object = object
    self.created = created
  }
  public var key: ObjectKey { object.key }

  /// Oldest first, then name, then namespace (Istio, general rules).
  static func isOlder(_ a: StoredObject, _ b: StoredObject) -> Bool {
    (a.created, a.key.name, a.key.namespace) < (b.created, b.key.name, b.key.namespace)
  }
}
