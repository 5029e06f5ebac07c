import Primitives

/// The parsed command line of one command.
struct Arguments: Sendable {
  let command: String
  private var flags: Set<String> = []
  private var values: [String: [String]] = [:]
  private(set) var operands: [String] = []
  /// Everything after `--`; nil when there was none.
  private(set) var trailing: [String]?

  func flag(_ name: String) -> Bool { flags.contains(name) }
  func value(_ name: String) -> String? { values[name]?.last }
  func allValues(_ name: String) -> [String] { values[name] ?? [] }

  /// Parses `words` against the command's options; `--name=value`, `--name value`, `-s value` and `-svalue` are alike.
  init(_ words: [String], for command: Command) throws(UsageError) {
    self.command = command.name
    let options = command.options + commonOptions
    var index = 0
    while index < words.count {
      let word = words[index]
      index += 1
      if word == "--" {
        trailing = Array(words[index...])
        return
      }
      guard word.hasPrefix("-"), word != "-" else {
        operands.append(word)
        continue
      }
      let (option, attached) = try Self.find(word, in: options, command: command.name)
      guard option.placeholder != nil else {
        // kubectl says `--dry-run=server`, `--wait=false`.
        switch attached {
        case nil, "true": flags.insert(option.name)
        case "server" where option.name == "dry-run", "client" where option.name == "dry-run": flags.insert(option.name)
        case "false": flags.remove(option.name)
        case "none" where option.name == "dry-run": flags.remove(option.name)
        default: throw UsageError("--\(option.name) takes no value")
        }
        continue
      }
      if let attached {
        values[option.name, default: []].append(attached)
      } else if index < words.count {
        values[option.name, default: []].append(words[index])
        index += 1
      } else {
        throw UsageError("--\(option.name) needs a value: --\(option.name) \(option.placeholder ?? "VALUE")")
      }
    }
  }

  private static func find(
    _ word: String, in options: [CommandOption], command: String
  ) throws(UsageError) -> (CommandOption, attached: String?) {
    if word.hasPrefix("--") {
      let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = parts.first.map(String.init) ?? ""
      if let option = options.first(where: { $0.name == name }) {
        return (option, parts.count > 1 ? String(parts[1]) : nil)
      }
      let near = Spelling.nearest(to: name, among: options.map(\.name)).map { "; did you mean --\($0)?" } ?? ""
      throw UsageError("'\(command)' has no option --\(name)\(near)")
    }
    let letter = word.dropFirst().first
    guard let option = options.first(where: { $0.short != nil && $0.short == letter }) else {
      throw UsageError("'\(command)' has no option \(word)")
    }
    let rest = word.dropFirst(2)
    return (option, rest.isEmpty ? nil : String(rest))
  }

  /// A decimal option within bounds.
  func number(_ name: String, default fallback: UInt64, in range: ClosedRange<UInt64>) throws(UsageError) -> UInt64 {
    guard let text = value(name) else { return fallback }
    guard let number = parseDecimal(text.utf8), range.contains(number) else {
      throw UsageError("--\(name) is a number from \(range.lowerBound) to \(range.upperBound), not '\(text)'")
    }
    return number
  }

  /// A time such as `30s`, `500ms` or `2m`.
  func duration(_ name: String, default fallback: Duration) throws(UsageError) -> Duration {
    guard let text = value(name) else { return fallback }
    let units: [(String, Int64)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
    for (suffix, milliseconds) in units where text.hasSuffix(suffix) {
      if let number = parseDecimal(text.dropLast(suffix.count).utf8, max: 1_000_000) {
        return .milliseconds(Int64(number) * milliseconds)
      }
    }
    throw UsageError("--\(name) is a time such as 500ms, 30s or 2m, not '\(text)'")
  }

  var format: OutputFormat {
    get throws(UsageError) {
      guard let text = value("output") else { return .table }
      guard let format = OutputFormat(rawValue: text) else {
        throw UsageError("-o is table, json or yaml, not '\(text)'")
      }
      return format
    }
  }
}
