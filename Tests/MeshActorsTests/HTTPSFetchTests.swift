import Dispatch
import Glibc
import MeshConfig
import Primitives
import Synchronization
import Testing

@testable import MeshActors
@testable import Transport

/// SPIFFE Federation 5.2.1, profile `https_web`, against servers in this process.
@Suite struct HTTPSFetchTests {
  private static let host = "bundle.test"

  /// What comes of asking a server for `path`.
  private func fetch(
    _ server: TestServer, trusting signer: TestSigner, host: String = Self.host, path: String = "/b", bytesMax: Int = 1 << 20,
    at addresses: [String] = ["127.0.0.1"], within limit: Duration = .seconds(10)
  ) async throws -> Result<String, FetchError> {
    let loop = try EventLoop(name: "fetch")
    try loop.start()
    defer {
      loop.stop()
      server.stop()
    }
    let found = addresses.compactMap { IPAddress($0) }
    let https = HTTPSFetch(loop: loop, trust: .authorities([signer.certificate])) { name, answer in
      answer(name == Self.host ? found : [])
    }
    let url = try HTTPSURL(parsing: "https://\(host):\(server.port)\(path)")
    do throws(FetchError) {
      return .success(String(decoding: try await https.get(url, bytesMax: bytesMax, within: limit), as: UTF8.self))
    } catch { return .failure(error) }
  }

  private func expect(_ result: Result<String, FetchError>, failsWith reason: String) {
    switch result {
    case .success(let body): Issue.record("fetched: \(body.prefix(100))")
    case .failure(let error): #expect(error.description.contains(reason), "\(error)")
    }
  }

  private func server(_ signer: TestSigner, _ answer: TestServer.Answer) throws -> TestServer {
    try TestServer(try signer.server("DNS:\(Self.host),IP:127.0.0.1")) { _ in answer }
  }

  @Test func `a document is fetched from a server that proves its name`() async throws {
    let signer = try TestSigner()
    let server = try server(signer, .ok(Array("all of it".utf8)))
    #expect(try await fetch(server, trusting: signer, path: "/b/c?d=e") == .success("all of it"))
    let request = try #require(server.requests.first)
    #expect(request.hasPrefix("GET /b/c?d=e HTTP/1.1\r\nhost: bundle.test:\(server.port)\r\n"))
    #expect(request.contains("accept: application/json\r\n") && request.contains("connection: close\r\n"))
  }

  @Test func `a body may come in chunks, or end with the connection`() async throws {
    for head in ["transfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n", "\r\none"] {
      let signer = try TestSigner()
      let server = try server(signer, .text("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + head))
      #expect(try await fetch(server, trusting: signer) == .success("one"))
    }
  }

  @Test func `a server at an address proves the address`() async throws {
    let signer = try TestSigner()
    #expect(try await fetch(try server(signer, .ok([0x61])), trusting: signer, host: "127.0.0.1") == .success("a"))
    let other = try TestServer(try signer.server("DNS:127.0.0.1,IP:127.0.0.2")) { _ in .ok([]) }
    expect(try await fetch(other, trusting: signer, host: "127.0.0.1"), failsWith: "127.0.0.1")
  }

  @Test func `a server with another name is refused before it is asked`() async throws {
    let signer = try TestSigner()
    let server = try TestServer(try signer.server("DNS:other.test")) { _ in .ok([]) }
    expect(try await fetch(server, trusting: signer), failsWith: "TLS peer refused")
    #expect(server.requests.isEmpty)
  }

  @Test func `a server of an unknown authority is refused before it is asked`() async throws {
    let server = try server(try TestSigner(), .ok([]))
    expect(try await fetch(server, trusting: try TestSigner()), failsWith: "not signed by a trusted authority")
    #expect(server.requests.isEmpty)
  }

  @Test func `TLS 1.2 will do`() async throws {
    let signer = try TestSigner()
    let server = try TestServer(try signer.server("DNS:\(Self.host)"), maximum: .tls12) { _ in .ok([0x61]) }
    #expect(try await fetch(server, trusting: signer) == .success("a"))
  }

  @Test func `only 200 is an answer`() async throws {
    for status in [204, 206, 304, 401, 404, 500, 503] {
      let signer = try TestSigner()
      let server = try server(signer, .text("HTTP/1.1 \(status) So\r\ncontent-length: 0\r\n\r\n"))
      expect(try await fetch(server, trusting: signer), failsWith: "answered with \(status)")
    }
  }

  @Test func `a body that is too large is not read on`() async throws {
    let large = [UInt8](repeating: 0x61, count: 300_000)
    let answers: [TestServer.Answer] = [
      .ok(large), .bytes(Array("HTTP/1.1 200 OK\r\n\r\n".utf8) + large),
      .bytes(Array("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n493e0\r\n".utf8) + large),
    ]
    for answer in answers {
      let signer = try TestSigner()
      expect(try await fetch(try server(signer, answer), trusting: signer, bytesMax: 1000), failsWith: "body_too_large")
    }
  }

  @Test func `heads without end are not read on`() async throws {
    let interim = Array(String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 20_000).utf8)
    let lines = Array(("HTTP/1.1 200 OK\r\n" + String(repeating: "a: b\r\n", count: 100_000)).utf8)
    for (bytes, reason) in [(interim, "too large"), (lines, "too_")] {
      let signer = try TestSigner()
      expect(try await fetch(try server(signer, .bytes(bytes)), trusting: signer, bytesMax: 1000), failsWith: reason)
    }
  }

  @Test func `a document that was cut is none`() async throws {
    for bytes in ["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "HTTP/1.1 200 OK\r\n\r\nhalf", "HTTP/1.1 200", ""] {
      for answer in [TestServer.Answer.cut(Array(bytes.utf8)), .text(bytes)] {
        if case .bytes = answer, bytes.hasSuffix("\r\n\r\nhalf"), !bytes.contains("length") { continue }
        let signer = try TestSigner()
        let result = try await fetch(try server(signer, answer), trusting: signer)
        #expect(throws: FetchError.self, "\(answer)") { try result.get() }
      }
    }
  }

  @Test func `what is no HTTP is refused`() async throws {
    let signer = try TestSigner()
    expect(
      try await fetch(try server(signer, .text("SSH-2.0-x\r\n\r\n")), trusting: signer), failsWith: "malformed_status_line")
  }

  @Test func `a server that says nothing has as long as there is`() async throws {
    let signer = try TestSigner()
    let result = try await fetch(try server(signer, .silence), trusting: signer, within: .milliseconds(300))
    expect(result, failsWith: "no answer within 0.3 seconds")
  }

  @Test func `a server without TLS is refused`() async throws {
    let plain = try Listener(on: SocketAddress(parsing: "127.0.0.1:0"))
    let descriptor = plain.descriptor
    DispatchQueue(label: "plain").async {
      var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&waiting, 1, 10_000) == 1 else { return }
      let connection = Glibc.accept(descriptor, nil, nil)
      send(connection, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, Int32(MSG_NOSIGNAL))
      close(connection)
    }
    let loop = try EventLoop(name: "fetch")
    try loop.start()
    defer { loop.stop() }
    let https = HTTPSFetch(loop: loop, trust: .authorities([])) { _, answer in answer([]) }
    let url = try HTTPSURL(parsing: "https://127.0.0.1:\(plain.address.port ?? 0)/")
    await #expect(throws: FetchError.self) { try await https.get(url, bytesMax: 10) }
  }

  // MARK: Addresses

  @Test func `addresses are tried in turn`() async throws {
    let signer = try TestSigner()
    let server = try server(signer, .ok([0x61]))
    #expect(try await fetch(server, trusting: signer, at: ["127.0.0.9", "127.0.0.8", "127.0.0.1"]) == .success("a"))
  }

  @Test func `where nobody listens, that is said`() async throws {
    let signer = try TestSigner()
    let result = try await fetch(try server(signer, .silence), trusting: signer, at: ["127.0.0.9", "127.0.0.8"])
    expect(result, failsWith: "127.0.0.8")
  }

  @Test func `a name without an address is said`() async throws {
    let signer = try TestSigner()
    expect(try await fetch(try server(signer, .silence), trusting: signer, host: "nobody.test"), failsWith: "no address")
  }

  /// The first one's queue is full: the kernel answers nobody.
  @Test func `an address that does not answer leaves time for the next`() async throws {
    let signer = try TestSigner()
    let server = try server(signer, .ok([0x61]))
    let full = SocketAddress.ip(try #require(IPAddress("127.0.0.9")), port: server.port)
    let listener = try Listener(on: full, backlog: 0)
    let one = try Socket.connect(to: full)
    let two = try Socket.connect(to: full)
    let three = try Socket.connect(to: full)
    #expect(
      try await fetch(server, trusting: signer, at: ["127.0.0.9", "127.0.0.1"], within: .seconds(4)) == .success("a"))
    #expect([one.descriptor, two.descriptor, three.descriptor, listener.descriptor].allSatisfy { $0 >= 0 })
  }

  @Test func `who gives up does not wait`() async throws {
    let signer = try TestSigner()
    let loop = try EventLoop(name: "fetch")
    try loop.start()
    defer { loop.stop() }
    let https = HTTPSFetch(loop: loop, trust: .authorities([signer.certificate])) { _, _ in }
    let url = try HTTPSURL(parsing: "https://\(Self.host)/")
    let task = Task { () throws(FetchError) -> [UInt8] in try await https.get(url, bytesMax: 1, within: .seconds(3600)) }
    task.cancel()
    let result = await task.result
    #expect(throws: FetchError.self) { try result.get() }
  }

  // MARK: Redirects

  /// Redirects are followed to https alone, and each server proves its name.
  @Test func `redirects are followed, but not to anything else than https, and not for ever`() async throws {
    let cases: [(path: String, expected: String?, reason: String)] = [
      ("/once", "here", ""), ("/thrice", "here", ""), ("/absolute", "here", ""), ("/for-ever", nil, "more than 3 redirects"),
      ("/plain", nil, "not followed"), ("/nowhere", nil, "without saying where"), ("/relative", nil, "not followed"),
      ("/other-name", nil, "TLS peer refused"),
    ]
    for item in cases {
      let signer = try TestSigner()
      let port = Mutex<UInt16>(0)
      let server = try TestServer(try signer.server("DNS:\(Self.host)")) { head in
        func moved(_ location: String, _ status: Int = 302) -> TestServer.Answer {
          .text("HTTP/1.1 \(status) Moved\r\nlocation: \(location)\r\ncontent-length: 0\r\n\r\n")
        }
        let path = String(head.dropFirst(4).prefix { $0 != " " })
        return switch path {
        case "/here": .ok(Array("here".utf8))
        case "/once": moved("/here")
        case "/thrice": moved("/twice", 307)
        case "/twice": moved("/once", 308)
        case "/absolute": moved("https://\(Self.host):\(port.withLock { $0 })/here", 301)
        case "/for-ever": moved("/for-ever")
        case "/plain": moved("http://\(Self.host)/here")
        case "/relative": moved("here")
        case "/other-name": moved("https://127.0.0.1:\(port.withLock { $0 })/here")
        default: .text("HTTP/1.1 302 Moved\r\ncontent-length: 0\r\n\r\n")
        }
      }
      port.withLock { $0 = server.port }
      let result = try await fetch(server, trusting: signer, path: item.path)
      if let expected = item.expected {
        #expect(result == .success(expected), "\(item.path)")
      } else {
        expect(result, failsWith: item.reason)
      }
    }
  }
}
