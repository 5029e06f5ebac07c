/// A named piece of configuration text: a file, or a request body.
public struct ConfigSource: Hashable, Sendable {
  public let name: String
  public let bytes: [UInt8]
  public init(name: String, bytes: [UInt8]) {
    self.name = name
    self.bytes = bytes
  }
}

/// A document that was read and left out.
public struct SkippedDocument: Hashable, Sendable {
  public let source: String
  public let position: SourcePosition
  public let kind: String
  /// The one written, else the one that objects without one get.
  public let namespace: String
  public let name: String
  /// Configures Istio, so somebody may rely on it; otherwise it does not concern a mesh.
  public let isMesh: Bool
}

/// What sources say: objects in the order written, what was left out, and everything there is to report.
public struct ChangeSet: Sendable {
  /// One entry a key; a later document with the same key is an error.
  public private(set) var objects: [MeshObject] = []
  public private(set) var skipped: [SkippedDocument] = []
  /// In the order of sources and lines.
  public private(set) var findings: [Finding] = []
  public var hasErrors: Bool { findings.hasErrors }
  private(set) var places: [ObjectKey: Place] = [:]
  private var remarks = 0

  /// Where an object was written.
  struct Place: Sendable {
    let source: String
    let document: YAMLNode
  }

  /// Parses and checks sources. Nothing throws: every problem of every source is a finding.
  ///
  /// - Parameters:
  ///   - defaultNamespace: of objects that name none.
  ///   - isFixed: objects that name another namespace are errors (kubectl, `--namespace`).
  public init(_ sources: [ConfigSource], defaultNamespace: String = "default", isFixed: Bool = false) {
    for source in sources {
      add(source, DocumentDecoder(source: source.name, defaultNamespace: defaultNamespace, isNamespaceFixed: isFixed))
    }
  }

  private mutating func add(_ source: ConfigSource, _ decoder: consuming DocumentDecoder) {
    let (documents, error) = YAMLParser.parse(source.bytes)
    var errors = 0
    for document in Self.expandLists(documents) {
      let before = decoder.findings.count
      let outcome = decoder.decode(document)
      if case .object(let object) = outcome { add(object, document, source.name) }
      if case .skipped(let document) = outcome { skipped.append(document) }
      errors += decoder.findings[before...].count { $0.severity == .error }
      if errors >= ConfigLimits.findingsMax {
        keep(decoder.findings)
        findings.append(Self.tooMany(errors, in: source.name, at: document.position))
        return
      }
    }
    keep(decoder.findings)
    if let error {
      findings.append(
        Finding(
          severity: .error, code: Finding.Code.schema, source: source.name, position: error.position,
          reason: error.reason, hint: "nothing after this line was read"))
    }
  }

  /// Keeps every error, and warnings and remarks up to their limit.
  private mutating func keep(_ more: [Finding]) {
    for finding in more {
      if finding.severity != .error {
        remarks += 1
        if remarks == ConfigLimits.remarksMax {
          findings.append(
            Finding(
              severity: .info, code: Finding.Code.skipped, source: finding.source,
              reason: "more than \(ConfigLimits.remarksMax) warnings: the rest is left out"))
        }
        if remarks >= ConfigLimits.remarksMax { continue }
      }
      findings.append(finding)
    }
  }

  private static func tooMany(_ errors: Int, in source: String, at position: SourcePosition) -> Finding {
    Finding(
      severity: .error, code: Finding.Code.schema, source: source, position: position, reason: "\(errors) errors so far",
      hint: "nothing after this document was read")
  }

  private mutating func add(_ object: MeshObject, _ document: YAMLNode, _ source: String) {
    if let earlier = places[object.key] {
      let line = earlier.document.position.line
      findings.append(
        Finding(
          severity: .error, code: Finding.Code.schema, source: source, position: document.position,
          object: object.key.description, reason: "written twice: also at \(earlier.source):\(line)", hint: "remove one of them"
        ))
      return
    }
    places[object.key] = Place(source: source, document: document)
    objects.append(object)
  }

  private static func isList(_ kind: String) -> Bool {
    kind == "List"
      || kind.hasSuffix("List") && ObjectKind.allCases.contains { $0.documentKind == kind.dropLast("List".utf8.count) }
  }

  /// Replaces `List` kinds (kubectl's output) with their items, one level.
  private static func expandLists(_ documents: [YAMLNode]) -> [YAMLNode] {
    var result: [YAMLNode] = []
    for document in documents {
      if case .string(let kind)? = document["kind"]?.value, isList(kind),
        case .sequence(let items)? = document["items"]?.value
      {
        result += items.filter { !$0.isNull }
      } else {
        result.append(document)
      }
    }
    return result
  }

}
