import Glibc
import HTTPCodec
import Primitives
import Synchronization
import Transport

/// Asks one application whether it is healthy: a TCP connect, or an HTTP request that must be answered with 2xx.
///
/// The attempt runs on an event loop and settles once: by its answer, an error or the time limit.
final class HealthProbe: EventHandler {
  private let loop: EventLoop
  private let socket: Socket
  private let request: [UInt8]?
  private var registration: Registration?
  private var timer: TimerToken?
  private var reader = ResponseReader(bodyBytesMax: HealthProbe.answerBytesMax)
  private var written = 0
  private var isConnected = false
  private var continuation: CheckedContinuation<HealthVerdict, Never>?

  /// Health answers are short; a longer one is not read on.
  private static let answerBytesMax = 64 * 1024

  private init(loop: EventLoop, socket: consuming Socket, request: [UInt8]?) {
    self.loop = loop
    self.socket = socket
    self.request = request
  }

  /// `path` nil asks for a TCP connect only.
  static func probe(_ address: SocketAddress, path: String?, limit: Duration, on loop: EventLoop) async -> HealthVerdict {
    await withCheckedContinuation { continuation in
      loop.post {
        let request = path.flatMap { path in
          var request = HTTPRequest(
            "GET", path, authority: "\(address)", headers: [HTTPField("user-agent", "mesh-node-health")])
          request.keepsAlive = false
          return request.serialized()
        }
        do throws(SystemError) {
          let probe = HealthProbe(loop: loop, socket: try Socket.connect(to: address), request: request)
          probe.start(limit: limit, continuation)
        } catch {
          continuation.resume(returning: .unhealthy(error.description))
        }
      }
    }
  }

  private func start(limit: Duration, _ continuation: CheckedContinuation<HealthVerdict, Never>) {
    self.continuation = continuation
    do throws(SystemError) {
      registration = try loop.register(socket.descriptor, self)
    } catch {
      return settle(.unhealthy(error.description))
    }
    // The closure keeps the probe alive until it has settled.
    timer = loop.schedule(after: limit) { self.settle(.unhealthy("no answer within \(limit)")) }
  }

  func ready(_ readiness: Readiness) {
    if !isConnected, readiness.contains(.writable) || readiness.contains(.error) {
      let code = socket.pendingError
      guard code == 0 else { return settle(.unhealthy(String(cString: strerror(code)))) }
      isConnected = true
      if request == nil { return settle(.healthy) }
    }
    guard isConnected else { return }
    write()
    read()
  }

  private func write() {
    guard let request else { return }
    while written < request.count, continuation != nil {
      switch request.withUnsafeBytes({ socket.write(UnsafeRawBufferPointer(rebasing: $0[written...])) }) {
      case .bytes(let count): written += count
      case .wouldBlock: return
      case .endOfStream, .failed: return settle(.unhealthy("the connection broke"))
      }
    }
  }

  private func read() {
    var chunk = [UInt8](repeating: 0, count: 4096)
    while continuation != nil {
      switch chunk.withUnsafeMutableBytes({ socket.read(into: $0) }) {
      case .bytes(let count):
        reader.receive(chunk[..<count])
        do throws(MessageError) {
          if let answer = try reader.next() { settle(Self.verdict(answer)) }
        } catch { settle(.unhealthy("not an HTTP answer: \(error)")) }
      case .wouldBlock: return
      case .endOfStream:
        let answer = try? reader.finish()
        return settle(answer.map(Self.verdict) ?? .unhealthy("the connection ended without an answer"))
      case .failed(let code): return settle(.unhealthy(String(cString: strerror(code))))
      }
    }
  }

  private static func verdict(_ answer: HTTPResponse) -> HealthVerdict {
    answer.status / 100 == 2 ? .healthy : .unhealthy("answered with \(answer.status)")
  }

  private func settle(_ verdict: HealthVerdict) {
    guard let continuation else { return }
    self.continuation = nil
    if let timer { loop.cancel(timer) }
    timer = nil
    if let registration { loop.deregister(registration) }
    registration = nil
    continuation.resume(returning: verdict)
  }
}

/// What one probe found.
enum HealthVerdict: Hashable, Sendable {
  case healthy
  case unhealthy(String)
}
