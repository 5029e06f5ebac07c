/// One rule over a whole configuration. Named as in Istio, so that people find it there.
public struct Analyzer: Sendable {
  public let name: String
  /// What it looks for.
  public let summary: String
  /// What it needs to say anything sensible.
  public let scope: Scope
  let run: @Sendable (AnalysisInput, inout AnalysisReport) -> Void

  public enum Scope: Sendable {
    case configuration
    /// The workloads too: without any it would report all that selects some.
    case workloads
    /// Kubernetes' own machinery: injection, webhooks, Deployments.
    case kubernetes
  }

  typealias Rule = @Sendable (AnalysisInput, inout AnalysisReport) -> Void

  init(_ name: String, _ summary: String, _ scope: Scope, _ run: @escaping Rule) {
    self.name = name
    self.summary = summary
    self.scope = scope
    self.run = run
  }

  init(_ name: String, _ summary: String, _ run: @escaping Rule) { self.init(name, summary, .configuration, run) }

  /// Every analyzer, by name.
  public static let all: [Analyzer] = {
    let groups: [[Analyzer]] = [
      GatewayAnalysis.analyzers, VirtualServiceAnalysis.analyzers, DestinationAnalysis.analyzers, ServiceAnalysis.analyzers,
      PolicyAnalysis.analyzers, AnnotationAnalysis.analyzers, DiscoveryAnalysis.analyzers, InjectionAnalysis.analyzers,
      WebhookAnalysis.analyzers,
    ]
    return groups.flatMap { $0 }.sorted { $0.name < $1.name }
  }()

  /// Findings in the order of sources and objects, each once.
  public func findings(in input: AnalysisInput) -> [Finding] {
    var report = AnalysisReport()
    run(input, &report)
    return report.findings
  }
}

/// Collects what analyzers have to say.
struct AnalysisReport {
  private(set) var findings: [Finding] = []
  private var seen: Set<Finding> = []

  mutating func add(_ message: AnalysisMessage, _ resource: AnalyzedResource, at path: FieldPath = .root, _ reason: String) {
    let position = resource.root.node?.position(of: path)
    let finding = Finding(
      severity: message.severity, code: message.rawValue, source: resource.source, position: position, object: resource.label,
      path: path.description, reason: reason)
    if seen.insert(finding).inserted { findings.append(finding) }
  }
}

extension Finding {
  /// What admission says, at the level that `analyze` gives it (Istio, `messages.yaml`).
  public var asAnalyzed: Finding {
    var finding = self
    if code == Code.ineffectiveMatch { finding.severity = .info }
    return finding
  }
}

/// Istio's codes of what these analyzers report (`pkg/config/analysis/msg/messages.yaml`).
enum AnalysisMessage: String {
  case deprecated = "IST0002"
  case referenceNotFound = "IST0101"
  case namespaceNotInjected = "IST0102"
  case podMissingProxy = "IST0103"
  case misplacedAnnotation = "IST0107"
  case unknownAnnotation = "IST0108"
  case conflictingMeshHosts = "IST0109"
  case conflictingSidecarSelectors = "IST0110"
  case severalSidecarsWithoutSelector = "IST0111"
  case portSelectorRequired = "IST0112"
  case deploymentOfSeveralServices = "IST0116"
  case portNameConvention = "IST0118"
  case severalInjectionLabels = "IST0123"
  case invalidAnnotation = "IST0125"
  case unknownNetworkRegistry = "IST0126"
  case noMatchingWorkloads = "IST0127"
  case noVerificationAtDestination = "IST0128"
  case noVerificationAtPort = "IST0129"
  case hostNotInGateway = "IST0132"
  case addressesRequired = "IST0134"
  case deprecatedAnnotation = "IST0135"
  case deploymentConflictingPorts = "IST0137"
  case duplicateCertificate = "IST0138"
  case invalidWebhook = "IST0139"
  case ingressRulesNotAffected = "IST0140"
  case invalidApplicationUser = "IST0144"
  case conflictingGateways = "IST0145"
  case imageAutoWarning = "IST0146"
  case imageAutoError = "IST0147"
  case injectionByDefault = "IST0148"
  case claimRoutingWithoutAuthentication = "IST0149"
  case externalNamePort = "IST0150"
  case relativeOperation = "IST0151"
  case replaceUsedWrongly = "IST0152"
  case addUsedWrongly = "IST0153"
  case removeUsedWrongly = "IST0154"
  case relativeOperationWithVersion = "IST0155"
  case invalidTelemetryProvider = "IST0157"
  case imageMismatch = "IST0158"
  case conflictingTelemetrySelectors = "IST0159"
  case severalTelemetriesWithoutSelector = "IST0160"
  case invalidGatewayCredential = "IST0161"
  case portNotOnService = "IST0162"
  case invalidExternalControlPlane = "IST0163"
  case externalControlPlaneAddress = "IST0164"
  case internalGateway = "IST0165"
  case ineffectiveSelector = "IST0166"
  case ineffectivePolicy = "IST0167"
  case negativeCondition = "IST0171"
  case subsetSelectsNothing = "IST0173"
  case unknownRuleHost = "IST0174"
  case unrestrictedKeyFetch = "IST0175"
  case conflictingEntryProtocol = "IST0177"
  case namespaceNotSeen = "MESH0001"

  var severity: Finding.Severity {
    switch self {
    case .referenceNotFound, .conflictingMeshHosts, .conflictingSidecarSelectors, .severalSidecarsWithoutSelector,
      .portSelectorRequired, .unknownNetworkRegistry, .invalidWebhook, .conflictingGateways, .imageAutoError,
      .claimRoutingWithoutAuthentication, .replaceUsedWrongly, .addUsedWrongly, .removeUsedWrongly,
      .conflictingTelemetrySelectors, .severalTelemetriesWithoutSelector, .invalidGatewayCredential, .subsetSelectsNothing:
      .error
    case .namespaceNotInjected, .portNameConvention, .injectionByDefault, .externalControlPlaneAddress, .deprecatedAnnotation:
      .info
    default: .warning
    }
  }
}
