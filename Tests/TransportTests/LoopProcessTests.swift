import CLinux
import Glibc
import Testing

@testable import Transport

@Suite struct LoopProcessTests {
  /// Starts `/bin/sh -c script` and returns what it wrote and its wait status.
  private func run(_ script: String, program: String = "/bin/sh", directory: String? = nil) throws -> (String, Int32) {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let words = copies([program, "-c", script])
    let settings = copies(["PATH=/usr/bin:/bin", "GREETING=hello"])
    let places = copies([program] + (directory.map { [$0] } ?? []))
    defer {
      for text in words + settings + places { free(text) }
      close(ends[0])
    }
    let child = words.withUnsafeBufferPointer { arguments -> pid_t in
      settings.withUnsafeBufferPointer { environment -> pid_t in
        var command = cl_command(
          program: places[0], arguments: arguments.baseAddress, environment: environment.baseAddress, directory: places[1],
          standard_output: ends[1], standard_error: ends[1], dies_with_parent: false)
        return cl_spawn(&command)
      }
    }
    close(ends[1])
    guard child > 0 else { throw SystemError("start \(program)", code: -child) }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case .bytes(let count) = buffer.withUnsafeMutableBytes({ Socket.read(ends[0], into: $0) }) {
      output += buffer[..<count]
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 {}
    return (String(decoding: output, as: UTF8.self), status)
  }

  /// Copies for C, ended by a null.
  private func copies(_ texts: [String]) -> [UnsafeMutablePointer<CChar>?] {
    var pointers: [UnsafeMutablePointer<CChar>?] = []
    for text in texts { pointers.append(strdup(text)) }
    return pointers + [nil]
  }

  @Test func `a command runs with its environment, its directory and its output`() throws {
    let (output, status) = try run("echo $GREETING; pwd; echo oops >&2; exit 7", directory: "/")
    #expect(output == "hello\n/\noops\n")
    #expect(cl_exited(status) && cl_exit_status(status) == 7)
  }

  @Test func `a command leads its own process group and takes the usual signals`() throws {
    ProcessSettings.ignoreBrokenPipe()
    let (output, status) = try run("test $(ps -o pgid= -p $$) = $$ && echo leads; kill -PIPE $$; sleep 60")
    #expect(output == "leads\n")
    #expect(cl_signaled(status) && cl_term_signal(status) == SIGPIPE)
  }

  @Test func `a command that cannot start says why`() throws {
    let missing = #expect(throws: SystemError.self) { try run("", program: "/no/such/program") }
    #expect(missing?.code == ENOENT)
    let nowhere = #expect(throws: SystemError.self) { try run("true", directory: "/no/such/directory") }
    #expect(nowhere?.code == ENOENT)
  }

  @Test func `the monotonic clock goes forward and the descriptor limit is raised`() throws {
    let first = EventLoop.monotonicNow()
    #expect(EventLoop.monotonicNow() >= first)
    #expect(try ProcessSettings.raiseDescriptorLimit() > 0)
    #expect(cl_terminal_columns(-1) == 0)
  }
}
