import MeshConfig
import Nodes
import Primitives

/// What `get` asks for, and how it shows it.
struct ObjectQuery {
  /// Those asked for, each perhaps with a kind of its own; empty: all.
  let names: [Name]
  /// Where is looked, in words.
  let place: String
  private let parameters: String
  private let selector: LabelSelector?
  private let format: Format
  private let showsLabels: Bool

  private enum Format: String { case table, wide, name, yaml, json }

  /// A name, and the kind that stands before it.
  struct Name {
    /// As written.
    let kind: String
    let name: String

    func means(_ object: StoredObjectInfo) -> Bool {
      guard name == object.name else { return false }
      return kind.split(separator: ",").contains { ObjectKind(named: String($0)) == object.objectKind }
    }
  }

  init(_ arguments: Arguments) throws {
    let operands = arguments.operands
    let kind: String?
    if let first = operands.first, first.contains("/") {
      names = try operands.map { operand throws(UsageError) in
        let parts = operand.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, !parts.contains("") else {
          throw UsageError("after KIND/NAME each further one is KIND/NAME, not '\(operand)'")
        }
        return Name(kind: parts[0], name: parts[1])
      }
      kind = names.map(\.kind).joined(separator: ",")
    } else {
      kind = operands.first.flatMap { $0 == "all" ? nil : $0 }
      names = operands.dropFirst().map { Name(kind: kind ?? ObjectKind.allNames, name: $0) }
    }
    showsLabels = arguments.flag("show-labels")
    guard let format = Format(rawValue: arguments.value("output") ?? "table") else {
      throw UsageError("-o is table, wide, name, json or yaml, not '\(arguments.value("output") ?? "")'")
    }
    self.format = format
    selector = try arguments.value("selector").map { text throws(UsageError) in try LabelSelector(text) }
    let namespace = arguments.flag("all-namespaces") ? nil : arguments.value("namespace") ?? "default"
    place = namespace.map { "namespace \($0)" } ?? Self.anywhere
    let consistent = arguments.flag("consistent") ? "true" : nil
    let name = names.count == 1 ? names[0].name : nil
    let pairs = [("kind", kind), ("name", name), ("namespace", namespace), ("consistent", consistent)]
    parameters = pairs.compactMap { key, value in value.map { "\(key)=\(queryEscaped($0))" } }.joined(separator: "&")
  }

  var watchPath: String { "/v1/watch?\(parameters)" }

  func selects(_ object: StoredObjectInfo) -> Bool {
    (names.isEmpty || names.contains { $0.means(object) }) && selector?.matches(object.labels) ?? true
  }

  func objects(_ client: AdminClient) throws -> [StoredObjectInfo] {
    try client.get("/v1/objects?\(parameters)", as: [StoredObjectInfo].self).filter(selects)
  }

  /// Fails with a line for each name that none of the objects has.
  func checkAllThere(_ objects: [StoredObjectInfo]) throws(CommandFailure) {
    let missing = names.filter { name in !objects.contains { name.means($0) } }
    guard !missing.isEmpty else { return }
    let lines = missing.map { name in
      let kind = name.kind.contains(",") ? "such object" : name.kind
      return "there is no \(kind) '\(name.name)' in \(place)"
    }
    throw CommandFailure(lines.joined(separator: "\n"))
  }

  // MARK: Showing

  func show(_ objects: [StoredObjectInfo]) throws {
    switch format {
    case .table, .wide:
      if objects.isEmpty {
        let elsewhere = place == Self.anywhere ? "" : "Look everywhere with -A; "
        return Terminal.line("No objects found in \(place). \(elsewhere)create some with: mesh-node apply -f FILE")
      }
      var table = Table(columns: heads)
      for object in objects { table.row(cells(object)) }
      for line in table.lines { Terminal.line(line) }
    case .name: for object in objects { Terminal.line(Terminal.clean(object.resourceName)) }
    case .yaml: Terminal.write(objects.map(\.versionedYAML).joined(separator: "---\n"))
    case .json:
      let items = objects.map(\.versionedJSON)
      Terminal.line(
        names.count == 1 && items.count == 1
          ? items[0] : "{\"apiVersion\":\"v1\",\"items\":[\(items.joined(separator: ",\n"))],\"kind\":\"List\"}")
    }
  }

  /// One event, in a line where the format has lines.
  func show(_ type: ObjectEvent.Kind, _ object: StoredObjectInfo, isFirst: Bool) {
    switch format {
    case .table, .wide:
      if isFirst { Terminal.line(Self.line(["EVENT"] + heads)) }
      Terminal.line(Self.line([type.rawValue] + cells(object).map { $0.isEmpty ? "-" : Terminal.clean($0) }))
    case .name: Terminal.line("\(type.rawValue) \(Terminal.clean(object.resourceName))")
    case .yaml: Terminal.write("\(isFirst ? "" : "---\n")# \(type.rawValue)\n\(object.versionedYAML)")
    case .json: Terminal.line("{\"type\":\"\(type.rawValue)\",\"object\":\(object.versionedJSON)}")
    }
  }

  private static let anywhere = "any namespace"
  private var heads: [String] {
    let short = ["KIND", "NAMESPACE", "NAME", "VERSION", "ENFORCED"]
    return short + (format == .wide ? ["CREATED", "API VERSION", "ADDRESSES"] : [])
      + (format == .wide || showsLabels ? ["LABELS"] : [])
  }
  /// Nobody knows what is still to come: columns of a watch have these widths at least.
  private static let widths = [10, 22, 16, 28, 9, 10, 9, 34, 16]

  private func cells(_ object: StoredObjectInfo) -> [String] {
    let short = [
      object.kind, object.namespace, object.name, "\(object.resourceVersion)", object.enforced ? "yes" : "no",
    ]
    guard format == .wide || showsLabels else { return short }
    let labels = object.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
    let addresses = object.addresses?.joined(separator: ",") ?? ""
    return short + (format == .wide ? ["\(object.creationIndex)", object.apiVersion, addresses] : []) + [labels]
  }

  private static func line(_ cells: [String]) -> String {
    cells.enumerated().map { column, cell in
      let width = column < cells.count - 1 && column < widths.count ? widths[column] : 0
      return cell + String(repeating: " ", count: max(column < cells.count - 1 ? 1 : 0, width - cell.count))
    }.joined()
  }
}

/// What a watch has shown: by labels an object can come and go without being written or deleted.
struct ShownObjects {
  private let query: ObjectQuery
  private var shown: Set<String> = []
  private var isFirst = true

  init(_ query: ObjectQuery) { self.query = query }

  mutating func show(_ event: ObjectEvent) throws {
    let key = "\(event.object.kind) \(event.object.namespace)/\(event.object.name)"
    let isWanted = event.type != .deleted && query.selects(event.object)
    let wasShown = shown.contains(key)
    guard isWanted || wasShown else { return }
    if isWanted { shown.insert(key) } else { shown.remove(key) }
    query.show(isWanted ? (wasShown ? .modified : .added) : .deleted, event.object, isFirst: isFirst)
    isFirst = false
  }
}

extension ObjectKind {
  fileprivate static var allNames: String { allCases.map(\.rawValue).joined(separator: ",") }
}

extension StoredObjectInfo {
  /// nil for a kind of a later version.
  var objectKind: ObjectKind? {
    let parts = apiVersion.split(separator: "/")
    return ObjectKind(group: parts.count == 2 ? String(parts[0]) : "", documentKind: kind)
  }

  /// `kind/name`, which `get` and `delete` take; of a kind whose name two groups have, with its group.
  var resourceName: String { "\((objectKind?.rawValue ?? kind).lowercased())/\(name)" }

  /// The object with the version it was read at.
  var versionedYAML: String {
    yaml.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line == "metadata:" ? "metadata:\n  resourceVersion: \"\(resourceVersion)\"" : String(line)
    }.joined(separator: "\n")
  }

  /// The same as JSON. Keys are sorted and quotes in texts escaped, so the first `"metadata":{` is the object's own.
  var versionedJSON: String {
    let mark = "\"metadata\":{"
    guard let range = json.firstRange(of: mark) else { return json }
    return json[..<range.upperBound] + "\"resourceVersion\":\"\(resourceVersion)\"," + json[range.upperBound...]
  }
}
