import CLinux
import Glibc
import HTTPCodec
import Primitives

/// One client's connection: request after request on its own thread.
struct HTTPConnection {
  private let stream: TCPStream
  private let server: HTTPServer
  private var reader: RequestReader

  init(_ stream: TCPStream, server: HTTPServer) {
    self.stream = stream
    self.server = server
    var options = RequestParser.Options()
    options.allowHTTP10 = true
    reader = RequestReader(options: options, bodyBytesMax: Limits.bodyBytes)
  }

  /// Until the client leaves, idles too long, errs, or the server stops.
  mutating func serve() {
    do {
      while let request = try nextRequest() {
        guard answer(request) else { return }
      }
    } catch let error as MessageError {
      write(HTTPResponse(status: error.status, text: "\(error.reason.rawValue)\n"), keepAlive: false)
      stream.endAfterAnswer()
    } catch {
      return
    }
  }

  /// Nil when the connection ends between requests.
  private mutating func nextRequest() throws -> HTTPRequest? {
    if let pipelined = try reader.next() { return pipelined }
    let event = stream.poll(POLLIN, orReadable: server.stopDescriptor, until: .now() + server.settings.idleTimeout)
    guard event == .ready else { return nil }
    let deadline = Instant.now() + server.settings.requestTimeout
    var isContinued = false
    while true {
      let bytes = try stream.read(until: deadline)
      guard !bytes.isEmpty else { return nil }
      reader.receive(bytes)
      if let request = try reader.next() { return request }
      if reader.awaitsContinue, !isContinued {
        try stream.write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8), until: deadline)
        isContinued = true
      }
    }
  }

  /// False when the connection ends.
  private func answer(_ request: HTTPRequest) -> Bool {
    let response = server.service.respond(to: request)
    guard holdBack(server.service.delay(of: request)) else { return false }
    let keepAlive = request.keepsAlive && !server.isStopping
    return write(response, withBody: request.method != "HEAD", keepAlive: keepAlive) && keepAlive
  }

  /// Waits; false when the client leaves meanwhile, so that nobody's answer keeps a connection.
  private func holdBack(_ delay: Duration) -> Bool {
    guard delay > .zero else { return true }
    return stream.poll(Int32(bitPattern: CL_EPOLLRDHUP), orReadable: -1, until: .now() + delay) == .timedOut
  }

  @discardableResult
  private func write(_ response: HTTPResponse, withBody: Bool = true, keepAlive: Bool) -> Bool {
    var response = response
    response.headers.add("date", httpDate(time(nil)))
    response.keepsAlive = keepAlive
    let unwritable = HTTPResponse(status: 500, text: "the answer has a field that cannot be sent\n")
    guard let bytes = response.serialized(withBody: withBody) ?? unwritable.serialized(withBody: withBody) else { return false }
    return (try? stream.write(bytes, until: .now() + server.settings.writeTimeout)) != nil
  }
}
