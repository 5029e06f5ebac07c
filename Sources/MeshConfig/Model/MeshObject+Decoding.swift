/// One document of a source: an object, or the reason why there is none.
struct DocumentDecoder {
  enum Outcome {
    case object(MeshObject)
    case skipped(SkippedDocument)
    case refused
  }

  let source: String
  let defaultNamespace: String
  private(set) var findings: [Finding] = []

  /// Whether objects may name no other namespace.
  private let isNamespaceFixed: Bool
  private let isStored: Bool

  init(source: String, defaultNamespace: String, isNamespaceFixed: Bool = false, isStored: Bool = false) {
    self.source = source
    self.isStored = isStored
    self.isNamespaceFixed = isNamespaceFixed
    self.defaultNamespace = defaultNamespace
  }

  mutating func decode(_ document: YAMLNode) -> Outcome {
    var report = Report(source: source, document: document, isStored: isStored)
    let outcome = decode(document, &report)
    findings += report.findings
    return outcome
  }

  private func decode(_ document: YAMLNode, _ report: inout Report) -> Outcome {
    guard case .mapping = document.value else {
      report.error(.root, "expected an object with apiVersion and kind, found \(document.kind)")
      return .refused
    }
    guard case .string(let apiVersion)? = document["apiVersion"]?.value, case .string(let kind)? = document["kind"]?.value
    else {
      report.error(.root, "an object needs apiVersion and kind")
      return .refused
    }
    let name = "\(kind) \(Self.label(document))"
    report.object = name
    switch KindRecognition(apiVersion: apiVersion, kind: kind) {
    case .supported(let kind):
      return decode(document, kind, &report)
    case .notEnforced:
      report.notEnforced(.root.field("kind"), "\(kind) objects of \(apiVersion) do nothing here yet")
      return .skipped(skipped(document, kind, isMesh: true))
    case .foreign:
      report.info(.root.field("kind"), "\(kind) does not configure the mesh: skipped", code: Finding.Code.skipped)
      return .skipped(skipped(document, kind, isMesh: false))
    case .unknownVersion(let kind, let expected):
      let versions = expected.map { kind.group.isEmpty ? $0 : "\(kind.group)/\($0)" }.joined(separator: ", ")
      report.error(
        .root.field("apiVersion"), "'\(apiVersion)' is not a version of \(kind.documentKind)", hint: "use \(versions)")
      return .refused
    case .unknownKind(let hint):
      report.error(.root.field("kind"), "'\(kind.prefix(80))' is not a kind of \(apiVersion)", hint: hint)
      return .refused
    }
  }

  private func skipped(_ document: YAMLNode, _ kind: String, isMesh: Bool) -> SkippedDocument {
    func text(_ field: String) -> String? {
      guard case .string(let text)? = document["metadata"]?[field]?.value else { return nil }
      return text
    }
    return SkippedDocument(
      source: source, position: document.position, kind: kind, namespace: text("namespace") ?? defaultNamespace,
      name: text("name") ?? "(no name)", isMesh: isMesh)
  }

  private static func label(_ document: YAMLNode) -> String {
    guard let metadata = document["metadata"], case .string(let name)? = metadata["name"]?.value else { return "(no name)" }
    guard case .string(let namespace)? = metadata["namespace"]?.value else { return name }
    return "\(namespace)/\(name)"
  }

  private func decode(_ document: YAMLNode, _ kind: ObjectKind, _ report: inout Report) -> Outcome {
    var meta = ObjectMeta(name: "", namespace: "", labels: [:], annotations: [:])
    if let node = document["metadata"] {
      meta = Fields.decode(node, at: .root.field("metadata"), into: &report) ?? meta
    } else {
      report.error(.root.field("metadata"), "required")
    }
    if isNamespaceFixed, kind.isNamespaced, !meta.namespace.isEmpty, meta.namespace != defaultNamespace {
      report.error(
        .root.field("metadata").field("namespace"),
        "the namespace from the provided object \"\(meta.namespace.prefix(80))\" does not match the namespace "
          + "\"\(defaultNamespace.prefix(80))\". You must pass '--namespace=\(meta.namespace.prefix(80))' to perform this operation."
      )
    }
    if kind.isNamespaced && meta.namespace.isEmpty { meta.namespace = defaultNamespace }
    if !kind.isNamespaced { meta.namespace = "" }
    let key = ObjectKey(kind: kind, namespace: meta.namespace, name: meta.name)
    report.object = key.description

    guard case .mapping(let entries) = document.value else { return .refused }
    if !kind.group.isEmpty && kind != .endpointSlice { reportUnknownTopLevel(entries, &report) }
    let spec = Self.spec(kind, document, &report)
    if let spec { ObjectRules.check(spec, kind: kind, meta: meta, into: &report) }
    guard let spec, !report.hasErrors else { return .refused }
    if let consequence = Enforcement.consequence(of: spec) {
      report.notEnforced(.root.field("kind"), "\(kind.documentKind): \(consequence)")
    }
    let canonical = JSONText.canonical(Self.canonicalTree(document, kind: kind, namespace: meta.namespace))
    return .object(MeshObject(key: key, meta: meta, spec: spec, canonical: canonical))
  }

  private func reportUnknownTopLevel(_ entries: [YAMLEntry], _ report: inout Report) {
    var fields = Fields(entries, path: .root, report: report)
    fields.ignore("apiVersion", "kind", "metadata", "spec", "status")
    fields.reportUnknownFields(into: &report)
  }

  private static func spec(_ kind: ObjectKind, _ document: YAMLNode, _ report: inout Report) -> MeshObject.Spec? {
    let isRequired = [.serviceEntry, .workloadGroup, .wasmPlugin, .trafficExtension].contains(kind)
    if document["spec"] == nil && isRequired {
      report.error(.spec, "required")
      return nil
    }
    let node = document["spec"] ?? YAMLNode(.mapping([]), at: document.position)
    func decode<T: FieldDecodable>(_ wrap: (T) -> MeshObject.Spec) -> MeshObject.Spec? {
      Fields.decode(node, at: .spec, into: &report).map(wrap)
    }
    /// Kinds whose fields stand beside their metadata.
    func decodeWhole<T: FieldDecodable>(_ wrap: (T) -> MeshObject.Spec) -> MeshObject.Spec? {
      Fields.decode(document, at: .root, into: &report).map(wrap)
    }
    switch kind {
    case .virtualService: return decode(MeshObject.Spec.virtualService)
    case .destinationRule: return decode(MeshObject.Spec.destinationRule)
    case .gateway: return decode(MeshObject.Spec.gateway)
    case .serviceEntry: return decode(MeshObject.Spec.serviceEntry)
    case .workloadEntry: return decode(MeshObject.Spec.workloadEntry)
    case .workloadGroup: return decode(MeshObject.Spec.workloadGroup)
    case .sidecar: return decode(MeshObject.Spec.sidecar)
    case .proxyConfig: return decode(MeshObject.Spec.proxyConfig)
    case .envoyFilter: return decode(MeshObject.Spec.envoyFilter)
    case .peerAuthentication: return decode(MeshObject.Spec.peerAuthentication)
    case .authorizationPolicy: return decode(MeshObject.Spec.authorizationPolicy)
    case .requestAuthentication: return decode(MeshObject.Spec.requestAuthentication)
    case .telemetry: return decode(MeshObject.Spec.telemetry)
    case .wasmPlugin: return decode { (fields: WasmPluginFields) in .proxyExtension(fields.value) }
    case .trafficExtension: return decode { (fields: ExtensionFields) in .proxyExtension(fields.value) }
    case .gatewayClass: return decode(MeshObject.Spec.gatewayClass)
    case .kubernetesGateway: return decode(MeshObject.Spec.kubernetesGateway)
    case .listenerSet: return decode(MeshObject.Spec.listenerSet)
    case .httpRoute: return decode(MeshObject.Spec.httpRoute)
    case .grpcRoute: return decode(MeshObject.Spec.grpcRoute)
    case .tlsRoute: return decode { (fields: GatewayAPI.ConnectionRoute.TLSFields) in .connectionRoute(fields.value) }
    case .tcpRoute, .udpRoute:
      return decode { (fields: GatewayAPI.ConnectionRoute.PlainFields) in .connectionRoute(fields.value) }
    case .referenceGrant: return decode(MeshObject.Spec.referenceGrant)
    case .backendTLSPolicy: return decode(MeshObject.Spec.backendTLSPolicy)
    case .service: return decode(MeshObject.Spec.service)
    case .serviceAccount: return .serviceAccount
    case .namespace: return .namespace
    case .secret: return decodeWhole(MeshObject.Spec.secret)
    case .configMap: return decodeWhole(MeshObject.Spec.configMap)
    case .endpoints: return decodeWhole { (fields: EndpointsFields) in .endpoints(fields.value) }
    case .endpointSlice: return decodeWhole { (fields: EndpointSliceFields) in .endpoints(fields.value) }
    case .ingress: return decodeWhole { (fields: IngressFields) in .ingress(fields.value) }
    case .ingressClass: return decode(MeshObject.Spec.ingressClass)
    }
  }

  /// The document without what a server adds, with its namespace written out, in the version that is stored.
  private static func canonicalTree(_ document: YAMLNode, kind: ObjectKind, namespace: String) -> YAMLNode {
    guard case .mapping(let entries) = document.value else { return document }
    let left = ["status", "metadata", "apiVersion"] + (kind == .secret ? SealedSecret.valueFields : [])
    var kept = entries.filter { !left.contains($0.key) }
    let start = document.position
    if kind == .secret { kept += SealedSecret.redacted(document) }
    kept.append(YAMLEntry(key: "apiVersion", position: start, value: YAMLNode(.string(kind.apiVersion), at: start)))
    var metadata: [YAMLEntry] = []
    if case .mapping(let entries)? = document["metadata"]?.value {
      metadata = entries.filter { ["name", "labels"].contains($0.key) }
      if let annotations = entries.first(where: { $0.key == "annotations" }), case .mapping(let items) = annotations.value.value
      {
        let own = items.filter { $0.key != "kubectl.kubernetes.io/last-applied-configuration" }
        let node = YAMLNode(.mapping(own), at: annotations.value.position)
        if !own.isEmpty { metadata.append(YAMLEntry(key: "annotations", position: annotations.position, value: node)) }
      }
    }
    if kind.isNamespaced {
      metadata.append(YAMLEntry(key: "namespace", position: start, value: YAMLNode(.string(namespace), at: start)))
    }
    kept.append(YAMLEntry(key: "metadata", position: start, value: YAMLNode(.mapping(metadata), at: start)))
    return YAMLNode(.mapping(kept), at: start)
  }
}

extension MeshObject {
  /// Reads an object back from its stored bytes; the findings say why it cannot be.
  ///
  /// - Parameter opening: opens what `stored(sealing:)` sealed; without it a Secret has no values.
  public static func decode(
    canonical: [UInt8], opening: ((_ sealed: [UInt8]) -> [UInt8]?)? = nil
  ) throws(CanonicalError) -> MeshObject {
    let (documents, error) = YAMLParser.parse(canonical)
    if let error { throw CanonicalError(reason: error.reason) }
    guard documents.count == 1, let document = documents.first else { throw CanonicalError(reason: "not one object") }
    var decoder = DocumentDecoder(source: "stored", defaultNamespace: "default", isStored: true)
    guard case .object(let object) = decoder.decode(try SealedSecret.opened(document, opening)) else {
      throw CanonicalError(reason: decoder.findings.first { $0.severity == .error }?.description ?? "not a mesh object")
    }
    return object
  }

  /// The object as YAML that can be applied again.
  public var yaml: String { YAMLParser.parse(canonical).documents.first.map(YAMLText.document) ?? "" }
}

/// Why stored bytes are no object.
public struct CanonicalError: Error, Hashable, Sendable {
  public let reason: String
}

extension MeshObject {
  /// Whether the mesh acts on the object; otherwise it is only kept.
  public var isEnforced: Bool { notEnforced == nil }

  /// What does not happen although the object is accepted; nil when the mesh acts on it.
  public var notEnforced: String? { Enforcement.consequence(of: spec) }
}
