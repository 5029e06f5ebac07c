/// One option of a command: `--name VALUE`, or a flag when `placeholder` is nil.
struct CommandOption: Sendable {
  let name: String
  let short: Character?
  let placeholder: String?
  let help: String

  static func flag(_ name: String, short: Character? = nil, _ help: String) -> CommandOption {
    CommandOption(name: name, short: short, placeholder: nil, help: help)
  }
  static func value(_ name: String, short: Character? = nil, _ placeholder: String, _ help: String) -> CommandOption {
    CommandOption(name: name, short: short, placeholder: placeholder, help: help)
  }
}

/// A subcommand: everything `--help`, parsing and dispatch need.
struct Command: Sendable {
  let name: String
  let group: Group
  /// What stands after the name in the usage line.
  let operands: String
  let summary: String
  /// Paragraphs and examples for `mesh-node NAME --help`.
  let discussion: String
  let options: [CommandOption]
  let run: @Sendable (Arguments) async throws -> ExitStatus

  enum Group: String, CaseIterable, Sendable {
    case run = "Run"
    case inspect = "Inspect"
    case configure = "Configure"
    case other = "Other"
  }

  init(
    _ name: String, _ group: Group, operands: String = "", summary: String, discussion: String = "",
    options: [CommandOption] = [], run: @escaping @Sendable (Arguments) async throws -> ExitStatus
  ) {
    self.name = name
    self.group = group
    self.operands = operands
    self.summary = summary
    self.discussion = discussion
    self.options = options
    self.run = run
  }
}

/// Options that every command takes.
let commonOptions: [CommandOption] = [
  .value("config", "FILE", "the cluster file (default: cluster.json, or $MESH_CONFIG)"),
  .value("node", "NAME", "the node to run or to talk to (default: the first of the cluster file, or $MESH_NODE)"),
  .value("output", short: "o", "FORMAT", "table, json or yaml (default: table)"),
  .flag("help", short: "h", "show this help"),
]

/// 0 done, 1 failed, 2 wrong use, 79 done and found something (as istioctl analyze).
enum ExitStatus: Int32, Sendable {
  case done = 0
  case failed = 1
  case usage = 2
  case found = 79
}

/// The command line was wrong: printed with a pointer to `--help`, exit 2.
struct UsageError: Error {
  let message: String
  init(_ message: String) { self.message = message }
}

/// The command could not do its work: printed as is, exit 1.
struct CommandFailure: Error {
  let message: String
  init(_ message: String) { self.message = message }
}
