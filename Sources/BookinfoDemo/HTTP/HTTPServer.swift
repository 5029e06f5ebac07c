import CLinux
import Dispatch
import Glibc
import HTTPCodec
import Primitives
import Synchronization

/// A plain HTTP/1.1 server: a thread for each connection, a bounded number of them.
final class HTTPServer: Sendable {
  struct Settings: Hashable, Sendable {
    /// How long a connection may stay idle between requests.
    var idleTimeout = Duration.seconds(30)
    /// From the first byte of a request to its last.
    var requestTimeout = Duration.seconds(10)
    /// For writing an answer.
    var writeTimeout = Duration.seconds(10)
    /// How long `stop` waits for running requests: longer than the slowest of them (10 s, ratings for black stars).
    var drainTimeout = Duration.seconds(12)
    var connectionsMax = Limits.connections
  }

  let service: any Service
  let settings: Settings
  /// Readable from the moment the server stops; every waiting thread watches it.
  let stopDescriptor: Int32

  private let listener: Mutex<Listener?>
  private let connections = Mutex(0)
  private let running = DispatchGroup()

  init(address: String, port: UInt16, service: any Service, settings: Settings = Settings()) throws(ListenError) {
    let listener = try Listener(address: address, port: port)
    stopDescriptor = cl_eventfd()
    guard stopDescriptor >= 0 else { throw ListenError(description: "no event descriptor: \(systemError(-stopDescriptor))") }
    self.service = service
    self.settings = settings
    self.port = listener.port
    self.listener = Mutex(listener)
  }

  deinit { close(stopDescriptor) }

  let port: UInt16

  var isStopping: Bool {
    var entry = pollfd(fd: stopDescriptor, events: Int16(truncatingIfNeeded: POLLIN), revents: 0)
    return poll(&entry, 1, 0) > 0
  }

  func start() throws(ListenError) {
    running.enter()
    guard
      startThread({
        self.acceptConnections()
        self.running.leave()
      })
    else {
      running.leave()
      throw ListenError(description: "the system gives no thread")
    }
  }

  /// Stops accepting, ends idle connections, and waits for running requests.
  func stop() {
    var one: UInt64 = 1
    _ = write(stopDescriptor, &one, MemoryLayout<UInt64>.size)
    listener.withLock { $0 = nil }
    _ = running.wait(timeout: .now() + .nanoseconds(Int(settings.drainTimeout.nanosecondsClamped)))
  }

  // MARK: Accepting

  private func acceptConnections() {
    guard let listener = listener.withLock({ $0 }) else { return }
    while waitForConnection(listener) {
      let descriptor = cl_accept(listener.descriptor, nil, nil)
      if descriptor >= 0 { admit(TCPStream(descriptor: descriptor)) } else { pauseWhenExhausted(-descriptor) }
    }
  }

  /// False when the server stops.
  private func waitForConnection(_ listener: Listener) -> Bool {
    var entries = [listener.descriptor, stopDescriptor].map {
      pollfd(fd: $0, events: Int16(truncatingIfNeeded: POLLIN), revents: 0)
    }
    while poll(&entries, 2, -1) < 0 && errno == EINTR {}
    return entries[1].revents == 0
  }

  /// Without descriptors or memory, accepting again at once would only spin.
  private func pauseWhenExhausted(_ number: Int32) {
    guard [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(number) else { return }
    var entry = pollfd(fd: stopDescriptor, events: Int16(truncatingIfNeeded: POLLIN), revents: 0)
    poll(&entry, 1, 100)
  }

  private func admit(_ stream: sending TCPStream) {
    let isAdmitted = connections.withLock { count in
      guard count < settings.connectionsMax else { return false }
      count += 1
      return true
    }
    guard isAdmitted else { return refuse(stream) }
    running.enter()
    let handover = Mutex<TCPStream?>(stream)
    let isStarted = startThread { [self] in
      if let stream = handover.withLock({ $0.take() }) { serve(stream) }
      leave()
    }
    if !isStarted { leave() }
  }

  private func serve(_ stream: TCPStream) {
    var connection = HTTPConnection(stream, server: self)
    connection.serve()
  }

  private func leave() {
    connections.withLock { $0 -= 1 }
    running.leave()
  }

  private func refuse(_ stream: TCPStream) {
    var answer = HTTPResponse(status: 503, text: "Too many connections; try again later\n")
    answer.keepsAlive = false
    if let bytes = answer.serialized() { try? stream.write(bytes, until: .now() + .milliseconds(100)) }
  }
}
