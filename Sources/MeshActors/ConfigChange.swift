/// A change of the configuration on its way to the holder of the configuration role.
public struct ConfigChange: Codable, Sendable {
  public var sources: [Source]
  /// Objects to delete.
  public var deletes: [ObjectName]
  /// Delete what `sources` name instead of writing it.
  public var deletesSources: Bool
  public var dryRun: Bool
  /// Refuse the change for a warning as for an error; nil from nodes that do not know this.
  public var isStrict: Bool?
  /// Leave out objects to delete that do not exist; nil from nodes that do not know this.
  public var ignoresMissing: Bool?
  /// Make the configuration what it was at this revision; nothing else is given then.
  public var rollbackTo: UInt64?
  /// Namespace of objects that name none.
  public var namespace: String
  /// Refuse objects that name another namespace; nil from nodes that do not know this.
  public var isNamespaceFixed: Bool?
  /// Node and user that asked, for the record.
  public var author: String
  /// Chosen at random by the client: a change that is sent twice is applied once.
  public var requestHigh: UInt64
  public var requestLow: UInt64

  /// A file, or another piece of text with a name for messages.
  public struct Source: Codable, Sendable, Hashable {
    public var name: String
    public var text: String
    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }
  }

  public struct ObjectName: Codable, Sendable, Hashable {
    public var kind: String
    public var namespace: String
    public var name: String
    public init(kind: String, namespace: String, name: String) {
      self.kind = kind
      self.namespace = namespace
      self.name = name
    }
  }

  public init(
    sources: [Source] = [], deletes: [ObjectName] = [], deletesSources: Bool = false, dryRun: Bool = false,
    isStrict: Bool = false, ignoresMissing: Bool = false, rollbackTo: UInt64? = nil, namespace: String,
    isNamespaceFixed: Bool? = nil, author: String, requestHigh: UInt64, requestLow: UInt64
  ) {
    self.sources = sources
    self.deletes = deletes
    self.deletesSources = deletesSources
    self.dryRun = dryRun
    self.isStrict = isStrict
    self.ignoresMissing = ignoresMissing
    self.rollbackTo = rollbackTo
    self.namespace = namespace
    self.isNamespaceFixed = isNamespaceFixed
    self.author = author
    self.requestHigh = requestHigh
    self.requestLow = requestLow
  }
}

/// What became of a change. A refused one changed nothing, and its findings say why.
public struct ConfigReply: Codable, Sendable {
  public var isAccepted: Bool
  /// The revision that holds the change; the present one when nothing changed.
  public var revision: UInt64
  public var changes: [Change]
  public var findings: [Finding]

  public struct Change: Codable, Sendable {
    public var kind: String
    public var namespace: String
    public var name: String
    /// created, configured, unchanged, deleted or skipped.
    public var action: String
    /// A line diff, or why the document was skipped.
    public var detail: String?
  }

  public struct Finding: Codable, Sendable {
    public var severity: String
    public var code: String
    public var source: String
    public var line: Int
    public var column: Int
    public var object: String
    public var path: String
    public var reason: String
    public var hint: String?
  }
}
