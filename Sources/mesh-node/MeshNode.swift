import CLinux
import Glibc
import Nodes
import Primitives
import Transport

/// The command line: finds the command, parses its options, runs it, and turns errors into words and exit codes.
@main
struct MeshNode {
  static let commands: [Command] = [
    .initialize, .start, .demo, .run,
    .members, .roles, .services, .status, .config, .certificates, .explain,
    .apply, .get, .edit, .delete, .export, .history, .rollback, .analyze, .describe,
    .token, .drain, .undrain, .forget, .rotateGossipKey,
    .backup, .restore, .recoverQuorum,
    .leave, .version,
  ]

  static func main() {
    ProcessSettings.ignoreBrokenPipe()
    var words = Array(CommandLine.arguments.dropFirst())
    // Options may stand before the command, as in `mesh-node --node n2 members`.
    let leading = takeLeadingOptions(&words)
    guard let name = words.first, name != "--help", name != "-h", name != "help" else {
      if words.count > 1, words[0] == "help", let command = commands.first(where: { $0.name == words[1] }) {
        Terminal.line(Help.command(command))
      } else {
        Terminal.line(Help.overview(commands))
      }
      exit(ExitStatus.done.rawValue)
    }
    guard let command = commands.first(where: { $0.name == name }) else {
      let near = Spelling.nearest(to: name, among: commands.map(\.name)).map { "; did you mean '\($0)'?" } ?? ""
      finish(usage: "there is no command '\(Terminal.clean(name))'\(near)", command: nil)
    }
    let rest = leading + Array(words.dropFirst())
    do {
      // Before any other thread exists, so that all of them leave these signals to the descriptor.
      if [Command.start, .run, .demo].contains(where: { $0.name == name }) { try Signals.install() }
    } catch { finish(usage: "\(error)", command: name) }
    Task { @concurrent in await run(command, rest) }
    // An asynchronous `main` would wait with all signals unblocked (dispatch_main on Linux), and be killed by them.
    while true { Glibc.pause() }
  }

  private static func run(_ command: Command, _ words: [String]) async -> Never {
    do {
      let arguments = try Arguments(words, for: command)
      if arguments.flag("help") {
        Terminal.line(Help.command(command))
        exit(ExitStatus.done.rawValue)
      }
      exit(try await command.run(arguments).rawValue)
    } catch let error as UsageError {
      finish(usage: error.message, command: command.name)
    } catch let error as AdminFailure {
      Terminal.errorLine(Terminal.styled("error: ", .red) + error.message)
      for line in findingLines(error.findings) { Terminal.errorLine(line) }
      exit(ExitStatus.failed.rawValue)
    } catch let error as CommandFailure {
      Terminal.errorLine(Terminal.styled("error: ", .red) + error.message)
      exit(ExitStatus.failed.rawValue)
    } catch {
      Terminal.errorLine(Terminal.styled("error: ", .red) + "\(error)")
      exit(ExitStatus.failed.rawValue)
    }
  }

  private static func takeLeadingOptions(_ words: inout [String]) -> [String] {
    var leading: [String] = []
    while let word = words.first, word.hasPrefix("-"), word != "--help", word != "-h" {
      leading.append(words.removeFirst())
      let takesValue = commonOptions.contains {
        $0.placeholder != nil && (word == "--\($0.name)" || word == $0.short.map { "-\($0)" })
      }
      if takesValue, !words.isEmpty { leading.append(words.removeFirst()) }
    }
    return leading
  }

  private static func finish(usage message: String, command: String?) -> Never {
    Terminal.errorLine(Terminal.styled("usage error: ", .red) + message)
    Terminal.errorLine("see: mesh-node \(command.map { $0 + " " } ?? "")--help")
    exit(ExitStatus.usage.rawValue)
  }
}
