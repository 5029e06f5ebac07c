import Glibc

/// Restarts workloads and nodes of a real mesh under constant load and counts what clients notice.
@main
enum Rolling {
  static func main() {
    // A peer that is gone is an error of the write, not the end of this process.
    signal(SIGPIPE, SIG_IGN)
    do {
      let arguments = Array(CommandLine.arguments.dropFirst())
      if arguments.first == "origin" {
        try Origin(Options(Array(arguments.dropFirst()))).serve()
      }
      let options = try Options(arguments)
      if options.flag("help") { return say(usage) }
      let isClean = try Campaign(options).run()
      exit(isClean ? 0 : 1)
    } catch {
      say("error: \(error)")
      exit(2)
    }
  }

  private static let usage = """
    usage: rolling --mesh-node PROGRAM [--workloads N] [--nodes N] [--rate N] [--seed N] [--keep]
      Three nodes, three instances of one service, and constant open-loop GET and POST load: through a gateway, from a workload
      to others, and from workloads of the nodes that are restarted. Exits 1 unless no request failed and no POST was done twice.
        --mesh-node PROGRAM  the program to test
        --workloads N        restarts of workloads, one after the other (default: 1000)
        --nodes N            restarts of nodes, one after the other (default: 30)
        --rate N             requests a second, all clients together (default: 200)
        --node-options TEXT  further words for `mesh-node start`
        --keep               leaves the directory with logs where it is
    """
}

/// A broken step, in words.
struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// `--name value` and `--flag`.
struct Options {
  private var values: [String: String] = [:]
  private static let flags: Set<String> = ["help", "keep"]

  init(_ arguments: [String]) throws {
    var rest = arguments[...]
    while let word = rest.popFirst() {
      guard word.hasPrefix("--") else { throw Failure("'\(word)' is not an option; see --help") }
      let name = String(word.dropFirst(2))
      values[name] = Self.flags.contains(name) ? "" : rest.popFirst() ?? ""
    }
  }

  func flag(_ name: String) -> Bool { values[name] != nil }

  func text(_ name: String) throws -> String {
    guard let value = values[name], !value.isEmpty else { throw Failure("--\(name) is missing; see --help") }
    return value
  }

  func text(_ name: String, default fallback: String) -> String { values[name] ?? fallback }

  func number(_ name: String, default fallback: Int) throws -> Int {
    guard let value = values[name] else { return fallback }
    guard let number = Int(value), number >= 0 else { throw Failure("--\(name) must be a whole number, not '\(value)'") }
    return number
  }
}

/// A line for whoever runs this.
func say(_ text: String) {
  let line = Array("\(text)\n".utf8)
  _ = write(STDOUT_FILENO, line, line.count)
}
