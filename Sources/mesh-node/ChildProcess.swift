import CLinux
import Glibc

/// A program this process started and has to end.
struct ChildProcess: Sendable {
  let pid: pid_t

  /// Starts `arguments` (the first is looked up in PATH) as the leader of its own process group.
  ///
  /// - Parameter diesWithParent: the kernel kills it when the starting *thread* ends; start it from a thread that stays.
  init(
    _ arguments: [String], environment: [String: String], directory: String? = nil, output: Int32 = -1,
    diesWithParent: Bool = false
  ) throws {
    guard let program = arguments.first else { throw CommandFailure("no command to start") }
    let variables = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    let pid = withCStrings(arguments) { argumentPointers in
      withCStrings(variables) { variablePointers in
        program.withCString { programPointer in
          func spawn(_ directoryPointer: UnsafePointer<CChar>?) -> pid_t {
            var command = cl_command(
              program: programPointer, arguments: argumentPointers, environment: variablePointers,
              directory: directoryPointer, standard_output: output, standard_error: output, dies_with_parent: diesWithParent)
            return cl_spawn(&command)
          }
          return directory?.withCString { spawn($0) } ?? spawn(nil)
        }
      }
    }
    guard pid > 0 else { throw CommandFailure("cannot start \(program): \(errorText(-pid))") }
    self.pid = pid
  }

  /// Sends a signal to the process and its group.
  func signal(_ number: Int32) {
    kill(-pid, number)
  }

  /// How it ended, or nil while it runs. Reaps it: ask no more after a result.
  func poll() -> ExitReason? {
    var status: Int32 = 0
    let result = waitpid(pid, &status, WNOHANG)
    guard result == pid else { return result < 0 && errno == ECHILD ? .status(0) : nil }
    if cl_signaled(status) { return .signal(cl_term_signal(status)) }
    return .status(cl_exit_status(status))
  }

  enum ExitReason: Equatable, CustomStringConvertible {
    case status(Int32)
    case signal(Int32)
    var description: String {
      switch self {
      case .status(let code): "exit code \(code)"
      case .signal(let number): "signal \(number)"
      }
    }
  }
}

/// This process's environment.
func currentEnvironment() -> [String: String] {
  var variables: [String: String] = [:]
  var entry = environ
  while let pointer = entry.pointee {
    let text = String(cString: pointer)
    if let separator = text.firstIndex(of: "=") {
      variables[String(text[..<separator])] = String(text[text.index(after: separator)...])
    }
    entry += 1
  }
  return variables
}

/// Calls `body` with an argument list for C: pointers to the strings, then nil.
func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
  var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
  defer { for pointer in pointers { free(pointer) } }
  return pointers.withUnsafeMutableBufferPointer { buffer in
    // The array always holds the terminating nil, so it has a base address.
    buffer.baseAddress.map { body(UnsafePointer($0)) } ?? body(UnsafePointer(UnsafeMutablePointer.allocate(capacity: 1)))
  }
}
