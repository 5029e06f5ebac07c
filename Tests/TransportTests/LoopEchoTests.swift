import Glibc
import Primitives
import Testing

@testable import Transport

/// Echoes whatever TLS brings it, as edge-triggered readiness has to be handled: until nothing moves.
private final class EchoConnection: EventHandler {
  private let session: TLSSession
  private let socket: Int32
  private var waiting: ArraySlice<UInt8> = []

  init(_ socket: consuming Socket, _ context: TLSContext) throws {
    self.socket = socket.release()
    session = try TLSSession(context, descriptor: self.socket)
  }
  deinit { close(socket) }

  func ready(_ readiness: Readiness) {
    guard session.handshake() == .done else { return }
    while flush() {
      var buffer = [UInt8](repeating: 0, count: 4096)
      guard case .bytes(let count) = buffer.withUnsafeMutableBytes({ session.read(into: $0) }) else { return }
      waiting = buffer[..<count]
    }
  }

  private func flush() -> Bool {
    while !waiting.isEmpty {
      guard case .bytes(let count) = Array(waiting).withUnsafeBytes({ session.write($0) }) else { return false }
      waiting = waiting.dropFirst(count)
    }
    return true
  }
}

private final class EchoListener: EventHandler {
  private let listener: Listener
  private let loop: EventLoop
  private let context: TLSContext
  var address: SocketAddress { listener.address }

  init(_ loop: EventLoop, _ context: TLSContext) throws {
    listener = try Listener(on: .ip(.loopback, port: 0), reusePort: true)
    self.loop = loop
    self.context = context
  }

  func start() throws { _ = try loop.register(listener.descriptor, self) }

  func ready(_ readiness: Readiness) {
    while true {
      switch listener.accept() {
      case .accepted(let socket, _):
        let descriptor = socket.descriptor
        guard let connection = try? EchoConnection(socket, context) else { continue }
        _ = try? loop.register(descriptor, connection)
      default: return
      }
    }
  }
}

@Suite struct LoopEchoTests {
  @Test func `a loop serves TLS connections that send more than the sockets hold`() throws {
    ProcessSettings.ignoreBrokenPipe()
    let authority = try TestAuthority()
    let identity = try authority.identity("spiffe://cluster.local/ns/a/sa/b")
    let server = try TLSContext.server(identity: identity, trust: .members(authority.bundle), protocols: ["h2"])
    let client = try TLSContext.client(identity: identity, trust: .members(authority.bundle), protocols: ["h2"])
    try withLoop { loop in
      let address = try #require(
        onLoop(loop) {
          let listener = try? EchoListener(loop, server)
          try? listener?.start()
          return listener?.address
        })
      for _ in 0..<3 { #expect(try echo(4 << 20, address, client)) }
    }
  }

  /// Sends random bytes and compares what comes back.
  private func echo(_ count: Int, _ address: SocketAddress, _ context: TLSContext) throws -> Bool {
    let socket = try Socket.connect(to: address)
    let session = try TLSSession(context, descriptor: socket.descriptor)
    let payload = secureRandom(count: count)
    var sent = 0
    var received: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    while received.count < count {
      var poller = pollfd(fd: socket.descriptor, events: Int16(POLLIN | (sent < count ? POLLOUT : 0)), revents: 0)
      poll(&poller, 1, -1)
      switch session.handshake() {
      case .failed(let error): throw error
      case .wantRead, .wantWrite: continue
      case .done: break
      }
      if sent < count, case .bytes(let some) = payload.withUnsafeBytes({ session.write(.init(rebasing: $0[sent...])) }) {
        sent += some
      }
      while case .bytes(let some) = buffer.withUnsafeMutableBytes({ session.read(into: $0) }) { received += buffer[..<some] }
      if let failure = session.failure { throw failure }
    }
    _ = consume socket
    return received == payload
  }
}
