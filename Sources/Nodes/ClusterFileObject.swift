import MeshConfig
import Primitives

/// Reads one JSON object of the cluster file: typed fields, positions in every message, unknown keys refused.
struct ClusterFileObject {
  private let path: String
  private let what: String
  private let position: SourcePosition
  private let entries: [YAMLEntry]
  private var known: [String] = []

  init(_ node: YAMLNode, path: String, what: String) throws(ClusterFileError) {
    guard case .mapping(let entries) = node.value else {
      throw ClusterFileError("\(path):\(node.position.line):\(node.position.column): \(what) must be an object in braces")
    }
    self.path = path
    self.what = what
    self.entries = entries
    position = node.position
  }

  /// An error at the field `key`, or at the object when it is absent.
  func problem(_ key: String, _ message: String) -> ClusterFileError {
    let at = entries.first { $0.key == key }?.value.position ?? position
    return ClusterFileError("\(path):\(at.line):\(at.column): \(key): \(message)")
  }

  private mutating func node(_ key: String) -> YAMLNode? {
    known.append(key)
    return entries.first { $0.key == key }?.value
  }

  mutating func string(_ key: String) throws(ClusterFileError) -> String {
    guard let text = try optionalString(key) else { throw problem(key, "is missing in \(what)") }
    return text
  }

  mutating func label(_ key: String) throws(ClusterFileError) -> DNSLabel {
    let text = try string(key)
    do { return try DNSLabel(text) } catch { throw problem(key, error.description) }
  }

  mutating func optionalString(_ key: String) throws(ClusterFileError) -> String? {
    guard let node = node(key) else { return nil }
    guard let text = node.stringValue, !text.isEmpty else { throw problem(key, "must be a non-empty string") }
    return text
  }

  mutating func optionalBool(_ key: String) throws(ClusterFileError) -> Bool? {
    guard let node = node(key) else { return nil }
    guard let flag = node.boolValue else { throw problem(key, "must be true or false") }
    return flag
  }

  mutating func optionalNumber(_ key: String, in range: ClosedRange<UInt64>) throws(ClusterFileError) -> UInt64? {
    guard let node = node(key) else { return nil }
    guard let signed = node.integerValue, let number = UInt64(exactly: signed), range.contains(number) else {
      throw problem(key, "must be a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  mutating func optionalObject(_ key: String) throws(ClusterFileError) -> YAMLNode? { node(key) }

  mutating func list(_ key: String) throws(ClusterFileError) -> [YAMLNode] {
    guard let node = node(key) else { throw problem(key, "is missing in \(what)") }
    guard case .sequence(let items) = node.value else { throw problem(key, "must be a list in square brackets") }
    return items
  }

  mutating func optionalStrings(_ key: String) throws(ClusterFileError) -> [String]? {
    guard entries.contains(where: { $0.key == key }) else {
      known.append(key)
      return nil
    }
    var texts: [String] = []
    for item in try list(key) {
      guard let text = item.stringValue, !text.isEmpty else { throw problem(key, "must be a list of strings") }
      texts.append(text)
    }
    return texts
  }

  /// Refuses keys that nobody asked for.
  func finish() throws(ClusterFileError) {
    guard let stranger = entries.first(where: { !known.contains($0.key) }) else { return }
    throw ClusterFileError(
      "\(path):\(stranger.position.line):\(stranger.position.column): unknown key '\(stranger.key)' in \(what); "
        + "it may hold \(known.sorted().joined(separator: ", "))")
  }
}

extension YAMLNode {
  fileprivate var stringValue: String? { if case .string(let text) = value { text } else { nil } }
  fileprivate var boolValue: Bool? { if case .bool(let flag) = value { flag } else { nil } }
  fileprivate var integerValue: Int64? { if case .int(let number) = value { number } else { nil } }
}
