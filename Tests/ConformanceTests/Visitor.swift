import CLinux
import Glibc
import HTTPCodec
import Primitives

/// A blocking HTTP/1.1 client of a gateway. Keeps its connection while the server does.
final class Visitor {
  struct Answer {
    var response: HTTPResponse
    var elapsed: Duration
    var status: Int { response.status }
    var text: String { String(decoding: response.body, as: UTF8.self) }
  }

  let address: String
  let port: UInt16
  /// Sent with every request: the session of somebody who has signed in.
  var cookie: String?
  private var descriptor: Int32 = -1

  init(address: String, port: UInt16) {
    self.address = address
    self.port = port
  }

  deinit { disconnect() }

  func get(_ path: String, headers: [HTTPField] = []) throws -> Answer {
    try send(HTTPRequest("GET", path, authority: "bookinfo.example", headers: headers))
  }

  /// Signs in on the page.
  func signIn(as user: String) throws {
    let form = HTTPField("content-type", "application/x-www-form-urlencoded")
    let answer = try send(
      HTTPRequest(
        "POST", "/login", authority: "bookinfo.example", headers: [form], body: Array("username=\(user)&passwd=secret".utf8)))
    guard answer.status == 302, let cookie = answer.response.header("set-cookie") else {
      throw ConformanceFailure("signing in: status \(answer.status), \(answer.response.headers)")
    }
    self.cookie = String(cookie.prefix { $0 != ";" })
  }

  private func send(_ request: HTTPRequest) throws -> Answer {
    var request = request
    if let cookie { request.headers.append(HTTPField("cookie", cookie)) }
    guard let bytes = request.serialized() else { throw ConformanceFailure("not a request: \(request)") }
    let start = ContinuousClock.now
    let wasConnected = descriptor >= 0
    if !wasConnected { try connect() }
    do {
      return Answer(response: try exchange(bytes), elapsed: ContinuousClock.now - start)
    } catch {
      disconnect()
      // The server may close an idle connection at any time (RFC 9112 9.3.1); a fresh one has no excuse.
      guard wasConnected, request.method == "GET" else { throw error }
      return try send(request)
    }
  }

  private func exchange(_ bytes: [UInt8]) throws -> HTTPResponse {
    guard cl_send(descriptor, bytes, bytes.count) == bytes.count else { throw ConformanceFailure("sending: \(errno)") }
    var reader = ResponseReader(answering: .get)
    var chunk = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw ConformanceFailure("receiving: \(String(cString: strerror(errno)))") }
      reader.receive(chunk.prefix(count))
      if let response = try count == 0 ? reader.finish() : reader.next() {
        if count == 0 || !response.keepsAlive { disconnect() }
        return response
      }
      guard count > 0 else { throw ConformanceFailure("the connection ended without an answer") }
    }
  }

  private func connect() throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    _ = cl_set_no_delay(descriptor)
    var target = sockaddr_in(address, port)
    let code = withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else {
      let reason = String(cString: strerror(errno))
      disconnect()
      throw ConformanceFailure("connecting to \(address):\(port): \(reason)")
    }
  }

  private func disconnect() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }
}

extension sockaddr_in {
  init(_ address: String, _ port: UInt16) {
    self.init()
    sin_family = sa_family_t(AF_INET)
    sin_port = port.bigEndian
    inet_pton(AF_INET, address, &sin_addr)
  }
}
