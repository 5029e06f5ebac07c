import Glibc

/// A file's whole text; empty when there is none.
func text(of path: String) -> String {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return "" }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 * 1024)
  while true {
    let count = read(descriptor, &chunk, chunk.count)
    guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
    bytes += chunk[..<count]
  }
}

/// Writes `text` to a file that `mode` protects.
func write(_ text: String, to path: String, mode: mode_t = 0o600) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
  guard descriptor >= 0 else { throw Unexpected("\(path): \(String(cString: strerror(errno)))") }
  defer { close(descriptor) }
  let bytes = Array(text.utf8)
  guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw Unexpected("\(path) was not written whole") }
}

/// A directory of its own for one test.
func makeTemporaryDirectory() throws -> String {
  var template = Array("/tmp/mesh-test-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw Unexpected("mkdtemp: \(String(cString: strerror(errno)))") }
  return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
