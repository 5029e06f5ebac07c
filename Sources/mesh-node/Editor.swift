import CLinux
import Cluster
import Glibc

/// A text file in the person's own editor: `$VISUAL`, else `$EDITOR`, else vi, as git and kubectl choose.
struct Editor {
  /// Only its owner reads it.
  let path: String
  private let command: String

  init() throws {
    let variables = currentEnvironment()
    command = ["VISUAL", "EDITOR"].compactMap { variables[$0] }.first { !$0.isEmpty } ?? "vi"
    var template = Array("\(variables["TMPDIR"] ?? "/tmp")/mesh-node-edit-XXXXXX.yaml".utf8CString)
    let descriptor = mkstemps(&template, 5)
    guard descriptor >= 0 else { throw CommandFailure("cannot make a file to edit: \(errorText(errno))") }
    close(descriptor)
    path = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
  }

  func remove() { unlink(path) }

  /// Shows `text` and returns what it has become.
  func edit(_ text: String) throws -> String {
    do { try replaceFile(path, with: Array(text.utf8), mode: 0o600) } catch { throw CommandFailure("\(path): \(error)") }
    let code = try run()
    guard code == 0 else { throw CommandFailure("the editor '\(command)' ended with \(code); nothing was changed") }
    let bytes: [UInt8]
    do { bytes = try readFile(path, bytesMax: ConfigSources.bytesMax) } catch { throw CommandFailure("\(path): \(error)") }
    guard let edited = String(validating: bytes, as: UTF8.self) else { throw CommandFailure("\(path): not valid UTF-8") }
    return edited
  }

  /// In this process's group, so that the terminal is the editor's; the shell parts a command such as `code --wait`.
  /// Ctrl-C is the editor's meanwhile, as in git.
  private func run() throws -> Int32 {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var defaults = sigset_t()
    sigemptyset(&defaults)
    for number in [SIGINT, SIGQUIT, SIGPIPE] { sigaddset(&defaults, number) }
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
    let before = (signal(SIGINT, SIG_IGN), signal(SIGQUIT, SIG_IGN))
    defer {
      signal(SIGINT, before.0)
      signal(SIGQUIT, before.1)
    }
    let arguments = ["sh", "-c", "\(command) \"$1\"", "sh", path]
    var pid: pid_t = 0
    let error = withCStrings(arguments) { posix_spawn(&pid, "/bin/sh", nil, &attributes, $0, environ) }
    guard error == 0 else { throw CommandFailure("cannot start the editor '\(command)': \(errorText(error))") }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 {
      guard errno == EINTR else { throw CommandFailure("cannot wait for the editor: \(errorText(errno))") }
    }
    return cl_exited(status) ? cl_exit_status(status) : 128 + cl_term_signal(status)
  }
}
