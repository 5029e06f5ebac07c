import HTTPCodec
import Primitives
import Synchronization
import Testing

@testable import BookinfoDemo

@Suite struct NetworkBackendTests {
  /// Answers every connection with `answer` and keeps the request's bytes.
  private final class Recorder: Sendable {
    let requests = Mutex<[String]>([])
    let answer: String

    init(_ answer: String = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") { self.answer = answer }

    func serve(_ stream: TCPStream) {
      var text = ""
      while !text.contains("\r\n\r\n"), let bytes = try? stream.read(until: .soon), !bytes.isEmpty {
        text += String(decoding: bytes, as: UTF8.self)
      }
      requests.withLock { $0.append(text) }
      try? stream.write(Array(answer.utf8), until: .soon)
    }
  }

  private func call(_ host: String, port: UInt16, timeout: Duration = .seconds(10), headers: [HTTPField] = []) -> BackendCall {
    BackendCall(host: host, port: port, target: "/reviews/0", headers: headers, timeouts: .both(timeout))
  }

  private func backend(_ variables: [String: String] = [:]) throws -> NetworkBackend {
    NetworkBackend(proxies: try Proxies(environment: Environment(variables)))
  }

  @Test func `without a proxy the request goes to the host in origin form`() throws {
    let recorder = Recorder()
    let server = try FakeServer(recorder.serve)
    let answer = try backend().get(call("127.0.0.1", port: server.port, headers: [HTTPField("end-user", "jason")]))
    #expect(answer.status == 200)
    #expect(answer.body == Array("{}".utf8))
    let request = try #require(recorder.requests.withLock { $0.first })
    #expect(request.hasPrefix("GET /reviews/0 HTTP/1.1\r\nhost: 127.0.0.1:\(server.port)\r\n"))
    #expect(request.contains("\r\nend-user: jason\r\n"))
  }

  @Test func `to a proxy it goes in absolute form`() throws {
    let recorder = Recorder()
    let server = try FakeServer(recorder.serve)
    _ = try backend(["http_proxy": "http://127.0.0.1:\(server.port)"]).get(call("reviews", port: 9080))
    let request = try #require(recorder.requests.withLock { $0.first })
    #expect(request.hasPrefix("GET http://reviews:9080/reviews/0 HTTP/1.1\r\nhost: reviews:9080\r\n"))
  }

  @Test func `each call has a connection of its own`() throws {
    let recorder = Recorder()
    let server = try FakeServer(recorder.serve)
    for _ in 0..<3 { _ = try backend().get(call("127.0.0.1", port: server.port)) }
    #expect(recorder.requests.withLock { $0.count } == 3)
  }

  @Test func `a silent backend times out`() throws {
    let server = try FakeServer { stream in _ = stream.poll(0, orReadable: -1, until: .soon) }
    #expect(throws: CallError.timedOut("waiting for the answer")) {
      try backend().get(call("127.0.0.1", port: server.port, timeout: .milliseconds(50)))
    }
  }

  @Test(arguments: [
    "", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
  ])
  func `half an answer is none`(answer: String) throws {
    let server = try FakeServer(Recorder(answer).serve)
    #expect(throws: CallError.self) { try backend().get(call("127.0.0.1", port: server.port)) }
  }

  @Test func `interim responses are skipped and chunks are joined`() throws {
    let answer =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    let server = try FakeServer(Recorder(answer).serve)
    let result = try backend().get(call("127.0.0.1", port: server.port))
    #expect(result.status == 503)
    #expect(result.body == Array("abc".utf8))
  }

  @Test func `nobody listening is no answer, and a name without address either`() throws {
    let port = try Listener(address: "127.0.0.1", port: 0).port
    #expect(throws: CallError.self) { try backend().get(call("127.0.0.1", port: port)) }
    #expect(throws: CallError.unresolved(host: "no such name")) { try backend().get(call("no such name", port: 1)) }
  }

  @Test func `a header that could split the message is not sent`() throws {
    let server = try FakeServer(Recorder().serve)
    #expect(throws: CallError.unsendable) {
      try backend().get(call("127.0.0.1", port: server.port, headers: [HTTPField("cookie", "a\r\nb: c")]))
    }
  }

  @Test func `https goes through a tunnel, and a refused tunnel is no answer`() throws {
    let recorder = Recorder("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
    let server = try FakeServer(recorder.serve)
    var call = call("books.test", port: 443)
    call.isEncrypted = true
    #expect(throws: CallError.refusedByProxy(status: 403)) {
      try backend(["https_proxy": "127.0.0.1:\(server.port)"]).get(call)
    }
    #expect(recorder.requests.withLock { $0.first } == "CONNECT books.test:443 HTTP/1.1\r\nhost: books.test:443\r\n\r\n")
  }
}

@Suite struct ProxiesTests {
  private func proxies(_ variables: [String: String]) throws -> Proxies { try Proxies(environment: Environment(variables)) }

  @Test func `only the lower-case http_proxy counts, as in curl`() throws {
    #expect(try proxies(["HTTP_PROXY": "http://a:1"]).proxy(host: "x", isEncrypted: false) == nil)
    #expect(try proxies(["http_proxy": "http://a:1/"]).proxy(host: "x", isEncrypted: false) == .init(host: "a", port: 1))
    #expect(try proxies(["http_proxy": "http://a:1"]).proxy(host: "x", isEncrypted: true) == nil)
    #expect(try proxies(["HTTPS_PROXY": "[::1]:2"]).proxy(host: "x", isEncrypted: true) == .init(host: "::1", port: 2))
    #expect(try proxies(["http_proxy": "a"]).proxy(host: "x", isEncrypted: false) == .init(host: "a", port: 80))
  }

  @Test(arguments: [
    ("*", "reviews", true), ("reviews", "reviews", true), ("shop.test", "a.shop.test", true), (".shop.test", "shop.test", true),
    ("shop.test", "myshop.test", false), ("a,reviews ,b", "Reviews", true), ("ratings", "reviews", false),
    ("", "reviews", false),
  ])
  func `no_proxy excepts hosts and their domains`(list: String, host: String, isException: Bool) throws {
    let proxy = try proxies(["http_proxy": "a:1", "no_proxy": list]).proxy(host: host, isEncrypted: false)
    #expect((proxy == nil) == isException)
  }

  @Test(arguments: ["http://", "http://a:0", "http://a:x", "http://a:1/path", "http://u:p@a:1", "a:70000"])
  func `a proxy that cannot be understood is said at start`(text: String) {
    #expect(throws: UsageError.self) { try proxies(["http_proxy": text]) }
  }
}
