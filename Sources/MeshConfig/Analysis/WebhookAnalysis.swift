/// Kubernetes' webhooks of a control plane.
enum WebhookAnalysis {
  static let analyzers = [
    Analyzer("webhook.Analyzer", "injectors that overlap or lead nowhere", .kubernetes, webhooks),
    Analyzer(
      "externalcontrolplane.ExternalControlPlaneAnalyzer", "webhooks that are called by address", .kubernetes, addresses),
  ]

  /// Whether labels meet a Kubernetes label selector; nothing written meets all.
  static func matches(_ selector: DocumentTree, _ labels: [String: String]) -> Bool {
    guard Labels.match(selector["matchLabels"].textMap, labels) else { return false }
    return selector["matchExpressions"].items.allSatisfy { expression in
      let value = expression["key"].text.flatMap { labels[$0] }
      let values = expression["values"].texts
      return switch expression["operator"].text {
      case "In": value.map(values.contains) ?? false
      case "NotIn": value.map { !values.contains($0) } ?? true
      case "Exists": value != nil
      case "DoesNotExist": value == nil
      default: false
      }
    }
  }

  private struct Hook {
    let configuration: AnalyzedResource
    let tree: DocumentTree
    var name: String { "\(configuration.fullName)/\(tree["name"].text ?? "")" }
  }

  @Sendable private static func webhooks(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let revisionLabel = "istio.io/rev"
    var revisions: Set<String> = []
    var hooks: [Hook] = []
    for configuration in input.all("MutatingWebhookConfiguration") {
      let trees = configuration.root["webhooks"].items
      let own = Self.revisions(of: configuration, revisionLabel)
      guard !own.isEmpty || trees.contains(where: { $0["name"].text?.hasSuffix("istio.io") == true }) else { continue }
      revisions.formUnion(own)
      hooks += trees.map { Hook(configuration: configuration, tree: $0) }
    }
    for namespaceLabels in labelSets(InjectionAnalysis.injectionLabel, ["enabled", "disabled"], revisions, revisionLabel) {
      for labels in labelSets("sidecar.istio.io/inject", ["true", "false"], revisions, revisionLabel) {
        let matching = hooks.filter {
          matches($0.tree["namespaceSelector"], namespaceLabels) && matches($0.tree["objectSelector"], labels)
        }
        for hook in matching where matching.count > 1 {
          let others = Set(matching.map(\.name)).subtracting([hook.name]).sorted()
          guard !others.isEmpty else { continue }
          report.add(
            .invalidWebhook, hook.configuration,
            "\(hook.name) overlaps with \(others.joined(separator: ", ")): proxies may be injected twice")
        }
      }
    }
    for hook in hooks where hook.tree["clientConfig"]["service"].exists {
      let service = hook.tree["clientConfig"]["service"]
      let (name, namespace) = (service["name"].text ?? "", service["namespace"].text ?? "")
      if input.find("Service", name, from: namespace) == nil {
        report.add(.invalidWebhook, hook.configuration, "there is no Service \(namespace)/\(name) behind \(hook.name)")
      }
    }
  }

  private static func revisions(of configuration: AnalyzedResource, _ label: String) -> Set<String> {
    var found = Set([configuration.labels[label]].compactMap { $0 })
    for hook in configuration.root["webhooks"].items {
      for selector in [hook["namespaceSelector"], hook["objectSelector"]] {
        if let value = selector["matchLabels"].textMap[label] { found.insert(value) }
        for expression in selector["matchExpressions"].items where expression["key"].text == label {
          found.formUnion(expression["values"].texts)
        }
      }
    }
    return found
  }

  /// No label, each value of the label, and all of these with each revision.
  private static func labelSets(
    _ label: String, _ values: [String], _ revisions: Set<String>, _ revisionLabel: String
  ) -> [[String: String]] {
    let plain = [[:]] + values.map { [label: $0] }
    return plain + revisions.sorted().flatMap { revision in plain.map { $0.merging([revisionLabel: revision]) { $1 } } }
  }

  @Sendable private static func addresses(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let validating = input.all("ValidatingWebhookConfiguration").filter {
      $0.name == "istiod-default-validator" || $0.name.hasPrefix("istio-validator")
    }
    let mutating = input.all("MutatingWebhookConfiguration").filter { $0.name.hasPrefix("istio-sidecar-injector") }
    for configuration in validating + mutating {
      for hook in configuration.root["webhooks"].items {
        let name = hook["name"].text ?? ""
        guard let address = hook["clientConfig"]["url"].text else {
          if !hook["clientConfig"]["service"].exists {
            report.add(.invalidExternalControlPlane, configuration, "the webhook \(name) has neither a url nor a service")
          }
          continue
        }
        guard let host = host(of: address) else {
          report.add(.invalidExternalControlPlane, configuration, "the url of the webhook \(name) cannot be read: \(address)")
          continue
        }
        if AddressForm.isAddress(host) {
          report.add(
            .externalControlPlaneAddress, configuration, "the webhook \(name) is called by the address \(host): use a name")
        }
      }
    }
  }

  /// The host of a URL, without brackets and port.
  private static func host(of url: String) -> String? {
    guard let start = url.utf8.firstIndex(of: 0x3A), url[start...].hasPrefix("://") else { return nil }
    let authority = url[url.index(start, offsetBy: 3)...].prefix { $0 != "/" && $0 != "?" }
    if authority.hasPrefix("[") { return String(authority.dropFirst().prefix { $0 != "]" }) }
    return String(authority.prefix { $0 != ":" })
  }
}
