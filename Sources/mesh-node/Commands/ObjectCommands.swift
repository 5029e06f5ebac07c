import Nodes
import Primitives

extension Command {
  static let get = Command(
    "get", .configure, operands: "[KIND|all [NAME]]", summary: "show configuration objects",
    discussion: """
      -o takes name and wide beside table, json and yaml. YAML and JSON carry metadata.resourceVersion: applied again, the
      object is refused when it has changed meanwhile.
      examples:
        mesh-node get
        mesh-node get virtualservices -l team=web -A
        mesh-node get vs reviews -o yaml
      """,
    options: [
      .value("namespace", short: "n", "NAME", "namespace (default: all, or default with a name)"),
      .flag("all-namespaces", short: "A", "objects of all namespaces"),
      .value("selector", short: "l", "LABELS", "only objects with these labels: a=b,c!=d,e in (f,g)"),
      .flag("watch", short: "w", "go on and show each object that changes"),
    ]
  ) { arguments in
    let query = try ObjectQuery(arguments)
    let client = try AdminClient(arguments)
    var objects = try query.objects(client)
    if let name = query.name, objects.isEmpty, !arguments.flag("watch") {
      throw CommandFailure("there is no \(arguments.operands[0]) '\(name)'")
    }
    try query.show(objects)
    while arguments.flag("watch") {
      try await Task.sleep(for: .seconds(1))
      let next = try query.objects(client)
      let known = Dictionary(objects.map { ($0.key, $0.resourceVersion) }) { first, _ in first }
      let changed = next.filter { known[$0.key] != $0.resourceVersion }
      let kept = Set(next.map(\.key))
      if !changed.isEmpty { try query.show(changed) }
      for gone in objects where !kept.contains(gone.key) { Terminal.line("\(Terminal.clean(gone.key)) deleted") }
      objects = next
    }
    return .done
  }

  static let export = Command(
    "export", .configure, summary: "print every configuration object as YAML that can be applied again",
    options: [.value("namespace", short: "n", "NAME", "only this namespace")]
  ) { arguments in
    let query = arguments.value("namespace").map { "?namespace=\(queryEscaped($0))" } ?? ""
    let objects = try AdminClient(arguments).get("/v1/objects\(query)", as: [StoredObjectInfo].self)
    Terminal.write(objects.map(\.yaml).joined(separator: "---\n"))
    return .done
  }

  static let history = Command(
    "history", .configure, summary: "show the latest changes of the configuration",
    discussion: "Any revision in the column REVISION or BEFORE can be returned to: mesh-node rollback REVISION"
  ) { arguments in
    let revisions = try AdminClient(arguments).get("/v1/history", as: [RevisionInfo].self)
    try show(revisions, as: arguments.format) { list in
      guard !list.isEmpty else { return ["No changes yet."] }
      var table = Table("REVISION", "BEFORE", "AUTHOR", "CHANGES")
      for item in list {
        let shown = item.changes.prefix(3).map { "\($0.action) \($0.kind.lowercased())/\($0.name)" }
        let rest = item.changes.count > shown.count ? " and \(item.changes.count - shown.count) more" : ""
        table.row("\(item.revision)", "\(item.previous)", item.author, shown.joined(separator: ", ") + rest)
      }
      return table.lines
    }
    return .done
  }

  static let rollback = Command(
    "rollback", .configure, operands: "REVISION", summary: "make the configuration what it was at a revision",
    discussion: "example: mesh-node rollback 41 --wait",
    options: [
      .flag("wait", "return when every live node serves the change"),
      .flag("dry-run", "show what would change, without changing it"),
      .value("timeout", "TIME", "give up after this time (default: 10s)"),
    ]
  ) { arguments in
    guard arguments.operands.count == 1, let revision = parseDecimal(arguments.operands[0].utf8) else {
      throw UsageError("say which revision: mesh-node rollback REVISION; see mesh-node history")
    }
    let timeout = try arguments.duration("timeout", default: .seconds(10))
    let request = RollbackRequest(
      revision: revision, dryRun: arguments.flag("dry-run"), wait: arguments.flag("wait"),
      timeoutMilliseconds: Int(timeout.inMilliseconds))
    let report = try AdminClient(arguments).post("/v1/rollback", request, as: ApplyReport.self, timeout: timeout + .seconds(5))
    try show(report, as: arguments.format) { reportLines($0, dryRun: request.dryRun, waited: request.wait) }
    return request.wait && !report.lagging.isEmpty ? .failed : .done
  }

  static let describe = Command(
    "describe", .inspect, operands: "service|workload NAME", summary: "sum up what applies to a service or a workload",
    discussion: "example: mesh-node describe service reviews",
    options: [.value("namespace", short: "n", "NAME", "namespace (default: default)")]
  ) { arguments in
    guard arguments.operands.count == 2 else { throw UsageError("say what to describe: service NAME, or workload NAME") }
    let namespace = arguments.value("namespace") ?? "default"
    let query = zip(["kind", "name", "namespace"], arguments.operands + [namespace]).map { "\($0)=\(queryEscaped($1))" }
    let answer = try AdminClient(arguments).get("/v1/describe?\(query.joined(separator: "&"))", as: DescriptionInfo.self)
    try show(answer, as: arguments.format) { description in
      description.sections.flatMap { section in
        [Terminal.styled(Terminal.clean(section.title), .bold)] + section.lines.map { "  " + Terminal.clean($0) }
      }
    }
    return .done
  }
}

extension StoredObjectInfo {
  /// `kind namespace/name`, for telling objects apart.
  fileprivate var key: String { "\(kind.lowercased()) \(namespace)/\(name)" }
}

/// What `get` asks for, and how it shows it.
private struct ObjectQuery {
  let name: String?
  private let path: String
  private let selector: LabelSelector?
  private let format: Format

  private enum Format: String { case table, wide, name, yaml, json }

  init(_ arguments: Arguments) throws {
    let kind = arguments.operands.first.flatMap { $0 == "all" ? nil : $0 }
    name = arguments.operands.count > 1 ? arguments.operands[1] : nil
    guard let format = Format(rawValue: arguments.value("output") ?? "table") else {
      throw UsageError("-o is table, wide, name, json or yaml, not '\(arguments.value("output") ?? "")'")
    }
    self.format = format
    selector = try arguments.value("selector").map { text throws(UsageError) in try LabelSelector(text) }
    var query: [String] = []
    if let kind { query.append("kind=\(queryEscaped(kind))") }
    if let name { query.append("name=\(queryEscaped(name))") }
    if !arguments.flag("all-namespaces"), let namespace = arguments.value("namespace") ?? (name == nil ? nil : "default") {
      query.append("namespace=\(queryEscaped(namespace))")
    }
    path = "/v1/objects" + (query.isEmpty ? "" : "?\(query.joined(separator: "&"))")
  }

  func objects(_ client: AdminClient) throws -> [StoredObjectInfo] {
    try client.get(path, as: [StoredObjectInfo].self).filter { selector?.matches($0.labels) ?? true }
  }

  func show(_ objects: [StoredObjectInfo]) throws {
    switch format {
    case .table: for line in objectLines(objects) { Terminal.line(line) }
    case .wide: for line in wideLines(objects) { Terminal.line(line) }
    case .name: for object in objects { Terminal.line("\(object.kind.lowercased())/\(Terminal.clean(object.name))") }
    case .yaml: Terminal.write(objects.map(versioned).joined(separator: "---\n"))
    case .json:
      Terminal.line(name != nil && objects.count == 1 ? objects[0].json : "[\(objects.map(\.json).joined(separator: ",\n"))]")
    }
  }

  private func wideLines(_ objects: [StoredObjectInfo]) -> [String] {
    var table = Table("KIND", "NAMESPACE", "NAME", "VERSION", "CREATED", "ENFORCED", "API VERSION", "LABELS")
    for object in objects {
      let labels = object.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
      table.row(
        object.kind, object.namespace, object.name, "\(object.resourceVersion)", "\(object.creationIndex)",
        object.enforced ? "yes" : "no", object.apiVersion, labels)
    }
    return table.lines
  }

  /// The object with the version it was read at.
  private func versioned(_ object: StoredObjectInfo) -> String {
    object.yaml.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line == "metadata:" ? "metadata:\n  resourceVersion: \"\(object.resourceVersion)\"" : String(line)
    }.joined(separator: "\n")
  }
}
