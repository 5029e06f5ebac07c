import Consensus
import Membership
import Primitives
import Synchronization
import Testing
import Transport

@testable import Cluster

@Suite("Publication", .timeLimit(.minutes(1))) struct PublicationTests {
  private func view() throws -> ClusterView {
    let node = try NodeName("n1")
    let raft = Raft(
      local: node, cluster: ClusterTag(1), recovered: RecoveredState(),
      configuration: ClusterConfiguration(voters: [node]), seed: 1, now: .zero)
    return ClusterView(
      members: [], raft: raft.status, control: ControlState(), heldRoles: [],
      registry: Registry(owner: node, incarnation: 1, seed: 1, at: .zero), registryVersion: 0, localHealthScore: 0)
  }

  // Cancelling holds the task's lock and ends its stream, which takes the publication's; to tell a task takes the task's.
  @Test("who watches may be cancelled at the moment in which it is told") func cancelledWhileTold() async throws {
    let (publication, view) = (ClusterPublication(), try view())
    let isDone = Atomic(false)
    let loop = try EventLoop(name: "publisher")
    try loop.start()
    publication.publish(view, .all)
    let watched = Watched()
    loop.post {
      while !isDone.load(ordering: .relaxed) { publication.publish(view, .objects) }
    }
    for _ in 0..<2_000 {
      let before = watched.count
      let watcher = Task(priority: .low) { for await _ in publication.changes(of: .objects) { watched.note() } }
      while watched.count == before { await Task.yield() }
      watcher.cancel()
    }
    isDone.store(true, ordering: .relaxed)
    loop.stop()
    loop.join()
  }
}

private final class Watched: Sendable {
  private let counter = Atomic(0)
  var count: Int { counter.load(ordering: .relaxed) }
  func note() { counter.add(1, ordering: .relaxed) }
}
