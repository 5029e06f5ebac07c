import Consensus
import Primitives

/// What one node's disk holds, and what can happen to it. Writes of the log are atomic, as SQLite's are; small facts are written
/// apart from it, so a crash may leave them older.
public struct SimulatedDisk: Sendable {
  public private(set) var raft = RecoveredState()
  /// The highest incarnation used.
  public var incarnation: UInt64 = 0
  /// The control state as last saved; may be older than the log.
  public var control: ControlState?
  /// The node's own certificate authority: lost only with the whole disk.
  public var authority: [UInt8]
  /// Where a corrupt log has to be made whole again before this node may vote (nil: it is whole).
  public var healUntil: LogIndex? { raft.healUntil }

  /// The voters of the latest configuration that it holds.
  var voters: [NodeName] {
    for entry in raft.entries.reversed() {
      if case .configuration(let configuration) = entry.payload { return configuration.voters }
    }
    return raft.snapshot?.configuration.voters ?? []
  }

  public init(authority: [UInt8]) { self.authority = authority }

  public mutating func write(_ persistence: Persistence) { raft.write(persistence) }

  /// Checksums show that an entry has rotted: it and what follows are dropped, and this node has to get them back from the
  /// others before it may vote. Returns false when there is nothing to rot.
  public mutating func corrupt(_ generator: inout SeededGenerator) -> Bool {
    guard !raft.entries.isEmpty, let last = raft.entries.last else { return false }
    let from = generator.index(below: raft.entries.count)
    raft.healUntil = max(healUntil ?? .zero, last.index)
    raft.entries.removeSubrange(from...)
    return true
  }
}
