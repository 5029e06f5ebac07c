import Glibc
import Primitives

/// Holds a data directory for this process: two processes writing one Raft log would lose votes and entries.
///
/// The kernel releases the lock when the process ends, however it ends.
final class DirectoryLock {
  private let descriptor: Int32

  init(directory: String) throws(StorageError) {
    let path = directory + "/node.lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .cannotOpen(file: path, detail: String(cString: strerror(errno))) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let holder = Self.processID(in: descriptor)
      close(descriptor)
      throw .locked(directory: directory, processID: holder)
    }
    let text = Array("\(getpid())\n".utf8)
    ftruncate(descriptor, 0)
    // For people only; the lock holds without it.
    _ = text.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  private static func processID(in descriptor: Int32) -> Int? {
    var bytes = [UInt8](repeating: 0, count: 20)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    guard count > 0 else { return nil }
    return parseDecimal(bytes[..<count].prefix { $0 != 0x0A }, max: UInt64(Int32.max)).map { Int($0) }
  }
}
