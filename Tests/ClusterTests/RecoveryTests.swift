import Consensus
import Primitives
import Testing

@testable import Cluster

/// Backups as files, and what is done to data directories of nodes that do not run.
struct RecoveryTests {
  /// A state with two objects, of which one has changed.
  private func state() throws -> ControlState {
    var state = ControlState()
    func apply(_ command: Command) throws {
      _ = try state.apply(LogEntry(index: state.applied.index.next, term: Term(4), payload: .command(command.encoded())))
    }
    for (number, name) in ["a", "b", "a"].enumerated() {
      let key = ObjectKey(group: "", kind: "Thing", namespace: "", name: name)
      try apply(
        .configuration(
          ChangeSet(
            puts: [ObjectPut(key: key, bytes: Array("\(number)".utf8))], requestID: RequestID(high: 0, low: UInt64(number)),
            epoch: .zero, author: "test")))
    }
    try apply(.addTrustAnchor(node: try NodeName("n2"), certificate: [1, 2, 3]))
    try apply(.assignRole(RoleGrant(role: .discovery, holder: try NodeName("n2"), epoch: RoleEpoch(1), at: 0, reason: "")))
    return state
  }

  private func backup() throws -> Backup {
    Backup(cluster: "c", node: "n1", milliseconds: 7, version: "1", state: try state())
  }

  @Test func `a backup is read as it was written`() throws {
    let backup = try backup()
    let read = try Backup(bytes: backup.bytes)
    #expect(read.state == backup.state && read.cluster == "c" && read.node == "n1" && read.milliseconds == 7)
  }

  @Test func `a backup of which any byte is missing or other is refused`() throws {
    let bytes = try backup().bytes
    for index in bytes.indices {
      var damaged = bytes
      damaged[index] ^= 0x10
      #expect(throws: BackupError.self) { try Backup(bytes: damaged) }
      #expect(throws: BackupError.self) { try Backup(bytes: Array(bytes[..<index])) }
    }
    var newer = Array(bytes.dropLast(Digest.byteCount))
    newer[8] = 9
    newer += SHA256.digest(of: newer).bytes
    #expect(throws: BackupError.newerFormat(9)) { try Backup(bytes: newer) }
  }

  @Test func `a restored state has the objects and their history, and nobody of the old cluster`() throws {
    let old = try state()
    let new = old.restored(on: try NodeName("n9")) { _, bytes in bytes + [0x21] }
    #expect(new.revision == old.revision && new.applied.index > old.applied.index && new.applied.term > old.applied.term)
    #expect(new.objects.mapValues(\.version) == old.objects.mapValues(\.version))
    #expect(new.objects.values.allSatisfy { $0.bytes.last == 0x21 })
    #expect(new.revisions.all.map(\.number) == old.revisions.all.map(\.number))
    #expect(new.revisions.all.last?.changes.first?.before?.bytes == Array("0!".utf8))
    #expect(new.trust.anchors.isEmpty && new.roles[.discovery].holder == nil)
    #expect(new.roles[.discovery].epoch == RoleEpoch(1), "epochs are not used twice")
    #expect(new.configuration.voters == [try NodeName("n9")] && new.history != old.history)
    #expect(try ControlState(restoring: new.snapshot()) == new)
  }

  @Test func `a restored node leads alone, with the state`() throws {
    let directory = try StorageTests.Directory()
    let node = try NodeName("n1")
    let state = try state().restored(on: node) { $1 }
    try OfflineRecovery.begin(state, directory: directory.path, cluster: "c-2", node: node)
    #expect(throws: StorageError.self) { try RaftStore(directory: directory.path, cluster: "c", node: node) }
    let found = try RaftStore(directory: directory.path, cluster: "c-2", node: node).load()
    #expect(found.snapshot?.state == state.snapshot() && found.entries.isEmpty)
    #expect(leadsAlone(found, node))
  }

  @Test func `a survivor becomes the only voter behind all that it holds`() throws {
    let directory = try StorageTests.Directory()
    let node = try NodeName("n1")
    let three = ClusterConfiguration(voters: [node, try NodeName("n2"), try NodeName("n3")])
    let entries = [
      LogEntry(index: LogIndex(1), term: Term(3), payload: .configuration(three)),
      LogEntry(index: LogIndex(2), term: Term(3), payload: .noop),
    ]
    try RaftStore(directory: directory.path, cluster: "c", node: node)
      .write(Persistence(hardState: HardState(term: Term(5), vote: try NodeName("n2")), entries: entries))
    let end = try OfflineRecovery.logEnd(directory: directory.path, cluster: "c", node: node)
    #expect(end.last == LogPosition(index: LogIndex(2), term: Term(3)) && end.voters == three.voters)
    _ = try OfflineRecovery.becomeOnlyVoter(directory: directory.path, cluster: "c", node: node)
    let found = try RaftStore(directory: directory.path, cluster: "c", node: node).load()
    #expect(found.entries.count == 3 && found.entries.last?.term == Term(6) && found.hardState.term == Term(6))
    #expect(leadsAlone(found, node))
  }

  private func leadsAlone(_ found: RecoveredState, _ node: NodeName) -> Bool {
    var raft = Raft(
      local: node, cluster: ClusterTag(1), recovered: found, configuration: ClusterConfiguration(), seed: 1, now: .zero)
    var effects: [RaftEffect] = []
    raft.handle(.tick, at: raft.nextDeadline, into: &effects)
    return raft.isLeader && raft.commitIndex == raft.status.last.index
  }
}
