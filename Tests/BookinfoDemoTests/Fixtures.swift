import CLinux
import Glibc
import HTTPCodec
import Primitives
import Synchronization

@testable import BookinfoDemo

/// A backend that answers from a function and remembers what it was asked.
final class ScriptedBackend: Backend {
  private let calls = Mutex<[BackendCall]>([])
  private let script: @Sendable (BackendCall) throws(CallError) -> BackendAnswer

  init(_ script: @escaping @Sendable (BackendCall) throws(CallError) -> BackendAnswer) { self.script = script }

  func get(_ call: BackendCall) throws(CallError) -> BackendAnswer {
    calls.withLock { $0.append(call) }
    return try script(call)
  }

  var received: [BackendCall] { calls.withLock { $0 } }
}

extension BackendAnswer {
  static func ok(_ text: String) -> BackendAnswer { BackendAnswer(status: 200, body: Array(text.utf8)) }
}

extension HTTPRequest {
  static func get(_ path: String, headers: [HTTPField] = []) -> HTTPRequest {
    HTTPRequest("GET", path, authority: "bookinfo", headers: headers)
  }
  static func post(_ path: String, _ body: String, headers: [HTTPField] = []) -> HTTPRequest {
    HTTPRequest("POST", path, authority: "bookinfo", headers: headers, body: Array(body.utf8))
  }
}

extension HTTPResponse {
  var text: String { String(decoding: body, as: UTF8.self) }
}

/// A TCP server on an ephemeral port that hands each connection to `handle` on a thread of its own.
final class FakeServer: Sendable {
  private let listener: Listener
  var port: UInt16 { listener.port }

  init(_ handle: @escaping @Sendable (TCPStream) -> Void) throws {
    let listener = try Listener(address: "127.0.0.1", port: 0)
    self.listener = listener
    let descriptor = dup(listener.descriptor)
    _ = startThread {
      defer { close(descriptor) }
      while true {
        var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: POLLIN), revents: 0)
        guard poll(&entry, 1, 20_000) > 0 else { return }
        let accepted = cl_accept(descriptor, nil, nil)
        guard accepted >= 0 else { return }
        let held = Mutex<TCPStream?>(TCPStream(descriptor: accepted))
        _ = startThread { if let stream = held.withLock({ $0.take() }) { handle(stream) } }
      }
    }
  }

  deinit { shutdown(listener.descriptor, Int32(SHUT_RDWR)) }
}

/// A raw client: what is written is exactly what is sent.
struct RawClient {
  let stream: TCPStream

  init(port: UInt16) throws { stream = try TCPStream.connect(host: "127.0.0.1", port: port, until: .soon) }

  func send(_ text: String) throws { try stream.write(Array(text.utf8), until: .soon) }

  /// Everything until the server closes.
  func readToEnd() throws -> String {
    var bytes: [UInt8] = []
    while true {
      let more = try stream.read(until: .soon)
      if more.isEmpty { return String(decoding: bytes, as: UTF8.self) }
      bytes += more
    }
  }

  func response(to method: HTTPMethod = .get) throws -> HTTPResponse? {
    var reader = ResponseReader(answering: method)
    while true {
      let bytes = try stream.read(until: .soon)
      reader.receive(bytes)
      if let response = try bytes.isEmpty ? reader.finish() : reader.next() { return response }
      if bytes.isEmpty { return nil }
    }
  }
}

extension Instant {
  /// A bound no healthy test reaches.
  static var soon: Instant { .now() + .seconds(20) }
}
