/// Routing rules for hosts (`networking.istio.io` VirtualService).
public struct VirtualService: Hashable, Sendable {
  /// Empty: a delegate.
  public var hosts: [String]
  /// As written; empty means the mesh.
  public var gateways: [String]
  public var http: [HTTPRoute]
  public var tls: [TLSRoute]
  public var tcp: [TCPRoute]
  public var exportTo: [String]

  public struct HTTPRoute: Hashable, Sendable {
    public var name: String
    public var match: [HTTPMatch]
    public var route: [HTTPDestination]
    public var redirect: Redirect?
    public var directResponse: DirectResponse?
    public var delegate: Delegate?
    public var rewrite: Rewrite?
    public var timeout: Duration?
    public var retries: Retries?
    public var fault: Fault?
    /// `mirror` or `mirrors`, with percentages 0–100.
    public var mirrors: [Mirror]
    public var corsPolicy: CORS?
    public var headers: Headers
  }

  public struct HTTPMatch: Hashable, Sendable {
    public var name: String
    public var uri: TextMatch?
    public var ignoreURICase: Bool
    public var scheme: TextMatch?
    public var method: TextMatch?
    public var authority: TextMatch?
    public var headers: [Keyed<TextMatch>]
    public var withoutHeaders: [Keyed<TextMatch>]
    public var queryParams: [Keyed<TextMatch>]
    public var port: UInt16?
    public var sourceLabels: [String: String]
    public var sourceNamespace: String
    public var gateways: [String]
  }

  /// Istio's `StringMatch`; `present` is the empty one.
  public enum TextMatch: Hashable, Sendable {
    case exact(String)
    case prefix(String)
    case regex(String)
    case present
  }

  public struct Destination: Hashable, Sendable {
    public var host: String
    public var subset: String?
    public var port: UInt16?
  }

  public struct HTTPDestination: Hashable, Sendable {
    public var destination: Destination
    public var weight: Int
    public var headers: Headers
  }

  public struct Redirect: Hashable, Sendable {
    public var uri: String?
    public var prefixRewrite: String?
    public var authority: String?
    public var scheme: String?
    public var port: UInt16?
    public var derivePort: DerivePort?
    public var redirectCode: Int
    public enum DerivePort: String, CaseIterable, Hashable, Sendable {
      case fromProtocolDefault = "FROM_PROTOCOL_DEFAULT"
      case fromRequestPort = "FROM_REQUEST_PORT"
    }
  }

  public struct DirectResponse: Hashable, Sendable {
    public var status: Int
    public var body: [UInt8]
  }

  public struct Delegate: Hashable, Sendable {
    public var name: String
    /// Empty: the root's namespace.
    public var namespace: String
  }

  public struct Rewrite: Hashable, Sendable {
    public var uri: String?
    public var authority: String?
    public var uriRegexRewrite: RegexRewrite?
    public struct RegexRewrite: Hashable, Sendable {
      public var match: String
      public var rewrite: String
    }
  }

  public struct Retries: Hashable, Sendable {
    public var attempts: Int
    public var perTryTimeout: Duration?
    /// nil: Istio's default conditions.
    public var retryOn: String?
    public var retryRemoteLocalities: Bool
    /// Whether that is written, be it as false.
    var writesRemoteLocalities: Bool
    public var retryIgnorePreviousHosts: Bool
    public var backoff: Duration?
  }

  public struct Fault: Hashable, Sendable {
    public var delay: Delay?
    public var abort: Abort?
    public struct Delay: Hashable, Sendable {
      public var fixedDelay: Duration?
      /// 0–100; absent counts as 0 (`percent` only without it).
      public var percentage: Double
    }
    public struct Abort: Hashable, Sendable {
      public var httpStatus: Int?
      public var grpcStatus: String?
      /// 0–100; absent counts as 0.
      public var percentage: Double
    }
  }

  public struct Mirror: Hashable, Sendable {
    public var destination: Destination
    /// 0–100; absent counts as 100.
    public var percentage: Double
  }

  public struct CORS: Hashable, Sendable {
    public var allowOrigins: [TextMatch]
    public var allowMethods: [String]
    public var allowHeaders: [String]
    public var exposeHeaders: [String]
    public var maxAge: Duration?
    public var allowCredentials: Bool?
    public var unmatchedPreflights: UnmatchedPreflights
    public enum UnmatchedPreflights: String, CaseIterable, Hashable, Sendable {
      case unspecified = "UNSPECIFIED"
      case forward = "FORWARD"
      case ignore = "IGNORE"
    }
  }

  public struct Headers: Hashable, Sendable {
    public var request: Operations
    public var response: Operations
    public struct Operations: Hashable, Sendable {
      public var set: [String: String]
      public var add: [String: String]
      public var remove: [String]
    }
  }

  public struct TLSRoute: Hashable, Sendable {
    public var match: [TLSMatch]
    public var route: [WeightedDestination]
  }

  public struct TLSMatch: Hashable, Sendable {
    public var sniHosts: [String]
    public var conditions: ConnectionConditions
  }

  public struct TCPRoute: Hashable, Sendable {
    public var match: [ConnectionConditions]
    public var route: [WeightedDestination]
  }

  /// Conditions on a connection that TLS and TCP matches share.
  public struct ConnectionConditions: Hashable, Sendable {
    public var destinationSubnets: [String]
    public var port: UInt16?
    public var sourceLabels: [String: String]
    public var sourceNamespace: String
    public var gateways: [String]
  }

  public struct WeightedDestination: Hashable, Sendable {
    public var destination: Destination
    public var weight: Int
  }
}
