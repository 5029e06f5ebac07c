/// The text of `mesh-node --help` and `mesh-node COMMAND --help`.
enum Help {
  static func overview(_ commands: [Command]) -> String {
    var lines = [
      "mesh-node: a service mesh without a control plane. One process a host carries the traffic of the host's",
      "workloads; together the nodes agree on configuration, certificates and roles.",
      "",
      "usage: mesh-node COMMAND [OPTIONS]",
    ]
    let width = commands.map(\.name.count).max() ?? 0
    for group in Command.Group.allCases {
      lines += ["", "\(group.rawValue):"]
      for command in commands where command.group == group {
        lines.append("  \(padded(command.name, width))  \(command.summary)")
      }
    }
    lines += [
      "", "Every command takes --config FILE, --node NAME, -o table|json|yaml and --help.",
      "Exit codes: 0 done, 1 failed, 2 wrong use.", "",
      "Try it:  mesh-node demo",
    ]
    return lines.joined(separator: "\n")
  }

  static func command(_ command: Command) -> String {
    var lines = ["usage: mesh-node \(command.name) [OPTIONS]\(command.operands.isEmpty ? "" : " " + command.operands)"]
    lines += ["", command.summary.prefix(1).uppercased() + command.summary.dropFirst() + "."]
    if !command.discussion.isEmpty { lines += ["", command.discussion] }
    lines += ["", "options:"]
    let options = command.options + commonOptions
    let spellings = options.map { option in
      let short = option.short.map { "-\($0), " } ?? "    "
      return "\(short)--\(option.name)\(option.placeholder.map { " " + $0 } ?? "")"
    }
    let width = spellings.map(\.count).max() ?? 0
    for (option, spelling) in zip(options, spellings) { lines.append("  \(padded(spelling, width))  \(option.help)") }
    return lines.joined(separator: "\n")
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
