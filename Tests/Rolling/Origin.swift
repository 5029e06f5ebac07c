import Glibc

/// The application behind the mesh: answers every request with what it was asked, and writes every POST into a ledger
/// before it answers. It knows nothing of the mesh, closes idle connections by its own clock, and SIGTERM ends it at once.
final class Origin: Sendable {
  private let listener: Int32
  private let ledger: Int32
  private let idleMilliseconds: Int
  private let name: String

  init(_ options: Options) throws {
    name = try options.text("name")
    listener = try Network.listen(options.text("address"), UInt16(options.number("port", default: 0)))
    idleMilliseconds = try options.number("idle-ms", default: 5000)
    ledger = open(try options.text("ledger"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard ledger >= 0 else { throw Failure("the ledger: \(String(cString: strerror(errno)))") }
  }

  func serve() throws -> Never {
    while true {
      let client = accept(listener, nil, nil)
      if client < 0 { continue }
      startThread { [self] in answer(client) }
    }
  }

  private func answer(_ client: Int32) {
    defer { close(client) }
    Network.limitWaiting(client, milliseconds: idleMilliseconds)
    var reader = MessageReader(client)
    while case .message(let request) = reader.next() {
      guard request.start.count == 3 else { return }
      let id = request.fields["x-id"] ?? "-"
      if request.start[0] == "POST" { record(id) }
      let body = "\(name) \(request.start[0]) \(id) \(request.body.utf8.count)\n"
      let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
      if Network.send(client, answer) != nil { return }
    }
  }

  /// One write of a short line to a file opened for appending is whole (POSIX, `write`).
  private func record(_ id: String) {
    let line = Array("\(id)\n".utf8)
    _ = write(ledger, line, line.count)
  }
}
