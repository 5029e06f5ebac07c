import CSQLite

/// One SQLite file in WAL mode where every commit is on the disk when it returns (`synchronous=FULL`).
///
/// Confined to whoever opened it; the pointers do not leave this file.
final class Database {
  let file: String
  private let handle: OpaquePointer
  private var statements: [String: OpaquePointer] = [:]

  init(file: String) throws(StorageError) {
    self.file = file
    var opened: OpaquePointer?
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
    let code = sqlite3_open_v2(file, &opened, flags, nil)
    guard code == SQLITE_OK, let opened else {
      let detail = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
      sqlite3_close_v2(opened)
      throw .cannotOpen(file: file, detail: detail)
    }
    handle = opened
    // One process uses the file (DirectoryLock), so the WAL index can live in this process's memory.
    try execute("PRAGMA locking_mode=EXCLUSIVE")
    try execute("PRAGMA journal_mode=WAL")
    try execute("PRAGMA synchronous=FULL")
    try execute("PRAGMA cell_size_check=ON")
    // What is stored is written once and read at the next start: nothing is worth 2 MiB of cached pages.
    try execute("PRAGMA cache_size=-256")
  }

  deinit {
    for statement in statements.values { sqlite3_finalize(statement) }
    sqlite3_close_v2(handle)
  }

  /// A value bound to a parameter or read from a column.
  enum Value: Equatable {
    case integer(UInt64)
    case text(String)
    case blob([UInt8])
    case null
  }

  /// Runs a statement that is prepared once and kept, and hands each row to `row`.
  func execute(
    _ sql: String, _ parameters: [Value] = [], row: ([Value]) throws(StorageError) -> Void = { _ in }
  ) throws(StorageError) {
    let statement = try prepared(sql)
    defer {
      sqlite3_reset(statement)
      sqlite3_clear_bindings(statement)
    }
    for (offset, parameter) in parameters.enumerated() { try bind(parameter, at: Int32(offset + 1), of: statement) }
    while true {
      let code = sqlite3_step(statement)
      switch code {
      case SQLITE_ROW: try row(columns(of: statement))
      case SQLITE_DONE: return
      default: throw error(code)
      }
    }
  }

  /// All of `body` on the disk, or nothing of it.
  func transaction(_ body: () throws(StorageError) -> Void) throws(StorageError) {
    try execute("BEGIN IMMEDIATE")
    do {
      try body()
      try execute("COMMIT")
    } catch {
      // The first error is the one to report; SQLite may have rolled back already.
      try? execute("ROLLBACK")
      throw error
    }
  }

  private func prepared(_ sql: String) throws(StorageError) -> OpaquePointer {
    if let statement = statements[sql] { return statement }
    var statement: OpaquePointer?
    let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
    guard code == SQLITE_OK, let statement else { throw error(code) }
    statements[sql] = statement
    return statement
  }

  /// SQLite copies what is bound before the call returns.
  private static let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

  private func bind(_ value: Value, at index: Int32, of statement: OpaquePointer) throws(StorageError) {
    let code =
      switch value {
      case .integer(let number): sqlite3_bind_int64(statement, index, Int64(bitPattern: number))
      case .text(let text): sqlite3_bind_text(statement, index, text, -1, Self.transient)
      case .blob(let bytes) where bytes.isEmpty: sqlite3_bind_zeroblob(statement, index, 0)
      case .blob(let bytes): sqlite3_bind_blob64(statement, index, bytes, UInt64(bytes.count), Self.transient)
      case .null: sqlite3_bind_null(statement, index)
      }
    guard code == SQLITE_OK else { throw error(code) }
  }

  private func columns(of statement: OpaquePointer) -> [Value] {
    (0..<sqlite3_column_count(statement)).map { column in
      switch sqlite3_column_type(statement, column) {
      case SQLITE_INTEGER: return .integer(UInt64(bitPattern: sqlite3_column_int64(statement, column)))
      case SQLITE_TEXT: return .text(sqlite3_column_text(statement, column).map { String(cString: $0) } ?? "")
      case SQLITE_BLOB:
        guard let start = sqlite3_column_blob(statement, column) else { return .blob([]) }
        let count = Int(sqlite3_column_bytes(statement, column))
        return .blob(Array(UnsafeRawBufferPointer(start: start, count: count)))
      default: return .null
      }
    }
  }

  private func error(_ code: Int32) -> StorageError {
    let detail = String(cString: sqlite3_errmsg(handle))
    switch code & 0xFF {
    case SQLITE_CORRUPT, SQLITE_NOTADB: return .corrupt(file: file, detail: detail)
    case SQLITE_FULL: return .full(file: file)
    case SQLITE_CANTOPEN, SQLITE_PERM, SQLITE_READONLY: return .cannotOpen(file: file, detail: detail)
    default: return .io(file: file, detail: "\(detail), SQLite code \(sqlite3_extended_errcode(handle))")
    }
  }
}
