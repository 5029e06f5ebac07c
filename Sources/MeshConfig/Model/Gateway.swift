/// Ports that gateway workloads open (`networking.istio.io` Gateway).
public struct Gateway: Hashable, Sendable {
  /// Labels of gateway workloads, in every namespace.
  public var selector: [String: String]
  public var servers: [Server]

  public struct Server: Hashable, Sendable {
    public var port: UInt16
    public var portName: String
    public var `protocol`: PortProtocol
    public var hosts: [String]
    public var bind: String?
    public var tls: TLS?
    public var name: String
  }

  /// Protocol names as Istio spells them.
  public enum PortProtocol: String, CaseIterable, Hashable, Sendable {
    case http = "HTTP"
    case https = "HTTPS"
    case grpc = "GRPC"
    case grpcWeb = "GRPC-WEB"
    case http2 = "HTTP2"
    case mongo = "MONGO"
    case redis = "REDIS"
    case mysql = "MYSQL"
    case tcp = "TCP"
    case tls = "TLS"

    /// Plaintext protocols whose requests are routed.
    var isPlaintextHTTP: Bool { self == .http || self == .grpc || self == .grpcWeb || self == .http2 }
    var needsTLS: Bool { self == .https || self == .tls }
  }

  public struct TLS: Hashable, Sendable {
    public var httpsRedirect: Bool
    public var mode: Mode
    public var serverCertificate: String?
    public var privateKey: String?
    public var caCertificates: String?
    public var credentialName: String?
    public var subjectAltNames: [String]
    public var minVersion: Version?
    public var maxVersion: Version?
    /// `credentialNames`, at most two.
    public var credentialNames: [String]
    /// `tlsCertificates`, at most two.
    public var certificates: [CertificateFiles]
    public var caCredentialName: String?
    public var revocations: String?
    public var cipherSuites: [String]
    public var curves: [String]
    public var certificateHashes: [String]
    public var publicKeyHashes: [String]
    /// Clients' certificates are asked for, and not verified.
    public var insecureSkipVerify = false

    public struct CertificateFiles: Hashable, Sendable {
      public var serverCertificate: String
      public var privateKey: String
      public var caCertificates: String?
    }

    public enum Mode: String, CaseIterable, Hashable, Sendable {
      case passthrough = "PASSTHROUGH"
      case simple = "SIMPLE"
      case mutual = "MUTUAL"
      case autoPassthrough = "AUTO_PASSTHROUGH"
      case istioMutual = "ISTIO_MUTUAL"
      case optionalMutual = "OPTIONAL_MUTUAL"
    }
    public enum Version: String, CaseIterable, Hashable, Sendable {
      case automatic = "TLS_AUTO"
      case tls10 = "TLSV1_0"
      case tls11 = "TLSV1_1"
      case tls12 = "TLSV1_2"
      case tls13 = "TLSV1_3"
    }
  }
}
