/// Sidecar injection by Kubernetes: which namespaces and workloads get a proxy, and whether it is the right one.
enum InjectionAnalysis {
  static let analyzers = [
    Analyzer("injection.Analyzer", "namespaces and workloads without a proxy", .kubernetes, injection),
    Analyzer("injection.ImageAnalyzer", "proxies of another version than the injector's", .kubernetes, images),
    Analyzer("injection.ImageAutoAnalyzer", "image: auto where nothing is injected", .kubernetes, automaticImages),
  ]

  static let injectionLabel = "istio-injection"
  static let proxyContainer = "istio-proxy"
  private static let revisionLabel = "istio.io/rev"
  private static let modeLabel = "istio.io/dataplane-mode"
  private static let configMap = "istio-sidecar-injector"

  /// The image of the proxy among containers.
  static func proxyImage(in containers: [DocumentTree]) -> String? {
    containers.first { $0["name"].text == proxyContainer }?["image"].text.flatMap { $0.isEmpty ? nil : $0 }
  }

  private static func containers(_ spec: DocumentTree) -> [DocumentTree] {
    spec["containers"].items + spec["initContainers"].items
  }

  private static func configMapName(_ revision: String?) -> String {
    guard let revision, !revision.isEmpty, revision != "default" else { return configMap }
    return "\(configMap)-\(revision)"
  }

  /// The injector's `values`, by the name of their ConfigMap.
  private static func values(_ input: AnalysisInput) -> [String: DocumentTree] {
    var values: [String: DocumentTree] = [:]
    for map in input.all("ConfigMap") where map.name.hasPrefix(configMap) {
      guard let text = map.root["data"]["values"].text else { continue }
      values[map.name] = DocumentTree(YAMLParser.parse(Array(text.utf8)).documents.first)
    }
    return values
  }

  @Sendable private static func injection(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let values = values(input)
    var injected: Set<String> = []
    for namespace in input.all("Namespace") where namespace.name != input.rootNamespace {
      let labels = namespace.labels
      let written = labels[injectionLabel]
      var marks = written.map { ["\(injectionLabel)=\($0)"] } ?? []
      for label in [revisionLabel, modeLabel] {
        if let value = labels[label], written == nil || written == "enabled" { marks.append("\(label)=\(value)") }
      }
      if marks.count > 1 {
        report.add(
          .severalInjectionLabels, namespace, at: .root / "metadata",
          "it has several labels for injection: \(marks.joined(separator: ", "))")
      }
      if labels[modeLabel] == "ambient" { continue }
      if (written ?? "").isEmpty && labels[revisionLabel] == nil {
        let byDefault = values[configMapName(nil)]?["sidecarInjectorWebhook"]["enableNamespacesByDefault"].isTrue ?? false
        let message: AnalysisMessage = byDefault ? .injectionByDefault : .namespaceNotInjected
        let reason =
          byDefault ? "proxies are injected by default" : "no proxies are injected: label it \(injectionLabel)=enabled"
        report.add(message, namespace, at: .root / "metadata", reason)
        continue
      }
      if written == "enabled" { injected.insert(namespace.name) }
    }
    for pod in input.pods where injected.contains(pod.namespace) {
      let wish = pod.labels["sidecar.istio.io/inject"] ?? pod.annotations["sidecar.istio.io/inject"] ?? ""
      if wish.lowercased() == "false" || pod.spec["hostNetwork"].isTrue { continue }
      if proxyImage(in: containers(pod.spec)) == nil {
        report.add(.podMissingProxy, pod, "it has no proxy although its namespace has injection: start it again")
      }
    }
  }

  // MARK: Images

  @Sendable private static func images(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let images = values(input).mapValues { values -> String in
      let global = values["global"]
      let image = global["proxy"]["image"].text ?? ""
      if image.contains("/") { return image }
      return "\(global["hub"].text ?? "")/\(image):\(global["tag"].text ?? "")"
    }
    guard !images.isEmpty else { return }
    var mismatched: [String: [String]] = [:]
    for pod in input.pods {
      guard let namespace = input.find("Namespace", pod.namespace, from: "") else { continue }
      let labels = namespace.labels
      guard labels[injectionLabel] == "enabled" || labels[revisionLabel] != nil,
        (pod.annotations["sidecar.istio.io/proxyImage"] ?? "").isEmpty,
        let image = images[configMapName(labels[revisionLabel])]
      else { continue }
      let variant = imageType(of: pod, input)
      for container in containers(pod.spec) where container["name"].text == proxyContainer {
        let shown = container["image"].text ?? ""
        if shown != image && shown != "\(image)-\(variant)" { mismatched[pod.namespace, default: []].append(pod.name) }
      }
    }
    for namespace in input.all("Namespace") {
      guard let pods = mismatched[namespace.name] else { continue }
      report.add(
        .imageMismatch, namespace,
        "the proxies of \(pods.sorted().joined(separator: ", ")) are not those that would be injected: start them again")
    }
  }

  /// By annotation, then by the ProxyConfig of the workload, its namespace, the mesh, then MeshConfig.
  private static func imageType(of pod: AnalyzedResource, _ input: AnalysisInput) -> String {
    if let text = pod.annotations["proxy.istio.io/config"] {
      let written = DocumentTree(YAMLParser.parse(Array(text.utf8)).documents.first)
      if let type = written["image"]["imageType"].text { return type }
    }
    func type(in namespace: String, where isMeant: (AnalyzedResource) -> Bool) -> String? {
      let configs = input.all("ProxyConfig").filter { $0.namespace == namespace && isMeant($0) }
      return configs.compactMap { $0.spec["image"]["imageType"].text }.first
    }
    let selected = type(in: pod.namespace) { config in
      let selector = config.spec["selector"]["matchLabels"].textMap
      return !selector.isEmpty && Labels.match(selector, pod.labels)
    }
    let isPlain: (AnalyzedResource) -> Bool = { $0.spec["selector"]["matchLabels"].textMap.isEmpty }
    return selected ?? type(in: pod.namespace, where: isPlain) ?? type(in: input.rootNamespace, where: isPlain)
      ?? input.meshConfig["defaultConfig"]["image"]["imageType"].text ?? ""
  }

  @Sendable private static func automaticImages(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    func isAutomatic(_ spec: DocumentTree) -> Bool {
      spec["containers"].items.contains { $0["name"].text == proxyContainer && $0["image"].text == "auto" }
    }
    let webhooks = input.all("MutatingWebhookConfiguration").flatMap { $0.root["webhooks"].items }.filter {
      $0["name"].text?.hasSuffix("istio.io") == true
    }
    for pod in input.pods where isAutomatic(pod.spec) {
      report.add(.imageAutoError, pod, "its proxy has 'image: auto', which only injection replaces: it cannot start")
    }
    for deployment in input.all("Deployment") where isAutomatic(deployment.spec["template"]["spec"]) {
      let name = deployment.namespace.isEmpty ? "default" : deployment.namespace
      let namespaceLabels = input.find("Namespace", name, from: "")?.labels ?? [:]
      let labels = deployment.spec["template"]["metadata"]["labels"].textMap
      let isInjected = webhooks.contains { hook in
        WebhookAnalysis.matches(hook["namespaceSelector"], namespaceLabels)
          && WebhookAnalysis.matches(hook["objectSelector"], labels)
      }
      if !isInjected {
        report.add(.imageAutoWarning, deployment, "its proxy has 'image: auto', but no webhook injects into its workloads")
      }
    }
  }
}
