import CLinux
import FoundationEssentials
import Glibc
import Nodes
import Primitives

/// Talks HTTP/1.1 to a node's admin socket: one request a connection, blocking.
struct AdminClient: Sendable {
  let node: String
  let socketPath: String

  /// Where the admin socket of the node that the arguments name should be.
  init(_ arguments: Arguments) throws {
    let file = try ClusterFile.load(arguments)
    let node = try file.chosenNode(arguments)
    self.init(node: node.name.string, socketPath: file.adminSocketPath(of: node))
  }

  init(node: String, socketPath: String) {
    self.node = node
    self.socketPath = socketPath
  }

  func get<Answer: Decodable>(_ path: String, as type: Answer.Type = Answer.self, timeout: Duration = .seconds(10)) throws
    -> Answer
  {
    try decode(exchange("GET", path, body: [], timeout: timeout))
  }

  /// The body of an answer that is no JSON.
  func bytes(_ path: String, timeout: Duration = .seconds(60)) throws -> [UInt8] {
    let answer = try exchange("GET", path, body: [], timeout: timeout)
    if answer.status / 100 == 2 { return answer.body }
    if let failure = try? JSONDecoder().decode(AdminFailure.self, from: Data(answer.body)) { throw failure }
    throw CommandFailure("node \(node) answered with status \(answer.status)")
  }

  func post<Answer: Decodable>(
    _ path: String, _ body: some Encodable, as type: Answer.Type = Answer.self, timeout: Duration = .seconds(10)
  ) throws -> Answer {
    try decode(exchange("POST", path, body: Array(JSONEncoder().encode(body)), timeout: timeout))
  }

  /// Sends a request whose answer is a stream of JSON lines, and keeps the connection for `lines`.
  func open(_ path: String, _ body: some Encodable) throws -> AdminStream {
    let descriptor = try connected(timeout: .seconds(5))
    do {
      try send(descriptor, "POST", path, Array(JSONEncoder().encode(body)))
      return AdminStream(descriptor: descriptor)
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Asks for a stream of JSON lines.
  func open(_ path: String) throws -> AdminStream {
    let descriptor = try connected(timeout: .seconds(5))
    do {
      try send(descriptor, "GET", path, [])
      return AdminStream(descriptor: descriptor)
    } catch {
      close(descriptor)
      throw error
    }
  }

  private func decode<Answer: Decodable>(_ answer: (status: Int, body: [UInt8])) throws -> Answer {
    let data = Data(answer.body)
    if answer.status / 100 == 2 {
      do { return try JSONDecoder().decode(Answer.self, from: data) } catch {
        throw CommandFailure("node \(node) answered something this version does not understand: \(error)")
      }
    }
    if let failure = try? JSONDecoder().decode(AdminFailure.self, from: data) { throw failure }
    throw CommandFailure(
      "node \(node) answered with status \(answer.status): \(String(decoding: answer.body.prefix(300), as: UTF8.self))")
  }

  private func exchange(_ method: String, _ path: String, body: [UInt8], timeout: Duration) throws -> (
    status: Int, body: [UInt8]
  ) {
    let descriptor = try connected(timeout: timeout)
    defer { close(descriptor) }
    try send(descriptor, method, path, body)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count < 0 && errno == EINTR { continue }
      if count < 0 {
        throw CommandFailure(
          errno == EAGAIN
            ? "node \(node) did not answer within \(Int(timeout.inSeconds)) s"
            : "reading from node \(node): \(errorText(errno))")
      }
      if count == 0 { break }
      bytes += chunk[..<count]
      guard bytes.count <= Self.answerBytesMax else { throw CommandFailure("the answer of node \(node) is too large") }
    }
    return try Self.parse(bytes, node: node)
  }

  /// Enough for every object of a full configuration.
  private static let answerBytesMax = 256 << 20

  static func parse(_ bytes: [UInt8], node: String) throws -> (status: Int, body: [UInt8]) {
    guard let end = firstRange(of: Array("\r\n\r\n".utf8), in: bytes),
      bytes.starts(with: "HTTP/1.1 ".utf8), bytes.count > 12,
      let status = parseDecimal(bytes[9..<12])
    else {
      throw CommandFailure("node \(node) closed the admin connection without an answer; is it shutting down?")
    }
    warn(of: bytes[..<end])
    return (Int(status), Array(bytes[(end + 4)...]))
  }

  /// Says what the node warns of, as kubectl does (RFC 7234 5.5, code 299).
  private static func warn(of head: ArraySlice<UInt8>) {
    for line in String(decoding: head, as: UTF8.self).split(separator: "\r\n") where line.hasPrefix("warning: 299 ") {
      guard let text = line.split(separator: "\"").dropFirst().first else { continue }
      Terminal.errorLine("warning: " + Terminal.clean(String(text)))
    }
  }

  private func send(_ descriptor: Int32, _ method: String, _ path: String, _ body: [UInt8]) throws {
    let head = """
      \(method) \(path) HTTP/1.1\r\nhost: \(node)\r\ncontent-type: application/json\r\n\
      content-length: \(body.count)\r\nconnection: close\r\n\r\n
      """
    var rest = (Array(head.utf8) + body)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw CommandFailure("writing to node \(node): \(errorText(errno))") }
      rest = rest.dropFirst(count)
    }
  }

  private func connected(timeout: Duration) throws -> Int32 {
    let descriptor = blockingSocket(AF_UNIX)
    guard descriptor >= 0 else { throw CommandFailure("socket: \(errorText(errno))") }
    var limit = timeval(tv_sec: Int(timeout.inSeconds), tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    do { try connect(descriptor) } catch {
      close(descriptor)
      throw error
    }
    return descriptor
  }

  private func connect(_ descriptor: Int32) throws {
    // Socket paths hold 107 bytes; going through the directory's descriptor makes the depth of the directory irrelevant.
    let slash = socketPath.lastIndex(of: "/")
    let directory = slash.map { String(socketPath[..<$0]) } ?? "."
    let name = slash.map { String(socketPath[socketPath.index(after: $0)...]) } ?? socketPath
    let directoryDescriptor = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directoryDescriptor >= 0 else { throw notRunning(errno) }
    defer { close(directoryDescriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = Array("/proc/self/fd/\(directoryDescriptor)/\(name)".utf8)
    guard path.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw CommandFailure("socket name too long: \(name)")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw notRunning(errno) }
  }

  private func notRunning(_ code: Int32) -> CommandFailure {
    switch code {
    case EACCES, EPERM:
      CommandFailure("no permission for \(socketPath); run this as the user that started node \(node)")
    case ENOENT, ECONNREFUSED:
      CommandFailure(
        """
        node \(node) is not running here (no one answers at \(socketPath))
        start it:             mesh-node start --node \(node)
        or choose another:    --node NAME
        """)
    default: CommandFailure("connecting to \(socketPath): \(errorText(code))")
    }
  }
}

/// The open answer of a streaming request: one JSON value a line.
final class AdminStream {
  let descriptor: Int32
  private var pending: [UInt8] = []
  private var isPastHead = false
  /// The node closed the stream, or the connection broke.
  private(set) var hasEnded = false

  init(descriptor: Int32) { self.descriptor = descriptor }
  deinit { close(descriptor) }

  /// The lines that have arrived, without waiting for more. Throws what the node answered instead of a stream.
  func readAvailable<Line: Decodable>(_ type: Line.Type) throws -> [Line] {
    var chunk = [UInt8](repeating: 0, count: 16 * 1024)
    while !hasEnded {
      let count = recv(descriptor, &chunk, chunk.count, Int32(MSG_DONTWAIT))
      if count < 0 && errno == EINTR { continue }
      if count < 0 && errno == EAGAIN { break }
      if count <= 0 { hasEnded = true } else { pending += chunk[..<count] }
    }
    try skipHead()
    var lines: [Line] = []
    while isPastHead, let newline = pending.firstIndex(of: 0x0A) {
      lines.append(try JSONDecoder().decode(Line.self, from: Data(pending[..<newline])))
      pending.removeFirst(newline + 1)
    }
    return lines
  }

  /// Waits for lines; none when the stream has ended.
  func next<Line: Decodable>(_ type: Line.Type) throws -> [Line] {
    while true {
      let lines = try readAvailable(type)
      if !lines.isEmpty || hasEnded { return lines }
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      poll(&entry, 1, -1)
    }
  }

  private func skipHead() throws {
    guard !isPastHead, let end = firstRange(of: Array("\r\n\r\n".utf8), in: pending) else { return }
    guard parseDecimal(pending.dropFirst(9).prefix(3)) == 200 else {
      guard hasEnded else { return }
      let body = Data(pending[(end + 4)...])
      throw (try? JSONDecoder().decode(AdminFailure.self, from: body))
        ?? AdminFailure(code: "internal", message: "refused by the node")
    }
    isPastHead = true
    pending.removeFirst(end + 4)
  }
}

/// A stream socket whose calls wait, or a negative number.
func blockingSocket(_ family: Int32) -> Int32 {
  let descriptor = cl_socket_stream(family)
  if descriptor >= 0 { _ = fcntl(descriptor, F_SETFL, 0) }
  return descriptor
}

func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

/// Index where `needle` first starts in `bytes`.
func firstRange(of needle: [UInt8], in bytes: [UInt8]) -> Int? {
  guard bytes.count >= needle.count else { return nil }
  for start in 0...(bytes.count - needle.count) where bytes[start..<(start + needle.count)].elementsEqual(needle) {
    return start
  }
  return nil
}
