import Glibc

/// A program this one started, in a process group of its own, and has to end.
final class Process {
  let pid: pid_t
  let log: String
  private var result: Int32?

  init(_ arguments: [String], log: String) throws {
    self.log = log
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var started: pid_t = 0
    let code = posix_spawn(&started, arguments[0], &actions, &attributes, &words, environ)
    guard code == 0 else { throw Failure("cannot start \(arguments[0]): \(String(cString: strerror(code)))") }
    pid = started
  }

  var isRunning: Bool {
    guard result == nil else { return false }
    var status: Int32 = 0
    if waitpid(pid, &status, WNOHANG) == pid { result = status }
    return result == nil
  }

  /// Asks it to end and waits for that; kills it and throws when it does not.
  func stop(within seconds: Int = 60) throws {
    guard isRunning else { throw Failure("process \(pid) had ended already; see \(log)") }
    kill(pid, SIGTERM)
    let end = nanoseconds() + UInt64(seconds) * 1_000_000_000
    while isRunning {
      guard nanoseconds() < end else {
        kill()
        throw Failure("process \(pid) did not end within \(seconds) s of SIGTERM; see \(log)")
      }
      sleep(milliseconds: 10)
    }
  }

  func kill() {
    guard isRunning else { return }
    Glibc.kill(-pid, SIGKILL)
    while isRunning { sleep(milliseconds: 10) }
  }

  private func kill(_ pid: pid_t, _ signal: Int32) { _ = Glibc.kill(pid, signal) }
}

/// A file's whole text; empty when there is none.
func text(of path: String) -> String {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return "" }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 * 1024)
  while true {
    let count = read(descriptor, &chunk, chunk.count)
    guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
    bytes += chunk[..<count]
  }
}

func write(_ text: String, to path: String) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw Failure("\(path): \(String(cString: strerror(errno)))") }
  defer { close(descriptor) }
  let bytes = Array(text.utf8)
  guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw Failure("\(path) was not written whole") }
}
