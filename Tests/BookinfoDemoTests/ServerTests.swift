import CLinux
import HTTPCodec
import Primitives
import Testing

@testable import BookinfoDemo

@Suite struct ServerTests {
  private struct Echo: Service {
    func respond(to request: HTTPRequest) -> HTTPResponse {
      HTTPResponse(status: 200, text: "\(request.method) \(request.path) \(request.body.count)")
    }
    func delay(of request: HTTPRequest) -> Duration { request.path == "/late" ? .seconds(30) : .zero }
  }

  private func started(_ change: (inout HTTPServer.Settings) -> Void = { _ in }) throws -> HTTPServer {
    var settings = HTTPServer.Settings()
    change(&settings)
    let server = try HTTPServer(address: "127.0.0.1", port: 0, service: Echo(), settings: settings)
    try server.start()
    return server
  }

  @Test func `requests follow each other on one connection, pipelined too`() throws {
    let server = try started()
    let client = try RawClient(port: server.port)
    try client.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    #expect(try client.response()?.text == "GET /a 0")
    try client.send(
      "POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    let text = try client.readToEnd()
    #expect(text.contains("POST /b 3"))
    #expect(text.hasSuffix("GET /c 0"))
    server.stop()
  }

  @Test func `HEAD has the length but no body`() throws {
    let server = try started()
    let client = try RawClient(port: server.port)
    try client.send("HEAD /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    let text = try client.readToEnd()
    #expect(text.contains("content-length: 9\r\n"))
    #expect(text.hasSuffix("\r\n\r\n"))
    server.stop()
  }

  @Test(arguments: [
    "GET / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\nhost: x\n\n", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "GET / HTTP/1.1\r\nhost: x\r\nbad name: 1\r\n\r\n",
  ])
  func `a malformed request is answered with 400, and the server lives`(bytes: String) throws {
    let server = try started()
    let client = try RawClient(port: server.port)
    try client.send(bytes)
    #expect(try client.readToEnd().hasPrefix("HTTP/1.1 400 "))
    let next = try RawClient(port: server.port)
    try next.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    #expect(try next.response()?.status == 200)
    server.stop()
  }

  @Test func `heads and bodies have limits`() throws {
    let server = try started()
    let large = try RawClient(port: server.port)
    try large.send("GET / HTTP/1.1\r\nhost: x\r\nx: \(String(repeating: "y", count: 70_000))\r\n\r\n")
    #expect(try large.response()?.status == 431)
    let long = try RawClient(port: server.port)
    try long.send(
      "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: \(Limits.bodyBytes + 1)\r\n\r\n"
        + String(repeating: "y", count: Limits.bodyBytes + 1))
    #expect(try long.response()?.status == 413)
    server.stop()
  }

  @Test func `an idle connection is closed after its time, and so is a slow request`() throws {
    let server = try started {
      $0.idleTimeout = .milliseconds(50)
      $0.requestTimeout = .milliseconds(50)
    }
    let idle = try RawClient(port: server.port)
    #expect(try idle.readToEnd().isEmpty)
    let slow = try RawClient(port: server.port)
    try slow.send("GET / HTT")
    #expect(try slow.readToEnd().isEmpty)
    server.stop()
  }

  @Test func `productpage keeps idle connections two seconds, the others longer`() throws {
    func image(_ words: [String]) throws -> ServiceImage? {
      guard case .serve(let arguments) = try Command(parsing: words) else { return nil }
      return try ServiceImage(arguments, environment: Environment())
    }
    #expect(try image(["productpage", "--port", "0"])?.idleTimeout == .seconds(2))
    #expect(try image(["reviews", "--port", "0"])?.idleTimeout == .seconds(30))
  }

  @Test func `beyond its connections it says 503`() throws {
    let server = try started { $0.connectionsMax = 1 }
    let first = try RawClient(port: server.port)
    try first.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    #expect(try first.response()?.status == 200)
    #expect(try RawClient(port: server.port).response()?.status == 503)
    server.stop()
  }

  @Test func `stopping ends idle connections at once and refuses new ones`() throws {
    let server = try started()
    let client = try RawClient(port: server.port)
    try client.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    _ = try client.response()
    server.stop()
    #expect(try client.readToEnd().isEmpty)
    #expect(throws: CallError.self) { try RawClient(port: server.port) }
  }

  @Test func `a delayed answer does not outlive its client`() throws {
    let server = try started()
    var client: RawClient? = try RawClient(port: server.port)
    try client?.send("GET /late HTTP/1.1\r\nhost: x\r\n\r\n")
    client = nil
    let start = Instant.now()
    server.stop()
    #expect(Instant.now() - start < .seconds(5))
  }

  @Test func `a port in use is an error that says so`() throws {
    let server = try started()
    let error = #expect(throws: ListenError.self) {
      try HTTPServer(address: "127.0.0.1", port: server.port, service: Echo())
    }
    #expect(error?.description.contains("is in use") == true)
    server.stop()
  }

  @Test func `dates are HTTP dates`() {
    #expect(httpDate(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
  }
}
