/// Namespaces that the mesh does not see (Istio, `discoverySelectors`).
enum DiscoveryAnalysis {
  static let analyzers = [
    Analyzer("mesh.DiscoverySelectors", "namespaces whose objects the mesh does not see", unseen)
  ]

  @Sendable private static func unseen(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    var discovery = Discovery()
    discovery.selectors = selectors(input)
    guard !discovery.selectors.isEmpty else { return }
    for namespace in input.all("Namespace") { _ = discovery.use(namespace.labels, of: namespace.name) }
    let isOwn = { (resource: AnalyzedResource) in resource.label == MeshConfiguration.key.description }
    for resource in input.configuration
    where !isOwn(resource) && !resource.namespace.isEmpty && !discovery.sees(resource.namespace) {
      report.add(
        .namespaceNotSeen, resource, at: .root / "metadata",
        "accepted, not enforced: discoverySelectors do not select namespace \(resource.namespace)")
    }
  }

  private static func selectors(_ input: AnalysisInput) -> [GatewayAPI.Selector] {
    return input.meshConfig["discoverySelectors"].items.compactMap { item in
      var report = Report(source: "", document: YAMLNode(.null, at: SourcePosition(line: 1, column: 1)))
      return item.node.flatMap { Fields.decode($0, at: .root, into: &report) }
    }
  }
}
