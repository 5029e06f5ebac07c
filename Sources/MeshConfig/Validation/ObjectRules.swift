/// Rules about one object that its schema cannot say (Istio, validation).
enum ObjectRules {
  static func check(_ spec: MeshObject.Spec, kind: ObjectKind, meta: ObjectMeta, into report: inout Report) {
    if kind.group.hasSuffix("istio.io") { checkAnnotations(kind, meta, into: &report) }
    switch spec {
    case .virtualService(let value): VirtualServiceRules.check(value, namespace: meta.namespace, into: &report)
    case .destinationRule(let value): DestinationRuleRules.check(value, namespace: meta.namespace, into: &report)
    case .gateway(let value): GatewayRules.check(value, name: meta.name, into: &report)
    case .serviceEntry(let value): ServiceEntryRules.check(value, namespace: meta.namespace, into: &report)
    case .service(let value): checkService(value, into: &report)
    case .authorizationPolicy(let value): PolicyRules.check(value, meta: meta, into: &report)
    case .configMap(let value): MeshConfiguration.check(value, meta: meta, into: &report)
    case .sidecar(let value): SidecarRules.check(value, into: &report)
    case .workloadEntry(let value): ServiceEntryRules.check(value, into: &report)
    case .workloadGroup(let value):
      checkLabels(value.labels, at: .spec / "metadata" / "labels", into: &report)
      checkLabels(value.template.labels, at: .spec / "template" / "labels", into: &report)
    default: break
    }
  }

  /// Annotations that Istio's admission reads on objects of its own.
  private static func checkAnnotations(_ kind: ObjectKind, _ meta: ObjectMeta, into report: inout Report) {
    let path = FieldPath.root.field("metadata") / "annotations"
    if kind != .authorizationPolicy, meta.annotations[PolicyRules.dryRun] != nil {
      report.error(
        path / PolicyRules.dryRun, "\(kind.documentKind) has no dry run", hint: "only an AuthorizationPolicy has: remove it")
    }
    let always = "internal.istio.io/webhook-always-reject"
    if meta.annotations[always] != nil { report.error(path / always, "it asks to be refused") }
  }

  static func checkLabels(_ labels: [String: String], at path: FieldPath, into report: inout Report) {
    for (key, value) in labels.sorted(by: { $0.key < $1.key }) {
      if let problem = NameForm.labelProblem(key: key, value: value) { report.error(path / key, problem) }
    }
  }

  private static func checkService(_ service: KubernetesService, into report: inout Report) {
    let ports = FieldPath.spec / "ports"
    for (index, port) in service.ports.enumerated() {
      if service.ports[..<index].contains(where: { $0.port == port.port && $0.isUDP == port.isUDP }) {
        report.error(ports[index] / "port", "port \(port.port) stands twice")
      }
      if service.ports.count > 1 && port.name.isEmpty {
        report.error(ports[index] / "name", "required when a Service has several ports")
      }
      if !port.name.isEmpty && service.ports[..<index].contains(where: { $0.name == port.name }) {
        report.error(ports[index] / "name", "the port name '\(port.name.prefix(80))' stands twice")
      }
    }
  }

  /// `exportTo`: namespaces, `.`, `*`, and `~` where `allowsNone`.
  static func checkExportTo(_ exportTo: [String], namespace: String, allowsNone: Bool = false, into report: inout Report) {
    let path = FieldPath.spec / "exportTo"
    var seen: Set<String> = []
    for (index, entry) in exportTo.enumerated() {
      switch entry {
      case "*", ".": break
      case "~" where allowsNone: break
      default:
        if !NameForm.isLabel(entry) { report.error(path[index], "'\(entry.prefix(80))' is not a namespace, '.' or '*'") }
      }
      if !seen.insert(entry == "." ? namespace : entry).inserted {
        report.error(path[index], "duplicate entries in exportTo: '\(entry.prefix(80))' stands twice")
      }
    }
    if exportTo.count > 1 && (exportTo.contains("*") || exportTo.contains("~")) {
      report.error(path, "exportTo cannot have '*' or '~' together with other entries")
    }
  }
}
