import Glibc
import Primitives
import Transport

/// The secret that all hosts of a cluster share: knowing it is what lets a node in.
public struct JoinSecret: Sendable {
  public let bytes: [UInt8]
  static let fileBytesMax = 4_096

  /// Reads a secret file; surrounding blanks and line ends do not count.
  public init(path: String) throws(FileError) {
    var info = stat()
    guard stat(path, &info) == 0 else {
      throw FileError(
        """
        there is no join secret at \(path)
        create it on one host with: mesh-node init
        then copy the file to the other hosts
        """)
    }
    guard info.st_mode & 0o077 == 0 else {
      throw FileError("\(path) can be read by others; protect it with: chmod 600 \(path)")
    }
    let text: [UInt8]
    do { text = try readFile(path, bytesMax: Self.fileBytesMax) } catch { throw FileError("\(path): \(error)") }
    let isBlank: (UInt8) -> Bool = { $0 == 0x20 || (0x09...0x0D).contains($0) }
    bytes = Array(text.drop(while: isBlank).reversed().drop(while: isBlank).reversed())
    guard bytes.count >= LinkLimits.joinSecretBytesMin else {
      throw FileError("\(path) is shorter than \(LinkLimits.joinSecretBytesMin) bytes; make a new one with: mesh-node init")
    }
  }

  /// Writes a new random secret; an existing file is left as it is and refused.
  public static func create(at path: String) throws(FileError) {
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex { try createDirectories(String(path[..<slash])) }
    guard !fileExists(path) else { throw FileError("\(path) exists already; the cluster keeps its secret") }
    try replaceFile(path, with: Array((hexString(secureRandom(count: 32)) + "\n").utf8), mode: 0o600)
  }
}
