import Consensus
import Primitives
import Synchronization

/// Everything a node keeps on disk, in one locked data directory, behind the storage thread.
public final class NodeStorage: Sendable {
  private struct Stores {
    let lock: DirectoryLock
    let raft: RaftStore
    let local: LocalStore
  }

  /// What the Raft server had promised before this start.
  public let recovered: RecoveredState
  /// Nil once closed. Locked by the storage thread, and before it has work.
  private let stores: Mutex<Stores?>
  private let executor: StorageExecutor

  /// Opens or creates the stores of `node` in an existing directory and verifies them; blocks while it reads.
  public init(directory: String, cluster: String, node: NodeName) throws(StorageError) {
    let lock = try DirectoryLock(directory: directory)
    let raft = try RaftStore(directory: directory, cluster: cluster, node: node)
    recovered = try raft.load()
    let local = try LocalStore(directory: directory)
    stores = Mutex(Stores(lock: lock, raft: raft, local: local))
    executor = StorageExecutor()
  }

  /// Writes on the storage thread; `completion` runs there when the write is on the disk, or cannot be. Writes are done
  /// in the order of the calls.
  public func write(_ persistence: Persistence, completion: @escaping @Sendable ((any Error)?) -> Void) {
    executor.run { completion(self.attempt { (stores) throws(StorageError) in try stores.raft.write(persistence) }) }
  }

  /// After a write that found the disk full: what the Raft server has promised, once there is room again; nil while there is none.
  /// `completion` runs on the storage thread.
  public func recover(completion: @escaping @Sendable (Result<RecoveredState?, StorageError>) -> Void) {
    executor.run {
      completion(
        Result { () throws(StorageError) in
          let state = try self.withRaftStore { (store) throws(StorageError) in try store.hasRoom() ? try store.load() : nil }
          return state.flatMap { $0 }
        })
    }
  }

  /// Stores a node-local fact, or removes it with nil, like `write`.
  public func set(_ key: String, _ value: [UInt8]?, completion: @escaping @Sendable ((any Error)?) -> Void = { _ in }) {
    executor.run { completion(self.attempt { (stores) throws(StorageError) in try stores.local.set(key, value) }) }
  }

  /// Runs `body` on the Raft store, between two writes; nil once closed. Blocks.
  func withRaftStore<Answer: Sendable>(
    _ body: @Sendable (RaftStore) throws(StorageError) -> Answer
  ) throws(StorageError) -> Answer? {
    try stores.withLock { (stores) throws(StorageError) in
      guard let stores else { return nil }
      return try body(stores.raft)
    }
  }

  /// Reads a node-local fact; blocks, so it is for starting up.
  public func value(_ key: String) throws(StorageError) -> [UInt8]? {
    try stores.withLock { (stores) throws(StorageError) in try stores?.local.value(key) }
  }

  /// Closes the files and frees the directory after the writes handed over before; later ones fail.
  public func close(completion: @escaping @Sendable () -> Void = {}) {
    executor.run {
      self.stores.withLock { $0 = nil }
      completion()
    }
    executor.stop()
  }

  private func attempt(_ body: (Stores) throws(StorageError) -> Void) -> (any Error)? {
    stores.withLock { stores in
      guard let stores else { return StorageError.io(file: "the data directory", detail: "it is closed") }
      do { try body(stores) } catch { return error }
      return nil
    }
  }
}
