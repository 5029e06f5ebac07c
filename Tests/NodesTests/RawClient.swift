import Glibc
import Primitives

/// A blocking socket that sends what it is told, well-formed or not.
final class RawClient {
  let descriptor: Int32

  /// TCP to a loopback address.
  init(_ address: String, _ port: UInt16, timeout: Duration = .seconds(10)) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    limitWaiting(descriptor, timeout)
    var target = internetAddress(address, port)
    let result = withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else {
      let code = errno
      close(descriptor)
      throw Unexpected("\(address):\(port): \(String(cString: strerror(code)))")
    }
  }

  /// A Unix socket.
  init(path: String, timeout: Duration = .seconds(10)) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    limitWaiting(descriptor, timeout)
    var target = sockaddr_un()
    target.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &target.sun_path) { $0.copyBytes(from: path.utf8.prefix(107)) }
    let result = withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else {
      let code = errno
      close(descriptor)
      throw Unexpected("\(path): \(String(cString: strerror(code)))")
    }
  }

  deinit { close(descriptor) }

  /// Sends what the peer takes; a peer that closes is no error here.
  func send(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }

  func send(_ text: String) { send(Array(text.utf8)) }

  func shutDownSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// The next bytes; nil at the end, after an error or when the time is up.
  func receive() -> [UInt8]? {
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    let count = recv(descriptor, &chunk, chunk.count, 0)
    return count > 0 ? Array(chunk[..<count]) : nil
  }

  /// Everything until the peer closes or the time is up.
  func receiveAll() -> [UInt8] {
    var bytes: [UInt8] = []
    while let more = receive() { bytes += more }
    return bytes
  }

  /// One HTTP/1.1 exchange on this connection, which stays open for the next.
  func request(_ method: String, _ path: String, host: String = "mesh", body: String = "", headers: [String] = []) throws
    -> Answer
  {
    let lines = ["host: \(host)"] + headers + (body.isEmpty ? [] : ["content-length: \(body.utf8.count)"])
    send("\(method) \(path) HTTP/1.1\r\n\(lines.joined(separator: "\r\n"))\r\n\r\n\(body)")
    var reader = AnswerReader()
    while true {
      if let answer = try reader.answer(isAtEnd: false) { return answer }
      guard let more = receive() else {
        if let answer = try reader.answer(isAtEnd: true) { return answer }
        throw Unexpected("no whole answer to \(method) \(path), only \(reader.bytes.count) bytes")
      }
      reader.bytes += more
    }
  }
}

/// One HTTP answer.
struct Answer: Sendable {
  var status: Int
  /// Names in lower case.
  var headers: [String: String]
  var body: String
}

/// Reads one answer: by length, by chunks, or until the end.
private struct AnswerReader {
  var bytes: [UInt8] = []

  func answer(isAtEnd: Bool) throws -> Answer? {
    guard let end = firstIndex(of: "\r\n\r\n", from: 0) else { return nil }
    let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
    let words = lines[0].split(separator: " ")
    guard words.count >= 2, let status = Int(words[1]) else { throw Unexpected("not an HTTP answer: \(lines[0])") }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      headers[parts[0].lowercased()] = parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
    }
    let start = end + 4
    if headers["transfer-encoding"] == "chunked" {
      return chunked(from: start).map { Answer(status: status, headers: headers, body: String(decoding: $0, as: UTF8.self)) }
    }
    if let length = headers["content-length"].flatMap({ Int($0) }) {
      guard bytes.count >= start + length else { return nil }
      return Answer(
        status: status, headers: headers, body: String(decoding: bytes[start..<(start + length)], as: UTF8.self))
    }
    guard isAtEnd || status == 204 || status == 304 else { return nil }
    return Answer(status: status, headers: headers, body: String(decoding: bytes[start...], as: UTF8.self))
  }

  private func chunked(from start: Int) -> [UInt8]? {
    var body: [UInt8] = []
    var at = start
    while let line = firstIndex(of: "\r\n", from: at) {
      guard let size = Int(String(decoding: bytes[at..<line], as: UTF8.self), radix: 16) else { return nil }
      guard bytes.count >= line + 2 + size + 2 else { return nil }
      if size == 0 { return body }
      body += bytes[(line + 2)..<(line + 2 + size)]
      at = line + 2 + size + 2
    }
    return nil
  }

  private func firstIndex(of text: String, from start: Int) -> Int? {
    let needle = Array(text.utf8)
    guard bytes.count >= start + needle.count else { return nil }
    return (start...(bytes.count - needle.count)).first { bytes[$0..<($0 + needle.count)].elementsEqual(needle) }
  }
}

/// Sends one datagram to a loopback address.
func sendDatagram(_ bytes: [UInt8], to address: String, _ port: UInt16) {
  let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  defer { close(descriptor) }
  var target = internetAddress(address, port)
  withUnsafePointer(to: &target) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      _ = sendto(descriptor, bytes, bytes.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}

private func internetAddress(_ address: String, _ port: UInt16) -> sockaddr_in {
  var target = sockaddr_in()
  target.sin_family = sa_family_t(AF_INET)
  target.sin_port = port.bigEndian
  inet_pton(AF_INET, address, &target.sin_addr)
  return target
}

private func limitWaiting(_ descriptor: Int32, _ timeout: Duration) {
  let parts = timeout.components
  var limit = timeval(tv_sec: Int(parts.seconds), tv_usec: Int(parts.attoseconds / 1_000_000_000_000))
  for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
    setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
  }
}
