import Primitives

/// The kinds of objects that configure this mesh.
public enum ObjectKind: String, Hashable, Sendable, Codable, CaseIterable, Comparable {
  case virtualService = "VirtualService"
  case destinationRule = "DestinationRule"
  case gateway = "Gateway"
  case serviceEntry = "ServiceEntry"
  case service = "Service"
  case serviceAccount = "ServiceAccount"
  case namespace = "Namespace"

  public static func < (a: ObjectKind, b: ObjectKind) -> Bool { a.rawValue < b.rawValue }

  /// Whether objects of this kind live in a namespace.
  public var isNamespaced: Bool { self != .namespace }

  /// API group; empty is Kubernetes' core group.
  public var group: String {
    switch self {
    case .virtualService, .destinationRule, .gateway, .serviceEntry: "networking.istio.io"
    case .service, .serviceAccount, .namespace: ""
    }
  }

  /// API versions accepted; the schema is the same in all of them (Istio, general rules).
  var versions: [String] { group.isEmpty ? ["v1"] : ["v1", "v1beta1", "v1alpha3"] }

  /// The kind a person named, in any case, singular or plural, or by kubectl's short name.
  public init?(named text: String) {
    let name = text.lowercased()
    let match = Self.allCases.first { kind in
      let singular = kind.rawValue.lowercased()
      let plural = singular.hasSuffix("y") ? singular.dropLast() + "ies" : singular + "s"
      return name == singular || name == plural || kind.shortNames.contains(name)
    }
    guard let match else { return nil }
    self = match
  }

  private var shortNames: [String] {
    switch self {
    case .virtualService: ["vs"]
    case .destinationRule: ["dr"]
    case .gateway: ["gw"]
    case .serviceEntry: ["se"]
    case .service: ["svc"]
    case .serviceAccount: ["sa"]
    case .namespace: ["ns"]
    }
  }
}

/// What the mesh does with a document by its `apiVersion` and `kind`.
enum KindRecognition: Hashable {
  case supported(ObjectKind)
  /// Configures Istio, but nothing here acts on it.
  case notEnforced
  /// Does not configure the mesh.
  case foreign
  case unknownVersion(ObjectKind, expected: [String])
  /// A kind that its Istio or Gateway API group does not have.
  case unknownKind(hint: String?)

  private static let notEnforcedKinds: [String: [String]] = [
    "networking.istio.io": ["Sidecar", "WorkloadEntry", "WorkloadGroup", "EnvoyFilter", "ProxyConfig"],
    "security.istio.io": ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"],
    "telemetry.istio.io": ["Telemetry"],
    "extensions.istio.io": ["WasmPlugin", "TrafficExtension"],
    "gateway.networking.k8s.io": [
      "GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "ReferenceGrant",
      "BackendTLSPolicy", "ListenerSet",
    ],
    "networking.k8s.io": ["Ingress", "IngressClass"],
  ]

  init(apiVersion: String, kind: String) {
    let parts = apiVersion.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let group = parts.count == 2 ? parts[0] : ""
    let version = parts.last ?? ""
    if let supported = ObjectKind.allCases.first(where: { $0.group == group && $0.rawValue == kind }) {
      let known = supported.versions.contains(version)
      self = known ? .supported(supported) : .unknownVersion(supported, expected: supported.versions)
    } else if let kinds = Self.notEnforcedKinds[group], group != "networking.k8s.io" || kinds.contains(kind) {
      let names = kinds + ObjectKind.allCases.filter { $0.group == group }.map(\.rawValue)
      let hint = Spelling.nearest(to: kind, among: names).map { "did you mean '\($0)'?" }
      self = kinds.contains(kind) ? .notEnforced : .unknownKind(hint: hint)
    } else {
      self = .foreign
    }
  }
}
