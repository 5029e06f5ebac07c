import Primitives

/// Facts about the mesh and about the node that compiles: what the node was started with, and what Istio's MeshConfig says.
public struct MeshSettings: Sendable, Hashable {
  public var cluster: String
  public var trustDomain: String
  public var domain = "cluster.local"
  public var rootNamespace = "istio-system"
  public var localNode: NodeName
  public var localAddress: String
  public var localLocality: Locality
  public var outboundPolicy = OutboundPolicy.allowAny
  public var connectTimeout: Duration = .seconds(10)
  public var defaultRetry = RetryPolicy.istioDefault
  /// Of requests to the applications of this node.
  public var inboundRetry = RetryPolicy.istioInboundDefault
  /// Whether endpoints of the mesh are called by mTLS where nothing says how.
  public var usesAutoMTLS = true
  public var keepAlive: TCPKeepAlive?
  public var upgradesHTTP1 = false
  /// Fills the blocks that a DestinationRule leaves out.
  public var trafficPolicy: DestinationRule.Blocks?
  public var locality: DestinationRule.LocalitySetting?
  public var exportTo = ExportDefaults()
  public var pathNormalization = PathNormalizationMode.byDefault
  /// Of TLS with others than the mesh's workloads.
  public var tlsDefaults = MeshConfiguration.TLSDefaults()
  public var workloadTLS = WorkloadTLS()
  /// Whether applications of this node are called on loopback, wherever they registered.
  public var callsLocalhost = false
  /// How long a connection may be silent until it is taken for opaque; nil: for ever.
  public var protocolDetectionTimeout: Duration?
  /// How long a name's answer is good for that says nothing of it itself.
  public var dnsRefreshRate: Duration = .seconds(60)
  /// nil: as the node was started.
  public var accessLog: MeshConfiguration.AccessLog?
  public var proxy = MeshConfiguration.ProxyDefaults.none
  /// Selects the namespaces that the mesh sees, by their labels; empty: all.
  public var discoverySelectors: [GatewayAPI.Selector] = []

  /// What a mesh adds to how its workloads speak TLS with each other.
  public struct WorkloadTLS: Sendable, Hashable {
    /// Trust domains whose identities are taken for the mesh's own.
    public var aliases: Set<String> = []
    /// Besides the mesh's own.
    public var authorities: [MeshConfiguration.Authority] = []
    /// OpenSSL's names of groups for key exchange; empty: the default.
    public var curves: [String] = []

    public init() {}
  }

  public enum OutboundPolicy: String, Sendable, Hashable { case allowAny, registryOnly }

  /// Who sees what says nothing of it itself; empty: everyone.
  public struct ExportDefaults: Sendable, Hashable {
    public var services: [String] = []
    public var virtualServices: [String] = []
    public var destinationRules: [String] = []
  }

  public init(cluster: String, trustDomain: String, localNode: NodeName, localAddress: String, localLocality: Locality) {
    self.cluster = cluster
    self.trustDomain = trustDomain
    self.localNode = localNode
    self.localAddress = localAddress
    self.localLocality = localLocality
  }
}

extension MeshSettings {
  /// These settings with what a MeshConfig says instead. The trust domain stays: identities were issued under it.
  func applying(_ written: MeshConfiguration?) -> MeshSettings {
    guard let written else { return self }
    var settings = self
    settings.rootNamespace = written.rootNamespace ?? rootNamespace
    settings.usesAutoMTLS = written.usesAutoMTLS ?? usesAutoMTLS
    settings.outboundPolicy = written.outboundPolicy.map { $0 == .allowAny ? .allowAny : .registryOnly } ?? outboundPolicy
    settings.connectTimeout = written.connectTimeout ?? connectTimeout
    settings.keepAlive = written.keepAlive ?? keepAlive
    settings.upgradesHTTP1 = written.upgradesHTTP1 ?? upgradesHTTP1
    settings.pathNormalization = written.pathNormalization ?? pathNormalization
    settings.defaultRetry = RetryPolicy(written.httpRetry, over: defaultRetry)
    settings.inboundRetry = RetryPolicy(written.inboundRetry, over: inboundRetry)
    settings.trafficPolicy = written.trafficPolicy ?? trafficPolicy
    settings.locality = written.locality ?? locality
    settings.exportTo = ExportDefaults(
      services: written.serviceExportTo, virtualServices: written.virtualServiceExportTo,
      destinationRules: written.destinationRuleExportTo)
    settings.tlsDefaults = written.tlsDefaults
    settings.workloadTLS.aliases = Set(written.trustDomainAliases)
    settings.workloadTLS.authorities = written.caCertificates
    settings.workloadTLS.curves = written.meshCurves
    settings.callsLocalhost = written.callsLocalhost
    settings.protocolDetectionTimeout = written.protocolDetectionTimeout
    settings.dnsRefreshRate = written.dnsRefreshRate ?? dnsRefreshRate
    if written.accessLog.file != nil { settings.accessLog = written.accessLog }
    settings.proxy = written.proxy
    settings.discoverySelectors = written.discoverySelectors
    return settings
  }

  /// What a MeshConfig asks for that a node cannot change while it runs.
  func findings(of written: MeshConfiguration?) -> [Finding] {
    guard let domain = written?.trustDomain, domain != trustDomain else { return [] }
    return [
      Finding(
        severity: .warning, code: Finding.Code.notEnforced, object: MeshConfiguration.key.description, path: "data.mesh",
        reason: "trustDomain \(domain) is ignored: identities are issued under \(trustDomain)",
        hint: "set trustDomain in cluster.json")
    ]
  }

  /// Where an application of this node is called.
  func applicationAddress(of record: WorkloadRecord) -> String {
    guard callsLocalhost, record.node == localNode, !record.isGateway else { return record.address }
    return record.address.contains(":") ? "::1" : "127.0.0.1"
  }

  /// Keys of client labels that decide how near an endpoint is, where the mesh says so for every service.
  var clientLabelKeys: Set<String> { Set((locality?.failoverPriority ?? []).map { String($0.prefix { $0 != "=" }) }) }
}

extension RetryPolicy {
  /// Before the application has seen a request, it is sent again twice (Istio, retry.go).
  public static let istioInboundDefault = RetryPolicy(attempts: 2, conditions: .resetBeforeRequest)

  /// `retries` as written, over a policy that says what is left out; nil leaves that one.
  init(_ written: VirtualService.Retries?, over base: RetryPolicy) {
    self = base
    guard let written else { return }
    attempts = max(0, written.attempts)
    perTryTimeout = written.perTryTimeout.flatMap { $0 > .zero ? $0 : nil }
    if let retryOn = written.retryOn {
      let words = RetryWords.parse(retryOn)
      conditions = words.conditions
      statusCodes = words.statusCodes
    }
    avoidPreviousHosts = written.retryIgnorePreviousHosts
    remoteLocalities = written.retryRemoteLocalities
    if let backoff = written.backoff { self.backoff = backoff }
  }
}
