/// What becomes of objects that are kept although nothing acts on them yet.
enum Enforcement {
  /// nil when the mesh acts on such an object.
  static func consequence(of spec: MeshObject.Spec) -> String? {
    switch spec {
    case .peerAuthentication: "nothing demands mutual TLS by it"
    case .authorizationPolicy: "requests are not checked against it"
    case .requestAuthentication: "tokens are not verified"
    case .telemetry: "the node's own settings decide what is recorded"
    case .envoyFilter(let filter):
      filter.patches.allSatisfy(\.isEnforced) ? nil : "only local rate limits take effect; there is no Envoy here to patch"
    case .proxyExtension: "the module does not run"
    case .proxyConfig: "a node has one proxy, set by its command line"
    case .ingress(let ingress): ingress.className == nil ? "it names no class: write ingressClassName: istio" : nil
    case .workloadGroup: "workloads take it with mesh-node run --group"
    default: nil
    }
  }
}
