import Glibc
import HTTPCodec
import Primitives
import Transport

/// One client connection that sends one request at a time and looks only for the end of the response.
final class Client {
  enum State { case connecting, handshake, idle, waiting, closed }

  private(set) var descriptor: Int32
  private(set) var state = State.connecting
  private let session: TLSSession?
  private var parser = ResponseParser()
  private var head = ResponseHead()
  private var decoder = BodyDecoder(.none)
  private var input: [UInt8] = []
  private var hasHead = false
  /// When the request under way was meant to begin.
  var meantAt = Instant.zero
  private(set) var status = 0

  init(to address: SocketAddress, tls: (context: TLSContext, name: String)?) throws {
    let socket = try Socket.connect(to: address)
    descriptor = socket.release()
    if let tls {
      session = try TLSSession(tls.context, descriptor: descriptor, serverName: tls.name)
    } else {
      session = nil
    }
  }

  deinit { close() }

  func close() {
    guard descriptor >= 0 else { return }
    state = .closed
    session?.shutdown()
    Glibc.close(descriptor)
    descriptor = -1
  }

  /// Goes on connecting; true once requests can be sent.
  func connected() -> Bool {
    if state == .connecting {
      let socket = Socket(adopting: descriptor)
      let code = socket.pendingError
      _ = socket.release()
      if code != 0 {
        close()
        return false
      }
      state = session == nil ? .idle : .handshake
    }
    if state == .handshake, let session {
      switch session.handshake() {
      case .done: state = .idle
      case .wantRead, .wantWrite: return false
      case .failed: close()
      }
    }
    return state == .idle
  }

  /// Sends a request. Requests are small, so the socket takes them whole.
  func send(_ request: [UInt8]) {
    let result = request.withUnsafeBytes { session?.write($0) ?? Socket.write(descriptor, $0) }
    guard result == .bytes(request.count) else { return close() }
    state = .waiting
  }

  /// Writes what the socket takes; for loads without answers.
  func push(_ bytes: UnsafeRawBufferPointer) -> IOResult { session?.write(bytes) ?? Socket.write(descriptor, bytes) }

  /// Reads what is there; true when the response is complete.
  func receive(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
    while state == .waiting {
      switch session?.read(into: buffer) ?? Socket.read(descriptor, into: buffer) {
      case .bytes(let count):
        if take(UnsafeRawBufferPointer(rebasing: buffer[..<count]).assumingMemoryBound(to: UInt8.self)) { return true }
      case .wouldBlock: return false
      case .endOfStream, .failed: close()
      }
    }
    return false
  }

  private func take(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    do {
      if hasHead { return try takeBody(bytes, from: 0) }
      if input.isEmpty, let used = try parser.parse(bytes.span, from: 0, answering: .get, into: &head) {
        return try begin(bytes, bodyAt: used)
      }
      input.append(contentsOf: bytes)
      let gathered = input
      guard let used = try parser.parse(gathered.span, from: 0, answering: .get, into: &head) else { return false }
      input.removeAll(keepingCapacity: true)
      return try gathered.withUnsafeBufferPointer { try begin($0, bodyAt: used) }
    } catch {
      close()
      return false
    }
  }

  private func begin(_ bytes: UnsafeBufferPointer<UInt8>, bodyAt start: Int) throws -> Bool {
    hasHead = true
    status = head.status
    decoder = BodyDecoder(head.framing)
    return try takeBody(bytes, from: start)
  }

  private func takeBody(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int) throws -> Bool {
    var position = start
    while true {
      switch try decoder.next(bytes.span, from: &position) {
      case .data: continue
      case .needMore: return false
      case .end:
        hasHead = false
        state = .idle
        if !head.keepsAlive { close() }
        return true
      }
    }
  }
}

extension Options {
  /// The settings of a client that trusts anybody, when `--tls NAME` is given.
  func tls() throws -> (context: TLSContext, name: String)? {
    guard let name = optional("tls") else { return nil }
    return (try TLSContext.client(identity: nil, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12), name)
  }
}
