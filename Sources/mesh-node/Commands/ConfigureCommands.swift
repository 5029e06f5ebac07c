import Cluster
import Nodes
import Primitives

extension Command {
  static let namespaceOption = CommandOption.value("namespace", short: "n", "NAME", "namespace (default: default)")
  private static let recursiveOption = CommandOption.flag("recursive", short: "R", "the folders within a folder, too")
  static let timeoutOption = CommandOption.value("timeout", "TIME", "give up after this time (default: 10s)")

  static let apply = Command(
    "apply", .configure, operands: "-f FILE|FOLDER|- ...", summary: "create or change configuration from Istio YAML",
    discussion: """
      All documents of all files form one change: it is accepted as a whole or refused as a whole.
      examples:
        mesh-node apply -f routes.yaml --wait
        mesh-node apply -f config/ --dry-run
        cat routes.yaml | mesh-node apply -f -
      """,
    options: [
      .value(
        "filename", short: "f", "PATH",
        "a file, a folder of *.yaml, *.yml and *.json files, or - for standard input; repeatable"),
      recursiveOption,
      .flag("wait", "return when every live node serves the change, and name those that do not"),
      .flag("dry-run", "validate and show what would change, without changing it"),
      .flag("strict", "refuse the change for a warning as for an error"),
      timeoutOption, namespaceOption,
    ]
  ) { arguments in
    guard arguments.operands.isEmpty else {
      throw UsageError("name files with -f: mesh-node apply -f \(arguments.operands[0])")
    }
    let timeout = try arguments.duration("timeout", default: .seconds(10))
    let request = ApplyRequest(
      sources: try ConfigSources.read(arguments.allValues("filename"), isRecursive: arguments.flag("recursive")),
      dryRun: arguments.flag("dry-run"),
      strict: arguments.flag("strict"), wait: arguments.flag("wait"), timeoutMilliseconds: Int(timeout.inMilliseconds),
      namespace: arguments.value("namespace") ?? "default", namespaceIsFixed: arguments.value("namespace") != nil)
    let report = try AdminClient(arguments).post("/v1/apply", request, as: ApplyReport.self, timeout: timeout + .seconds(5))
    return try conclude(report, as: arguments.format, dryRun: request.dryRun, waited: request.wait)
  }

  static let delete = Command(
    "delete", .configure,
    operands: "KIND[,KIND] NAME ... | KIND/NAME ... | KIND[,KIND] -l LABELS | KIND[,KIND] --all | -f FILE",
    summary: "delete configuration objects",
    discussion: """
      examples:
        mesh-node delete virtualservice reviews --wait
        mesh-node delete vs -l team=web
      """,
    options: [
      .value("selector", short: "l", "LABELS", "delete objects of a kind with these labels: a=b,c!=d,e in (f,g)"),
      .value("filename", short: "f", "PATH", "delete every object that these files name; repeatable"),
      recursiveOption,
      .flag("all", "delete every object of a kind in the namespace"),
      .flag("dry-run", "show what would be deleted, and what would miss it, without deleting it"),
      .flag("ignore-not-found", "do nothing about objects that are not there"),
      .flag("wait", "return when every live node serves the change"),
      timeoutOption, namespaceOption,
    ]
  ) { arguments in
    let timeout = try arguments.duration("timeout", default: .seconds(10))
    let files = arguments.allValues("filename")
    let names =
      arguments.value("selector") != nil || arguments.flag("all")
      ? try selectedNames(arguments) : try objectNames(arguments.operands, allowNone: !files.isEmpty)
    let request = DeleteRequest(
      objects: names,
      sources: files.isEmpty ? [] : try ConfigSources.read(files, isRecursive: arguments.flag("recursive")),
      namespace: arguments.value("namespace") ?? "default", namespaceIsFixed: arguments.value("namespace") != nil,
      dryRun: arguments.flag("dry-run"),
      ignoreNotFound: arguments.flag("ignore-not-found"), wait: arguments.flag("wait"),
      timeoutMilliseconds: Int(timeout.inMilliseconds))
    if request.objects.isEmpty && request.sources.isEmpty { return .done }
    let report = try AdminClient(arguments).post("/v1/delete", request, as: ApplyReport.self, timeout: timeout + .seconds(5))
    return try conclude(report, as: arguments.format, dryRun: request.dryRun, waited: request.wait)
  }

  /// Objects of some kinds in the namespace that have the labels of `-l`.
  private static func selectedNames(_ arguments: Arguments) throws -> [String] {
    guard arguments.operands.count == 1 else { throw UsageError("say which kind: mesh-node delete KIND -l LABELS") }
    let selector = try arguments.value("selector").map { text throws(UsageError) in try LabelSelector(text) }
    let namespace = queryEscaped(arguments.value("namespace") ?? "default")
    let path = "/v1/objects?kind=\(queryEscaped(arguments.operands[0]))&namespace=\(namespace)"
    let objects = try AdminClient(arguments).get(path, as: [StoredObjectInfo].self)
      .filter { selector?.matches($0.labels) ?? true }
    if objects.isEmpty && !arguments.flag("ignore-not-found") {
      throw CommandFailure("there is no \(arguments.operands[0])" + (selector == nil ? "" : " with these labels"))
    }
    return objects.map(\.resourceName)
  }

  /// `KIND NAME`, `KIND/NAME ...` → `KIND/NAME` each.
  private static func objectNames(_ operands: [String], allowNone: Bool) throws -> [String] {
    if operands.isEmpty && !allowNone { throw UsageError("name what to delete: KIND NAME, or -f FILE") }
    if operands.allSatisfy({ $0.contains("/") }) { return operands }
    guard operands.count >= 2 else { throw UsageError("name what to delete: KIND NAME, or KIND/NAME") }
    let kinds = operands[0].split(separator: ",")
    return kinds.flatMap { kind in operands.dropFirst().map { "\(kind)/\($0)" } }
  }
}

/// Reads what `-f` names.
enum ConfigSources {
  /// Largest sum of files in one change.
  static let bytesMax = 8 << 20
  static let filesMax = 2000

  static func read(_ paths: [String], isRecursive: Bool = false) throws -> [ConfigSource] {
    guard !paths.isEmpty else { throw UsageError("name what to apply: -f FILE, -f FOLDER or -f -") }
    var sources: [ConfigSource] = []
    for path in paths {
      if path == "-" {
        sources.append(try source("standard input", reading: "/dev/stdin"))
        continue
      }
      for file in try folder(path, isRecursive) { sources.append(try source(file, reading: file)) }
    }
    guard sources.count <= filesMax else { throw CommandFailure("\(sources.count) files; at most \(filesMax) in one change") }
    return sources
  }

  private static func folder(_ path: String, _ isRecursive: Bool) throws -> [String] {
    do { return try SeedConfiguration.files(at: path, isRecursive: isRecursive) } catch { throw CommandFailure("\(error)") }
  }

  private static func source(_ name: String, reading path: String) throws -> ConfigSource {
    let bytes: [UInt8]
    do { bytes = try readFile(path, bytesMax: bytesMax) } catch { throw CommandFailure("\(name): \(error)") }
    guard let text = String(validating: bytes, as: UTF8.self) else { throw CommandFailure("\(name): not valid UTF-8") }
    return ConfigSource(name: name, text: text)
  }
}

/// Shows what a change came to. One that was waited for has failed while nodes do not serve it.
func conclude(_ report: ApplyReport, as format: OutputFormat, dryRun: Bool, waited: Bool) throws -> ExitStatus {
  try show(report, as: format) { reportLines($0, dryRun: dryRun, waited: waited) }
  return waited && !report.lagging.isEmpty ? .failed : .done
}

private func reportLines(_ report: ApplyReport, dryRun: Bool, waited: Bool) -> [String] {
  var lines: [String] = []
  for change in report.changes {
    let subject =
      "\(change.kind.lowercased())/\(change.name)"
      + (["default", ""].contains(change.namespace) ? "" : " in \(change.namespace)")
    let colour: Terminal.Style =
      switch change.action {
      case "created": .green
      case "configured": .cyan
      case "deleted": .red
      default: .dim
      }
    let line = "\(Terminal.clean(subject)) \(Terminal.styled(change.action + (dryRun ? " (dry run)" : ""), colour))"
    if change.action == "skipped" {
      lines.append(line + ": " + Terminal.clean(change.detail ?? ""))
      continue
    }
    lines.append(line)
    if let detail = change.detail { lines += detail.split(separator: "\n").map { "    " + Terminal.clean(String($0)) } }
  }
  // What was skipped has been said above.
  lines += findingLines(report.findings.filter { !$0.isOfSkipped })
  if report.changes.isEmpty { lines.append("nothing to do") }
  if dryRun { return lines }
  lines.append("revision \(report.revision)")
  if waited {
    let milliseconds = oneDecimal(report.elapsedMilliseconds)
    lines.append("served by \(report.serving.joined(separator: ", ")) after \(milliseconds) ms")
    if !report.lagging.isEmpty {
      lines.append(Terminal.styled("not yet served by \(report.lagging.joined(separator: ", "))", .yellow))
    }
  }
  return lines
}

/// In the order of the files' lines.
func findingLines(_ findings: [FindingInfo], isStyled: Bool = true) -> [String] {
  let files = Dictionary(findings.enumerated().map { ($1.file, $0) }) { first, _ in first }
  let sorted = findings.enumerated().sorted { a, b in
    let (left, right) = (a.element, b.element)
    return (files[left.file] ?? 0, left.line, left.column, a.offset) < (
      files[right.file] ?? 0, right.line, right.column, b.offset
    )
  }
  return sorted.map { _, finding in
    let place =
      finding.line > 0 ? "\(finding.file):\(finding.line):\(finding.column): " : finding.file.isEmpty ? "" : "\(finding.file): "
    let field = finding.field.isEmpty ? "" : "\(finding.field): "
    let hint = finding.hint.map { " (\($0))" } ?? ""
    let head = "\(isStyled ? Terminal.state(finding.level) : finding.level) [\(finding.code)]"
    return "\(Terminal.clean(place))\(head): \(Terminal.clean(field + finding.message + hint))"
  }
}

/// Percent-encodes everything but unreserved bytes.
func queryEscaped(_ text: String) -> String {
  var out = ""
  for byte in text.utf8 {
    if ASCII.isDigit(byte) || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A) || [0x2D, 0x2E, 0x5F, 0x7E].contains(byte) {
      out.unicodeScalars.append(Unicode.Scalar(byte))
    } else {
      out += "%" + hexString([byte]).uppercased()
    }
  }
  return out
}
