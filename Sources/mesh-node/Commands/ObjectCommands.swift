import MeshConfig
import Nodes
import Primitives

extension Command {
  static let get = Command(
    "get", .configure, operands: "[KIND[,KIND]|all [NAME ...]] | KIND/NAME ...", summary: "show configuration objects",
    discussion: """
      -o takes name and wide beside table, json and yaml. YAML and JSON carry metadata.resourceVersion: applied again, the
      object is refused when it has changed meanwhile. With --watch each line begins with ADDED, MODIFIED or DELETED.
      examples:
        mesh-node get -A
        mesh-node get virtualservices,destinationrules -l team=web
        mesh-node get vs reviews -o yaml
        mesh-node get vs -A --watch
      """,
    options: [
      .value("namespace", short: "n", "NAME", "namespace (default: default)"),
      .flag("all-namespaces", short: "A", "objects of all namespaces"),
      .value("selector", short: "l", "LABELS", "only objects with these labels: a=b,c!=d,e in (f,g)"),
      .flag("show-labels", "show each object's labels, too"),
      .flag("watch", short: "w", "go on and show each object that is added, modified or deleted"),
      .flag("consistent", "everything that was decided before, wherever: asks the leader and a majority of the voters first"),
    ]
  ) { arguments in
    let query = try ObjectQuery(arguments)
    let client = try AdminClient(arguments)
    if arguments.flag("watch") { return try watch(query, client) }
    let objects = try query.objects(client)
    if !objects.isEmpty || query.names.isEmpty { try query.show(objects) }
    try query.checkAllThere(objects)
    return .done
  }

  /// Shows events as the node sends them, until it ends.
  private static func watch(_ query: ObjectQuery, _ client: AdminClient) throws -> ExitStatus {
    let stream = try client.open(query.watchPath)
    var shown = ShownObjects(query)
    while true {
      let events = try stream.next(ObjectEvent.self)
      if events.isEmpty { throw CommandFailure("node \(client.node) ended the watch; is it shutting down?") }
      for event in events { try shown.show(event) }
    }
  }

  static let export = Command(
    "export", .configure, summary: "print every configuration object as YAML that can be applied again",
    discussion: """
      Values of Secrets are never printed. Where the Secrets still are, what is printed applies as it is; elsewhere leave them out
      with --without-secrets and apply them from where their values are kept, or use backup and restore.
      """,
    options: [
      .value("namespace", short: "n", "NAME", "only this namespace"),
      .flag("without-secrets", "leave Secrets out, so that the rest can be applied where they are not"),
    ]
  ) { arguments in
    let query = arguments.value("namespace").map { "?namespace=\(queryEscaped($0))" } ?? ""
    let objects = try AdminClient(arguments).get("/v1/objects\(query)", as: [StoredObjectInfo].self)
      .filter { !arguments.flag("without-secrets") || $0.objectKind != .secret }
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
      timeoutOption,
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
    return try conclude(report, as: arguments.format, dryRun: request.dryRun, waited: request.wait)
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
