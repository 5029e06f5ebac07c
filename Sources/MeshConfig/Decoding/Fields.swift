import Primitives

/// A value decoded from a mapping by asking for each of its fields once.
protocol FieldDecodable {
  /// Asks `fields` for every field of the schema, in any case: what is never asked for is an unknown field.
  init(_ fields: inout Fields)
}

/// The fields of one mapping. Asking for a field checks its type; what was never asked for is reported as unknown.
///
/// A wrong value is reported and decodes as absent, so one pass finds everything that is wrong.
struct Fields {
  let path: FieldPath
  var report: Report
  private let entries: [YAMLEntry]
  private var asked: [String] = []

  init(_ entries: [YAMLEntry], path: FieldPath, report: consuming Report) {
    self.entries = entries
    self.path = path
    self.report = report
  }

  /// Decodes a mapping; anything else is an error and nil.
  static func decode<T: FieldDecodable>(_ node: YAMLNode, at path: FieldPath, into report: inout Report) -> T? {
    guard case .mapping(let entries) = node.value else {
      report.error(path, "expected a mapping, found \(node.kind)")
      return nil
    }
    var fields = Fields(entries, path: path, report: report)
    let value = T(&fields)
    fields.reportUnknown()
    report = fields.report
    return value
  }

  /// The value written under `name`; null counts as absent, as in Kubernetes.
  private mutating func value(_ name: String) -> YAMLNode? {
    asked.append(name)
    guard let entry = entries.first(where: { $0.key == name }) else { return nil }
    if case .null = entry.value.value { return nil }
    return entry.value
  }

  /// Whether the field is written (and not null).
  mutating func has(_ name: String) -> Bool { value(name) != nil }

  /// The entries of a mapping that any keys may be in; nil when it is absent or no mapping, which is reported.
  mutating func entries(of name: String) -> [YAMLEntry]? {
    guard let node = value(name) else { return nil }
    guard case .mapping(let entries) = node.value else {
      mismatch(name, "a mapping", node)
      return nil
    }
    return entries
  }

  // MARK: Findings about fields of this mapping

  mutating func error(_ name: String, _ reason: String, hint: String? = nil) {
    report.error(name.isEmpty ? path : path / name, reason, hint: hint)
  }

  private mutating func mismatch(_ name: String, _ expected: String, _ node: YAMLNode) {
    var hint: String?
    if expected == "a string" {
      switch node.value {
      case .bool, .int, .double: hint = "put it in quotes"
      default: break
      }
    } else if case .string(let text) = node.value, case .string = ScalarResolution.plain(text) {
    } else if case .string = node.value {
      hint = "leave the quotes out"
    }
    error(name, "expected \(expected), found \(node.kind)", hint: hint)
  }

  func reportUnknownFields(into report: inout Report) {
    for entry in entries where !asked.contains(entry.key) {
      if report.isFull { return }
      let hint =
        Spelling.nearest(to: entry.key, among: asked).map { "did you mean '\($0)'?" }
        ?? (asked.count <= 12 && !asked.isEmpty ? "known fields: \(asked.sorted().joined(separator: ", "))" : nil)
      report.error(path / entry.key, "unknown field '\(entry.key.prefix(100))'", hint: hint)
    }
  }

  private mutating func reportUnknown() { reportUnknownFields(into: &report) }

  // MARK: Scalars

  mutating func string(_ name: String) -> String? {
    guard let node = value(name) else { return nil }
    guard case .string(let text) = node.value else {
      mismatch(name, "a string", node)
      return nil
    }
    return text
  }

  /// A string that must be written and not empty.
  mutating func requiredString(_ name: String) -> String {
    let before = report.findings.count
    if let text = string(name), !text.isEmpty { return text }
    if report.findings.count == before { error(name, "required") }
    return ""
  }

  mutating func bool(_ name: String) -> Bool? {
    guard let node = value(name) else { return nil }
    guard case .bool(let flag) = node.value else {
      mismatch(name, "true or false", node)
      return nil
    }
    return flag
  }

  mutating func int(_ name: String, in range: ClosedRange<Int>) -> Int? {
    guard let node = value(name) else { return nil }
    return integer(node, name, range)
  }

  private mutating func integer(_ node: YAMLNode, _ name: String, _ range: ClosedRange<Int>) -> Int? {
    let number: Int64
    switch node.value {
    case .int(let value): number = value
    case .double(let value):
      guard let whole = Int64(exactly: value) else {
        mismatch(name, "a whole number", node)
        return nil
      }
      number = whole
    default:
      mismatch(name, "a number", node)
      return nil
    }
    guard let value = Int(exactly: number), range.contains(value) else {
      let what = range == 1...65535 ? "port must be" : "must be"
      error(name, "\(number) is out of range: \(what) between \(range.lowerBound)-\(range.upperBound)")
      return nil
    }
    return value
  }

  mutating func requiredInt(_ name: String, in range: ClosedRange<Int>) -> Int? {
    let before = report.findings.count
    let value = int(name, in: range)
    if value == nil && report.findings.count == before { error(name, "required") }
    return value
  }

  /// A TCP port, 1–65535.
  mutating func port(_ name: String) -> UInt16? { int(name, in: 1...65535).map { UInt16(truncatingIfNeeded: $0) } }
  mutating func requiredPort(_ name: String) -> UInt16 {
    UInt16(truncatingIfNeeded: requiredInt(name, in: 1...65535) ?? 0)
  }

  mutating func number(_ name: String, in range: ClosedRange<Double>) -> Double? {
    guard let node = value(name) else { return nil }
    let number: Double
    switch node.value {
    case .int(let value): number = Double(value)
    case .double(let value): number = value
    default:
      mismatch(name, "a number", node)
      return nil
    }
    guard range.contains(number) else {
      error(name, "\(number) is out of range: must be \(range.lowerBound)–\(range.upperBound)")
      return nil
    }
    return number
  }

  /// A duration such as `1.5s` or `250ms` in whole milliseconds: at least `min`, and at least one where it is not zero.
  mutating func duration(_ name: String, min: Duration = .milliseconds(1)) -> Duration? {
    guard let text = string(name) else { return nil }
    guard let duration = DurationForm.parse(text) else {
      error(name, "'\(text.prefix(60))' is not a duration", hint: "write a number with a unit, such as 7s, 1.5s, 250ms or 1h")
      return nil
    }
    guard duration >= min, duration == .zero || duration >= .milliseconds(1) else {
      let least = max(min, .milliseconds(1))
      error(name, "a duration of \(text) is too short: must be at least \(DurationForm.text(least))")
      return nil
    }
    if duration.nanosecondsClamped % 1_000_000 != 0 { error(name, "a duration of \(text) has parts of a millisecond") }
    return duration
  }

  /// One of the names of `T`.
  mutating func name<T: RawRepresentable & CaseIterable>(_ name: String) -> T? where T.RawValue == String {
    guard let text = string(name) else { return nil }
    if let value = T(rawValue: text) { return value }
    let names = T.allCases.map(\.rawValue)
    let hint = Spelling.nearest(to: text, among: names).map { "did you mean '\($0)'?" }
    error(name, "'\(text.prefix(60))' is not one of \(names.joined(separator: ", "))", hint: hint)
    return nil
  }

  // MARK: Collections

  mutating func object<T: FieldDecodable>(_ name: String) -> T? {
    guard let node = value(name) else { return nil }
    return Fields.decode(node, at: path / name, into: &report)
  }

  mutating func required<T: FieldDecodable>(_ name: String) -> T? {
    guard let node = value(name) else {
      error(name, "required")
      return nil
    }
    return Fields.decode(node, at: path / name, into: &report)
  }

  mutating func list<T: FieldDecodable>(_ name: String) -> [T] {
    sequence(name) { (node, path, report) in Fields.decode(node, at: path, into: &report) }
  }

  mutating func strings(_ name: String) -> [String] {
    sequence(name) { (node, path, report) in
      if case .string(let text) = node.value { return text }
      report.error(path, "expected a string, found \(node.kind)", hint: "put it in quotes")
      return nil
    }
  }

  mutating func ints(_ name: String, in range: ClosedRange<Int>) -> [Int] {
    sequence(name) { (node, path, report) in
      guard case .int(let number) = node.value, let value = Int(exactly: number), range.contains(value) else {
        report.error(path, "expected a number in \(range.lowerBound)–\(range.upperBound), found \(node.kind)")
        return nil
      }
      return value
    }
  }

  private mutating func sequence<T>(_ name: String, _ decode: (YAMLNode, FieldPath, inout Report) -> T?) -> [T] {
    guard let node = value(name) else { return [] }
    guard case .sequence(let items) = node.value else {
      error(name, "expected a list, found \(node.kind)", hint: "start each item with '- '")
      return []
    }
    guard items.count <= ConfigLimits.itemsMax else {
      error(name, "a list of \(items.count) items; at most \(ConfigLimits.itemsMax) are accepted", hint: "split the object")
      return []
    }
    var values: [T] = []
    for (index, item) in items.enumerated() {
      if let value = decode(item, (path / name)[index], &report) { values.append(value) }
    }
    return values
  }

  /// A mapping with free keys, in the order of its keys' bytes.
  mutating func map<T: FieldDecodable>(_ name: String) -> [Keyed<T>] {
    entries(name) { (node, path, report) in Fields.decode(node, at: path, into: &report) }
  }

  mutating func stringMap(_ name: String) -> [String: String] {
    let pairs: [Keyed<String>] = entries(name) { (node, path, report) in
      if case .string(let text) = node.value { return text }
      report.error(path, "expected a string, found \(node.kind)", hint: "put it in quotes")
      return nil
    }
    return Dictionary(pairs.map { ($0.key, $0.value) }) { first, _ in first }
  }

  mutating func intMap(_ name: String, in range: ClosedRange<Int>) -> [Keyed<Int>] {
    entries(name) { (node, path, report) in
      guard case .int(let number) = node.value, let value = Int(exactly: number), range.contains(value) else {
        report.error(path, "expected a number in \(range.lowerBound)–\(range.upperBound), found \(node.kind)")
        return nil
      }
      return value
    }
  }

  private mutating func entries<T>(
    _ name: String, _ decode: (YAMLNode, FieldPath, inout Report) -> T?
  ) -> [Keyed<T>] {
    guard let node = value(name) else { return [] }
    guard case .mapping(let entries) = node.value else {
      error(name, "expected a mapping, found \(node.kind)")
      return []
    }
    guard entries.count <= ConfigLimits.itemsMax else {
      error(name, "a mapping of \(entries.count) keys; at most \(ConfigLimits.itemsMax) are accepted", hint: "split the object")
      return []
    }
    var values: [Keyed<T>] = []
    for entry in entries {
      if let value = decode(entry.value, path / name / entry.key, &report) {
        values.append(Keyed(key: entry.key, value: value))
      }
    }
    return values.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
  }

  /// Takes a field as it stands, unchecked: for parts of foreign schemas that the mesh does not read.
  mutating func ignore(_ names: String...) { asked.append(contentsOf: names) }

  /// Accepts every field: for objects of which only some fields are read.
  mutating func ignoreOthers() { asked.append(contentsOf: entries.map(\.key)) }

  /// A scalar that is an integer or a string (Kubernetes' IntOrString).
  mutating func intOrString(_ name: String) -> IntOrString? {
    guard let node = value(name) else { return nil }
    switch node.value {
    case .int: return integer(node, name, 1...65535).map { .int($0) }
    case .string(let text): return .string(text)
    default:
      mismatch(name, "a number or a string", node)
      return nil
    }
  }
}

/// A number or a name (`targetPort`).
public enum IntOrString: Hashable, Sendable {
  case int(Int)
  case string(String)
}

/// An entry of a mapping with free keys.
public struct Keyed<Value> {
  public let key: String
  public let value: Value
}
extension Keyed: Sendable where Value: Sendable {}
extension Keyed: Equatable where Value: Equatable {}
extension Keyed: Hashable where Value: Hashable {}
