import MeshConfig
import Nodes
import Primitives

extension Command {
  static let edit = Command(
    "edit", .configure, operands: "KIND NAME ... | KIND/NAME ...", summary: "change configuration objects in an editor",
    discussion: """
      Opens the objects as YAML in $VISUAL, $EDITOR or vi and applies what is saved, all as one change. What is refused is
      shown again with the reasons; saved as it was, nothing is changed. An object that somebody else has changed meanwhile is
      refused.
      example: EDITOR=nano mesh-node edit vs reviews --wait
      """,
    options: [
      .flag("wait", "return when every live node serves the change, and name those that do not"),
      .flag("strict", "refuse the change for a warning as for an error"),
      timeoutOption, namespaceOption,
    ]
  ) { arguments in
    let query = try ObjectQuery(arguments)
    guard !query.names.isEmpty else { throw UsageError("say what to edit: mesh-node edit KIND NAME") }
    let format = try arguments.format
    let timeout = try arguments.duration("timeout", default: .seconds(10))
    let client = try AdminClient(arguments)
    let objects = try query.objects(client)
    try query.checkAllThere(objects)
    if let secret = objects.first(where: { $0.objectKind == .secret }) {
      throw CommandFailure("values of Secrets are never printed: apply '\(secret.name)' anew from where its values are kept")
    }
    let editor = try Editor()
    var draft = ObjectDraft(objects)
    while true {
      guard draft.take(try editor.edit(draft.text)) else {
        guard draft.wasRefused else {
          editor.remove()
          Terminal.line("Nothing was changed.")
          return .done
        }
        throw CommandFailure("nothing was changed; what you wrote is in \(editor.path)")
      }
      let request = ApplyRequest(
        sources: [ConfigSource(name: ObjectDraft.name, text: draft.body)], dryRun: false, strict: arguments.flag("strict"),
        wait: arguments.flag("wait"), timeoutMilliseconds: Int(timeout.inMilliseconds),
        namespace: arguments.value("namespace") ?? "default", namespaceIsFixed: false)
      do {
        let report = try client.post("/v1/apply", request, as: ApplyReport.self, timeout: timeout + .seconds(5))
        editor.remove()
        return try conclude(report, as: format, dryRun: false, waited: request.wait)
      } catch let refusal as AdminFailure where refusal.code == "invalid" {
        draft.refuse(refusal)
      } catch {
        Terminal.errorLine("what you wrote is in \(editor.path)")
        throw error
      }
    }
  }
}

/// Objects as they are shown in an editor, with what is said of them above.
struct ObjectDraft {
  static let name = "what was edited"
  /// YAML of the objects, without the lines above.
  private(set) var body: String
  /// Why it was refused, the last time.
  private var reasons: [String] = []

  init(_ objects: [StoredObjectInfo]) { body = objects.map(\.versionedYAML).joined(separator: "---\n") }

  var wasRefused: Bool { !reasons.isEmpty }

  private static let head = [
    "Lines at the top that begin with '#' are left out. Saved as it is, or empty, nothing is changed.",
    "What is refused is shown again with the reasons.",
  ]

  var text: String {
    (Self.head + (wasRefused ? [""] + reasons : [])).map { $0.isEmpty ? "#\n" : "# \($0)\n" }.joined() + body
  }

  /// Takes what was saved; false when that is nothing new.
  mutating func take(_ edited: String) -> Bool {
    let lines = edited.split(separator: "\n", omittingEmptySubsequences: false)
    let saved = lines.drop { $0.hasPrefix("#") }.joined(separator: "\n")
    guard saved != body, saved.contains(where: { !$0.isWhitespace }) else { return false }
    body = saved
    return true
  }

  /// Lines are counted as the editor will show them.
  mutating func refuse(_ refusal: AdminFailure) {
    let above = Self.head.count + 2 + refusal.findings.count
    let findings = refusal.findings.map { finding in
      var finding = finding
      if finding.line > 0 { finding.line += above }
      return finding
    }
    reasons = ([refusal.message] + findingLines(findings, isStyled: false)).map(Terminal.clean)
  }
}
