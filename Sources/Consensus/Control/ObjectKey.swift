import Primitives

/// What names one configuration object: its API group and kind, its namespace and its name.
public struct ObjectKey: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// For example `networking.istio.io`; empty for the core group.
  public let group: String
  public let kind: String
  /// Empty for objects of the whole mesh.
  public let namespace: String
  public let name: String

  public init(group: String, kind: String, namespace: String, name: String) {
    self.group = group
    self.kind = kind
    self.namespace = namespace
    self.name = name
  }

  public static func == (a: ObjectKey, b: ObjectKey) -> Bool { a.compare(b) == 0 }
  public static func < (a: ObjectKey, b: ObjectKey) -> Bool { a.compare(b) < 0 }
  public func hash(into hasher: inout Hasher) {
    for field in fields {
      for byte in field.utf8 { hasher.combine(byte) }
      hasher.combine(UInt8(0xFF))
    }
  }

  public var description: String {
    let path = namespace.isEmpty ? name : "\(namespace)/\(name)"
    return group.isEmpty ? "\(kind) \(path)" : "\(kind).\(group) \(path)"
  }

  private var fields: [String] { [group, kind, namespace, name] }

  /// By bytes: two names that only Unicode holds equal are two names.
  private func compare(_ other: ObjectKey) -> Int {
    for (own, its) in zip(fields, other.fields) {
      if own.utf8.lexicographicallyPrecedes(its.utf8) { return -1 }
      if its.utf8.lexicographicallyPrecedes(own.utf8) { return 1 }
    }
    return 0
  }

  func encode(to writer: inout ByteWriter) {
    for field in fields { writer.string(field) }
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    group = try reader.string(max: ConsensusLimits.keyFieldBytesMax)
    kind = try reader.string(max: ConsensusLimits.keyFieldBytesMax)
    namespace = try reader.string(max: ConsensusLimits.keyFieldBytesMax)
    name = try reader.string(max: ConsensusLimits.keyFieldBytesMax)
  }
}
