/// A place in a source: 1-based line and column (column in characters).
public struct SourcePosition: Hashable, Sendable {
  public let line: Int
  public let column: Int

  public init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }
}

/// One node of a YAML document with the place where it starts.
///
/// Scalars are resolved as Kubernetes resolves them before its schema is applied: a plain `7` is a number, `"7"` a string,
/// and `yes`, `no`, `on`, `off` are booleans.
public struct YAMLNode: Sendable {
  public enum Value: Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case sequence([YAMLNode])
    case mapping([YAMLEntry])
  }
  public let value: Value
  public let position: SourcePosition

  public init(_ value: Value, at position: SourcePosition) {
    self.value = value
    self.position = position
  }

  /// The value under `key` when this is a mapping that has it.
  public subscript(key: String) -> YAMLNode? {
    guard case .mapping(let entries) = value else { return nil }
    return entries.first { $0.key == key }?.value
  }

  /// What this node is, in words for a finding.
  var kind: String {
    switch value {
    case .null: "null"
    case .bool(let value): "the boolean \(value)"
    case .int(let value): "the number \(value)"
    case .double(let value): "the number \(value)"
    case .string: "a string"
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }
}

/// A key of a mapping with its value. Keys are strings; `position` is where the key stands.
public struct YAMLEntry: Sendable {
  public let key: String
  public let position: SourcePosition
  public let value: YAMLNode

  public init(key: String, position: SourcePosition, value: YAMLNode) {
    self.key = key
    self.position = position
    self.value = value
  }
}

/// Why a source is not acceptable YAML, and where.
public struct YAMLError: Error, Hashable, Sendable {
  public let position: SourcePosition
  public let reason: String

  public init(at position: SourcePosition, _ reason: String) {
    self.position = position
    self.reason = reason
  }
}
