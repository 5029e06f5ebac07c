import Glibc
import HTTPCodec
import Primitives
import Synchronization
import Transport

/// Asks one application whether it is healthy: a TCP connect, an HTTP request that must be answered with 2xx or 3xx, or a
/// gRPC call.
///
/// The attempt runs on an event loop and settles once: by its answer, an error or the time limit.
final class HealthProbe: EventHandler {
  private let loop: EventLoop
  private let socket: Socket
  private let request: [UInt8]?
  /// Set for a gRPC call.
  private var grpc: GRPCHealthReader?
  private var registration: Registration?
  private var timer: TimerToken?
  private var reader = ResponseReader(bodyBytesMax: HealthProbe.answerBytesMax)
  private var written = 0
  private var isConnected = false
  private var continuation: CheckedContinuation<HealthVerdict, Never>?

  /// Health answers are short; a longer one is not read on.
  private static let answerBytesMax = 64 * 1024

  private init(loop: EventLoop, socket: consuming Socket, request: [UInt8]?, isGRPC: Bool) {
    self.loop = loop
    self.socket = socket
    self.request = request
    grpc = isGRPC ? GRPCHealthReader() : nil
  }

  static func probe(_ address: SocketAddress, _ check: HealthCheck, on loop: EventLoop) async -> HealthVerdict {
    if case .command(let arguments) = check.method { return await CommandProbe.probe(arguments, check, on: loop) }
    return await withCheckedContinuation { continuation in
      loop.post {
        do throws(SystemError) {
          let probe = HealthProbe(
            loop: loop, socket: try Socket.connect(to: address), request: request(check.method, address),
            isGRPC: check.method.isGRPC)
          probe.start(limit: check.timeout, continuation)
        } catch {
          continuation.resume(returning: .unhealthy(error.description))
        }
      }
    }
  }

  private static func request(_ method: HealthCheck.Method, _ address: SocketAddress) -> [UInt8]? {
    switch method {
    case .tcp, .command: return nil
    case .grpc(let service): return GRPCHealthRequest.bytes(service: service, authority: "\(address)")
    case .http(let path):
      var request = HTTPRequest(
        "GET", path, authority: "\(address)", headers: [HTTPField("user-agent", "mesh-node-health")])
      request.keepsAlive = false
      return request.serialized()
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
        if grpc != nil {
          grpc?.receive(chunk[..<count])
          if let verdict = grpc?.next() { settle(verdict) }
          continue
        }
        reader.receive(chunk[..<count])
        do throws(MessageError) {
          if let answer = try reader.next() { settle(Self.verdict(answer)) }
        } catch { settle(.unhealthy("not an HTTP answer: \(error)")) }
      case .wouldBlock: return
      case .endOfStream where grpc != nil: return settle(.unhealthy("the connection ended without an answer"))
      case .endOfStream:
        let answer = try? reader.finish()
        return settle(answer.map(Self.verdict) ?? .unhealthy("the connection ended without an answer"))
      case .failed(let code): return settle(.unhealthy(String(cString: strerror(code))))
      }
    }
  }

  private static func verdict(_ answer: HTTPResponse) -> HealthVerdict {
    (200..<400).contains(answer.status) ? .healthy : .unhealthy("answered with \(answer.status)")
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

extension HealthCheck.Method {
  fileprivate var isGRPC: Bool { if case .grpc = self { true } else { false } }
}

/// What one probe found.
enum HealthVerdict: Hashable, Sendable {
  case healthy
  case unhealthy(String)
}
