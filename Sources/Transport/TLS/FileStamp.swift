import Glibc

/// What tells one state of a file from another without reading it.
public struct FileStamp: Hashable, Sendable {
  public let path: String
  private let inode: UInt64
  private let bytes: Int64
  private let seconds: Int
  private let nanoseconds: Int

  /// The file as it is now; a missing one has zeros.
  public init(path: String) {
    self.path = path
    var status = stat()
    let exists = stat(path, &status) == 0
    inode = exists ? UInt64(status.st_ino) : 0
    bytes = exists ? Int64(status.st_size) : 0
    seconds = exists ? status.st_mtim.tv_sec : 0
    nanoseconds = exists ? status.st_mtim.tv_nsec : 0
  }
}
