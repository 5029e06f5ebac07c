/// What holds for the whole mesh (Istio's MeshConfig: `data.mesh` of the ConfigMap `istio` in `istio-system`).
///
/// Absent fields leave Istio's defaults as they are.
public struct MeshConfiguration: Hashable, Sendable {
  /// The ConfigMap that carries it.
  public static let key = ObjectKey(kind: .configMap, namespace: "istio-system", name: "istio")
  static let dataKey = "mesh"

  public var trustDomain: String?
  public var trustDomainAliases: [String]
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
  /// OpenSSL's names; for servers that name none themselves.
  public var cipherSuites: [String]
  public var accessLog: AccessLog
  public var proxy: ProxyDefaults

  public struct AccessLog: Hashable, Sendable {
    /// nil: not written; empty: off.
    public var file: String?
    /// Envoy's command operators; nil or empty: Istio's line.
    public var format: String?
    public var isJSON: Bool
  }

  /// `defaultConfig`, as far as it is read.
  public struct ProxyDefaults: Hashable, Sendable {
    /// Proxies in front of a gateway whose `x-forwarded-for` entries are believed.
    public var trustedProxies: Int?
    public var gatewayClientCertificate: ForwardedClientCertificate?
    public var expectsProxyProtocol: Bool
    public var headers: Headers

    /// `proxyHeaders`: which fields the proxy writes.
    public struct Headers: Hashable, Sendable {
      public var server: String?
      public var keepsServer: Bool
      public var leavesOutRequestID: Bool
      public var leavesOutAttemptCount: Bool
      public var leavesOutDebug: Bool
      public var clientCertificate: ForwardedClientCertificate?
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
