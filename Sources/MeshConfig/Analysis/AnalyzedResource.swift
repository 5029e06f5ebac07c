/// One object as an analyzer sees it: of any kind, valid or not.
struct AnalyzedResource {
  let kind: String
  let group: String
  /// As written; empty for kinds without one and where nothing is written.
  let namespace: String
  let name: String
  let source: String
  let root: DocumentTree

  var spec: DocumentTree { root["spec"] }
  var status: DocumentTree { root["status"] }
  var labels: [String: String] { root["metadata"]["labels"].textMap }
  var annotations: [String: String] { root["metadata"]["annotations"].textMap }
  /// `namespace/name`, or `name` without a namespace.
  var fullName: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
  /// `Kind namespace/name`
  var label: String { "\(kind) \(fullName)" }

  /// nil for what is no object.
  init?(_ document: YAMLNode, source: String, namespace: String = "") {
    let root = DocumentTree(document)
    guard let kind = root["kind"].text, let version = root["apiVersion"].text, let name = root["metadata"]["name"].text
    else { return nil }
    self.kind = kind
    let parts = version.split(separator: "/", maxSplits: 1)
    group = parts.count == 2 ? String(parts[0]) : ""
    self.namespace = Self.isClusterScoped(kind) ? "" : root["metadata"]["namespace"].text ?? namespace
    self.name = name
    self.source = source
    self.root = root
  }

  private static func isClusterScoped(_ kind: String) -> Bool {
    kind == "Namespace" || kind == "Node" || kind == "GatewayClass" || kind == "IngressClass"
      || kind == "CustomResourceDefinition"
      || kind.hasSuffix("WebhookConfiguration")
  }

  /// Whether this is a part of the control plane itself.
  var isControlPlane: Bool { labels["istio"] != nil || labels["release"] == "istio" }
}

/// Which type an analyzer asks for. Two groups have a `Gateway`.
enum AnalyzedKind: Hashable {
  case named(String)
  case istioGateway
  case kubernetesGateway

  init(_ resource: AnalyzedResource) {
    switch (resource.kind, resource.group) {
    case ("Gateway", "gateway.networking.k8s.io"): self = .kubernetesGateway
    case ("Gateway", _): self = .istioGateway
    default: self = .named(resource.kind)
    }
  }
}
