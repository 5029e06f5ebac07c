import Glibc
import HTTPCodec
import Primitives
import Transport

/// Serves HTTP/1.1 to tools: the admin socket, metrics and health. One request a connection. Confined to its loop.
///
/// A Unix socket is served to the node's own user and to root only.
final class SmallHTTPServer: EventHandler {
  typealias Handler = @Sendable (HTTPRequest, HTTPExchange) async -> Void

  private let loop: EventLoop
  private let listener: Listener
  private let handler: Handler
  private let bodyBytesMax: Int
  private var registration: Registration?
  private var connections: [ObjectIdentifier: SmallHTTPConnection] = [:]

  /// - Parameter bodyBytesMax: bytes of a request body; what has none to expect gives 0.
  init(loop: EventLoop, listener: consuming Listener, bodyBytesMax: Int, handler: @escaping Handler) {
    self.loop = loop
    self.listener = listener
    self.bodyBytesMax = bodyBytesMax
    self.handler = handler
  }

  func start() throws(SystemError) {
    registration = try loop.register(listener.descriptor, self)
    ready(.readable)
  }

  func stop() {
    if let registration { loop.deregister(registration) }
    registration = nil
    for connection in connections.values { connection.close() }
  }

  func ready(_ readiness: Readiness) {
    while true {
      switch listener.accept() {
      case .accepted(let socket, _): admit(socket)
      case .wouldBlock: return
      default:
        // The edge is lost, so look again soon.
        loop.schedule(after: .milliseconds(100)) { [weak self] in self?.ready(.readable) }
        return
      }
    }
  }

  private func admit(_ socket: consuming Socket) {
    if case .unix = listener.address {
      guard let credentials = try? socket.peerCredentials(), credentials.user == getuid() || credentials.user == 0 else {
        return
      }
    }
    guard connections.count < SmallHTTPLimits.connectionsMax else { return }
    let connection = SmallHTTPConnection(loop: loop, socket: socket, bodyBytesMax: bodyBytesMax, handler: handler) {
      [weak self] ended in
      self?.connections[ObjectIdentifier(ended)] = nil
    }
    connections[ObjectIdentifier(connection)] = connection
    connection.start()
  }
}

/// Bounds of the small servers.
enum SmallHTTPLimits {
  /// Open connections: each `run` keeps one for its workload.
  static let connectionsMax = 1_024
  /// Bytes of a request body on the admin socket: what `apply` accepts in one change, as JSON.
  static let bodyBytesMax = 24 << 20
  /// A request that has not arrived whole by then is closed.
  static let requestTimeout: Duration = .seconds(30)
  /// Bytes waiting to be read by a client; a slower one is closed.
  static let outputBytesMax = 256 << 20
}

/// One request's way to answer: once, or as a stream of lines until either side closes.
final class HTTPExchange: Sendable {
  private let connection: LoopBound<SmallHTTPConnection>
  private let wantsBody: Bool

  init(_ connection: LoopBound<SmallHTTPConnection>, wantsBody: Bool) {
    self.connection = connection
    self.wantsBody = wantsBody
  }

  /// Answers and closes.
  func respond(_ response: HTTPResponse) {
    var response = response
    response.keepsAlive = false
    let bytes =
      response.serialized(withBody: wantsBody) ?? Array("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".utf8)
    connection.loop.post { [connection] in connection.value.finish(bytes) }
  }

  /// Begins a stream; `onClose` is called once when the client is gone or the stream was ended.
  func openStream(onClose: @escaping @Sendable () -> Void) {
    connection.loop.post { [connection] in
      connection.value.onClose(onClose)
      connection.value.send(Array("HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n".utf8))
    }
  }

  func send(_ line: [UInt8]) {
    connection.loop.post { [connection] in connection.value.send(line + [0x0A]) }
  }

  func end() {
    connection.loop.post { [connection] in connection.value.finish([]) }
  }
}

/// A client of the admin socket. Confined to its loop.
final class SmallHTTPConnection: EventHandler {
  private let loop: EventLoop
  private let socket: Socket
  private let handler: SmallHTTPServer.Handler
  private let ended: (SmallHTTPConnection) -> Void
  private var registration: Registration?
  private var reader: RequestReader
  private var output: [UInt8] = []
  private var written = 0
  private var isAnswering = false
  private var closesWhenWritten = false
  private var closeAction: (@Sendable () -> Void)?
  private var deadline: TimerToken?

  init(
    loop: EventLoop, socket: consuming Socket, bodyBytesMax: Int, handler: @escaping SmallHTTPServer.Handler,
    ended: @escaping (SmallHTTPConnection) -> Void
  ) {
    reader = RequestReader(bodyBytesMax: bodyBytesMax)
    self.loop = loop
    self.socket = socket
    self.handler = handler
    self.ended = ended
  }

  func start() {
    guard let registration = try? loop.register(socket.descriptor, self) else { return ended(self) }
    self.registration = registration
    deadline = loop.schedule(after: SmallHTTPLimits.requestTimeout) { [weak self] in self?.close() }
    ready([.readable])
  }

  func ready(_ readiness: Readiness) {
    if readiness.contains(.writable) { flush() }
    if readiness.contains(.readable) { receive() }
  }

  private func receive() {
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while registration != nil {
      switch chunk.withUnsafeMutableBytes({ socket.read(into: $0) }) {
      case .bytes(let count):
        // One request a connection: whatever follows it is not looked at.
        if isAnswering { continue }
        reader.receive(chunk[..<count])
        answerIfWhole()
      case .wouldBlock: return
      case .endOfStream, .failed: return close()
      }
    }
  }

  private func answerIfWhole() {
    do throws(MessageError) {
      guard let request = try reader.next() else { return }
      isAnswering = true
      if let deadline { loop.cancel(deadline) }
      let exchange = HTTPExchange(LoopBound(self, on: loop), wantsBody: request.method != "HEAD")
      let handler = handler
      Task(priority: .userInitiated) { await handler(request, exchange) }
    } catch {
      isAnswering = true
      let response = HTTPResponse(
        status: error.status, text: "{\"code\":\"invalid\",\"message\":\"\(error)\",\"findings\":[]}\n",
        type: "application/json")
      finish(response.serialized() ?? [])
    }
  }

  func onClose(_ action: @escaping @Sendable () -> Void) {
    if registration == nil { action() } else { closeAction = action }
  }

  func send(_ bytes: [UInt8]) {
    guard registration != nil else { return }
    output += bytes
    guard output.count - written <= SmallHTTPLimits.outputBytesMax else { return close() }
    flush()
  }

  /// Sends and closes when everything is written.
  func finish(_ bytes: [UInt8]) {
    closesWhenWritten = true
    send(bytes)
  }

  private func flush() {
    while registration != nil, written < output.count {
      let result = output.withUnsafeBytes { socket.write(UnsafeRawBufferPointer(rebasing: $0[written...])) }
      switch result {
      case .bytes(let count): written += count
      case .wouldBlock: return
      case .endOfStream, .failed: return close()
      }
    }
    guard written == output.count else { return }
    output.removeAll(keepingCapacity: false)
    written = 0
    if closesWhenWritten { close() }
  }

  func close() {
    guard let registration else { return }
    loop.deregister(registration)
    self.registration = nil
    if let deadline { loop.cancel(deadline) }
    socket.shutdownWrite()
    closeAction?()
    closeAction = nil
    ended(self)
  }
}
