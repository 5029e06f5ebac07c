import CLinux
import Glibc
import Primitives
import Transport

/// Asks a command whether an application is healthy: exit code 0 says so (Kubernetes, `exec` probes).
///
/// It runs as the node's user, without the node's descriptors, as the leader of a process group of its own. What it leaves
/// behind is killed with it, at its end or when its time is over; of what it writes only the end is kept.
final class CommandProbe: EventHandler {
  private final class Watch: EventHandler {
    weak var probe: CommandProbe?
    func ready(_ readiness: Readiness) { probe?.ended() }
  }

  private let loop: EventLoop
  private let child: pid_t
  private let output: Socket
  private let end: Int32
  private let watch = Watch()
  private var registrations: [Registration] = []
  private var timer: TimerToken?
  private var said: [UInt8] = []
  private var isReaped = false
  private var continuation: CheckedContinuation<HealthVerdict, Never>?

  /// Bytes kept of what a command writes: the last line tells why it is not content.
  private static let outputBytesMax = 1024

  private init(loop: EventLoop, child: pid_t, output: consuming Socket, end: Int32) {
    self.loop = loop
    self.child = child
    self.output = output
    self.end = end
  }

  deinit { close(end) }

  static func probe(_ arguments: [String], _ check: HealthCheck, on loop: EventLoop) async -> HealthVerdict {
    await withCheckedContinuation { continuation in
      // The loop's thread lives as long as the node: a command that is tied to it ends with the node.
      loop.post {
        do throws(SystemError) {
          let (near, far) = try Socket.pair()
          let output = Socket(adopting: near)
          defer { close(far) }
          let child = start(arguments, output: far)
          guard child > 0 else { throw SystemError("start \(arguments.first ?? "")", code: -child) }
          let end = cl_child_descriptor(child)
          guard end >= 0 else {
            kill(-child, SIGKILL)
            waitpid(child, nil, 0)
            throw SystemError("watch \(arguments.first ?? "")", code: -end)
          }
          CommandProbe(loop: loop, child: child, output: output, end: end).begin(limit: check.timeout, continuation)
        } catch {
          continuation.resume(returning: .unhealthy(error.description))
        }
      }
    }
  }

  private static func start(_ arguments: [String], output: Int32) -> pid_t {
    var texts = arguments.map { strdup($0) } + [nil]
    defer { for text in texts { free(text) } }
    guard let program = texts.first ?? nil else { return -EINVAL }
    return texts.withUnsafeMutableBufferPointer { pointers in
      var command = cl_command(
        program: program, arguments: pointers.baseAddress, environment: environ, directory: nil, standard_output: output,
        standard_error: output, dies_with_parent: true)
      return cl_spawn(&command)
    }
  }

  private func begin(limit: Duration, _ continuation: CheckedContinuation<HealthVerdict, Never>) {
    self.continuation = continuation
    watch.probe = self
    // The closure keeps the probe alive until it has settled.
    timer = loop.schedule(after: limit) { self.isLate(limit) }
    do throws(SystemError) {
      registrations.append(try loop.register(output.descriptor, self))
      registrations.append(try loop.register(end, watch))
    } catch {
      reap()
      settle(.unhealthy(error.description))
    }
  }

  func ready(_ readiness: Readiness) { readOutput() }

  private func readOutput() {
    var chunk = [UInt8](repeating: 0, count: 4096)
    while case .bytes(let count) = chunk.withUnsafeMutableBytes({ output.read(into: $0) }) {
      said.append(contentsOf: chunk[..<count])
      if said.count > Self.outputBytesMax { said.removeFirst(said.count - Self.outputBytesMax) }
    }
  }

  private func isLate(_ limit: Duration) {
    guard continuation != nil else { return }
    timer = nil
    reap()
    settle(.unhealthy("the command took longer than \(limit)"))
  }

  private func ended() {
    guard continuation != nil else { return }
    readOutput()
    let status = reap()
    if cl_exited(status), cl_exit_status(status) == 0 { return settle(.healthy) }
    let how = cl_exited(status) ? "exit code \(cl_exit_status(status))" : "signal \(cl_term_signal(status))"
    let line = said.split { $0 == 0x0A || $0 == 0x0D }.last.map { String(decoding: $0, as: UTF8.self) }
    settle(.unhealthy(line.map { "\(how): \($0)" } ?? how))
  }

  /// Ends what is left of it. Until it is reaped, its number names nobody else.
  @discardableResult
  private func reap() -> Int32 {
    guard !isReaped else { return 0 }
    isReaped = true
    kill(-child, SIGKILL)
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return status
  }

  private func settle(_ verdict: HealthVerdict) {
    guard let continuation else { return }
    self.continuation = nil
    if let timer { loop.cancel(timer) }
    timer = nil
    for registration in registrations { loop.deregister(registration) }
    registrations = []
    continuation.resume(returning: verdict)
  }
}
