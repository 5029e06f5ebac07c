import Primitives

/// Istio's annotations on Kubernetes' own objects.
enum AnnotationAnalysis {
  static let analyzers = [
    Analyzer("annotations.K8sAnalyzer", "annotations that are misspelt, misplaced, deprecated or have impossible values", check)
  ]

  private struct Definition {
    /// Kinds it may stand on; empty: any.
    var kinds: Set<String> = []
    var isDeprecated = false
    /// What is wrong with a value; nil when nothing is.
    var problem: @Sendable (String) -> String? = { _ in nil }
  }

  @Sendable private static func check(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for kind in ["Namespace", "Service", "Pod", "Deployment"] {
      for resource in input.all(kind) { check(resource, &report) }
    }
  }

  private static func check(_ resource: AnalyzedResource, _ report: inout AnalysisReport) {
    for (name, value) in resource.annotations.sorted(by: { $0.key < $1.key }) where isIstios(name) {
      let path = FieldPath.root.field("metadata") / "annotations" / name
      guard let definition = definitions[name] else {
        let near = Spelling.nearest(to: name, among: definitions.keys.sorted()).map { ": did you mean \($0)?" } ?? ""
        report.add(.unknownAnnotation, resource, at: path, "the annotation \(name) means nothing\(near)")
        continue
      }
      if definition.isDeprecated && !(name == inject && resource.labels[inject] != nil) {
        let instead = name == inject ? ": use the label of that name" : ""
        report.add(.deprecatedAnnotation, resource, at: path, "the annotation \(name) is deprecated\(instead)")
      }
      if definition.kinds.isEmpty { continue }
      guard definition.kinds.contains(resource.kind) else {
        report.add(
          .misplacedAnnotation, resource, at: path,
          "the annotation \(name) belongs on \(definition.kinds.sorted().joined(separator: ", "))")
        continue
      }
      if let problem = definition.problem(value) {
        report.add(.invalidAnnotation, resource, at: path, "the annotation \(name) has '\(value.prefix(60))', \(problem)")
      }
    }
  }

  /// Names of families that grow with every version are not judged.
  private static func isIstios(_ name: String) -> Bool {
    if name == ingressClass { return true }
    let domain = name.prefix { $0 != "/" }
    if domain == "ambient.istio.io" || domain == "gateway.istio.io" { return false }
    return domain == "istio.io" || domain.hasSuffix(".istio.io")
  }

  private static let inject = "sidecar.istio.io/inject"
  private static let ingressClass = "kubernetes.io/ingress.class"

  // MARK: Values

  @Sendable private static func number(_ text: String) -> String? {
    parseDecimal(text.utf8, max: UInt64(UInt32.max)) == nil ? "which is no number" : nil
  }
  @Sendable private static func statusPort(_ text: String) -> String? {
    parseDecimal(text.utf8, max: 65535) == nil ? "which is no port" : nil
  }
  @Sendable private static func truth(_ text: String) -> String? {
    PolicyRules.truthValues.contains(text) ? nil : "which is neither true nor false"
  }
  @Sendable private static func interception(_ text: String) -> String? {
    ["REDIRECT", "TPROXY", "NONE"].contains(text) ? nil : "which is not REDIRECT, TPROXY or NONE"
  }
  private static func items(_ text: String) -> [String] {
    text.split(separator: ",").map { String($0.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) }.filter {
      !$0.isEmpty
    }
  }
  @Sendable private static func ports(_ text: String) -> String? {
    items(text).first { parseDecimal($0.utf8, max: 65535) == nil }.map { "of which '\($0)' is no port" }
  }
  @Sendable private static func portsOrAll(_ text: String) -> String? { text == "*" ? nil : ports(text) }
  @Sendable private static func blocks(_ text: String) -> String? {
    items(text).first { !$0.utf8.contains(0x2F) || !AddressForm.isBlock($0) }.map {
      "of which '\($0)' is no block of addresses"
    }
  }
  @Sendable private static func blocksOrAll(_ text: String) -> String? { text == "*" ? nil : blocks(text) }
  @Sendable private static func exports(_ text: String) -> String? {
    items(text).first { !["*", ".", "~"].contains($0) && !NameForm.isLabel($0) }.map { "of which '\($0)' is no namespace" }
  }
  @Sendable private static func distribution(_ text: String) -> String? {
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode", "PreferNetwork", "Any"]
    if known.contains(where: { $0.lowercased() == text.lowercased() }) { return nil }
    return "which is not \(known.joined(separator: ", "))"
  }

  // MARK: Names

  private static let definitions: [String: Definition] = {
    let pod: Set<String> = ["Pod"]
    var all: [String: Definition] = [:]
    for name in ["chart-owner", "owner-generation", "version"] { all["install.operator.istio.io/\(name)"] = Definition() }
    all["galley.istio.io/analyze-suppress"] = Definition()
    all["networking.istio.io/exportTo"] = Definition(kinds: ["Service"], problem: exports)
    all["networking.istio.io/traffic-distribution"] = Definition(
      kinds: ["Namespace", "Service", "ServiceEntry"], problem: distribution)
    for name in ["kubernetes", "canonical"] {
      all["alpha.istio.io/\(name)-serviceaccounts"] = Definition(kinds: ["Service"], isDeprecated: true)
    }
    all["topology.istio.io/controlPlaneClusters"] = Definition(kinds: ["Namespace"])
    all[ingressClass] = Definition(kinds: ["Ingress"])
    all["istio.io/dry-run"] = Definition(kinds: ["AuthorizationPolicy"])
    for name in ["autoRegistrationGroup", "workloadController", "connectedAt", "disconnectedAt"] {
      all["istio.io/\(name)"] = Definition(kinds: ["WorkloadEntry"])
    }
    for name in ["address-type", "service-type"] { all["networking.istio.io/\(name)"] = Definition(kinds: ["Gateway"]) }

    all[inject] = Definition(kinds: pod, isDeprecated: true)
    let deprecated = ["controlPlaneAuthPolicy", "discoveryAddress"]
    let statistics = ["statsInclusionPrefixes", "statsInclusionSuffixes", "statsInclusionRegexps"]
    for name in deprecated + statistics { all["sidecar.istio.io/\(name)"] = Definition(kinds: pod, isDeprecated: true) }
    all["alpha.istio.io/identity"] = Definition(kinds: pod, isDeprecated: true)
    for name in [
      "status", "rewriteAppHTTPProbers", "proxyImage", "proxyImageType", "proxyCPU", "proxyCPULimit", "proxyMemory",
      "proxyMemoryLimit", "bootstrapOverride", "userVolume", "userVolumeMount", "enableCoreDump", "logLevel",
      "componentLogLevel", "agentLogLevel", "extraStatTags", "statsHistogramBuckets", "statsCompression", "nativeSidecar",
    ] { all["sidecar.istio.io/\(name)"] = Definition(kinds: pod) }
    all["sidecar.istio.io/interceptionMode"] = Definition(kinds: pod, problem: interception)
    for name in ["config", "overrides"] { all["proxy.istio.io/\(name)"] = Definition(kinds: pod) }
    for name in ["istio.io/rev", "istio.io/reroute-virtual-interfaces", "inject.istio.io/templates"] {
      all[name] = Definition(kinds: pod)
    }
    all["prometheus.istio.io/merge-metrics"] = Definition(kinds: pod, problem: truth)
    all["status.sidecar.istio.io/port"] = Definition(kinds: pod, problem: statusPort)
    for name in ["initialDelaySeconds", "periodSeconds", "failureThreshold"] {
      all["readiness.status.sidecar.istio.io/\(name)"] = Definition(kinds: pod, problem: number)
    }
    all["readiness.status.sidecar.istio.io/applicationPorts"] = Definition(kinds: pod)
    let captured: [(String, @Sendable (String) -> String?)] = [
      ("includeOutboundIPRanges", blocksOrAll), ("excludeOutboundIPRanges", blocks), ("includeInboundPorts", portsOrAll),
      ("excludeInboundPorts", ports), ("includeOutboundPorts", portsOrAll), ("excludeOutboundPorts", ports),
    ]
    for (name, problem) in captured { all["traffic.sidecar.istio.io/\(name)"] = Definition(kinds: pod, problem: problem) }
    for name in ["kubevirtInterfaces", "excludeInterfaces"] { all["traffic.sidecar.istio.io/\(name)"] = Definition(kinds: pod) }
    return all
  }()
}
