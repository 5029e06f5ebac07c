/// Istio's validation rules that concern several fields of a Sidecar.
enum SidecarRules {
  static func check(_ sidecar: Sidecar, into report: inout Report) {
    let ingress = FieldPath.spec / "ingress"
    for (index, listener) in sidecar.ingress.enumerated()
    where sidecar.ingress[..<index].contains(where: { $0.port.number == listener.port.number }) {
      report.error(ingress[index] / "port", "sidecar: ports on IP bound listeners must be unique")
    }
    let egress = FieldPath.spec / "egress"
    let open = sidecar.egress.indices.filter { sidecar.egress[$0].port == nil }
    if open.count > 1 { report.error(egress, "sidecar: only one egress listener can have no port") }
    if let first = open.first, open.count == 1, first != sidecar.egress.count - 1 {
      report.error(egress[first], "sidecar: an egress listener with no port must be the last")
    }
    let ports = sidecar.egress.compactMap { item in item.port.map { "\(item.bind ?? ""):\($0.number)" } }
    for (index, port) in ports.enumerated() where ports[..<index].contains(port) {
      report.error(egress, "sidecar: ports on IP bound listeners must be unique")
    }
  }
}
