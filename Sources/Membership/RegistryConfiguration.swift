/// Timing and fan-out of the registry.
public struct RegistryConfiguration: Hashable, Sendable {
  /// Time between two comparisons with a random peer when nothing seems to differ; jittered by a quarter.
  public var compareInterval: Duration = .seconds(10)
  /// Shortest time between two comparisons caused by a differing digest: news in flight settle by themselves.
  public var compareGap: Duration = .milliseconds(100)
  /// Time after which an unanswered request is given up and others may be asked.
  public var pullTimeout: Duration = .seconds(2)
  /// Peers that get a local change at once: all, in clusters up to this size.
  public var pushFanout = 32
  /// Peers to which a node passes news on in larger clusters.
  public var forwardFanout = 4
  /// Age of a tombstone of this node's own from which it is compacted away. Nothing can rise again at any age: the floor voids
  /// what lies below it for ever, so this only bounds space.
  public var tombstoneLife: Duration = .seconds(3600)
  /// Tombstones of this node's own that bring a compaction forward.
  public var tombstonesMax = 256

  public init() {}
}
