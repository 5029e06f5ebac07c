import CLinux
import Glibc
import Primitives

/// An answer of the product page, or of anything else that speaks HTTP.
struct PageAnswer: Sendable {
  var status: Int
  var head: String
  var body: String
  var elapsed: Duration

  /// The cookie named, as `name=value`.
  func cookie(_ name: String) -> String? {
    for line in head.split(separator: "\r\n") where line.lowercased().hasPrefix("set-cookie:") {
      let value = line.drop { $0 != ":" }.dropFirst().drop { $0 == " " }
      if value.hasPrefix("\(name)=") { return String(value.prefix { $0 != ";" }) }
    }
    return nil
  }

  /// Which reviews answered, as the page shows it.
  var reviews: ReviewsSeen {
    if body.contains("text-black-500") { return .blackStars }
    if body.contains("flex gap-x-1 text-red-500") { return .redStars }
    if body.contains("Ratings service is currently unavailable") { return .ratingsUnavailable }
    if body.contains("Error fetching product reviews") { return .unavailable }
    return body.contains("Book Reviews") ? .noStars : .unknown
  }
}

enum ReviewsSeen: String, Sendable, CaseIterable {
  case noStars = "v1, no stars"
  case blackStars = "v2, black stars"
  case redStars = "v3, red stars"
  case ratingsUnavailable = "ratings unavailable"
  case unavailable = "reviews unavailable"
  case unknown = "no product page"
}

/// A blocking HTTP/1.1 client for the demo: one connection a request, as most visitors of a page are new.
struct PageClient: Sendable {
  let address: String
  let port: UInt16
  var timeout: Duration = .seconds(10)

  /// nil when there was no whole answer.
  func request(_ method: String, _ path: String, headers: [String] = [], body: String = "") -> PageAnswer? {
    if case .answered(let answer) = attempt(method, path, headers: headers, body: body) { return answer }
    return nil
  }

  enum Attempt {
    case answered(PageAnswer)
    /// Nobody took the connection: nothing was sent.
    case notConnected
    case broken
  }

  func attempt(_ method: String, _ path: String, headers: [String] = [], body: String = "") -> Attempt {
    let start = ContinuousClock.now
    let descriptor = blockingSocket(AF_INET)
    guard descriptor >= 0 else { return .notConnected }
    defer { close(descriptor) }
    var limit = timeval(tv_sec: Int(timeout.inSeconds), tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    guard connect(descriptor) else { return .notConnected }
    var lines = [
      "\(method) \(path) HTTP/1.1", "host: bookinfo.example:\(port)", "user-agent: mesh-node-demo", "connection: close",
    ]
    lines += headers
    if !body.isEmpty {
      lines += ["content-type: application/x-www-form-urlencoded", "content-length: \(body.utf8.count)"]
    }
    guard send(descriptor, lines.joined(separator: "\r\n") + "\r\n\r\n" + body), let bytes = receiveAll(descriptor),
      let answer = Self.parse(bytes, elapsed: ContinuousClock.now - start)
    else { return .broken }
    return .answered(answer)
  }

  private func connect(_ descriptor: Int32) -> Bool {
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = port.bigEndian
    guard inet_pton(AF_INET, address, &target.sin_addr) == 1 else { return false }
    return withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }

  private func send(_ descriptor: Int32, _ text: String) -> Bool {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  /// Everything up to the end of the connection; nil after an error or more than a page can have.
  private func receiveAll(_ descriptor: Int32) -> [UInt8]? {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 32 * 1024)
    while bytes.count < 16 << 20 {
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { return nil }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
    }
    return nil
  }

  private static func parse(_ bytes: [UInt8], elapsed: Duration) -> PageAnswer? {
    guard let end = firstRange(of: Array("\r\n\r\n".utf8), in: bytes), bytes.starts(with: "HTTP/1.1 ".utf8), bytes.count >= 12,
      let status = parseDecimal(bytes[9..<12])
    else { return nil }
    let head = String(decoding: bytes[..<end], as: UTF8.self)
    var body = Array(bytes[(end + 4)...])
    if head.lowercased().contains("transfer-encoding: chunked") {
      guard let joined = dechunk(body) else { return nil }
      body = joined
    } else if let length = contentLength(head), body.count < length {
      return nil
    }
    return PageAnswer(status: Int(status), head: head, body: String(decoding: body, as: UTF8.self), elapsed: elapsed)
  }

  private static func contentLength(_ head: String) -> Int? {
    for line in head.split(separator: "\r\n") where line.lowercased().hasPrefix("content-length:") {
      return parseDecimal(line.utf8.drop { $0 != 0x3A }.dropFirst().filter { $0 != 0x20 }, max: 1 << 30).map(Int.init)
    }
    return nil
  }

  private static func dechunk(_ bytes: [UInt8]) -> [UInt8]? {
    var out: [UInt8] = []
    var rest = bytes[...]
    while let lineEnd = rest.firstIndex(of: 0x0D) {
      guard let size = Int(String(decoding: rest[..<lineEnd], as: UTF8.self), radix: 16) else { return nil }
      let start = lineEnd + 2
      if size == 0 { return out }
      guard size > 0, size <= rest.endIndex - start - 2 else { return nil }
      out += rest[start..<(start + size)]
      rest = rest[(start + size + 2)...]
    }
    return nil
  }
}
