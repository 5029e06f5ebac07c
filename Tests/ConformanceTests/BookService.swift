import CLinux
import Dispatch
import FoundationEssentials
import Glibc
import Synchronization

/// A stand-in for the public book service that details v2 asks: TLS only, and only for the right server name.
final class BookService: Sendable {
  static let host = "www.googleapis.com"
  private let server: SpawnedProcess
  private let input: Int32
  private let isStopped = Mutex(false)

  static func authority(in directory: String) -> String { "\(directory)/authority.pem" }

  /// A private authority and a certificate of the service under it.
  static func writeCertificates(in directory: String) throws {
    let key = ["openssl", "req", "-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    let authority = self.authority(in: directory)
    let requests = [
      ["-subj", "/CN=Conformance authority", "-keyout", "\(directory)/authority.key", "-out", authority],
      ["-subj", "/CN=\(host)", "-addext", "subjectAltName=DNS:\(host)", "-addext", "basicConstraints=critical,CA:FALSE"]
        + ["-CA", authority, "-CAkey", "\(directory)/authority.key"]
        + ["-keyout", "\(directory)/service.key", "-out", "\(directory)/service.pem"],
    ]
    for request in requests {
      let process = try SpawnedProcess(key + request, log: "\(directory)/logs/openssl.log")
      guard process.wait() == 0 else { throw ConformanceFailure("openssl: \(process.output)") }
    }
  }

  /// What the server saw: the names asked for, then the requests.
  var log: String { server.output }

  init(directory: String, address: String) throws {
    let (pipe, files) = ("\(directory)/book-service", "\(directory)/service")
    mkfifo(pipe, 0o600)
    let arguments =
      ["-accept", "\(address):443", "-cert", "\(files).pem", "-key", "\(files).key"]
      + ["-servername", Self.host, "-servername_fatal", "-cert2", "\(files).pem", "-key2", "\(files).key"]
    server = try SpawnedProcess(
      ["sh", "-c", "exec openssl s_server \"$@\" < '\(pipe)'", "s_server"] + arguments,
      log: "\(directory)/logs/book-service.log")
    input = open(pipe, O_WRONLY | O_CLOEXEC)
    guard input >= 0 else { throw ConformanceFailure("\(pipe): \(String(cString: strerror(errno)))") }
    cl_ignore_broken_pipe()
    let server = server
    _ = try eventually("the book service accepts", { server.output.contains("ACCEPT") ? true : nil }, saw: { server.output })
    DispatchQueue(label: "book service").async { [self] in answer() }
  }

  func stop() {
    isStopped.withLock { $0 = true }
    server.stop()
    close(input)
  }

  /// Answers each request that the server prints.
  private func answer() {
    let body = """
      {"items": [{"volumeInfo": {"authors": ["Author Outside"], "publishedDate": "1999", "printType": "BOOK", "pageCount": 240,
       "publisher": "Publisher Outside", "language": "en", "industryIdentifiers": [
       {"type": "ISBN_10", "identifier": "0486424618"}, {"type": "ISBN_13", "identifier": "9780486424613"}]}}]}
      """
    let text = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
    let bytes = Array(text.utf8)
    var answered = 0
    while !isStopped.withLock({ $0 }) {
      let asked = server.output.ranges(of: "GET /books/v1/volumes?q=isbn:0486424618 HTTP/1.1").count
      while answered < asked, write(input, bytes, bytes.count) == bytes.count { answered += 1 }
      usleep(20_000)
    }
  }
}
