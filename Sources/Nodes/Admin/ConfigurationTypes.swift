/// One row of `mesh-node history`.
public struct RevisionInfo: Codable, Sendable, Hashable {
  public var revision: UInt64
  /// The revision before; `rollback` to it undoes this one.
  public var previous: UInt64
  public var author: String
  public var changes: [Change]

  public struct Change: Codable, Sendable, Hashable {
    /// created, configured or deleted.
    public var action: String
    public var kind: String
    public var namespace: String
    public var name: String
  }
}

/// One line of a watch, as the Kubernetes API says it.
public struct ObjectEvent: Codable, Sendable, Hashable {
  public enum Kind: String, Codable, Sendable, Hashable {
    case added = "ADDED"
    case modified = "MODIFIED"
    case deleted = "DELETED"
  }
  public var type: Kind
  /// As it is now; as it was last when it is deleted.
  public var object: StoredObjectInfo

  public init(type: Kind, object: StoredObjectInfo) {
    self.type = type
    self.object = object
  }
}

public struct RollbackRequest: Codable, Sendable {
  public var revision: UInt64
  public var dryRun: Bool
  public var wait: Bool
  public var timeoutMilliseconds: Int
  public init(revision: UInt64, dryRun: Bool, wait: Bool, timeoutMilliseconds: Int) {
    self.revision = revision
    self.dryRun = dryRun
    self.wait = wait
    self.timeoutMilliseconds = timeoutMilliseconds
  }
}

/// The live configuration and what stands behind it, for `mesh-node analyze`.
public struct LiveConfiguration: Codable, Sendable {
  /// Every object, as YAML documents.
  public var objects: String
  /// Registered workloads as Pods, and the Services that they imply.
  public var registry: String
  /// Whether tenants are isolated; nil from nodes that do not know this.
  public var isolatesTenants: Bool?
}

/// `mesh-node describe`.
public struct DescriptionInfo: Codable, Sendable, Hashable {
  public var sections: [Section]

  public struct Section: Codable, Sendable, Hashable {
    public var title: String
    public var lines: [String]
    public init(_ title: String, _ lines: [String]) {
      self.title = title
      self.lines = lines
    }
  }
}
