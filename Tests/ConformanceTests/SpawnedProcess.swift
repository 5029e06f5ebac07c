import CLinux
import FoundationEssentials
import Glibc

/// What a test expected and did not get, with what it saw instead.
struct ConformanceFailure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// A program of the mesh under test. The kernel ends it with the thread that started it.
struct SpawnedProcess: Sendable {
  let pid: pid_t
  let log: String

  /// - Parameters:
  ///   - log: file that receives both outputs.
  ///   - errors: file that receives standard error instead.
  init(
    _ arguments: [String], environment: [String: String] = [:], log: String = "/dev/null", errors: String? = nil
  ) throws {
    let output = try Self.open(log)
    let errorOutput = try Self.open(errors ?? log)
    defer {
      close(output)
      close(errorOutput)
    }
    let variables = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
    let pid = Self.withCStrings(arguments) { argumentPointers in
      Self.withCStrings(variables.map { "\($0.key)=\($0.value)" }.sorted()) { variablePointers in
        var command = cl_command(
          program: argumentPointers[0], arguments: argumentPointers, environment: variablePointers, directory: nil,
          standard_output: output, standard_error: errorOutput, dies_with_parent: true)
        return cl_spawn(&command)
      }
    }
    guard pid > 0 else { throw ConformanceFailure("cannot start \(arguments): \(String(cString: strerror(-pid)))") }
    self.pid = pid
    self.log = log
  }

  private static func open(_ path: String) throws -> Int32 {
    let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw ConformanceFailure("\(path): \(String(cString: strerror(errno)))") }
    return descriptor
  }

  private static func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) throws -> Result
  ) rethrows -> Result {
    let pointers = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return try pointers.withUnsafeBufferPointer { try body($0.baseAddress.unsafelyUnwrapped) }
  }

  /// Waits for its end; its exit code, or -1 after a signal.
  func wait() -> Int32 {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    return cl_exited(status) ? cl_exit_status(status) : -1
  }

  /// SIGTERM, and SIGKILL for what has not ended `limit` later.
  func stop(within limit: Duration = .seconds(10)) {
    kill(pid, SIGTERM)
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
      if waitpid(pid, nil, WNOHANG) != 0 { return }
      usleep(10_000)
    }
    kill(-pid, SIGKILL)
    waitpid(pid, nil, 0)
  }

  var output: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }
}

/// Asks `condition` again until it gives a value.
///
/// - Parameter saw: what to tell when it never does.
func eventually<Value>(
  _ what: String, within limit: Duration = .seconds(60), _ condition: () throws -> Value?, saw: () -> String = { "" }
) throws -> Value {
  let deadline = ContinuousClock.now + limit
  while true {
    if let value = try condition() { return value }
    guard ContinuousClock.now < deadline else { throw ConformanceFailure("not within \(limit): \(what). \(saw())") }
    usleep(20_000)
  }
}
