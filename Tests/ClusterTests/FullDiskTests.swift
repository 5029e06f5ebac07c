import Consensus
import Dispatch
import Primitives
import Synchronization
import Testing
import Transport

@testable import Cluster

/// A disk that is full, by the limit on its size that SQLite knows.
struct FullDiskTests {
  private static func limit(_ store: RaftStore, isFull: Bool) throws(StorageError) {
    var pages: UInt64 = 0
    try store.database.execute("PRAGMA page_count") { row in if case .integer(let number) = row[0] { pages = number } }
    try store.database.execute("PRAGMA max_page_count=\(isFull ? pages : 1 << 30)")
  }

  private func entry(_ index: UInt64, bytes: Int) -> LogEntry {
    LogEntry(index: LogIndex(index), term: Term(1), payload: .command([UInt8](repeating: 7, count: bytes)))
  }

  @Test func `a write without room leaves nothing of itself, and the next one with room is taken`() throws {
    let directory = try StorageTests.Directory()
    let store = try RaftStore(directory: directory.path, cluster: "c", node: try NodeName("n1"))
    try store.write(Persistence(hardState: HardState(term: Term(1)), entries: [entry(1, bytes: 10)]))
    try Self.limit(store, isFull: true)
    let large = Persistence(hardState: HardState(term: Term(2)), entries: [entry(2, bytes: 20), entry(3, bytes: 100_000)])
    do {
      try store.write(large)
      Issue.record("there was room")
    } catch {
      guard case .full = error else { throw error }
    }
    let kept = try store.load()
    #expect(kept.hardState.term == Term(1) && kept.entries == [entry(1, bytes: 10)])
    try Self.limit(store, isFull: false)
    #expect(try store.hasRoom())
    try store.write(large)
    #expect(try store.load().entries.count == 3)
  }

  /// What a driver has said, seen from the test's thread.
  private final class Log: Sendable {
    let words = Mutex<[String]>([])
    func add(_ word: String) { words.withLock { $0.append(word) } }
    func wait(for word: String, within limit: Duration = .seconds(20)) -> Bool {
      let end = ContinuousClock.now + limit
      while ContinuousClock.now < end {
        if words.withLock({ $0.contains(word) }) { return true }
        _ = DispatchSemaphore(value: 0).wait(timeout: .now() + .milliseconds(2))
      }
      return false
    }
  }

  @Test func `a voter whose disk was full refuses changes, loses none, and decides again once there is room`() throws {
    let directory = try StorageTests.Directory()
    let storage = try NodeStorage(directory: directory.path, cluster: "c", node: try NodeName("n1"))
    let loop = try EventLoop(name: "full-disk")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
      let closed = DispatchSemaphore(value: 0)
      storage.close { closed.signal() }
      closed.wait()
    }
    let log = Log()
    let local = try NodeName("n1")
    let driver = try RaftDriver(
      loop: loop, local: local, cluster: ClusterTag(clusterName: "c"), configuration: ClusterConfiguration(voters: [local]),
      storage: storage, seed: 1,
      outputs: RaftDriver.Outputs(
        send: { _, _, _ in }, applied: { _ in }, settling: {}, restored: {}, leadershipChanged: { log.add("leadership") },
        failed: { _ in log.add("failed") }, recovered: { log.add("recovered") }))
    let bound = LoopBound(driver, on: loop)
    func propose(_ name: String, bytes: Int) {
      loop.post {
        let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: name)
        let change = ChangeSet(
          puts: [ObjectPut(key: key, bytes: [UInt8](repeating: 7, count: bytes))],
          requestID: RequestID(high: 1, low: UInt64(bytes)), epoch: .zero, author: "test")
        bound.value.propose(.configuration(change)) { result in
          switch result {
          case .success: log.add("\(name) done")
          case .failure(let error): log.add("\(name) \(error.code)")
          }
        }
      }
    }
    func asLeader(_ action: String, _ body: @escaping @Sendable (RaftDriver) -> Void) -> Bool {
      @Sendable func look() {
        if bound.value.isLeader {
          body(bound.value)
          log.add(action)
        } else {
          _ = loop.schedule(after: .milliseconds(5)) { look() }
        }
      }
      loop.post { look() }
      return log.wait(for: action)
    }
    loop.post { bound.value.start() }
    #expect(asLeader("leads") { _ in })
    propose("first", bytes: 100)
    #expect(log.wait(for: "first done"))

    _ = try storage.withRaftStore { (store) throws(StorageError) in try Self.limit(store, isFull: true) }
    propose("second", bytes: 200_000)
    #expect(log.wait(for: "second unavailable") && log.wait(for: "failed"))
    #expect(try storage.withRaftStore { (store) throws(StorageError) in try store.load().entries.count } == 2)

    _ = try storage.withRaftStore { (store) throws(StorageError) in try Self.limit(store, isFull: false) }
    #expect(log.wait(for: "recovered"))
    #expect(asLeader("leads again") { _ in })
    propose("third", bytes: 200_001)
    #expect(log.wait(for: "third done"))
    #expect(asLeader("stopped") { $0.stop() })
  }
}
