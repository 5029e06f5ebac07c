import Consensus
import Glibc
import Primitives

/// The durable half of a Raft server: term, vote, log and snapshot in one SQLite file, `raft.db`.
///
/// Every row carries a checksum that is verified when it is loaded. Confined to whoever opened it.
final class RaftStore {
  private static let format: UInt64 = 1
  let database: Database
  private var file: String { database.file }

  /// Opens or creates the store of `node` in `cluster`; the directory's lock is held by the caller.
  init(directory: String, cluster: String, node: NodeName) throws(StorageError) {
    let file = directory + "/raft.db"
    let marker = directory + "/raft.initialised"
    let isUsed = access(marker, F_OK) == 0
    // SQLite takes an empty file for a new database; a server that forgot its vote could vote twice.
    if isUsed && Self.byteCount(of: file) == 0 { throw .missing(file: file) }
    database = try Database(file: file)
    try createTables()
    try checkIdentity(isNew: !isUsed, cluster: cluster, node: node)
    if !isUsed { try Self.create(marker) }
  }

  private static func byteCount(of file: String) -> Int {
    var status = stat()
    return stat(file, &status) == 0 ? Int(status.st_size) : 0
  }

  private static func create(_ marker: String) throws(StorageError) {
    let descriptor = open(marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0, fsync(descriptor) == 0 else {
      throw .io(file: marker, detail: String(cString: strerror(errno)))
    }
    close(descriptor)
  }

  private func createTables() throws(StorageError) {
    let tables = [
      "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
      "CREATE TABLE IF NOT EXISTS hard_state(id INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
      "CREATE TABLE IF NOT EXISTS snapshot(id INTEGER PRIMARY KEY, head BLOB NOT NULL, crc INTEGER NOT NULL, state BLOB NOT NULL)",
      "CREATE TABLE IF NOT EXISTS entries(idx INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
    ]
    try database.transaction { () throws(StorageError) in
      for table in tables { try database.execute(table) }
    }
  }

  private func checkIdentity(isNew: Bool, cluster: String, node: NodeName) throws(StorageError) {
    var found: [String: [UInt8]] = [:]
    try database.execute("SELECT key, value FROM meta") { row in
      if case .text(let key) = row[0], case .blob(let value) = row[1] { found[key] = value }
    }
    let expected = [("cluster", cluster), ("node", node.string)]
    if found.isEmpty && isNew {
      return try database.transaction { () throws(StorageError) in
        try keep("format", "\(Self.format)")
        for (key, value) in expected { try keep(key, value) }
      }
    }
    guard let version = found["format"].flatMap({ parseDecimal($0) }) else {
      throw .corrupt(file: file, detail: "its format number is missing")
    }
    guard version <= Self.format else { throw .newerFormat(file: file, found: version) }
    for (key, value) in expected where found[key] != Array(value.utf8) {
      let text = String(decoding: found[key] ?? [], as: UTF8.self)
      throw .foreign(file: file, what: key, found: text, expected: value)
    }
  }

  private func keep(_ key: String, _ value: String) throws(StorageError) {
    try database.execute("INSERT INTO meta(key, value) VALUES(?, ?)", [.text(key), .blob(Array(value.utf8))])
  }

  // MARK: Writing

  /// One transaction, on the disk when it returns.
  func write(_ persistence: Persistence) throws(StorageError) {
    try database.transaction { () throws(StorageError) in
      if let snapshot = persistence.snapshot { try write(snapshot, resetsLog: persistence.resetsLog) }
      if let from = persistence.truncateFrom {
        try database.execute("DELETE FROM entries WHERE idx >= ?", [.integer(from.number)])
      }
      for entry in persistence.entries { try write(entry) }
      if let hardState = persistence.hardState { try write(hardState) }
    }
  }

  private func write(_ entry: LogEntry) throws(StorageError) {
    var writer = ByteWriter(reserving: 64)
    writer.uint64(entry.index.number)
    writer.uint64(entry.term.number)
    entry.payload.encode(to: &writer)
    try database.execute(
      "INSERT INTO entries(idx, body, crc) VALUES(?, ?, ?)",
      [.integer(entry.index.number), .blob(writer.bytes), checksum(writer.bytes)])
  }

  private func write(_ hardState: HardState) throws(StorageError) {
    var writer = ByteWriter(reserving: 80)
    writer.uint64(hardState.term.number)
    writer.string(hardState.vote?.string ?? "")
    writer.bool(hardState.isFounder)
    writer.uint64(hardState.newcomerSince?.number ?? 0)
    try database.execute(
      "INSERT OR REPLACE INTO hard_state(id, body, crc) VALUES(1, ?, ?)", [.blob(writer.bytes), checksum(writer.bytes)])
  }

  private func write(_ snapshot: Snapshot, resetsLog: Bool) throws(StorageError) {
    var head = ByteWriter(reserving: 256)
    head.uint64(snapshot.position.index.number)
    head.uint64(snapshot.position.term.number)
    head.raw(snapshot.digest.bytes)
    LogEntry.Payload.configuration(snapshot.configuration).encode(to: &head)
    try database.execute(
      "INSERT OR REPLACE INTO snapshot(id, head, crc, state) VALUES(1, ?, ?, ?)",
      [.blob(head.bytes), checksum(head.bytes), .blob(snapshot.state)])
    if resetsLog {
      try database.execute("DELETE FROM entries")
    } else {
      try database.execute("DELETE FROM entries WHERE idx <= ?", [.integer(snapshot.position.index.number)])
    }
  }

  private func checksum(_ bytes: [UInt8]) -> Database.Value { .integer(UInt64(CRC32C.checksum(of: bytes))) }

  /// Whether the next writes will find room: there is some to spare, and a write goes through.
  func hasRoom() throws(StorageError) -> Bool {
    var status = statvfs()
    guard statvfs(file, &status) == 0 else { throw .io(file: file, detail: String(cString: strerror(errno))) }
    let free = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue
    guard free >= ClusterLimits.roomBytesMin else { return false }
    do { try database.transaction { () throws(StorageError) in try write(try loadHardState()) } } catch {
      guard case .full = error else { throw error }
      return false
    }
    return true
  }

  // MARK: Loading

  /// Reads and verifies everything.
  func load() throws(StorageError) -> RecoveredState {
    var state = RecoveredState(hardState: try loadHardState(), snapshot: try loadSnapshot())
    state.entries = try loadEntries(after: state.snapshot)
    state.healUntil = try loadHealing(last: state.entries.last?.index ?? state.snapshot?.position.index ?? .zero)
    let start = state.snapshot?.position ?? .zero
    if let first = state.entries.first, first.index != start.index.next {
      throw .corrupt(file: file, detail: "the log starts at \(first.index) where \(start.index.next) is expected")
    }
    guard (state.entries.last?.term ?? start.term) <= state.hardState.term else {
      throw .corrupt(file: file, detail: "the log has entries of a later term than the server's")
    }
    return state
  }

  private func loadHardState() throws(StorageError) -> HardState {
    var bodies: [[UInt8]] = []
    try database.execute("SELECT body, crc FROM hard_state") { (row) throws(StorageError) in
      bodies.append(try verified(row[0], row[1], what: "the term and vote"))
    }
    guard let body = bodies.first else { return HardState() }
    var reader = ByteReader(body)
    do {
      let term = Term(try reader.uint64())
      let vote = try reader.string(max: NodeName.bytesMax)
      var state = HardState(term: term, vote: try? NodeName(vote))
      // Written since format 1 had only term and vote.
      guard !reader.isAtEnd else { return state }
      state.isFounder = try reader.bool()
      let since = try reader.uint64()
      if since > 0 { state.newcomerSince = Term(since) }
      return state
    } catch { throw .corrupt(file: file, detail: "the term and vote cannot be read") }
  }

  private func loadSnapshot() throws(StorageError) -> Snapshot? {
    var rows: [(head: [UInt8], state: Database.Value)] = []
    try database.execute("SELECT head, crc, state FROM snapshot") { (row) throws(StorageError) in
      rows.append((try verified(row[0], row[1], what: "the snapshot"), row[2]))
    }
    guard let row = rows.first else { return nil }
    guard case .blob(let state) = row.state, let snapshot = Self.snapshot(head: row.head, state: state), snapshot.isIntact
    else { throw .corrupt(file: file, detail: "the snapshot does not match its checksum") }
    return snapshot
  }

  private static func snapshot(head: [UInt8], state: [UInt8]) -> Snapshot? {
    var reader = ByteReader(head)
    guard let index = try? reader.uint64(), let term = try? reader.uint64(),
      let digest = (try? reader.bytes(count: Digest.byteCount)).flatMap({ Digest(bytes: $0) }),
      case .configuration(let configuration)? = try? LogEntry.Payload(from: &reader)
    else { return nil }
    let position = LogPosition(index: LogIndex(index), term: Term(term))
    return Snapshot(position: position, configuration: configuration, state: state, digest: digest)
  }

  /// The entries, or those before the first that rotted when the others can give back the rest.
  private func loadEntries(after snapshot: Snapshot?) throws(StorageError) -> [LogEntry] {
    var entries: [LogEntry] = []
    do { try readEntries(into: &entries) } catch {
      guard case .corrupt = error, Self.hasOthers(entries, snapshot) else { throw error }
      try dropEntries(from: entries.last?.index.next ?? snapshot?.position.index.next ?? LogIndex(1))
    }
    return entries
  }

  /// Whether other voters have what this one has lost.
  private static func hasOthers(_ entries: [LogEntry], _ snapshot: Snapshot?) -> Bool {
    var configuration = snapshot?.configuration ?? ClusterConfiguration()
    for case .configuration(let later) in entries.map(\.payload) { configuration = later }
    return configuration.voters.count > 1
  }

  /// Removes entries that rotted and what follows, and remembers how far this server had promised to hold the log.
  private func dropEntries(from index: LogIndex) throws(StorageError) {
    var last: UInt64 = 0
    try database.execute("SELECT max(idx) FROM entries") { row in
      if case .integer(let number) = row[0] { last = number }
    }
    try database.transaction { () throws(StorageError) in
      try database.execute("DELETE FROM entries WHERE idx >= ?", [.integer(index.number)])
      try database.execute(
        "INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", [.text(Self.healKey), .blob(Array("\(last)".utf8))])
    }
  }

  private static let healKey = "heal until"

  /// Where the log has to be made whole again, unless it has been since.
  private func loadHealing(last: LogIndex) throws(StorageError) -> LogIndex? {
    var target: LogIndex?
    try database.execute("SELECT value FROM meta WHERE key = ?", [.text(Self.healKey)]) { row in
      if case .blob(let text) = row[0] { target = parseDecimal(text).map { LogIndex($0) } }
    }
    guard let target else { return nil }
    if last < target { return target }
    try database.execute("DELETE FROM meta WHERE key = ?", [.text(Self.healKey)])
    return nil
  }

  /// What this server had promised and lost comes back from nobody.
  func forgetHealing() throws(StorageError) {
    try database.execute("DELETE FROM meta WHERE key = ?", [.text(Self.healKey)])
  }

  private func readEntries(into entries: inout [LogEntry]) throws(StorageError) {
    try database.execute("SELECT idx, body, crc FROM entries ORDER BY idx") { (row) throws(StorageError) in
      let body = try verified(row[1], row[2], what: "a log entry after \(entries.last?.index ?? .zero)")
      var reader = ByteReader(body)
      guard let index = try? reader.uint64(), let term = try? reader.uint64(), row[0] == .integer(index),
        let payload = try? LogEntry.Payload(from: &reader), reader.isAtEnd
      else { throw .corrupt(file: file, detail: "a log entry after \(entries.last?.index ?? .zero) cannot be read") }
      if let last = entries.last, last.index.next != LogIndex(index) || last.term > Term(term) {
        throw .corrupt(file: file, detail: "the log has no entry \(last.index.next)")
      }
      entries.append(LogEntry(index: LogIndex(index), term: Term(term), payload: payload))
    }
  }

  private func verified(
    _ body: Database.Value, _ crc: Database.Value, what: String
  ) throws(StorageError) -> [UInt8] {
    guard case .blob(let bytes) = body, crc == checksum(bytes) else {
      throw .corrupt(file: file, detail: "the checksum of \(what) does not match")
    }
    return bytes
  }
}
