import Primitives

/// The kinds of objects that configure this mesh.
public enum ObjectKind: String, Hashable, Sendable, Codable, CaseIterable, Comparable {
  case virtualService = "VirtualService"
  case destinationRule = "DestinationRule"
  case gateway = "Gateway"
  case serviceEntry = "ServiceEntry"
  case workloadEntry = "WorkloadEntry"
  case workloadGroup = "WorkloadGroup"
  case sidecar = "Sidecar"
  case proxyConfig = "ProxyConfig"
  case envoyFilter = "EnvoyFilter"

  case peerAuthentication = "PeerAuthentication"
  case authorizationPolicy = "AuthorizationPolicy"
  case requestAuthentication = "RequestAuthentication"
  case telemetry = "Telemetry"
  case wasmPlugin = "WasmPlugin"
  case trafficExtension = "TrafficExtension"

  case gatewayClass = "GatewayClass"
  /// Shares its kind's name with Istio's Gateway, so here it carries its group as kubectl writes it.
  case kubernetesGateway = "Gateway.gateway.networking.k8s.io"
  case listenerSet = "ListenerSet"
  case httpRoute = "HTTPRoute"
  case grpcRoute = "GRPCRoute"
  case tlsRoute = "TLSRoute"
  case tcpRoute = "TCPRoute"
  case udpRoute = "UDPRoute"
  case referenceGrant = "ReferenceGrant"
  case backendTLSPolicy = "BackendTLSPolicy"

  case service = "Service"
  case serviceAccount = "ServiceAccount"
  case namespace = "Namespace"
  case secret = "Secret"
  case configMap = "ConfigMap"
  case endpoints = "Endpoints"
  case endpointSlice = "EndpointSlice"
  case ingress = "Ingress"
  case ingressClass = "IngressClass"

  public static func < (a: ObjectKind, b: ObjectKind) -> Bool { a.rawValue < b.rawValue }

  /// `kind` of a document, which two API groups may share.
  public var documentKind: String { self == .kubernetesGateway ? "Gateway" : rawValue }

  /// Whether objects of this kind live in a namespace.
  public var isNamespaced: Bool { self != .namespace && self != .gatewayClass && self != .ingressClass }

  /// The kind that documents of this API group call so; nil when this version has none.
  public init?(group: String, documentKind: String) {
    guard let kind = Self.allCases.first(where: { $0.group == group && $0.documentKind == documentKind }) else { return nil }
    self = kind
  }

  /// API group; empty is Kubernetes' core group.
  public var group: String {
    switch self {
    case .virtualService, .destinationRule, .gateway, .serviceEntry, .workloadEntry, .workloadGroup, .sidecar, .proxyConfig,
      .envoyFilter:
      "networking.istio.io"
    case .peerAuthentication, .authorizationPolicy, .requestAuthentication: "security.istio.io"
    case .telemetry: "telemetry.istio.io"
    case .wasmPlugin, .trafficExtension: "extensions.istio.io"
    case .gatewayClass, .kubernetesGateway, .listenerSet, .httpRoute, .grpcRoute, .tlsRoute, .tcpRoute, .udpRoute,
      .referenceGrant, .backendTLSPolicy:
      "gateway.networking.k8s.io"
    case .endpointSlice: "discovery.k8s.io"
    case .ingress, .ingressClass: "networking.k8s.io"
    case .service, .serviceAccount, .namespace, .secret, .configMap, .endpoints: ""
    }
  }

  /// API versions accepted, the one that is stored first; the schema is the same in all of them (Istio, general rules).
  var versions: [String] {
    switch self {
    case .virtualService, .destinationRule, .gateway, .serviceEntry, .workloadEntry, .workloadGroup, .sidecar:
      ["v1", "v1beta1", "v1alpha3"]
    case .envoyFilter: ["v1alpha3"]
    case .proxyConfig: ["v1beta1"]
    case .peerAuthentication, .authorizationPolicy, .requestAuthentication: ["v1", "v1beta1"]
    case .telemetry: ["v1", "v1alpha1"]
    case .wasmPlugin, .trafficExtension: ["v1alpha1"]
    case .gatewayClass, .kubernetesGateway, .httpRoute, .referenceGrant: ["v1", "v1beta1", "v1alpha2"]
    case .grpcRoute, .tlsRoute, .backendTLSPolicy: ["v1", "v1alpha3", "v1alpha2"]
    case .listenerSet: ["v1", "v1alpha1"]
    case .tcpRoute, .udpRoute: ["v1", "v1alpha2"]
    case .endpointSlice: ["v1", "v1beta1"]
    case .ingress, .ingressClass: ["v1"]
    case .service, .serviceAccount, .namespace, .secret, .configMap, .endpoints: ["v1"]
    }
  }

  /// `apiVersion` of stored documents.
  public var apiVersion: String {
    let version = versions.first ?? "v1"
    return group.isEmpty ? version : "\(group)/\(version)"
  }

  /// The kind a person named, in any case, singular or plural, by kubectl's short name, or with its API group.
  public init?(named text: String) {
    let name = text.lowercased()
    let parts = name.split(separator: ".", maxSplits: 1).map(String.init)
    guard let word = parts.first else { return nil }
    let group = parts.count == 2 ? parts[1] : nil
    let match = Self.allCases.first { kind in
      if let group, kind.group != group { return false }
      let singular = kind.documentKind.lowercased()
      let isGroupNeeded = kind == .kubernetesGateway && group == nil
      let isNamed = !isGroupNeeded && (word == singular || word == Self.plural(of: singular))
      return isNamed || group == nil && kind.shortNames.contains(word)
    }
    guard let match else { return nil }
    self = match
  }

  /// What to say of a name that means no kind: the nearest that does, or all of them.
  public static func hint(forUnknown text: String) -> String {
    let names = allCases.map { $0.rawValue.lowercased() }
    let near = Spelling.nearest(to: text.lowercased(), among: names + allCases.map { plural(of: $0.documentKind.lowercased()) })
    return near.map { "did you mean '\($0)'?" } ?? "use one of \(names.joined(separator: ", "))"
  }

  private static func plural(of singular: String) -> String {
    if singular.hasSuffix("y") { return singular.dropLast() + "ies" }
    if singular == "endpoints" { return singular }
    return singular.hasSuffix("s") ? singular + "es" : singular + "s"
  }

  private var shortNames: [String] {
    switch self {
    case .virtualService: ["vs"]
    case .destinationRule: ["dr"]
    case .gateway: ["gw"]
    case .serviceEntry: ["se"]
    case .workloadEntry: ["we"]
    case .workloadGroup: ["wg"]
    case .peerAuthentication: ["pa"]
    case .authorizationPolicy: ["ap"]
    case .requestAuthentication: ["ra"]
    case .gatewayClass: ["gc"]
    case .kubernetesGateway: ["gtw"]
    case .referenceGrant: ["refgrant"]
    case .backendTLSPolicy: ["btlspolicy"]
    case .listenerSet: ["lset"]
    case .service: ["svc"]
    case .serviceAccount: ["sa"]
    case .namespace: ["ns"]
    case .configMap: ["cm"]
    case .endpoints: ["ep"]
    case .ingress: ["ing"]
    case .sidecar, .proxyConfig, .envoyFilter, .telemetry, .wasmPlugin, .trafficExtension, .httpRoute, .grpcRoute, .tlsRoute,
      .tcpRoute, .udpRoute, .secret, .endpointSlice, .ingressClass:
      []
    }
  }
}

/// What the mesh does with a document by its `apiVersion` and `kind`.
enum KindRecognition: Hashable {
  case supported(ObjectKind)
  /// Configures a mesh, but nothing here acts on it.
  case notEnforced
  /// Does not configure the mesh.
  case foreign
  case unknownVersion(ObjectKind, expected: [String])
  /// A kind that its Istio or Gateway API group does not have.
  case unknownKind(hint: String?)

  private static let notEnforcedKinds: [String: [String]] = ["gateway.networking.x-k8s.io": ["XBackendTrafficPolicy", "XMesh"]]
  /// Groups whose kinds are all known, so that a misspelt one is an error.
  private static let closedGroups: Set<String> = [
    "networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io", "gateway.networking.k8s.io",
  ]

  init(apiVersion: String, kind: String) {
    let parts = apiVersion.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let group = parts.count == 2 ? parts[0] : ""
    let version = parts.last ?? ""
    if let supported = ObjectKind(group: group, documentKind: kind) {
      let known = supported.versions.contains(version)
      self = known ? .supported(supported) : .unknownVersion(supported, expected: supported.versions)
    } else if let kinds = Self.notEnforcedKinds[group], kinds.contains(kind) {
      self = .notEnforced
    } else if Self.closedGroups.contains(group) {
      let names = ObjectKind.allCases.filter { $0.group == group }.map(\.documentKind)
      self = .unknownKind(hint: Spelling.nearest(to: kind, among: names).map { "did you mean '\($0)'?" })
    } else {
      self = .foreign
    }
  }
}
