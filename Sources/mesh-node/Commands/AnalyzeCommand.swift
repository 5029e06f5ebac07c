import Glibc
import MeshConfig
import Nodes
import Primitives
import Transport

extension Command {
  static let analyze = Command(
    "analyze", .configure, operands: "[FILE|FOLDER ...]",
    summary: "look for mistakes in files, the live configuration, or both",
    discussion: """
      Reports with Istio's codes and levels. With files only those are looked at; with --live as well, the live configuration
      as it would be with the files applied; without files, the live configuration. Exit code 79 when something at or above the threshold is found.
      examples:
        mesh-node analyze -f config/
        mesh-node analyze
        mesh-node analyze -f routes.yaml --live -o json
        mesh-node analyze -n shop
      Objects that ask for it with the annotation galley.istio.io/analyze-suppress are left in peace.
      """,
    options: [
      .value("filename", short: "f", "PATH", "a file, a folder, or - for standard input; repeatable"),
      .value("namespace", short: "n", "NAME", "only objects of this namespace; objects of files that name none are of it"),
      .flag("all-namespaces", short: "A", "objects of all namespaces, as without -n"),
      .flag("live", "look at the live configuration, too (without files: in any case)"),
      .value("failure-threshold", "LEVEL", "info, warning or error: what makes the exit code 79 (default: error)"),
      .value("output-threshold", "LEVEL", "the least level that is shown (default: info)"),
      .value("suppress", short: "S", "CODE=RESOURCE", "leave out a code for objects such as 'VirtualService ns.*'; repeatable"),
      .value("analyzer", "NAME", "run only this one; repeatable. --list names them"),
      .flag("list", "name all analyzers and what they look for"),
      .flag("kubernetes", "also look at injection, webhooks and Deployments"),
    ]
  ) { arguments in
    if arguments.flag("list") {
      var table = Table("ANALYZER", "LOOKS FOR")
      for analyzer in Analyzer.all { table.row(analyzer.name, analyzer.summary) }
      for line in table.lines { Terminal.line(line) }
      return .done
    }
    let analysis = try Analysis(arguments)
    let findings = analysis.findings
    try show(findings.map(AnalysisLine.init), as: arguments.format) { lines in
      lines.isEmpty ? ["✔ No validation issues found when analyzing \(analysis.subject)."] : lines.map(\.text)
    }
    let threshold = try level(arguments, "failure-threshold", .error)
    return findings.contains { $0.severity >= threshold } ? .found : .done
  }

  fileprivate static func level(
    _ arguments: Arguments, _ option: String, _ fallback: Finding.Severity
  ) throws(UsageError) -> Finding.Severity {
    guard let text = arguments.value(option)?.lowercased() else { return fallback }
    guard let level = Finding.Severity(rawValue: text) else {
      throw UsageError("--\(option) is info, warning or error, not '\(text)'")
    }
    return level
  }
}

/// One finding as `analyze` prints it.
private struct AnalysisLine: Encodable {
  let level: String
  let code: String
  let object: String
  let file: String
  let line: Int
  let path: String
  let message: String

  init(_ finding: Finding) {
    level = finding.severity.rawValue
    code = finding.code
    object = finding.object
    file = finding.source
    line = finding.line
    path = finding.path
    message = finding.reason + (finding.hint.map { "; \($0)" } ?? "")
  }

  /// `Warning [IST0132] (VirtualService default/reviews routes.yaml:7) text`
  var text: String {
    let place = file.isEmpty ? "" : line > 0 ? " \(file):\(line)" : " \(file)"
    let subject = object + place
    let head = Terminal.state(level, shownAs: level.prefix(1).uppercased() + level.dropFirst())
    return "\(head) [\(code)]" + (subject.isEmpty ? "" : " (\(Terminal.clean(subject)))") + " \(Terminal.clean(message))"
  }
}

extension Finding {
  /// Whether it is about an object of the namespace, of none, or about no object.
  fileprivate func isAbout(_ namespace: String) -> Bool {
    guard let name = object.split(separator: " ").last, name.contains("/") else { return true }
    return name.prefix { $0 != "/" } == namespace
  }
}

private struct Analysis {
  let findings: [Finding]
  let subject: String

  init(_ arguments: Arguments) throws {
    let paths = arguments.allValues("filename") + arguments.operands
    let isLive = arguments.flag("live") || paths.isEmpty
    let files = paths.isEmpty ? [] : try ConfigSources.read(paths)
    var input = AnalysisInput(certificateProblem: Self.problem)
    var found: [Finding] = []
    let namespace = arguments.value("namespace")
    // What admission would say of the files, and said of what is live and stays.
    let changes = ChangeSet(files.map { Self.source($0.name, $0.text) }, defaultNamespace: namespace ?? "default")
    if isLive {
      let live = try AdminClient(arguments).get("/v1/live", as: LiveConfiguration.self)
      input.nodesOpenPorts = true
      let replaced = Set(changes.objects.map(\.key.description))
      found += ChangeSet([Self.source("live", live.objects)]).findings.filter { !replaced.contains($0.object) }
      input.add(Self.source("", live.registry))
      input.add(Self.source("live", live.objects))
      if live.isolatesTenants == true {
        // What stood before isolation was asked for stays until somebody looks.
        let objects = ChangeSet([Self.source("live", live.objects)]).objects
        found += ReferenceRules.foreignHosts(in: objects, settings: ReferenceRules.Settings())
      }
    } else {
      input.addDefaultIngressGateway()
    }
    for file in files { input.add(Self.source(file.name, file.text), namespace: namespace ?? "default") }
    input.addWorkloadsOfDeployments()
    subject = (paths + (isLive ? ["the live configuration"] : [])).joined(separator: ", ")

    let wanted = Set(arguments.allValues("analyzer"))
    if let unknown = wanted.first(where: { name in !Analyzer.all.contains { $0.name == name } }) {
      throw UsageError("there is no analyzer '\(unknown)'; --list names them")
    }
    let analyzers = Analyzer.all.filter { analyzer in
      if !wanted.isEmpty { return wanted.contains(analyzer.name) }
      switch analyzer.scope {
      case .configuration: return true
      case .workloads: return input.hasWorkloads
      case .kubernetes: return arguments.flag("kubernetes")
      }
    }
    found = wanted.isEmpty ? found + changes.findings : []
    for analyzer in analyzers { found += analyzer.findings(in: input) }
    let least = try Command.level(arguments, "output-threshold", .info)
    let suppressed = try arguments.allValues("suppress").map(Suppression.init)
    var seen: Set<Finding> = []
    findings = found.map(\.asAnalyzed).filter { finding in
      finding.severity >= least && !suppressed.contains { $0.covers(finding) } && !input.suppresses(finding)
        && (namespace.map { finding.isAbout($0) } ?? true) && seen.insert(finding).inserted
    }.sorted { a, b in
      a.severity != b.severity ? a.severity > b.severity : (a.source, a.line, a.object) < (b.source, b.line, b.object)
    }
  }

  private static func source(_ name: String, _ text: String) -> MeshConfig.ConfigSource {
    MeshConfig.ConfigSource(name: name, bytes: Array(text.utf8))
  }

  @Sendable private static func problem(_ pem: [UInt8]) -> String? {
    guard let certificate = try? Certificate.parse(pem: pem).first else { return "it holds no certificate" }
    return certificate.notAfter < Int64(time(nil)) ? "the certificate has expired" : nil
  }
}

/// `-S CODE=Kind namespace/name`, with `*` at the end for more than one object.
private struct Suppression {
  private let code: String
  private let object: String

  init(_ text: String) throws(UsageError) {
    let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { throw UsageError("--suppress is CODE=RESOURCE, not '\(text)'") }
    code = parts[0]
    object = parts[1]
  }

  func covers(_ finding: Finding) -> Bool {
    guard finding.code == code else { return false }
    return object.hasSuffix("*") ? finding.object.hasPrefix(object.dropLast()) : finding.object == object
  }
}
