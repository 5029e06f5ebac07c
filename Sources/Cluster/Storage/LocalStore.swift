/// Small durable facts of this node alone (`local.db`): its incarnation, the last compiled snapshot, its registry rows.
///
/// Confined to whoever opened it.
final class LocalStore {
  private let database: Database

  init(directory: String) throws(StorageError) {
    database = try Database(file: directory + "/local.db")
    try database.execute(
      "CREATE TABLE IF NOT EXISTS facts(key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID")
  }

  func value(_ key: String) throws(StorageError) -> [UInt8]? {
    var found: [UInt8]?
    try database.execute("SELECT value, crc FROM facts WHERE key = ?", [.text(key)]) { (row) throws(StorageError) in
      guard case .blob(let bytes) = row[0], row[1] == .integer(UInt64(CRC32C.checksum(of: bytes))) else {
        throw .corrupt(file: database.file, detail: "the checksum of '\(key)' does not match")
      }
      found = bytes
    }
    return found
  }

  /// Stores or, with nil, removes a value; on the disk when it returns.
  func set(_ key: String, _ value: [UInt8]?) throws(StorageError) {
    guard let value else { return try database.execute("DELETE FROM facts WHERE key = ?", [.text(key)]) }
    try database.execute(
      "INSERT OR REPLACE INTO facts(key, value, crc) VALUES(?, ?, ?)",
      [.text(key), .blob(value), .integer(UInt64(CRC32C.checksum(of: value)))])
  }
}
