import Primitives

@testable import MeshConfig

/// Objects of every kind that decides where requests go, drawn so that their names, namespaces and wildcards often meet.
struct DrawnObjects {
  var draws: SeededGenerator

  static let namespaces = ["default", "other", "third"]

  mutating func one(of texts: [String]) -> String { texts[Int(draws.below(UInt64(texts.count)))] }
  private mutating func isRare(_ odds: UInt64) -> Bool { draws.below(odds) == 0 }
  private mutating func namespace() -> String { one(of: Self.namespaces) }

  /// A host as rules write it: short, whole, of another namespace, or of nobody.
  private mutating func destination() -> String {
    one(of: [
      "s\(draws.below(4))", "s\(draws.below(4))", "s\(draws.below(4)).\(namespace()).svc.cluster.local",
      "e\(draws.below(2)).example.com", "alias", "nobody",
    ])
  }

  private mutating func exportTo() -> String { one(of: ["['*']", "['.']", "[default]", "[other, third]", "[]"]) }

  private mutating func route() -> String {
    let subset = isRare(2) ? ", subset: v\(draws.below(3))" : ""
    let mirror = isRare(6) ? "\n  mirrors: [{destination: {host: '\(destination())'}, percentage: {value: 50}}]" : ""
    return "  route: [{destination: {host: '\(destination())', port: {number: 80}\(subset)}}]\(mirror)"
  }

  mutating func object() -> String {
    switch draws.below(16) {
    case 0...2: service()
    case 3: serviceEntry()
    case 4: workloadEntry()
    case 5...7: virtualService()
    case 8: connectionRules()
    case 9...12: destinationRule()
    case 13...14: sidecar()
    default: gateway()
    }
  }

  mutating func service() -> String {
    if isRare(5) {
      return Fixture.object(
        "Service", "alias", namespace: namespace(),
        spec:
          "type: ExternalName\nexternalName: '\(one(of: ["s0.default.svc.cluster.local", "s1.other.svc.cluster.local", "elsewhere.org"]))'\n"
          + "ports: [{name: http, port: 80}]")
    }
    let index = draws.below(4)
    let ports = one(of: [
      "{name: http, port: 80, targetPort: 9080}", "{name: http, port: 80, targetPort: 9080}",
      "{name: tcp, port: 9000, targetPort: 9080}", "{name: http, port: 80}, {name: grpc, port: 81, targetPort: 9080}",
      "{name: auto, port: 82, targetPort: 9080}",
    ])
    let selector = isRare(4) ? "{app: s\(draws.below(4))}" : "{app: s\(index)}"
    let text = Fixture.object("Service", "s\(index)", namespace: namespace(), spec: "selector: \(selector)\nports: [\(ports)]")
    guard isRare(3) else { return text }
    return text.replacing(
      "metadata:\n", with: "metadata:\n  annotations: {networking.istio.io/exportTo: '\(one(of: [".", "*", "default"]))'}\n")
  }

  private mutating func serviceEntry() -> String {
    let host = one(of: ["e0.example.com", "e1.example.com", "*.example.com", "s2.default.svc.cluster.local"])
    let addresses = one(of: ["[]", "[240.0.0.\(draws.below(3) + 1)]", "[10.\(draws.below(3)).0.0/16]"])
    let behind = one(of: [
      "resolution: STATIC\nendpoints: [{address: 10.9.0.1, labels: {version: v1}}]",
      "resolution: STATIC\nworkloadSelector: {labels: {app: s\(draws.below(4))}}", "resolution: NONE",
    ])
    return Fixture.object(
      "ServiceEntry", "e\(draws.below(4))", namespace: namespace(),
      spec: "hosts: ['\(host)']\naddresses: \(addresses)\nexportTo: \(exportTo())\nlocation: MESH_INTERNAL\n"
        + "ports: [{number: \(one(of: ["80", "80", "443"])), name: \(one(of: ["http", "tcp", "tls"])), protocol: \(one(of: ["HTTP", "TCP", "TLS"]))}]\n\(behind)"
    )
  }

  private mutating func workloadEntry() -> String {
    Fixture.object(
      "WorkloadEntry", "w\(draws.below(3))", namespace: namespace(),
      spec: "address: 10.8.0.\(draws.below(3) + 1)\nlabels: {app: s\(draws.below(4)), version: v\(draws.below(3))}")
  }

  private mutating func virtualService() -> String {
    let name = "v\(draws.below(6))"
    if isRare(5) {
      // A delegate, of whom others take rules.
      return Fixture.object(
        "VirtualService", "inner\(draws.below(2))", namespace: namespace(),
        spec: "exportTo: \(exportTo())\nhttp:\n- match: [{uri: {prefix: /inner/\(draws.below(3))}}]\n\(route())")
    }
    let host = one(of: [
      "s\(draws.below(4))", "s\(draws.below(4)).\(namespace()).svc.cluster.local", "e\(draws.below(2)).example.com",
      "*.example.com", "*.default.svc.cluster.local", "unknown.org", "alias", "alias.default.svc.cluster.local",
    ])
    let gateways = one(of: ["[mesh]", "[mesh]", "[default/g0]", "[mesh, default/g1]"])
    let source = one(of: ["uri: {prefix: /a\(draws.below(3))}", "sourceLabels: {app: s0}", "sourceNamespace: other"])
    let delegate = isRare(4) ? "- delegate: {name: inner\(draws.below(2)), namespace: \(namespace())}\n" : ""
    return Fixture.object(
      "VirtualService", name, namespace: namespace(),
      spec:
        "hosts: ['\(host)']\ngateways: \(gateways)\nexportTo: \(exportTo())\nhttp:\n\(delegate)- match: [{\(source)}]\n\(route())\n"
        + "- timeout: \(draws.below(9) + 1)s\n\(route())")
  }

  private mutating func connectionRules() -> String {
    let host = one(of: ["s\(draws.below(4))", "e\(draws.below(2)).example.com"])
    let rules =
      isRare(2)
      ? "tcp: [{route: [{destination: {host: '\(destination())', port: {number: 9000}}}]}]"
      : "tls:\n- match: [{port: 443, sniHosts: ['\(one(of: ["e0.example.com", "*.example.com"]))']}]\n"
        + "  route: [{destination: {host: '\(destination())', port: {number: 443}}}]"
    return Fixture.object(
      "VirtualService", "c\(draws.below(2))", namespace: namespace(),
      spec:
        "hosts: ['\(rules.hasPrefix("tls") ? "*.example.com" : host)']\ngateways: \(one(of: ["[mesh]", "[mesh, default/g0]"]))\n\(rules)"
    )
  }

  private mutating func destinationRule() -> String {
    let host = one(of: [
      "s\(draws.below(4))", "s\(draws.below(4))", "s\(draws.below(4)).\(namespace()).svc.cluster.local",
      "*.default.svc.cluster.local",
      "*.svc.cluster.local", "*", "e\(draws.below(2)).example.com", "*.example.com", "alias",
    ])
    let scope = isRare(4) ? "workloadSelector: {matchLabels: {app: s\(draws.below(2))}}" : "exportTo: \(exportTo())"
    let subsets = (0..<draws.below(4)).map { "- {name: v\($0), labels: {version: v\(draws.below(3))}}" }
    let locality = isRare(8) ? "\n  loadBalancer: {localityLbSetting: {failoverPriority: [version]}}" : ""
    return Fixture.object(
      "DestinationRule", "d\(draws.below(5))", namespace: one(of: Self.namespaces + ["istio-system"]),
      spec:
        "host: '\(host)'\n\(scope)\ntrafficPolicy:\n  outlierDetection: {consecutive5xxErrors: \(draws.below(5) + 1)}\(locality)"
        + (subsets.isEmpty ? "" : "\nsubsets:\n" + subsets.joined(separator: "\n")))
  }

  private mutating func sidecar() -> String {
    let namespace = one(of: Self.namespaces + ["istio-system"])
    let selector = namespace != "istio-system" && isRare(2) ? "workloadSelector: {labels: {app: s\(draws.below(3))}}\n" : ""
    let hosts = one(of: [
      "['./*']", "['*/*']", "['~/*']", "['default/s0.default.svc.cluster.local', './*']", "['*/*.example.com', 'other/*']",
      "['*/*.default.svc.cluster.local']",
    ])
    let port = isRare(4) ? "\n- port: {number: 80, name: http, protocol: HTTP}\n  hosts: ['*/*']" : ""
    let mode = isRare(3) ? "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n" : ""
    return Fixture.object(
      "Sidecar", selector.isEmpty ? "all" : "some", namespace: namespace,
      spec: "\(selector)\(mode)egress:\(port)\n- hosts: \(hosts)")
  }

  private mutating func gateway() -> String {
    let index = draws.below(2)
    let server = one(of: [
      "port: {number: 8080, name: http, protocol: HTTP}", "port: {number: 8081, name: http, protocol: HTTP}",
      "port: {number: 9443, name: tls, protocol: TLS}\n  tls: {mode: PASSTHROUGH}",
      "port: {number: 9001, name: tcp, protocol: TCP}",
    ])
    return Fixture.object(
      "Gateway", "g\(index)",
      spec: "selector: {istio: ingressgateway}\nservers:\n- \(server)\n  hosts: ['\(one(of: ["*", "other/*"]))']")
  }

  mutating func workload() throws -> WorkloadRecord {
    let index = draws.below(4)
    var workload = try Fixture.workload(
      isRare(5) ? nil : "s\(index)", "v\(draws.below(3))", node: "n\(draws.below(8) == 0 ? 1 : draws.below(3) + 2)",
      namespace: namespace(), port: isRare(8) ? 9081 : 9080, locality: "local/\(one(of: ["a", "b"]))/1")
    if isRare(3) { workload.health = .unhealthy }
    return workload
  }
}
