import Nodes
import Primitives

/// What `get` asks for, and how it shows it.
struct ObjectQuery {
  let name: String?
  /// Where is looked, in words.
  let place: String
  private let parameters: String
  private let selector: LabelSelector?
  private let format: Format

  private enum Format: String { case table, wide, name, yaml, json }

  init(_ arguments: Arguments) throws {
    var operands = arguments.operands
    // KIND/NAME is KIND NAME.
    if operands.count == 1, let slash = operands[0].firstIndex(of: "/") {
      operands = [String(operands[0][..<slash]), String(operands[0][operands[0].index(after: slash)...])]
    }
    guard operands.count <= 2 else { throw UsageError("say one name: mesh-node get KIND NAME") }
    let kind = operands.first.flatMap { $0 == "all" ? nil : $0 }
    name = operands.count > 1 ? operands[1] : nil
    guard let format = Format(rawValue: arguments.value("output") ?? "table") else {
      throw UsageError("-o is table, wide, name, json or yaml, not '\(arguments.value("output") ?? "")'")
    }
    self.format = format
    selector = try arguments.value("selector").map { text throws(UsageError) in try LabelSelector(text) }
    let namespace = arguments.flag("all-namespaces") ? nil : arguments.value("namespace") ?? "default"
    place = namespace.map { "namespace \($0)" } ?? "any namespace"
    let consistent = arguments.flag("consistent") ? "true" : nil
    let pairs = [("kind", kind), ("name", name), ("namespace", namespace), ("consistent", consistent)]
    parameters = pairs.compactMap { key, value in value.map { "\(key)=\(queryEscaped($0))" } }.joined(separator: "&")
  }

  var watchPath: String { "/v1/watch?\(parameters)" }

  func selects(_ object: StoredObjectInfo) -> Bool { selector?.matches(object.labels) ?? true }

  func objects(_ client: AdminClient) throws -> [StoredObjectInfo] {
    try client.get("/v1/objects?\(parameters)", as: [StoredObjectInfo].self).filter(selects)
  }

  // MARK: Showing

  func show(_ objects: [StoredObjectInfo]) throws {
    switch format {
    case .table, .wide:
      if objects.isEmpty {
        return Terminal.line("No objects found in \(place). Look everywhere with -A; create some with: mesh-node apply -f FILE")
      }
      var table = Table(columns: format == .wide ? Self.wideHeads : Self.heads)
      for object in objects { table.row(cells(object)) }
      for line in table.lines { Terminal.line(line) }
    case .name: for object in objects { Terminal.line(Self.name(object)) }
    case .yaml: Terminal.write(objects.map(\.versionedYAML).joined(separator: "---\n"))
    case .json:
      let items = objects.map(\.versionedJSON)
      Terminal.line(
        name != nil && items.count == 1
          ? items[0] : "{\"apiVersion\":\"v1\",\"items\":[\(items.joined(separator: ",\n"))],\"kind\":\"List\"}")
    }
  }

  /// One event, in a line where the format has lines.
  func show(_ type: ObjectEvent.Kind, _ object: StoredObjectInfo, isFirst: Bool) {
    switch format {
    case .table, .wide:
      let heads = format == .wide ? Self.wideHeads : Self.heads
      if isFirst { Terminal.line(Self.line(["EVENT"] + heads)) }
      Terminal.line(Self.line([type.rawValue] + cells(object).map { $0.isEmpty ? "-" : Terminal.clean($0) }))
    case .name: Terminal.line("\(type.rawValue) \(Self.name(object))")
    case .yaml: Terminal.write("\(isFirst ? "" : "---\n")# \(type.rawValue)\n\(object.versionedYAML)")
    case .json: Terminal.line("{\"type\":\"\(type.rawValue)\",\"object\":\(object.versionedJSON)}")
    }
  }

  private static func name(_ object: StoredObjectInfo) -> String {
    "\(object.kind.lowercased())/\(Terminal.clean(object.name))"
  }

  private static let heads = ["KIND", "NAMESPACE", "NAME", "VERSION", "ENFORCED"]
  private static let wideHeads = heads + ["CREATED", "API VERSION", "LABELS"]
  /// Nobody knows what is still to come: columns of a watch have these widths at least.
  private static let widths = [10, 22, 16, 28, 9, 10, 9, 34]

  private func cells(_ object: StoredObjectInfo) -> [String] {
    let short = [
      object.kind, object.namespace, object.name, "\(object.resourceVersion)", object.enforced ? "yes" : "no",
    ]
    guard format == .wide else { return short }
    let labels = object.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
    return short + ["\(object.creationIndex)", object.apiVersion, labels]
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

extension StoredObjectInfo {
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
