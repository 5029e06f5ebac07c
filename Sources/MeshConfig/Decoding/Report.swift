/// Collects every finding about one document, resolving field paths to lines.
struct Report {
  let source: String
  let document: YAMLNode
  /// `VirtualService default/reviews`, as soon as it is known.
  var object = ""
  private(set) var findings: [Finding] = []
  /// The document was accepted before, perhaps by a version that refused less.
  let isStored: Bool

  init(source: String, document: YAMLNode, isStored: Bool = false) {
    self.source = source
    self.document = document
    self.isStored = isStored
  }

  var hasErrors: Bool { findings.hasErrors }
  /// Whether further findings are left out.
  var isFull: Bool { findings.count >= ConfigLimits.findingsMax }

  mutating func error(_ path: FieldPath, _ reason: String, hint: String? = nil, code: String = Finding.Code.schema) {
    add(.error, code, path, reason, hint)
  }
  /// Refuses what is applied, and keeps what is stored already.
  mutating func errorUnlessStored(_ path: FieldPath, _ reason: String, hint: String?) {
    if isStored { warning(path, reason, hint: hint) } else { error(path, reason, hint: hint) }
  }
  mutating func warning(_ path: FieldPath, _ reason: String, hint: String? = nil, code: String = Finding.Code.schemaWarning) {
    add(.warning, code, path, reason, hint)
  }
  mutating func deprecated(_ path: FieldPath, use replacement: String) {
    add(.warning, Finding.Code.deprecated, path, "deprecated", "use \(replacement)")
  }
  /// The field is kept but nothing acts on it.
  mutating func notEnforced(_ path: FieldPath, _ consequence: String) {
    add(.warning, Finding.Code.notEnforced, path, "accepted, not enforced: \(consequence)", nil)
  }
  mutating func info(_ path: FieldPath, _ reason: String, code: String) { add(.info, code, path, reason, nil) }

  private mutating func add(
    _ severity: Finding.Severity, _ code: String, _ path: FieldPath, _ reason: String, _ hint: String?
  ) {
    guard !isFull else { return }
    findings.append(
      Finding(
        severity: severity, code: code, source: source, position: document.position(of: path), object: object,
        path: path.description, reason: reason, hint: hint))
  }
}
