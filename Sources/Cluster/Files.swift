import Glibc
import Primitives

/// Why a file could not be read or written.
public struct FileError: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Reads a whole file of at most `bytesMax` bytes.
public func readFile(_ path: String, bytesMax: Int) throws(FileError) -> [UInt8] {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw FileError(String(cString: strerror(errno))) }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 * 1024)
  while true {
    let count = read(descriptor, &chunk, chunk.count)
    if count < 0 && errno == EINTR { continue }
    guard count >= 0 else { throw FileError(String(cString: strerror(errno))) }
    if count == 0 { return bytes }
    bytes += chunk[..<count]
    guard bytes.count <= bytesMax else { throw FileError("larger than \(bytesMax) bytes") }
  }
}

/// Replaces a file as a whole (write, fsync, rename), so a crash leaves the old or the new one.
public func replaceFile(_ path: String, with bytes: [UInt8], mode: mode_t) throws(FileError) {
  let temporary = path + ".new"
  unlink(temporary)
  let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
  guard descriptor >= 0 else { throw FileError("\(temporary): \(String(cString: strerror(errno)))") }
  defer { close(descriptor) }
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count < 0 && errno == EINTR { continue }
    guard count > 0 else { throw FileError("\(temporary): \(String(cString: strerror(errno)))") }
    rest = rest.dropFirst(count)
  }
  guard fsync(descriptor) == 0, rename(temporary, path) == 0 else {
    throw FileError("\(path): \(String(cString: strerror(errno)))")
  }
}

/// Creates a directory and its parents; those it creates are for the owner only.
public func createDirectories(_ path: String) throws(FileError) {
  var prefix = path.hasPrefix("/") ? "/" : ""
  for part in path.split(separator: "/") {
    prefix += prefix.isEmpty || prefix == "/" ? String(part) : "/" + part
    if mkdir(prefix, 0o700) != 0 && errno != EEXIST {
      throw FileError("\(prefix): \(String(cString: strerror(errno)))")
    }
  }
}

/// Whether something is at that path.
public func fileExists(_ path: String) -> Bool { access(path, F_OK) == 0 }
