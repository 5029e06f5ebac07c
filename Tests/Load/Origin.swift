import Glibc
import HTTP2
import HTTPCodec
import Primitives
import Transport

/// The server behind the proxies: `/bytes/N` over HTTP/1.1 and HTTP/2, gRPC calls that are sent back, and a sink.
final class Origin {
  private let loop: EventLoop
  private let address: SocketAddress
  private let sinkAddress: SocketAddress?
  private var listeners: [OriginListener] = []

  init(_ options: Options) throws {
    loop = try EventLoop(name: "origin")
    address = try options.address("listen")
    sinkAddress = options.optional("sink") == nil ? nil : try options.address("sink")
  }

  func run() throws {
    let bound = LoopBound(self, on: loop)
    loop.post { bound.value.listen() }
    try loop.start()
    loop.join()
  }

  private func listen() {
    do {
      listeners.append(try OriginListener(on: address, loop, isSink: false))
      if let sinkAddress { listeners.append(try OriginListener(on: sinkAddress, loop, isSink: true)) }
      say("listening")
    } catch {
      say("mesh-load: \(error)", to: STDERR_FILENO)
      exit(1)
    }
  }
}

final class OriginListener: EventHandler {
  private let loop: EventLoop
  private let isSink: Bool
  private let listener: Listener

  init(on address: SocketAddress, _ loop: EventLoop, isSink: Bool) throws {
    self.loop = loop
    self.isSink = isSink
    listener = try Listener(on: address)
    _ = try loop.register(listener.descriptor, self)
  }

  func ready(_ readiness: Readiness) {
    while true {
      switch listener.accept() {
      case .accepted(let socket, _):
        OriginConnection(socket.release(), loop, isSink: isSink).open()
      case .wouldBlock: return
      case .exhausted: return
      case .failed: return
      }
    }
  }
}

/// One connection of the origin. The first byte says which protocol it speaks: no HTTP/1 method begins as HTTP/2's preface.
final class OriginConnection: EventHandler {
  private static let blockBytes = 256 * 1024
  private static let block = [UInt8](repeating: 0x61, count: blockBytes)

  private let descriptor: Int32
  private let loop: EventLoop
  private let isSink: Bool
  private var registration: Registration?
  private var input = [UInt8](repeating: 0, count: 64 * 1024)
  private var used = 0
  private var filled = 0
  private var parser = RequestParser()
  private var head = RequestHead()
  private var decoder = BodyDecoder(.none)
  private var output: [UInt8] = []
  private var sent = 0
  /// Body bytes of the block that follow `output`.
  private var bodyLeft = 0
  private var http2: OriginHTTP2?

  init(_ descriptor: Int32, _ loop: EventLoop, isSink: Bool) {
    self.descriptor = descriptor
    self.loop = loop
    self.isSink = isSink
  }

  func open() {
    registration = try? loop.register(descriptor, self)
    if registration == nil { Glibc.close(descriptor) }
  }

  func ready(_ readiness: Readiness) {
    guard registration != nil, flush() else { return }
    if readiness.contains(.readable) { read() }
  }

  private func end() {
    guard let registration else { return }
    loop.deregister(registration)
    self.registration = nil
    http2?.session.connectionLost()
    Glibc.close(descriptor)
  }

  private func read() {
    while registration != nil {
      let result = input.withUnsafeMutableBytes { raw in
        Socket.read(descriptor, into: UnsafeMutableRawBufferPointer(rebasing: raw[filled...]))
      }
      guard case .bytes(let count) = result else {
        if result != .wouldBlock { end() }
        return
      }
      let isEmptied = filled + count < input.count
      if !isSink {
        filled += count
        guard use(), flush() else { return end() }
      }
      if isEmptied { return }
    }
  }

  /// False when the peer does not speak as it should.
  private func use() -> Bool {
    if http2 == nil, filled > 2, input[0] == 0x50, input[1] == 0x52 { http2 = OriginHTTP2() }
    if let http2 {
      let bytes = input[..<filled]
      filled = 0
      return bytes.withUnsafeBufferPointer { http2.receive($0, now: loop.now, into: &output) }
    }
    do {
      while used < filled {
        let bytes = input
        if !decoder.isComplete {
          var position = used
          loop: while true {
            switch try decoder.next(bytes.span.extracting(0..<filled), from: &position) {
            case .data: continue
            case .needMore, .end: break loop
            }
          }
          used = position
          if decoder.isComplete { answer() }
          continue
        }
        guard let count = try parser.parse(bytes.span.extracting(0..<filled), from: used, into: &head) else { break }
        used += count
        decoder = BodyDecoder(head.framing)
        if decoder.isComplete { answer() }
      }
    } catch {
      return false
    }
    if used == filled {
      used = 0
      filled = 0
    } else if filled == input.count {
      guard used > 0 else { return false }
      input.removeSubrange(0..<used)
      input.append(contentsOf: repeatElement(0, count: used))
      filled -= used
      used = 0
    }
    return true
  }

  private func answer() {
    let count = OriginConnection.bodyBytes(head)
    output.append(contentsOf: "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ".utf8)
    output.appendDecimal(UInt64(count))
    output.append(contentsOf: "\r\n\r\n".utf8)
    if count <= 64 * 1024 { output.append(contentsOf: Self.block[..<count]) } else { bodyLeft += count }
  }

  /// What `/bytes/N` asks for; 0 for every other path.
  static func bodyBytes(_ head: borrowing RequestHead) -> Int {
    let path = head.headers.bytes[head.path]
    guard path.starts(with: "/bytes/".utf8), let count = parseDecimal(path.dropFirst(7), max: 1 << 30) else { return 0 }
    return Int(count)
  }

  /// Writes what the socket takes; false when the connection broke.
  private func flush() -> Bool {
    while sent < output.count {
      let result = output.withUnsafeBytes { Socket.write(descriptor, UnsafeRawBufferPointer(rebasing: $0[sent...])) }
      guard case .bytes(let count) = result else { return result == .wouldBlock }
      sent += count
    }
    output.removeAll(keepingCapacity: true)
    sent = 0
    while bodyLeft > 0 {
      let result = Self.block.withUnsafeBytes {
        Socket.write(descriptor, UnsafeRawBufferPointer(rebasing: $0[..<min(bodyLeft, Self.blockBytes)]))
      }
      guard case .bytes(let count) = result else { return result == .wouldBlock }
      bodyLeft -= count
    }
    if let http2, http2.send(into: &output), !output.isEmpty { return flush() }
    return true
  }
}

/// The HTTP/2 side: answers by size, and sends gRPC messages back as they come.
final class OriginHTTP2: HTTP2Events {
  let session: HTTP2Session
  private var calls: Set<Int32> = []
  private let plain = OriginHTTP2.head("content-type: text/plain")
  private let call = OriginHTTP2.head("content-type: application/grpc")
  private let trailers = OriginHTTP2.head("grpc-status: 0").headers

  init() {
    var limits = HTTP2Limits()
    limits.concurrentStreams = 1000
    session = HTTP2Session(.server, limits: limits)
    session.events = self
  }

  private static func head(_ field: String) -> ResponseHead {
    var head = ResponseHead()
    var parser = ResponseParser()
    do throws(MessageError) {
      let text = Array("HTTP/1.1 200 OK\r\n\(field)\r\n\r\n".utf8)
      _ = try parser.parse(text.span, from: 0, answering: .get, into: &head)
    } catch {
      exit(1)
    }
    return head
  }

  func receive(_ bytes: UnsafeBufferPointer<UInt8>, now: Instant, into output: inout [UInt8]) -> Bool {
    do { try session.receive(bytes, now: now) } catch { return false }
    return send(into: &output)
  }

  func send(into output: inout [UInt8]) -> Bool {
    _ = session.send(into: &output)
    return !session.isFinished
  }

  func requestArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {
    let type = stream.request.headers.value(.contentType).map { stream.request.headers.bytes[$0] }
    if let type, type.starts(with: "application/grpc".utf8) {
      calls.insert(stream.id)
      session.respond(stream, call, ends: false)
      if ends { finish(stream) }
      return
    }
    let count = OriginConnection.bodyBytes(stream.request)
    session.respond(stream, plain, ends: false)
    let body = [UInt8](repeating: 0x61, count: count)
    body.withUnsafeBufferPointer { _ = session.write(stream, $0) }
    session.end(stream)
  }

  private func finish(_ stream: HTTP2Stream) {
    calls.remove(stream.id)
    session.end(stream, trailers: trailers)
  }

  func dataArrived(_ bytes: UnsafeBufferPointer<UInt8>, _ stream: HTTP2Stream, on session: HTTP2Session) {
    if calls.contains(stream.id) { session.write(stream, bytes) }
    session.consumed(stream, bytes.count)
  }

  func messageEnded(_ stream: HTTP2Stream, hasTrailers: Bool, on session: HTTP2Session) {
    if calls.contains(stream.id) { finish(stream) }
  }

  func streamClosed(_ stream: HTTP2Stream, _ end: HTTP2StreamEnd, on session: HTTP2Session) { calls.remove(stream.id) }
  func requestRefused(_ stream: HTTP2Stream, error: MessageError, on session: HTTP2Session) {}
  func responseArrived(_ stream: HTTP2Stream, ends: Bool, on session: HTTP2Session) {}
  func canWrite(_ stream: HTTP2Stream, on session: HTTP2Session) {}
  func goAwayReceived(lastStream: Int32, code: HTTP2Code, on session: HTTP2Session) {}
  func settingsReceived(on session: HTTP2Session) {}
  func pongReceived(_ payload: UInt64, on session: HTTP2Session) {}
}
