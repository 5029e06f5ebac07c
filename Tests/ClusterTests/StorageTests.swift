import Consensus
import FoundationEssentials
import Primitives
import Testing

@testable import Cluster

struct StorageTests {
  /// A directory of its own, gone with the test.
  final class Directory {
    let path: String
    init() throws {
      path = "\(FileManager.default.temporaryDirectory.path)/mesh-storage-\(UUID().uuidString)"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func overwrite(_ file: String, _ change: (inout Data) -> Void) throws {
      var data = try #require(FileManager.default.contents(atPath: "\(path)/\(file)"))
      change(&data)
      try data.write(to: URL(filePath: "\(path)/\(file)"))
    }
  }

  private func node(_ text: String = "n1") throws -> NodeName { try NodeName(text) }
  private func entry(_ index: UInt64, _ term: UInt64) -> LogEntry {
    LogEntry(index: LogIndex(index), term: Term(term), payload: .command(Array("command \(index)".utf8)))
  }
  private func open(_ directory: Directory, cluster: String = "c", node: String = "n1") throws -> RaftStore {
    try RaftStore(directory: directory.path, cluster: cluster, node: try NodeName(node))
  }
  private let configuration = ClusterConfiguration()

  @Test func `what was written is there after reopening, each write whole`() throws {
    let directory = try Directory()
    var twin = RecoveredState()
    let writes = [
      Persistence(hardState: HardState(term: Term(1), vote: try node())),
      Persistence(entries: (1...5).map { entry($0, 1) }),
      Persistence(hardState: HardState(term: Term(2)), truncateFrom: LogIndex(4), entries: [entry(4, 2), entry(5, 2)]),
      Persistence(
        snapshot: Snapshot(
          position: LogPosition(index: LogIndex(3), term: Term(1)), configuration: configuration, state: [1, 2, 3])),
      Persistence(entries: [entry(6, 2)]),
      Persistence(
        snapshot: Snapshot(
          position: LogPosition(index: LogIndex(9), term: Term(2)), configuration: configuration, state: []),
        resetsLog: true),
      Persistence(entries: [entry(10, 2)]),
    ]
    for write in writes {
      do { try open(directory).write(write) }
      twin.write(write)
      #expect(try open(directory).load() == twin)
    }
  }

  @Test func `a write that fails leaves nothing of itself`() throws {
    let directory = try Directory()
    do {
      let store = try open(directory)
      try store.write(Persistence(hardState: HardState(term: Term(1)), entries: [entry(1, 1)]))
      #expect(throws: StorageError.self) {
        try store.write(Persistence(hardState: HardState(term: Term(9)), entries: [entry(2, 1), entry(1, 1)]))
      }
    }
    let state = try open(directory).load()
    #expect(state.hardState.term == Term(1))
    #expect(state.entries == [entry(1, 1)])
  }

  @Test func `a damaged byte of an entry is found and named`() throws {
    let directory = try Directory()
    do {
      try open(directory).write(Persistence(hardState: HardState(term: Term(1)), entries: [entry(1, 1), entry(2, 1)]))
    }
    try directory.overwrite("raft.db") { data in
      let text = Array("command 2".utf8)
      guard let at = data.indices.dropLast(text.count).last(where: { data[$0..<($0 + text.count)].elementsEqual(text) })
      else { return }
      data[at] ^= 1
    }
    do {
      _ = try open(directory).load()
      Issue.record("the damage was not found")
    } catch let error as StorageError {
      guard case .corrupt(let file, _) = error else { Issue.record("\(error)"); return }
      #expect(file.hasSuffix("raft.db"))
      #expect(error.description.contains("move the data directory away"))
    }
  }

  @Test func `an entry that rotted on one of several voters is dropped, and comes from the others before this one votes`()
    throws
  {
    let directory = try Directory()
    let members = LogEntry(
      index: LogIndex(1), term: Term(1),
      payload: .configuration(ClusterConfiguration(voters: try ["n1", "n2", "n3"].map { try NodeName($0) })))
    do {
      try open(directory).write(
        Persistence(hardState: HardState(term: Term(1)), entries: [members, entry(2, 1), entry(3, 1), entry(4, 1)]))
    }
    try directory.overwrite("raft.db") { data in
      let text = Array("command 3".utf8)
      guard let at = data.indices.dropLast(text.count).last(where: { data[$0..<($0 + text.count)].elementsEqual(text) })
      else { return }
      data[at] ^= 1
    }
    for _ in 0..<2 {
      let state = try open(directory).load()
      #expect(state.entries == [members, entry(2, 1)] && state.healUntil == LogIndex(4))
    }
    do { try open(directory).write(Persistence(entries: [entry(3, 1), entry(4, 1)])) }
    let healed = try open(directory).load()
    #expect(healed.entries.count == 4 && healed.healUntil == nil)
  }

  @Test func `a truncated, emptied or deleted file is refused`() throws {
    for kept in [0, 100, 5000] {
      let directory = try Directory()
      do {
        try open(directory).write(Persistence(hardState: HardState(term: Term(1)), entries: (1...200).map { entry($0, 1) }))
      }
      try directory.overwrite("raft.db") { $0 = $0.prefix(kept) }
      #expect(throws: StorageError.self) { try self.open(directory).load() }
    }
    let directory = try Directory()
    do { _ = try open(directory) }
    try FileManager.default.removeItem(atPath: "\(directory.path)/raft.db")
    #expect(throws: StorageError.missing(file: "\(directory.path)/raft.db")) { try self.open(directory) }
  }

  @Test func `the directory of another node or cluster is refused`() throws {
    let directory = try Directory()
    do { _ = try open(directory) }
    let file = "\(directory.path)/raft.db"
    #expect(throws: StorageError.foreign(file: file, what: "node", found: "n1", expected: "n2")) {
      try self.open(directory, node: "n2")
    }
    #expect(throws: StorageError.foreign(file: file, what: "cluster", found: "c", expected: "d")) {
      try self.open(directory, cluster: "d")
    }
  }

  @Test func `two owners cannot share a directory, and the second learns who holds it`() throws {
    let directory = try Directory()
    let first = try DirectoryLock(directory: directory.path)
    #expect(throws: StorageError.locked(directory: directory.path, processID: Int(ProcessInfo.processInfo.processIdentifier))) {
      try DirectoryLock(directory: directory.path)
    }
    _ = consume first
    _ = try DirectoryLock(directory: directory.path)
  }

  @Test func `the node's storage writes in order on its thread and frees the directory when closed`() async throws {
    let directory = try Directory()
    let storage = try NodeStorage(directory: directory.path, cluster: "c", node: try node())
    #expect(storage.recovered == RecoveredState())
    let (errors, feed) = AsyncStream.makeStream(of: String?.self)
    storage.write(Persistence(hardState: HardState(term: Term(4)))) { feed.yield($0.map { "\($0)" }) }
    for index in UInt64(1)...20 {
      storage.write(Persistence(entries: [entry(index, 4)])) { feed.yield($0.map { "\($0)" }) }
    }
    storage.set("incarnation", [7]) { feed.yield($0.map { "\($0)" }) }
    storage.close { feed.finish() }
    for await error in errors { #expect(error == nil) }
    let again = try NodeStorage(directory: directory.path, cluster: "c", node: try node())
    #expect(again.recovered.entries == (1...20).map { entry($0, 4) })
    #expect(try again.value("incarnation") == [7])
    #expect(try again.value("nothing") == nil)
    await withCheckedContinuation { done in again.close { done.resume() } }
  }

  @Test func `an actor on the storage executor runs off the pool, one job at a time`() async {
    actor Counter {
      private let executor: StorageExecutor
      private var value = 0
      init(_ executor: StorageExecutor) { self.executor = executor }
      nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
      func increment() -> Int {
        value += 1
        return value
      }
    }
    let executor = StorageExecutor()
    let counter = Counter(executor)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<100 { group.addTask { _ = await counter.increment() } }
    }
    #expect(await counter.increment() == 101)
    executor.stop()
  }

  @Test func `CRC-32C gives the values of RFC 3720`() {
    #expect(CRC32C.checksum(of: [UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.checksum(of: [UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    #expect(CRC32C.checksum(of: Array(0..<32)) == 0x46DD_794E)
  }
}

extension RecoveredState {
  /// The dumb twin of a store.
  fileprivate mutating func write(_ persistence: Persistence) {
    if let snapshot = persistence.snapshot {
      self.snapshot = snapshot
      entries.removeAll { persistence.resetsLog || $0.index <= snapshot.position.index }
    }
    if let from = persistence.truncateFrom { entries.removeAll { $0.index >= from } }
    entries += persistence.entries
    if let hardState = persistence.hardState { self.hardState = hardState }
  }
}
