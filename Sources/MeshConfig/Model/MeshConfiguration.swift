import Primitives
import Telemetry

/// What holds for the whole mesh (Istio's MeshConfig: `data.mesh` of the ConfigMap `istio` in `istio-system`).
///
/// Absent fields leave Istio's defaults as they are.
public struct MeshConfiguration: Hashable, Sendable {
  /// The ConfigMap that carries it.
  public static let key = ObjectKey(kind: .configMap, namespace: "istio-system", name: "istio")
  static let dataKey = "mesh"

  public var trustDomain: String?
  /// Other trust domains whose identities are taken for the mesh's own.
  public var trustDomainAliases: [String]
  /// Authorities that are trusted besides the mesh's own.
  public var caCertificates: [Authority]
  public var rootNamespace: String?
  public var usesAutoMTLS: Bool?
  public var outboundPolicy: Sidecar.OutboundPolicy?
  public var connectTimeout: Duration?
  public var keepAlive: TCPKeepAlive?
  public var upgradesHTTP1: Bool?
  public var pathNormalization: PathNormalizationMode?
  public var httpRetry: VirtualService.Retries?
  public var inboundRetry: VirtualService.Retries?
  /// Fills the blocks that a DestinationRule leaves out.
  public var trafficPolicy: DestinationRule.Blocks?
  public var locality: DestinationRule.LocalitySetting?
  public var serviceExportTo: [String]
  public var virtualServiceExportTo: [String]
  public var destinationRuleExportTo: [String]
  public var tlsDefaults: TLSDefaults
  /// OpenSSL's names of groups for key exchange between workloads; empty: the default.
  public var meshCurves: [String]
  /// Whether applications listen on loopback only (`inboundTrafficPolicy: LOCALHOST`).
  public var callsLocalhost: Bool
  /// How long a connection may be silent until it is taken for opaque; nil: for ever.
  public var protocolDetectionTimeout: Duration?
  /// How long a name's answer is good for that says nothing of it itself.
  public var dnsRefreshRate: Duration?
  /// Selects the namespaces that the mesh sees, by their labels; empty: all.
  public var discoverySelectors: [GatewayAPI.Selector]
  public var accessLog: AccessLog
  public var proxy: ProxyDefaults

  public struct AccessLog: Hashable, Sendable {
    /// nil: not written; empty: off.
    public var file: String?
    /// Istio's line, or one's own.
    public var format: AccessLogFormat
    /// Where else requests are logged, when several providers are used.
    public var others: [AccessLog] = []

    init(file: String?, format: AccessLogFormat) {
      self.file = file
      self.format = format
    }
  }

  /// For TLS with others than the mesh's workloads, where nothing else is written (`tlsDefaults`).
  public struct TLSDefaults: Hashable, Sendable {
    /// OpenSSL's names for TLS 1.2.
    public var cipherSuites: [String] = []
    /// OpenSSL's names of groups for key exchange, best first.
    public var curves: [String] = []
    public var needsTLS13 = false

    public init() {}
  }

  public struct Authority: Hashable, Sendable {
    public var source: Source
    /// Whose members it may name; empty: the mesh's own and its aliases'.
    public var trustDomains: [String]

    public enum Source: Hashable, Sendable {
      case pem(String)
      /// Whatever the SPIFFE bundle there holds at the time.
      case bundle(HTTPSURL)
    }
  }

  /// `defaultConfig`, as far as it is read.
  public struct ProxyDefaults: Hashable, Sendable {
    /// Proxies in front of a gateway whose `x-forwarded-for` entries are believed.
    public var trustedProxies: Int?
    public var gatewayClientCertificate: ForwardedClientCertificate?
    public var expectsProxyProtocol: Bool
    public var headers: Headers
    /// How long requests under way may take when a node stops.
    public var terminationDrain: Duration?
    /// How long connections of a listener that is gone may last.
    public var drain: Duration?

    /// `proxyHeaders`: which fields the proxy writes.
    public struct Headers: Hashable, Sendable {
      public var server: String?
      public var keepsServer: Bool
      public var leavesOutRequestID: Bool
      public var leavesOutAttemptCount: Bool
      public var leavesOutDebug: Bool
      public var clientCertificate: ForwardedClientCertificate?
      public var certificateDetails = CertificateDetails()
      /// Whether the host before a rewrite is told in `x-forwarded-host`.
      public var tellsHost = false
      /// Whether gateways tell their port in `x-forwarded-port`.
      public var tellsPort = false
      /// Whether HTTP/1 names are written as their sender wrote them, however they came here (`preserveHttp1HeaderCase`).
      public var preservesCase = false
    }

    /// What `x-forwarded-client-cert` says of a certificate besides its hash.
    public struct CertificateDetails: Hashable, Sendable {
      public var subject = true
      public var dns = true
      public var uri = true
      /// The certificate itself; nil: at gateways.
      public var certificate: Bool?
      /// All certificates that the client showed, at gateways.
      public var chain = false
    }
  }
}

/// What becomes of `x-forwarded-client-cert` (Envoy, `forward_client_cert_details`).
public enum ForwardedClientCertificate: String, CaseIterable, Hashable, Sendable {
  case undefined = "UNDEFINED"
  case sanitize = "SANITIZE"
  case forwardOnly = "FORWARD_ONLY"
  case appendForward = "APPEND_FORWARD"
  case sanitizeSet = "SANITIZE_SET"
  case alwaysForwardOnly = "ALWAYS_FORWARD_ONLY"
}

/// How request paths are made canonical (Istio, `pathNormalization`).
public enum PathNormalizationMode: String, CaseIterable, Hashable, Sendable {
  case byDefault = "DEFAULT"
  case none = "NONE"
  case base = "BASE"
  case mergeSlashes = "MERGE_SLASHES"
  case decodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES"
}

extension MeshConfiguration {
  /// The mesh's own among the objects of a configuration; nil where the defaults hold.
  static func of(_ object: MeshObject?) -> MeshConfiguration? {
    guard let object, object.key == key, case .configMap(let map) = object.spec, let text = map.data[dataKey] else {
      return nil
    }
    var report = Report(source: "", document: YAMLNode(.null, at: SourcePosition(line: 1, column: 1)))
    return read(text, into: &report)
  }

  /// Checks what the ConfigMap says.
  static func check(_ map: ConfigMap, meta: ObjectMeta, into report: inout Report) {
    guard meta.name == key.name, meta.namespace == key.namespace else { return }
    guard let text = map.data[dataKey] else { return }
    _ = read(text, into: &report)
    if map.data["meshNetworks"].map({ !["", "networks: {}"].contains($0.trimmed) }) ?? false {
      report.notEnforced(.root / "data" / "meshNetworks", "endpoints are called directly")
    }
  }

  private static func read(_ text: String, into report: inout Report) -> MeshConfiguration? {
    let path = FieldPath.root / "data" / dataKey
    let (documents, error) = YAMLParser.parse(Array(text.utf8))
    if let error {
      report.error(path, "line \(error.position.line): \(error.reason)")
      return nil
    }
    guard let document = documents.first else { return nil }
    guard documents.count == 1 else {
      report.error(path, "expected one document, found \(documents.count)")
      return nil
    }
    return Fields.decode(document, at: path, into: &report)
  }
}

extension String {
  /// Without blanks and line ends around it.
  fileprivate var trimmed: String {
    let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }
    return String(decoding: utf8.drop(while: isBlank).reversed().drop(while: isBlank).reversed(), as: UTF8.self)
  }
}
