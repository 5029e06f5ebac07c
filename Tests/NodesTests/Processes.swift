import Glibc
import Testing

/// What real processes of the built programs do: started, frozen, killed and spoken to as people and networks would.
@Suite(.serialized) struct ProcessTests {}

/// A broken expectation of a fixture, in words.
struct Unexpected: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// The programs beside the running test bundle.
enum Programs {
  static var meshNode: String { directory + "/mesh-node" }
  static var bookinfo: String { directory + "/BookinfoDemo" }
  static var rolling: String { directory + "/rolling" }

  private static let directory: String = {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = buffer.withUnsafeMutableBytes { raw in
      raw.withMemoryRebound(to: CChar.self) { text in
        text.baseAddress.map { readlink("/proc/self/exe", $0, text.count) } ?? -1
      }
    }
    let path = String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    // `swift test` runs suites in a tool of the toolchain, which gets the bundle's path as an argument.
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? path
    return bundle.lastIndex(of: "/").map { String(bundle[..<$0]) } ?? "."
  }()
}

/// A process that a test started and ends.
final class RunningProcess: @unchecked Sendable {
  let pid: pid_t
  /// The exit code, or the negative number of the signal that ended it; nil while it runs.
  private(set) var result: Int32?

  /// Starts `arguments` with its output appended to `log`; standard input comes from `input`.
  init(_ arguments: [String], log: String, errors: String? = nil, input: String = "/dev/null") throws {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    if let errors {
      posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    } else {
      posix_spawn_file_actions_adddup2(&actions, 1, 2)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var started: pid_t = 0
    let code = posix_spawn(&started, arguments[0], &actions, &attributes, &words, environ)
    guard code == 0 else { throw Unexpected("cannot start \(arguments[0]): \(String(cString: strerror(code)))") }
    pid = started
  }

  var isRunning: Bool {
    poll()
    return result == nil
  }

  private func poll() {
    guard result == nil else { return }
    var status: Int32 = 0
    guard waitpid(pid, &status, WNOHANG) == pid else { return }
    result = status & 0x7F == 0 ? status >> 8 & 0xFF : -(status & 0x7F)
  }

  func signal(_ number: Int32) {
    if isRunning { kill(pid, number) }
  }

  /// How it ended; throws when it still runs after `limit`.
  @discardableResult
  func ended(within limit: Duration = .seconds(60)) throws -> Int32 {
    try eventually("process \(pid) to end", within: limit) { !isRunning }
    return result ?? 0
  }

  /// Entries of /proc/PID/fd.
  var descriptorCount: Int {
    guard let directory = opendir("/proc/\(pid)/fd") else { return 0 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count - 2
  }
}

/// Waits until `condition` holds; an error in it counts as not yet.
func eventually(
  _ what: String, within limit: Duration = .seconds(60), _ condition: () throws -> Bool
) throws {
  let deadline = ContinuousClock.now + limit
  var last = ""
  repeat {
    do {
      if try condition() { return }
      last = ""
    } catch { last = "; last error: \(error)" }
    // The pause between two looks, not a wait: nothing depends on its length.
    Glibc.poll(nil, 0, 25)
  } while ContinuousClock.now < deadline
  throw Unexpected("waited \(limit) for \(what)\(last)")
}
