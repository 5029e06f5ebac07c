import CLinux
import Glibc
import Primitives
import Testing

@testable import Transport

@Suite struct SocketTests {
  @Test(arguments: [
    ("127.0.0.1:80", "127.0.0.1:80"), ("0.0.0.0:0", "0.0.0.0:0"), ("[::1]:80", "[::1]:80"),
    ("[2001:DB8:0::1]:65535", "[2001:db8::1]:65535"), ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1"),
  ])
  func `addresses are parsed and written in canonical form`(text: String, canonical: String) throws {
    #expect(try SocketAddress(parsing: text).description == canonical)
  }

  @Test(arguments: [
    "", ":", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:+80", "127.0.0.1:65536", "127.0.0.1: 80", "127.0.0.01:80",
    "127.1:80", "0x7f.0.0.1:80", "256.0.0.1:80", "::1:80", "[::1]", "[127.0.0.1]:80", "[fe80::1%eth0]:80", "localhost:80",
    "127.0.0.1\0:80", "[::1:80", "::1]:80", "127.0.0.1:٨٠", " 127.0.0.1:80",
  ])
  func `other forms are refused`(text: String) {
    #expect(throws: NameError.self) { try SocketAddress(parsing: text) }
  }

  @Test func `IP addresses know their kind`() {
    #expect(IPAddress("127.9.9.9")?.isLoopback == true)
    #expect(IPAddress("::1")?.isLoopback == true)
    #expect(IPAddress("::ffff:127.0.0.1")?.isLoopback == true)
    #expect(IPAddress("10.0.0.1")?.isLoopback == false)
    #expect(IPAddress("::ffff:10.0.0.1")?.unmapped == IPAddress("10.0.0.1"))
    #expect(IPAddress("10.0.0.1")?.bytes == [10, 0, 0, 1])
    #expect(IPAddress("102:304::10")?.bytes == [1, 2, 3, 4] + [UInt8](repeating: 0, count: 11) + [16])
  }

  @Test(arguments: ["127.0.0.1", "::1"])
  func `a connection carries bytes both ways, and its end`(host: String) throws {
    let address = SocketAddress.ip(try #require(IPAddress(host)), port: 0)
    let listener = try Listener(on: address)
    let client = try Socket.connect(to: listener.address)
    let server = try accept(listener)
    #expect(client.pendingError == 0)
    #expect(client.localAddress == server.peerAddress)
    #expect(server.read(1) == .wouldBlock)
    #expect(client.send("ping") == .bytes(4))
    #expect(try wait(server.descriptor, POLLIN) && server.read(9) == .bytes(4))
    server.shutdownWrite()
    #expect(try wait(client.descriptor, POLLIN) && client.read(9) == .endOfStream)
  }

  @Test func `a gathered write sends the buffers in order`() throws {
    let (a, b) = try Socket.pair()
    let near = Socket(adopting: a)
    let far = Socket(adopting: b)
    var first = Array("GET ".utf8)
    var second = Array("/".utf8)
    let written = first.withUnsafeMutableBytes { one in
      second.withUnsafeMutableBytes { two in
        [iovec(iov_base: one.baseAddress, iov_len: 4), iovec(iov_base: two.baseAddress, iov_len: 1)]
          .withUnsafeBufferPointer { near.write($0) }
      }
    }
    #expect(written == .bytes(5))
    var buffer = [UInt8](repeating: 0, count: 5)
    #expect(buffer.withUnsafeMutableBytes { far.read(into: $0) } == .bytes(5))
    #expect(buffer == Array("GET /".utf8))
  }

  @Test func `writing to a closed peer fails and does not end the process`() throws {
    let (a, b) = try Socket.pair()
    let near = Socket(adopting: a)
    close(b)
    #expect(near.send("x") == .failed(EPIPE))
  }

  @Test func `a refused connection says so`() throws {
    let address = try closedAddress()
    do throws(SystemError) {
      let client = try Socket.connect(to: address)
      var poller = pollfd(fd: client.descriptor, events: Int16(POLLOUT), revents: 0)
      poll(&poller, 1, -1)
      #expect(client.pendingError == ECONNREFUSED)
    } catch {
      #expect(error.code == ECONNREFUSED)
    }
  }

  @Test func `an address in use is named in the error, and may be shared on purpose`() throws {
    let loopback = SocketAddress.ip(.loopback, port: 0)
    let first = try Listener(on: loopback, reusePort: true)
    let error = #expect(throws: SystemError.self) { _ = try Listener(on: first.address) }
    #expect(error?.description == "bind \(first.address): address already in use")
    _ = try Listener(on: first.address, reusePort: true)
  }

  @Test func `a Unix listener is private, knows its peer, and replaces only dead sockets`() throws {
    let path = "/tmp/mesh-\(getpid())-\(hexString(secureRandom(count: 4))).sock"
    do {
      let listener = try Listener(on: .unix(path: path))
      var status = stat()
      #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
      let client = try Socket.connect(to: .unix(path: path))
      let server = try accept(listener)
      #expect(try server.peerCredentials() == PeerCredentials(process: getpid(), user: getuid(), group: getgid()))
      let error = #expect(throws: SystemError.self) { _ = try Listener(on: .unix(path: path)) }
      #expect(error?.code == EADDRINUSE)
      _ = consume client
    }
    #expect(access(path, F_OK) != 0)
    let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    try Socket.bind(dead, to: .unix(path: path))
    close(dead)
    _ = try Listener(on: .unix(path: path))
    close(open(path, O_CREAT | O_WRONLY, 0o600))
    #expect(throws: SystemError.self) { _ = try Listener(on: .unix(path: path)) }
    #expect(access(path, F_OK) == 0)
    unlink(path)
  }

  @Test(arguments: ["", String(repeating: "x", count: 108), "/tmp/a\0b"])
  func `paths the kernel would cut are refused`(path: String) {
    #expect(throws: SystemError.self) { _ = try Listener(on: .unix(path: path)) }
  }

  @Test func `datagrams arrive with their sender, and say when they were cut`() throws {
    let a = try DatagramSocket(boundTo: .ip(.loopback, port: 0))
    let b = try DatagramSocket(boundTo: .ip(.loopback, port: 0))
    var buffer = [UInt8](repeating: 0, count: 4)
    #expect(buffer.withUnsafeMutableBytes { b.receive(into: $0) } == .wouldBlock)
    #expect(Array("hello".utf8).withUnsafeBytes { a.send($0, to: b.address) } == .bytes(5))
    #expect(try wait(b.descriptor, POLLIN))
    let got = buffer.withUnsafeMutableBytes { b.receive(into: $0) }
    #expect(got == .datagram(count: 4, sender: a.address, truncated: true))
    #expect(buffer == Array("hell".utf8))
  }

  private func closedAddress() throws -> SocketAddress { try Listener(on: .ip(.loopback, port: 0)).address }

  private func accept(_ listener: borrowing Listener) throws -> Socket {
    _ = try wait(listener.descriptor, POLLIN)
    switch listener.accept() {
    case .accepted(let socket, _): return socket
    case .wouldBlock: throw SystemError("accept", code: EAGAIN)
    case .exhausted(let error): throw error
    case .failed(let error): throw error
    }
  }

  private func wait(_ descriptor: Int32, _ events: Int32) throws -> Bool {
    var poller = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    return poll(&poller, 1, -1) == 1
  }
}

extension Socket {
  fileprivate borrowing func send(_ text: String) -> IOResult { Array(text.utf8).withUnsafeBytes { write($0) } }
  fileprivate borrowing func read(_ count: Int) -> IOResult {
    var buffer = [UInt8](repeating: 0, count: count)
    return buffer.withUnsafeMutableBytes { read(into: $0) }
  }
}
