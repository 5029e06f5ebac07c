/// All that one analysis looks at.
public struct AnalysisInput {
  /// Why a certificate in PEM cannot be used by a server now; nil when it can.
  public typealias CertificateCheck = ([UInt8]) -> String?

  private var byKind: [AnalyzedKind: [AnalyzedResource]] = [:]
  private var places: [String: Int] = [:]
  private var givenMeshConfig = DocumentTree(nil)
  /// In the mesh's own ConfigMap.
  private var keptMeshConfig = DocumentTree(nil)
  var meshConfig: DocumentTree { givenMeshConfig.node == nil ? keptMeshConfig : givenMeshConfig }
  /// Where given.
  var meshNetworks = DocumentTree(nil)
  /// Nodes open the ports of gateways themselves, so that no Service has to.
  public var nodesOpenPorts = false
  /// Codes, or `*`, that an object asks not to be told of, by its label (Istio, `galley.istio.io/analyze-suppress`).
  private var suppressed: [String: Set<String>] = [:]
  let rootNamespace: String
  let domain: String
  let certificateProblem: CertificateCheck

  /// Namespaces of Kubernetes itself.
  private static let ignoredNamespaces: Set<String> = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"]

  public init(
    rootNamespace: String = "istio-system", domain: String = "cluster.local",
    certificateProblem: @escaping CertificateCheck = { _ in nil }
  ) {
    self.rootNamespace = rootNamespace
    self.domain = domain
    self.certificateProblem = certificateProblem
  }

  /// Adds the objects of a source. A later one of a kind, namespace and name takes the place of an earlier one.
  ///
  /// Nothing is validated; what is no object is left out.
  ///
  /// - Parameter namespace: of objects that name none.
  public mutating func add(_ source: ConfigSource, namespace: String = "") {
    for document in YAMLParser.parse(source.bytes).documents {
      let items = document["kind"].flatMap { DocumentTree($0).text }.map { $0.hasSuffix("List") } == true
      let documents = items ? DocumentTree(document)["items"].items.compactMap(\.node) : [document]
      for document in documents {
        guard let resource = AnalyzedResource(document, source: source.name, namespace: namespace) else { continue }
        add(resource)
      }
    }
  }

  private mutating func add(_ resource: AnalyzedResource) {
    guard !Self.ignoredNamespaces.contains(resource.namespace) else { return }
    if let codes = resource.annotations["galley.istio.io/analyze-suppress"] {
      suppressed[resource.label] = Set(codes.split(separator: ",").map { String($0.filter { $0 != " " }) })
    }
    if resource.label == MeshConfiguration.key.description {
      let text = resource.root["data"][MeshConfiguration.dataKey].text ?? ""
      keptMeshConfig = DocumentTree(YAMLParser.parse(Array(text.utf8)).documents.first)
    }
    let kind = AnalyzedKind(resource)
    let key = "\(kind) \(resource.fullName)"
    if let place = places[key] {
      byKind[kind]?[place] = resource
      return
    }
    places[key] = byKind[kind]?.count ?? 0
    byKind[kind, default: []].append(resource)
  }

  /// Whether the object that a finding is about asks not to be told.
  public func suppresses(_ finding: Finding) -> Bool {
    guard let codes = suppressed[finding.object] else { return false }
    return codes.contains(finding.code) || codes.contains("*")
  }

  /// Uses this MeshConfig (one YAML document) instead of the defaults, and of the one in the mesh's ConfigMap.
  public mutating func use(meshConfig source: ConfigSource) {
    givenMeshConfig = DocumentTree(YAMLParser.parse(source.bytes).documents.first)
  }

  public mutating func use(meshNetworks source: ConfigSource) {
    meshNetworks = DocumentTree(YAMLParser.parse(source.bytes).documents.first)
  }

  /// Adds the ingress gateway that every mesh has by default: a workload, and its Service.
  public mutating func addDefaultIngressGateway() {
    guard meshConfig["ingressControllerMode"].text != "OFF" else { return }
    let ports = [80, 443, 31_400, 15_443].map { "{name: tcp-\($0), port: \($0), targetPort: \($0), protocol: TCP}" }
    let text = """
      {apiVersion: v1, kind: Pod, metadata: {name: \(Self.assumedGateway), namespace: \(rootNamespace), \
      labels: {istio: ingressgateway}}}
      ---
      {apiVersion: v1, kind: Service, metadata: {name: istio-ingressgateway, namespace: \(rootNamespace)}, \
      spec: {selector: {istio: ingressgateway}, ports: [\(ports.joined(separator: ", "))]}}
      """
    add(ConfigSource(name: "", bytes: Array(text.utf8)))
  }

  /// Takes the templates of Deployments for the workloads they stand for.
  public mutating func addWorkloadsOfDeployments() {
    for deployment in all("Deployment") {
      guard case .mapping(let template)? = deployment.spec["template"].node?.value,
        let position = deployment.root.node?.position
      else { continue }
      func text(_ text: String) -> YAMLNode { YAMLNode(.string(text), at: position) }
      func entry(_ key: String, _ value: YAMLNode) -> YAMLEntry { YAMLEntry(key: key, position: position, value: value) }
      var metadata = [entry("name", text(deployment.name)), entry("namespace", text(deployment.namespace))]
      for (key, value) in deployment.spec["template"]["metadata"].entries where key == "labels" || key == "annotations" {
        if let node = value.node { metadata.append(entry(key, node)) }
      }
      let spec = template.filter { $0.key == "spec" }
      let pod =
        [
          entry("apiVersion", text("v1")), entry("kind", text("Pod")),
          entry("metadata", YAMLNode(.mapping(metadata), at: position)),
        ] + spec
      if let resource = AnalyzedResource(YAMLNode(.mapping(pod), at: position), source: deployment.source) { add(resource) }
    }
  }

  // MARK: Looking

  func all(_ kind: String) -> [AnalyzedResource] { byKind[.named(kind)] ?? [] }
  func all(_ kind: AnalyzedKind) -> [AnalyzedResource] { byKind[kind] ?? [] }
  /// All that configures the mesh, by kind.
  var configuration: [AnalyzedResource] {
    let kinds = Set(ObjectKind.allCases.map(\.documentKind))
    return byKind.sorted { "\($0.key)" < "\($1.key)" }.flatMap(\.value).filter { kinds.contains($0.kind) }
  }
  var pods: [AnalyzedResource] { all("Pod") }
  /// Whether any workload is known besides the ingress gateway that is assumed.
  public var hasWorkloads: Bool { pods.contains { !$0.source.isEmpty || $0.name != Self.assumedGateway } }
  private static let assumedGateway = "istio-ingressgateway-dummypod"

  /// The object that `name`, or `namespace/name`, means from within a namespace.
  func find(_ kind: AnalyzedKind, _ name: String, from namespace: String) -> AnalyzedResource? {
    let full = name.utf8.contains(0x2F) || namespace.isEmpty ? name : "\(namespace)/\(name)"
    return places["\(kind) \(full)"].flatMap { byKind[kind]?[$0] }
  }

  func find(_ kind: String, _ name: String, from namespace: String) -> AnalyzedResource? {
    find(.named(kind), name, from: namespace)
  }
}
