/// Sidecars, Telemetries, security policies, EnvoyFilters, and what conditions say of objects.
enum PolicyAnalysis {
  static let analyzers = [
    Analyzer("sidecar.SelectorAnalyzer", "Sidecars that contradict each other or select nothing", .workloads, sidecars),
    Analyzer("telemetry.SelectorAnalyzer", "Telemetries that overlap or select nothing", .workloads, telemetrySelectors),
    Analyzer("telemetry.DefaultSelectorAnalyzer", "several Telemetries for a whole namespace", telemetryDefaults),
    Analyzer("telemetry.ProviderAnalyzer", "access logging without a provider", telemetryProviders),
    Analyzer("k8sgateway.SelectorAnalyzer", "selectors that have no effect on Gateway API gateways", .workloads, selectors),
    Analyzer("authz.AuthorizationPoliciesAnalyzer", "authorization policies that select nothing", .workloads, policies),
    Analyzer("authn.BlockedCIDRsAnalyzer", "key sets that may be fetched from anywhere", .kubernetes, blockedAddresses),
    Analyzer("conditions.ConditionAnalyzer", "conditions that say something is wrong", conditions),
    Analyzer("deprecation.FieldAnalyzer", "deprecated fields", deprecated),
    Analyzer("envoyfilter.EnvoyPatchAnalyzer", "patches that depend on others' order or do nothing", patches),
    Analyzer("multicluster.MeshNetworksAnalyzer", "networks of registries that nobody knows", networks),
  ]

  // MARK: Selectors

  @Sendable private static func sidecars(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    var byPod: [(pod: AnalyzedResource, sidecars: [AnalyzedResource])] = input.pods.map { ($0, []) }
    var unselected: [String: [AnalyzedResource]] = [:]
    for sidecar in input.all("Sidecar") {
      let selector = sidecar.spec["workloadSelector"]["labels"].textMap
      guard !selector.isEmpty else {
        unselected[sidecar.namespace, default: []].append(sidecar)
        continue
      }
      var isUsed = false
      for index in byPod.indices where byPod[index].pod.namespace == sidecar.namespace {
        guard Labels.match(selector, byPod[index].pod.labels) else { continue }
        byPod[index].sidecars.append(sidecar)
        isUsed = true
      }
      if !isUsed { report.noWorkload(sidecar, selector, at: .spec / "workloadSelector") }
    }
    for (pod, sidecars) in byPod {
      let isAmbient = pod.annotations["ambient.istio.io/redirection"] == "enabled"
      for sidecar in sidecars {
        if isAmbient {
          report.add(.ineffectivePolicy, sidecar, "the workloads it selects are in ambient mode, where it does nothing")
        } else if sidecars.count > 1 {
          let names = sidecars.map(\.name).sorted().joined(separator: ", ")
          report.add(.conflictingSidecarSelectors, sidecar, "\(names) all select \(pod.fullName)")
        }
      }
    }
    for (namespace, sidecars) in unselected.sorted(by: { $0.key < $1.key }) {
      let isAmbient = input.find("Namespace", namespace, from: "").map(isAmbient) ?? false
      for sidecar in sidecars {
        if isAmbient {
          report.add(.ineffectivePolicy, sidecar, "the namespace is in ambient mode, where it does nothing")
        } else if sidecars.count > 1 {
          let names = sidecars.map(\.name).sorted().joined(separator: ", ")
          report.add(.severalSidecarsWithoutSelector, sidecar, "\(names) are all for the whole namespace \(namespace)")
        }
      }
    }
  }

  private static func isAmbient(_ namespace: AnalyzedResource) -> Bool {
    let labels = namespace.labels
    guard labels[InjectionAnalysis.injectionLabel] != "enabled", (labels["istio.io/rev"] ?? "").isEmpty else { return false }
    return labels["istio.io/dataplane-mode"] == "ambient"
  }

  @Sendable private static func telemetrySelectors(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    var byPod: [(pod: AnalyzedResource, telemetries: [AnalyzedResource])] = input.pods.map { ($0, []) }
    for telemetry in input.all("Telemetry") {
      let selector = telemetry.spec["selector"]["matchLabels"].textMap
      guard !selector.isEmpty else { continue }
      var isUsed = false
      for index in byPod.indices where byPod[index].pod.namespace == telemetry.namespace {
        guard Labels.match(selector, byPod[index].pod.labels) else { continue }
        byPod[index].telemetries.append(telemetry)
        isUsed = true
      }
      if !isUsed { report.noWorkload(telemetry, selector, at: .spec / "selector") }
    }
    for (pod, telemetries) in byPod where telemetries.count > 1 {
      let names = telemetries.map(\.name).sorted().joined(separator: ", ")
      for telemetry in telemetries {
        report.add(.conflictingTelemetrySelectors, telemetry, at: .spec / "selector", "\(names) all select \(pod.fullName)")
      }
    }
  }

  @Sendable private static func telemetryDefaults(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let all = input.all("Telemetry").filter { !$0.spec["selector"].exists }
    for telemetry in all {
      let same = all.filter { $0.namespace == telemetry.namespace }
      guard same.count > 1 else { continue }
      let names = same.map(\.name).sorted().joined(separator: ", ")
      report.add(
        .severalTelemetriesWithoutSelector, telemetry, "\(names) are all for the whole namespace \(telemetry.namespace)")
    }
  }

  @Sendable private static func telemetryProviders(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    guard input.meshConfig["defaultProviders"]["accessLogging"].items.isEmpty else { return }
    for telemetry in input.all("Telemetry") {
      for (index, item) in telemetry.spec["accessLogging"].items.enumerated() {
        if item["disabled"].isTrue || !item["providers"].items.isEmpty { continue }
        report.add(
          .invalidTelemetryProvider, telemetry, at: (.spec / "accessLogging")[index],
          "it names no provider and the mesh has none by default: nothing is logged")
      }
    }
  }

  @Sendable private static func selectors(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let gatewayName = "gateway.networking.k8s.io/gateway-name"
    for kind in ["AuthorizationPolicy", "RequestAuthentication", "Telemetry", "WasmPlugin"] {
      for policy in input.all(kind) {
        guard !policy.spec["targetRef"].exists, policy.spec["targetRefs"].items.isEmpty, policy.spec["selector"].exists else {
          continue
        }
        let selector = policy.spec["selector"]["matchLabels"].textMap
        for pod in input.pods where pod.namespace == policy.namespace && Labels.match(selector, pod.labels) {
          guard let gateway = pod.labels[gatewayName] else { continue }
          report.add(
            .ineffectiveSelector, policy, at: .spec / "selector",
            "selectors do nothing at the Gateway API gateway \(gateway): use targetRefs")
        }
      }
    }
  }

  @Sendable private static func policies(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for policy in input.all("AuthorizationPolicy") {
      let selector = policy.spec["selector"]["matchLabels"].textMap
      guard !selector.isEmpty else { continue }
      let pods = input.pods.filter { policy.namespace == input.rootNamespace || $0.namespace == policy.namespace }
      if pods.contains(where: { Labels.match(selector, $0.labels) }) { continue }
      report.add(
        .noMatchingWorkloads, policy, at: .spec / "selector", "no workload has the labels \(GatewayAnalysis.text(selector))")
    }
  }

  @Sendable private static func blockedAddresses(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let rules = input.all("RequestAuthentication").count
    guard rules > 0 else { return }
    for deployment in input.all("Deployment") where deployment.labels["app"] == "istiod" {
      let variables = deployment.spec["template"]["spec"]["containers"].items.flatMap { $0["env"].items }
      let isRestricted = variables.contains { variable in
        variable["name"].text == "BLOCKED_CIDRS_IN_JWKS_URIS" && !(variable["value"].text ?? "").isEmpty
      }
      if isRestricted { continue }
      report.add(
        .unrestrictedKeyFetch, deployment,
        "key sets of \(rules) RequestAuthentication objects may be fetched from any address: set BLOCKED_CIDRS_IN_JWKS_URIS")
    }
  }

  // MARK: Conditions and fields

  @Sendable private static func conditions(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let waypoint: Set<String> = ["istio.io/WaypointBound"]
    let attached: Set<String> = ["Accepted", "Programmed", "ResolvedRefs"]
    let watched: [(AnalyzedKind, Set<String>)] = [
      (.named("Service"), waypoint), (.named("ServiceEntry"), waypoint), (.named("WorkloadEntry"), waypoint),
      (.named("AuthorizationPolicy"), ["ZtunnelAccepted", "WaypointAccepted"]), (.kubernetesGateway, attached),
      (.named("HTTPRoute"), attached), (.named("GRPCRoute"), attached),
    ]
    for (kind, types) in watched {
      for resource in input.all(kind) {
        let parents = resource.status["parents"].items.flatMap { $0["conditions"].items }
        for condition in resource.status["conditions"].items + parents {
          let type = condition["type"].text ?? ""
          let reason = condition["reason"].text ?? ""
          let isPartial =
            kind == .named("AuthorizationPolicy") && type == "WaypointAccepted" && reason == "PartiallyInvalid"
          guard types.contains(type) && condition["status"].text?.lowercased() == "false" || isPartial else { continue }
          report.add(
            .negativeCondition, resource, at: .root / "status",
            "the condition \(type) says \(reason): \(condition["message"].text ?? "")")
        }
      }
    }
  }

  @Sendable private static func deprecated(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for service in input.all("VirtualService") {
      for (index, rule) in service.spec["http"].items.enumerated() {
        guard (rule["fault"]["delay"]["percent"].number ?? 0) > 0 else { continue }
        report.add(
          .deprecated, service, at: (.spec / "http")[index] / "fault" / "delay" / "percent",
          "fault.delay.percent is deprecated: use percentage")
      }
    }
    for sidecar in input.all("Sidecar") where sidecar.spec["outboundTrafficPolicy"]["egressProxy"].exists {
      report.add(
        .deprecated, sidecar, at: .spec / "outboundTrafficPolicy" / "egressProxy",
        "outboundTrafficPolicy.egressProxy is ignored")
    }
  }

  // MARK: EnvoyFilter and networks

  @Sendable private static func patches(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    /// Names that patches for certain proxy versions give, over all objects.
    var versioned: Set<String> = []
    for filter in input.all("EnvoyFilter") {
      let hasPriority = (filter.spec["priority"].number ?? 0) != 0
      for (index, item) in filter.spec["configPatches"].items.enumerated() {
        guard item["patch"].exists else { break }
        let path = (FieldPath.spec / "configPatches")[index] / "patch"
        let place = item["applyTo"].text ?? ""
        let name = patchedName(item)
        func relative() {
          if hasPriority { return }
          let message: AnalysisMessage = versioned.contains(name) ? .relativeOperationWithVersion : .relativeOperation
          report.add(
            message, filter, at: path,
            "where the patch goes depends on other filters: set a priority, or use INSERT_FIRST or ADD")
        }
        let isRoute = place == "ROUTE_CONFIGURATION" || place == "HTTP_ROUTE"
        switch item["patch"]["operation"].text {
        case "ADD" where isRoute:
          report.add(.addUsedWrongly, filter, at: path, "ADD does nothing on \(place)")
        case "REMOVE" where isRoute:
          report.add(.removeUsedWrongly, filter, at: path, "REMOVE does nothing on \(place)")
        case "REPLACE" where !["NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"].contains(place):
          report.add(.replaceUsedWrongly, filter, at: path, "REPLACE does nothing on \(place)")
        case "REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER": relative()
        default: break
        }
        if !(item["match"]["proxy"]["proxyVersion"].text ?? "").isEmpty { versioned.insert(name) }
      }
    }
  }

  private static func patchedName(_ patch: DocumentTree) -> String {
    guard patch["patch"]["value"].exists else { return "" }
    return patch["patch"]["value"]["name"].text ?? patch["match"]["listener"]["filterChain"]["filter"]["name"].text ?? ""
  }

  @Sendable private static func networks(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    var known: Set<String> = ["Mock", "Kubernetes", "External"]
    for secret in input.all("Secret") where secret.labels["istio/multiCluster"] == "true" {
      known.formUnion(secret.root["data"].entries.map(\.key))
    }
    guard
      let resource = input.meshNetworks.node.flatMap({ node in
        AnalyzedResource(meshNetworks: node, namespace: input.rootNamespace)
      })
    else { return }
    for (network, value) in input.meshNetworks["networks"].entries {
      for (index, endpoint) in value["endpoints"].items.enumerated() {
        guard let registry = endpoint["fromRegistry"].text, !known.contains(registry) else { continue }
        report.add(
          .unknownNetworkRegistry, resource, at: (.root / "networks" / network / "endpoints")[index],
          "the network \(network) names the registry '\(registry)', which nobody knows")
      }
    }
  }
}

extension AnalysisReport {
  fileprivate mutating func noWorkload(_ resource: AnalyzedResource, _ selector: [String: String], at path: FieldPath) {
    add(.referenceNotFound, resource, at: path, "no workload of its namespace has the labels \(GatewayAnalysis.text(selector))")
  }
}

extension AnalyzedResource {
  /// MeshNetworks have no metadata of their own.
  fileprivate init?(meshNetworks node: YAMLNode, namespace: String) {
    func text(_ text: String) -> YAMLNode { YAMLNode(.string(text), at: node.position) }
    func entry(_ key: String, _ value: YAMLNode) -> YAMLEntry { YAMLEntry(key: key, position: node.position, value: value) }
    guard case .mapping(let entries) = node.value else { return nil }
    let metadata = YAMLNode(
      .mapping([entry("name", text("meshnetworks")), entry("namespace", text(namespace))]), at: node.position)
    let document =
      entries + [
        entry("apiVersion", text("v1")), entry("kind", text("MeshNetworks")), entry("metadata", metadata),
      ]
    self.init(YAMLNode(.mapping(document), at: node.position), source: "")
  }
}
