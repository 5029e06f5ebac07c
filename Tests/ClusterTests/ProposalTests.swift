import Consensus
import Dispatch
import Primitives
import Synchronization
import Testing
import Transport

@testable import Cluster

/// How a Raft driver gathers proposals: those of one turn share a write, and those that build on what did not come are told so.
final class ProposalTests {
  private let directory: StorageTests.Directory
  private let storage: NodeStorage
  private let loop: EventLoop
  private let driver: LoopBound<RaftDriver>
  private let told: Told

  /// What the driver and the proposers were told, in order.
  private final class Told: Sendable {
    private let words = Mutex<[String]>([])
    var all: [String] { words.withLock { $0 } }
    func add(_ word: String) { words.withLock { $0.append(word) } }
    func clear() { words.withLock { $0 = [] } }
  }

  init() throws {
    directory = try StorageTests.Directory()
    let local = try NodeName("n1")
    storage = try NodeStorage(directory: directory.path, cluster: "c", node: local)
    loop = try EventLoop(name: "proposals")
    let told = Told()
    self.told = told
    let raft = try RaftDriver(
      loop: loop, local: local, cluster: ClusterTag(clusterName: "c"), configuration: ClusterConfiguration(voters: [local]),
      storage: storage, seed: 1,
      outputs: RaftDriver.Outputs(
        send: { _, _, _ in }, applied: { told.add("applied \($0.position.index)") }, settling: { told.add("settling") },
        restored: {}, leadershipChanged: {}, failed: { told.add("failed: \($0)") }, recovered: {}))
    driver = LoopBound(raft, on: loop)
    try loop.start()
  }

  deinit {
    let (driver, loop) = (driver, loop)
    let stopped = DispatchSemaphore(value: 0)
    loop.post {
      driver.value.stop()
      stopped.signal()
    }
    stopped.wait()
    loop.stop()
    loop.join()
    let closed = DispatchSemaphore(value: 0)
    storage.close { closed.signal() }
    closed.wait()
  }

  private func waitUntil(_ what: String, _ condition: () -> Bool) throws {
    let end = ContinuousClock.now + .seconds(20)
    while !condition() {
      guard ContinuousClock.now < end else { throw Late(what: what, told: told.all) }
      _ = DispatchSemaphore(value: 0).wait(timeout: .now() + .milliseconds(2))
    }
  }

  private struct Late: Error {
    let what: String
    let told: [String]
  }

  /// Runs on the loop once the driver leads.
  private func lead() throws {
    let leads = Mutex(false)
    let driver = driver
    loop.post { driver.value.start() }
    try waitUntil("the only voter to lead") {
      let looked = DispatchSemaphore(value: 0)
      loop.post {
        leads.withLock { $0 = driver.value.isLeader && driver.value.status.commitIndex > .zero }
        looked.signal()
      }
      looked.wait()
      return leads.withLock { $0 }
    }
    told.clear()
  }

  /// Proposes in one turn of the loop, each at a place given relative to the next one, or at any.
  private func proposeInOneTurn(_ places: [Int?]) {
    let (driver, told) = (driver, told)
    loop.post {
      let next = driver.value.nextPlace
      for (number, place) in places.enumerated() {
        let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: "t\(number)")
        let change = ChangeSet(
          puts: [ObjectPut(key: key, bytes: [7])], requestID: RequestID(high: 1, low: UInt64(number)), epoch: .zero,
          author: "test")
        driver.value.propose(.configuration(change), at: place.map { next.advanced(by: $0) }) { result in
          switch result {
          case .success: told.add("\(number) done")
          case .failure(let error): told.add("\(number) \(error.code)")
          }
        }
      }
    }
  }

  private var answers: [String] { told.all.filter { $0.first?.isNumber == true } }

  @Test func `proposals of one turn are decided together: all are applied before the first proposer is told`() throws {
    try lead()
    proposeInOneTurn(Array(repeating: nil, count: 20))
    try waitUntil("20 answers") { answers.count == 20 }
    #expect(answers == (0..<20).map { "\($0) done" })
    // One write: one round of applying, and one word to publish before the answers.
    #expect(told.all.filter { $0 == "settling" }.count == 1)
    let applied = try #require(told.all.lastIndex { $0.hasPrefix("applied") })
    let settling = try #require(told.all.firstIndex(of: "settling"))
    let first = try #require(told.all.firstIndex(of: "0 done"))
    #expect(applied < settling && settling < first)
  }

  @Test func `proposals at their places come to stand there`() throws {
    try lead()
    proposeInOneTurn([0, 1, 2])
    try waitUntil("3 answers") { answers.count == 3 }
    #expect(answers == ["0 done", "1 done", "2 done"])
  }

  @Test func `a proposal whose place another one took is told so, and so are those that build on it`() throws {
    try lead()
    // The second came in between: the third and fourth expected other places, the fifth expects none.
    proposeInOneTurn([0, nil, 1, 2, nil])
    try waitUntil("5 answers") { answers.count == 5 }
    #expect(answers == ["2 conflict", "3 conflict", "0 done", "1 done", "4 done"])
  }

  @Test func `what came while the disk wrote goes out with one write when it is done`() throws {
    try lead()
    // The disk waits, so that the first write is under way while the others come.
    let (held, release) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    let storage = storage
    DispatchQueue.global().async {
      _ = try? storage.withRaftStore { (_) throws(StorageError) in
        held.signal()
        release.wait()
      }
    }
    held.wait()
    for _ in 0..<5 { proposeInOneTurn([nil, nil]) }
    let (driver, looked) = (driver, DispatchSemaphore(value: 0))
    loop.post {
      _ = driver.value.nextPlace
      looked.signal()
    }
    looked.wait()
    #expect(answers.isEmpty)
    release.signal()
    try waitUntil("10 answers") { answers.count == 10 }
    #expect(answers.allSatisfy { $0.hasSuffix("done") })
    // The first write, then one for all others; or one, when all came before the loop turned.
    #expect((1...2).contains(told.all.filter { $0 == "settling" }.count), "\(told.all)")
  }
}
