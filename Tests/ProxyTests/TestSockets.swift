import Dispatch
import Glibc
import HTTPCodec
import Synchronization
import Transport

/// A blocking socket with a time limit on every call, for scripted peers.
final class Wire: Sendable {
  let descriptor: Int32

  init(_ descriptor: Int32, seconds: Int = 10) {
    self.descriptor = descriptor
    var limit = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
  }

  deinit { Glibc.close(descriptor) }

  static func connect(port: UInt16, host: String = "127.0.0.1") -> Wire {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    inet_pton(AF_INET, host, &address.sin_addr)
    _ = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    return Wire(descriptor)
  }

  /// Nil when nobody listens there.
  static func connect(path: String) -> Wire? {
    guard let socket = try? Socket.connect(to: .unix(path: path)), socket.pendingError == 0 else { return nil }
    let descriptor = socket.release()
    _ = fcntl(descriptor, F_SETFL, 0)
    return Wire(descriptor)
  }

  @discardableResult
  func send(_ bytes: some Collection<UInt8>) -> Bool {
    let all = Array(bytes)
    var sent = 0
    while sent < all.count {
      let count = all.withUnsafeBytes { raw in
        let rest = UnsafeRawBufferPointer(rebasing: raw[sent...])
        return Glibc.send(descriptor, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return false }
      sent += count
    }
    return true
  }

  @discardableResult
  func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  /// The next bytes; empty at the end, on failure or when the time is over.
  func receive() -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    return count > 0 ? Array(buffer.prefix(count)) : []
  }

  func receiveAll() -> String {
    var all: [UInt8] = []
    while true {
      let part = receive()
      if part.isEmpty { return String(decoding: all, as: UTF8.self) }
      all += part
    }
  }

  /// Bytes up to and with the given text.
  func receive(until end: String) -> String {
    var text = ""
    while !text.contains(end) {
      let part = receive()
      if part.isEmpty { break }
      text += String(decoding: part, as: UTF8.self)
    }
    return text
  }

  /// Whether bytes, or the end, have come within so many milliseconds.
  func hasBytes(within milliseconds: Int32) -> Bool {
    var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, milliseconds) > 0
  }

  /// Whether the kernel takes bytes, within so many milliseconds.
  func canWrite(within milliseconds: Int32) -> Bool {
    var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    return Glibc.poll(&poll, 1, milliseconds) > 0
  }

  func endWriting() { shutdown(descriptor, Int32(SHUT_WR)) }

  func closeNow() { shutdown(descriptor, Int32(SHUT_RDWR)) }

  func reset() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
  }
}

/// A client that reads whole responses.
final class TestClient {
  let wire: Wire
  private var reader: ResponseReader

  init(port: UInt16, answering method: HTTPMethod = .get, bodyMax: Int = 64 << 20) {
    wire = Wire.connect(port: port)
    reader = ResponseReader(answering: method, bodyBytesMax: bodyMax)
  }

  /// On a connection that is there.
  init(_ wire: Wire) {
    self.wire = wire
    reader = ResponseReader(answering: .get, bodyBytesMax: 64 << 20)
  }

  func request(_ text: String) -> HTTPResponse? {
    wire.send(text)
    return response()
  }

  func response() -> HTTPResponse? {
    while true {
      do {
        if let response = try reader.next() { return response }
        let bytes = wire.receive()
        if bytes.isEmpty { return try reader.finish() }
        reader.receive(bytes)
      } catch {
        return nil
      }
    }
  }
}

/// A scripted application: one thread a connection, which runs the script.
final class Origin: Sendable {
  let port: UInt16
  private let listener: Int32
  private let recorded = Mutex<[[UInt8]]>([])
  private let accepted = Mutex(0)
  private let acceptedSignal = DispatchSemaphore(value: 0)

  /// Waits until another connection has come, at most ten seconds.
  func awaitConnection() { _ = acceptedSignal.wait(timeout: .now() + 10) }

  private let lastNoted = Mutex(0)
  /// A number a script keeps for its test.
  func note(_ number: Int) { lastNoted.withLock { $0 = number } }
  var noted: Int { lastNoted.withLock { $0 } }

  private let permission = DispatchSemaphore(value: 0)
  /// Holds a script until the test permits it to go on, at most ten seconds.
  func awaitPermission() { _ = permission.wait(timeout: .now() + 10) }
  func permit() { permission.signal() }

  /// What connections have received, in order of `record`.
  var requests: [String] { recorded.withLock { $0.map { String(decoding: $0, as: UTF8.self) } } }
  var recordedBytes: [[UInt8]] { recorded.withLock { $0 } }
  var connections: Int { accepted.withLock { $0 } }

  init(_ script: @escaping @Sendable (Origin, Wire) -> Void) {
    let listening = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    listener = listening
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) {
      _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listening, $0, length) }
    }
    listen(listening, 128)
    withUnsafeMutablePointer(to: &address) {
      _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(listening, $0, &length) }
    }
    port = UInt16(bigEndian: address.sin_port)
    Self.thread { [weak self] in
      while true {
        let client = accept(listening, nil, nil)
        guard client >= 0 else { return }
        guard let self else {
          Glibc.close(client)
          return
        }
        self.accepted.withLock { $0 += 1 }
        self.acceptedSignal.signal()
        Self.thread { script(self, Wire(client)) }
      }
    }
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
    Glibc.close(listener)
  }

  func record(_ bytes: [UInt8]) { recorded.withLock { $0.append(bytes) } }

  /// Answers every whole request through `answer`, over and over.
  static func serving(_ answer: @escaping @Sendable (HTTPRequest) -> HTTPResponse) -> Origin {
    Origin { origin, wire in
      var reader = RequestReader(bodyBytesMax: 64 << 20)
      while true {
        let bytes = wire.receive()
        if bytes.isEmpty { return }
        reader.receive(bytes)
        while let request = try? reader.next() {
          origin.record(request.serialized() ?? [])
          guard let response = answer(request).serialized(withBody: request.method != "HEAD") else { return }
          wire.send(response)
        }
      }
    }
  }

  static func text(_ text: String) -> Origin { serving { _ in HTTPResponse(status: 200, text: text) } }

  static func thread(_ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(Box(body))
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { raw in
        if let raw { Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body() }
        return nil
      }, box.toOpaque())
    if code == 0 { pthread_detach(thread) } else { box.release() }
  }

  private final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
}

/// Runs blocking code on a thread of its own, beside Swift's pool.
func blocking<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
  await withCheckedContinuation { continuation in
    Origin.thread { continuation.resume(returning: body()) }
  }
}

/// Asks again and again, on a blocking thread, for at most ten seconds; the last answer.
func eventually(_ condition: () -> Bool) -> Bool {
  for _ in 0..<2_000 {
    if condition() { return true }
    poll(nil, 0, 5)
  }
  return condition()
}

/// A port nobody listens on.
func closedPort() -> UInt16 {
  let origin = Origin { _, _ in }
  return origin.port
}

func wallClockSeconds() -> Int {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return time.tv_sec
}
