import HTTPCodec
import Primitives
import Transport

/// A small HTTP server for metrics and health: one thread, whole requests, answers from closures.
///
/// Requests are bounded (`ProxyLimits.statusRequestBytes`), connections time out, and garbage closes its connection.
public final class StatusServer: Sendable {
  public typealias Handler = @Sendable (HTTPRequest) async -> HTTPResponse

  /// Where it listens, with the port the kernel chose.
  public let address: SocketAddress
  private let loop: EventLoop
  private let port: LoopBound<StatusPort>

  /// Listens and answers requests by their exact path; other paths are 404.
  public init(on address: SocketAddress, handlers: [String: Handler]) throws(SystemError) {
    ProcessSettings.ignoreBrokenPipe()
    let loop = try EventLoop(name: "mesh-status")
    let port = StatusPort(try Listener(on: address), handlers: handlers, loop: loop)
    let bound = LoopBound(port, on: loop)
    self.address = port.address
    self.loop = loop
    self.port = bound
    try loop.start()
    loop.post { bound.value.open() }
  }

  /// Closes the port and its connections, and ends the thread.
  public func stop() {
    let port = port
    loop.post { port.value.close() }
    loop.stop()
  }
}

private final class StatusPort: EventHandler {
  let address: SocketAddress
  let handlers: [String: StatusServer.Handler]
  let loop: EventLoop
  private var listener: Listener?
  private var registration: Registration?
  private var connections: [ObjectIdentifier: StatusConnection] = [:]

  init(_ listener: consuming Listener, handlers: [String: StatusServer.Handler], loop: EventLoop) {
    address = listener.address
    self.listener = consume listener
    self.handlers = handlers
    self.loop = loop
  }

  func open() {
    guard let descriptor = listener?.descriptor else { return }
    registration = try? loop.register(descriptor, self)
    acceptAll()
  }

  func ready(_ readiness: Readiness) { acceptAll() }

  private func acceptAll() {
    while let result = listener?.accept() {
      switch consume result {
      case .accepted(let socket, _):
        guard connections.count < ProxyLimits.statusConnections else { continue }
        let connection = StatusConnection(socket, port: self)
        connections[ObjectIdentifier(connection)] = connection
        connection.open()
      case .wouldBlock: return
      case .failed: return
      case .exhausted:
        loop.schedule(after: ProxyLimits.acceptPause) { [weak self] in self?.acceptAll() }
        return
      }
    }
  }

  func closed(_ connection: StatusConnection) { connections[ObjectIdentifier(connection)] = nil }

  func close() {
    if let registration { loop.deregister(registration) }
    registration = nil
    listener = nil
    for connection in Array(connections.values) { connection.close() }
  }
}

private final class StatusConnection: EventHandler, TimerHandler {
  private let port: StatusPort
  private var stream: ByteStream
  private var registration: Registration?
  private var timer = TimerToken.none
  private var reader = RequestReader(bodyBytesMax: ProxyLimits.statusRequestBytes)
  private let input = ReadBuffer(capacity: ProxyLimits.statusRequestBytes)
  private var output = OutputBuffer()
  private var isAnswering = false
  private var closesAfterAnswer = false
  private var isClosed = false

  init(_ socket: consuming Socket, port: StatusPort) {
    stream = ByteStream(socket)
    self.port = port
  }

  func open() {
    registration = try? port.loop.register(stream.descriptor, self)
    guard registration != nil else { return close() }
    armTimer()
    read()
  }

  private func armTimer() {
    port.loop.cancel(timer)
    timer = port.loop.schedule(after: ProxyLimits.statusIdle, self)
  }

  func timerFired(_ token: TimerToken) { if token == timer { close() } }

  func ready(_ readiness: Readiness) {
    if readiness.contains(.writable) { flush() }
    if readiness.contains(.readable) { read() }
  }

  private func read() {
    while !isClosed {
      switch input.fill(from: stream) {
      case .bytes:
        reader.receive(input.bytes)
        input.removeAll()
        answerNext()
      case .wouldBlock: return
      case .endOfStream, .failed: return close()
      }
    }
  }

  private func answerNext() {
    guard !isAnswering, !isClosed else { return }
    do throws(MessageError) {
      guard let request = try reader.next() else { return }
      isAnswering = true
      armTimer()
      answer(request)
    } catch {
      closesAfterAnswer = true
      send(HTTPResponse(status: error.status), withBody: true)
    }
  }

  /// Runs the handler on Swift's pool and comes back to the loop with its answer.
  private func answer(_ request: HTTPRequest) {
    let back = LoopBound(self, on: port.loop)
    let handler = port.handlers[request.path]
    Task {
      let response = await handler?(request) ?? HTTPResponse(status: 404, text: "not found\n")
      back.loop.post {
        let connection = back.value
        connection.isAnswering = false
        connection.closesAfterAnswer = !request.keepsAlive
        connection.send(response, withBody: request.method != "HEAD")
        connection.answerNext()
      }
    }
  }

  private func send(_ response: HTTPResponse, withBody: Bool) {
    guard !isClosed else { return }
    var response = response
    response.keepsAlive = !closesAfterAnswer
    output.bytes.append(contentsOf: response.serialized(withBody: withBody) ?? [])
    flush()
  }

  private func flush() {
    guard !isClosed, !output.isEmpty else { return }
    switch output.flush(to: stream) {
    case .bytes: if closesAfterAnswer { close() }
    case .wouldBlock: break
    case .endOfStream, .failed: close()
    }
  }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    port.loop.cancel(timer)
    if let registration { port.loop.deregister(registration) }
    registration = nil
    stream.close()
    port.closed(self)
  }
}
