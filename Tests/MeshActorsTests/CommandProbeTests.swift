import Glibc
import Primitives
import Testing
import Transport

@testable import MeshActors

/// Kubernetes, `exec` probes: the exit code decides.
@Suite struct CommandProbeTests {
  private func probe(_ arguments: [String], within limit: Duration = .seconds(10)) async throws -> HealthVerdict {
    let loop = try EventLoop(name: "probe")
    try loop.start()
    defer { loop.stop() }
    var check = HealthCheck(.command(arguments))
    check.timeout = limit
    return await HealthProbe.probe(try SocketAddress(parsing: "127.0.0.1:1"), check, on: loop)
  }

  @Test func `exit code 0 is healthy, and another is not, with the last line that was written`() async throws {
    #expect(try await probe(["true"]) == .healthy)
    #expect(try await probe(["false"]) == .unhealthy("exit code 1"))
    #expect(
      try await probe(["sh", "-c", "echo first; echo database is away >&2; exit 3"])
        == .unhealthy("exit code 3: database is away"))
    #expect(try await probe(["sh", "-c", "kill -9 $$"]) == .unhealthy("signal 9"))
  }

  @Test func `arguments reach the command as they are`() async throws {
    #expect(try await probe(["test", "two words; $HOME", "=", "two words; $HOME"]) == .healthy)
  }

  @Test func `a command that does not exist is unhealthy`() async throws {
    guard case .unhealthy(let reason) = try await probe(["/nowhere/no-such-command"]) else {
      Issue.record("healthy")
      return
    }
    #expect(reason.contains("/nowhere/no-such-command"))
  }

  @Test func `a command that takes too long is killed with all that it has started`() async throws {
    let mark = "/tmp/mesh-probe-\(getpid())-\(UInt64.random(in: .min ... .max))"
    let script = "sleep 300 & echo $! > \(mark); wait"
    let verdict = try await probe(["sh", "-c", script], within: .milliseconds(700))
    guard case .unhealthy(let reason) = verdict else {
      Issue.record("healthy")
      return
    }
    #expect(reason.hasPrefix("the command took longer than"))
    let file = try #require(fopen(mark, "r"))
    defer {
      fclose(file)
      unlink(mark)
    }
    var child: Int32 = 0
    withUnsafeMutablePointer(to: &child) { pointer in _ = withVaList([pointer]) { vfscanf(file, "%d", $0) } }
    try #require(child > 1)
    // Init takes in what is left of it.
    for _ in 0..<400 where Self.isRunning(child) { try await Task.sleep(for: .milliseconds(5)) }
    #expect(!Self.isRunning(child))
  }

  /// Whether a process is there that is no zombie.
  private static func isRunning(_ pid: Int32) -> Bool {
    guard let file = fopen("/proc/\(pid)/stat", "r") else { return false }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 512)
    guard fgets(&line, Int32(line.count), file) != nil else { return false }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return !(text.split(separator: ")").last?.hasPrefix(" Z") ?? true)
  }

  @Test func `output without end takes no memory, and what outlives the command ends with it`() async throws {
    #expect(try await probe(["sh", "-c", "yes | head -c 3000000; sleep 200 & exit 0"]) == .healthy)
  }
}
