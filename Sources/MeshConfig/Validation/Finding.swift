/// One thing to tell the person who wrote a source: where, what, and what to do.
public struct Finding: Hashable, Sendable, CustomStringConvertible {
  public enum Severity: String, Hashable, Sendable, Codable, Comparable {
    case info, warning, error
    private var rank: Int {
      switch self {
      case .info: 0
      case .warning: 1
      case .error: 2
      }
    }
    public static func < (a: Severity, b: Severity) -> Bool { a.rank < b.rank }
  }

  public var severity: Severity
  /// Istio's analyzer code (`IST0106`), or ours (`MESH0001`: accepted, not enforced).
  public var code: String
  /// Name of the source; empty when the finding is about the whole configuration.
  public var source: String
  /// 1-based; 0 when unknown.
  public var line: Int
  public var column: Int
  /// `VirtualService default/reviews`, or empty.
  public var object: String
  /// `spec.http[0].route[0].weight`, or empty.
  public var path: String
  public var reason: String
  public var hint: String?

  public init(
    severity: Severity, code: String, source: String = "", position: SourcePosition? = nil, object: String = "",
    path: String = "", reason: String, hint: String? = nil
  ) {
    self.severity = severity
    self.code = code
    self.source = source
    self.line = position?.line ?? 0
    self.column = position?.column ?? 0
    self.object = object
    self.path = path
    self.reason = reason
    self.hint = hint
  }

  /// `file:3:5: error [IST0106] VirtualService default/reviews spec.http: reason; hint`
  public var description: String {
    var text = ""
    if !source.isEmpty { text += line > 0 ? "\(source):\(line):\(column): " : "\(source): " }
    text += "\(severity.rawValue) [\(code)]"
    if !object.isEmpty { text += " \(object)" }
    if !path.isEmpty { text += " \(path)" }
    text += ": \(reason)"
    if let hint { text += "; \(hint)" }
    return text
  }
}

extension Finding {
  /// Codes of Istio's analyzers (`pkg/config/analysis/msg/messages.yaml`) and our own.
  public enum Code {
    static let schema = "IST0106"
    static let schemaWarning = "IST0133"
    static let deprecated = "IST0002"
    static let referenceNotFound = "IST0101"
    static let conflictingMeshHosts = "IST0109"
    static let unreachableRule = "IST0130"
    static let ineffectiveMatch = "IST0131"
    static let hostNotInGateway = "IST0132"
    static let serviceEntryAddresses = "IST0134"
    static let conflictingGateways = "IST0145"
    static let noVerificationAtDestination = "IST0128"
    static let unknownRuleHost = "IST0174"
    /// Accepted, not enforced.
    static let notEnforced = "MESH0001"
    /// An object directs what other namespaces send to a host that is not its own namespace's.
    static let foreignHost = "MESH0003"
    /// A change that does not fit the state: the object has changed meanwhile, or a revision is not kept.
    public static let conflict = "MESH0004"
    /// A document that does not configure the mesh, or a kind of a later version.
    public static let skipped = "MESH0002"
  }
}

extension Sequence where Element == Finding {
  public var hasErrors: Bool { contains { $0.severity == .error } }
}
