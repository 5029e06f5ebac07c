/// Objects of the Kubernetes Gateway API (`gateway.networking.k8s.io`), as far as they are read.
public enum GatewayAPI {
  public static let group = "gateway.networking.k8s.io"
  /// The controller of this mesh's GatewayClass.
  public static let controllerName = "istio.io/gateway-controller"
  /// The class that exists without an object.
  public static let className = "istio"

  /// A class of Gateways and who serves it.
  public struct GatewayClass: Hashable, Sendable {
    public var controllerName: String
  }

  public struct Gateway: Hashable, Sendable {
    public var className: String
    public var listeners: [Listener]
    public var addresses: [Address]
    /// Which ListenerSets may add listeners.
    public var allowedListeners: NamespaceSelection
    public var labels: [String: String]
    public var annotations: [String: String]
    public var hasParameters: Bool
    /// Shown to backends.
    public var backendCertificate: ObjectReference?
    public var frontend: FrontendTLS
  }

  public struct Address: Hashable, Sendable {
    public var type: String
    public var value: String
  }

  public struct Listener: Hashable, Sendable {
    public var name: String
    /// Lower case; nil: every host.
    public var hostname: String?
    public var port: UInt16
    /// HTTP, HTTPS, TLS, TCP, UDP or an implementation's own.
    public var `protocol`: String
    public var tls: ListenerTLS?
    public var allowedNamespaces: NamespaceSelection
    /// Empty: every kind that fits the protocol.
    public var allowedKinds: [RouteKind]
  }

  public struct ListenerTLS: Hashable, Sendable {
    public var isPassthrough: Bool
    public var certificates: [ObjectReference]
  }

  /// How clients' certificates are verified.
  public struct FrontendTLS: Hashable, Sendable {
    public var byDefault: ClientValidation?
    public var ports: [UInt16: ClientValidation?]
  }
  public struct ClientValidation: Hashable, Sendable {
    public var authorities: [ObjectReference]
    public var allowsInsecureFallback: Bool
  }

  public struct RouteKind: Hashable, Sendable {
    public var group: String
    public var kind: String
  }

  public enum NamespaceSelection: Hashable, Sendable {
    case none, same, all
    case selector(Selector)
  }

  /// `matchLabels` and `matchExpressions`; all must hold.
  public struct Selector: Hashable, Sendable {
    public var labels: [String: String]
    public var expressions: [Expression]
    public struct Expression: Hashable, Sendable {
      public var key: String
      public var operation: Operation
      public var values: [String]
    }
    public enum Operation: String, CaseIterable, Hashable, Sendable {
      case isIn = "In"
      case isNotIn = "NotIn"
      case exists = "Exists"
      case doesNotExist = "DoesNotExist"
    }

    func matches(_ labels: [String: String]) -> Bool {
      guard Labels.match(self.labels, labels) else { return false }
      return expressions.allSatisfy { item in
        switch item.operation {
        case .isIn: labels[item.key].map(item.values.contains) ?? false
        case .isNotIn: !(labels[item.key].map(item.values.contains) ?? false)
        case .exists: labels[item.key] != nil
        case .doesNotExist: labels[item.key] == nil
        }
      }
    }
  }

  /// Extra listeners for a Gateway of another owner.
  public struct ListenerSet: Hashable, Sendable {
    public var parent: ObjectReference
    public var listeners: [Listener]
  }

  /// An object by group, kind and name; `namespace` nil: the referrer's own.
  public struct ObjectReference: Hashable, Sendable {
    public var group: String
    public var kind: String
    public var namespace: String?
    public var name: String
    public var sectionName: String?
    public var port: UInt16?
  }

  /// What every route has.
  public struct RouteParents: Hashable, Sendable {
    public var parents: [ObjectReference]
    /// Lower case; empty: the listener's.
    public var hostnames: [String]
  }

  public struct HTTPRoute: Hashable, Sendable {
    public var common: RouteParents
    public var rules: [HTTPRule]
  }

  /// A rule of an HTTPRoute, or of a GRPCRoute in the terms of HTTP.
  public struct HTTPRule: Hashable, Sendable {
    public var name: String
    /// Never empty.
    public var matches: [HTTPMatch]
    public var filters: [Filter]
    public var backends: [Backend]
    /// nil: none; `0s` is none.
    public var requestTimeout: Duration?
    public var backendTimeout: Duration?
    public var retry: Retry?
    public var session: Session?
  }

  public struct HTTPMatch: Hashable, Sendable {
    public var path: Path
    public var headers: [Field]
    public var query: [Field]
    public var method: String?
    /// GRPCRoute: bytes of service and method that are compared exactly, by which rules are ordered.
    public var grpc: GRPCMethod?
  }
  public enum Path: Hashable, Sendable {
    case exact(String)
    /// By segments, without trailing slash; empty: everything.
    case prefix(String)
    case regex(String)
  }
  public struct Field: Hashable, Sendable {
    public var name: String
    public var value: String
    public var isRegex: Bool
  }
  public struct GRPCMethod: Hashable, Sendable {
    public var service: String?
    public var method: String?
    public var isRegex: Bool
  }

  public enum Filter: Hashable, Sendable {
    case requestHeaders(HeaderChange)
    case responseHeaders(HeaderChange)
    case redirect(Redirect)
    case rewrite(Rewrite)
    case mirror(Mirror)
    case cors(CORS)
    /// Not known here: requests of the rule are answered 500.
    case unsupported(String)
  }
  public struct HeaderChange: Hashable, Sendable {
    public var set: [Field]
    public var add: [Field]
    public var remove: [String]
  }
  public struct Redirect: Hashable, Sendable {
    public var scheme: String?
    public var hostname: String?
    public var path: PathChange?
    public var port: UInt16?
    public var status: Int
  }
  public struct Rewrite: Hashable, Sendable {
    public var hostname: String?
    public var path: PathChange?
  }
  public enum PathChange: Hashable, Sendable {
    case full(String)
    case prefix(String)
  }
  public struct Mirror: Hashable, Sendable {
    public var backend: ObjectReference
    public var partsPerMillion: UInt32
  }
  public struct CORS: Hashable, Sendable {
    public var origins: [String]
    public var methods: [String]
    public var headers: [String]
    public var exposed: [String]
    public var allowsCredentials: Bool
    public var maxAge: Duration
  }
  public struct Retry: Hashable, Sendable {
    public var codes: [Int]
    public var attempts: Int?
    public var backoff: Duration?
  }

  public struct Backend: Hashable, Sendable {
    public var reference: ObjectReference
    public var weight: Int
    public var filters: [Filter]
  }

  public struct GRPCRoute: Hashable, Sendable {
    public var common: RouteParents
    public var rules: [HTTPRule]
  }

  /// TLSRoute, TCPRoute and UDPRoute: backends for a connection.
  public struct ConnectionRoute: Hashable, Sendable {
    public var common: RouteParents
    public var rules: [ConnectionRule]
  }
  public struct ConnectionRule: Hashable, Sendable {
    public var name: String
    public var backends: [Backend]
  }

  /// Who may refer to objects of this namespace.
  public struct ReferenceGrant: Hashable, Sendable {
    public var from: [From]
    public var to: [To]
    public struct From: Hashable, Sendable {
      public var group: String
      public var kind: String
      public var namespace: String
    }
    public struct To: Hashable, Sendable {
      public var group: String
      public var kind: String
      /// nil: every object of the kind.
      public var name: String?
    }
  }

  /// How connections to a Service's endpoints are secured.
  public struct BackendTLSPolicy: Hashable, Sendable {
    /// With `sectionName`: one port by its name.
    public var targets: [ObjectReference]
    public var authorities: [ObjectReference]
    public var usesSystemAuthorities: Bool
    /// The server name sent, and verified when no alternative names are given.
    public var hostname: String
    public var alternativeNames: [String]
  }
}
