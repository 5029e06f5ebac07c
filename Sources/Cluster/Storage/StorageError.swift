/// Why durable state could not be read or written. Nothing is ever reset silently: what a node promised may be in it.
public enum StorageError: Error, Hashable, Sendable, CustomStringConvertible {
  case cannotOpen(file: String, detail: String)
  /// A checksum, a sequence or SQLite's own structure is broken.
  case corrupt(file: String, detail: String)
  /// The directory was used before and its database is gone.
  case missing(file: String)
  /// The directory belongs to another cluster or node.
  case foreign(file: String, what: String, found: String, expected: String)
  case newerFormat(file: String, found: UInt64)
  case locked(directory: String, processID: Int?)
  case full(file: String)
  /// A failed write or fsync: whether earlier bytes are on the disk is no longer known.
  case io(file: String, detail: String)

  public var description: String {
    switch self {
    case .cannotOpen(let file, let detail):
      "cannot open \(file): \(detail); check that the directory exists and belongs to this user"
    case .corrupt(let file, let detail):
      "\(file) is corrupt (\(detail)); move the data directory away and start this node again, so that it joins anew "
        + "and gets its state from the others"
    case .missing(let file):
      "\(file) is gone although this data directory was in use; restore it, or move the whole directory away so that "
        + "the node joins anew"
    case .foreign(let file, let what, let found, let expected):
      "\(file) belongs to the \(what) '\(found)', not '\(expected)'; give each node its own dataDirectory"
    case .newerFormat(let file, let found):
      "\(file) has format \(found), which this version does not know; start it with the version that wrote it, or newer"
    case .locked(let directory, let processID):
      "\(directory) is in use by another mesh-node" + (processID.map { " (process \($0))" } ?? "")
        + "; stop it first, or give this node its own dataDirectory"
    case .full(let file):
      "no space left to write \(file); free some, and start this node again if it has stopped"
    case .io(let file, let detail):
      "writing \(file) failed (\(detail)); check the disk, then start this node again"
    }
  }
}
