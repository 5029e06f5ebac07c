/// Rules about one object that its schema cannot say (Istio, validation).
enum ObjectRules {
  static func check(_ spec: MeshObject.Spec, meta: ObjectMeta, into report: inout Report) {
    switch spec {
    case .virtualService(let value): VirtualServiceRules.check(value, namespace: meta.namespace, into: &report)
    case .destinationRule(let value): DestinationRuleRules.check(value, namespace: meta.namespace, into: &report)
    case .gateway(let value): GatewayRules.check(value, into: &report)
    case .serviceEntry(let value): ServiceEntryRules.check(value, namespace: meta.namespace, into: &report)
    case .service(let value): checkService(value, into: &report)
    case .authorizationPolicy(let value): PolicyRules.check(value, meta: meta, into: &report)
    case .configMap(let value): MeshConfiguration.check(value, meta: meta, into: &report)
    case .sidecar(let value): PolicyRules.check(value, into: &report)
    default: break
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
