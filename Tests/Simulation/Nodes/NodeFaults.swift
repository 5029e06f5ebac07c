import Primitives

/// What goes wrong in a cluster of whole nodes, and how often.
public struct NodeFaults: Sendable {
  public var loss = 0.0
  public var duplication = 0.0
  public var delay: ClosedRange<Duration> = .microseconds(100) ... .milliseconds(2)
  public var writeDelay: ClosedRange<Duration> = .microseconds(50) ... .milliseconds(3)
  /// Chance that rows on their way are changed.
  public var tampering = 0.0
  /// Mean times between faults of the whole cluster; nil for none.
  public var crashInterval: Duration?
  public var partitionInterval: Duration?
  public var pauseInterval: Duration?
  public var clockJumpInterval: Duration?
  public var changeInterval: Duration?
  public var fullDiskInterval: Duration?
  public var blackoutInterval: Duration?
  /// Chance that a disk has a rotten entry when its node starts again.
  public var corruption = 0.0
  public var outage: ClosedRange<Duration> = .milliseconds(100) ... .seconds(4)
  /// Nodes whose messages take this much longer, at most.
  public var slowness: Duration = .zero
  public var entriesPerSnapshot = 60
  public var operators = Operators.everything
  /// Chance that a leader dies before anything is decided.
  public var firstLeaderDies = 0.0

  /// What operators do.
  public enum Operators: Sendable {
    case everything
    /// Hosts lose everything, and their nodes are forgotten and come back.
    case lostDisks
    /// Nodes are drained, and roles moved.
    case handovers
  }

  public init() {}

  public static func drawn(from generator: inout SeededGenerator) -> NodeFaults {
    var faults = NodeFaults()
    faults.loss = generator.unit() * 0.12
    faults.duplication = generator.unit() * 0.08
    faults.delay = .microseconds(100) ... .milliseconds(Int(1 + generator.below(25)))
    faults.writeDelay = .microseconds(50) ... .milliseconds(Int(5 + generator.below(50)))
    faults.tampering = generator.unit() * 0.05
    faults.crashInterval = .milliseconds(Int(1500 + generator.below(5000)))
    faults.partitionInterval = .milliseconds(Int(1500 + generator.below(6000)))
    faults.pauseInterval = .milliseconds(Int(1000 + generator.below(5000)))
    faults.clockJumpInterval = .milliseconds(Int(1000 + generator.below(5000)))
    faults.changeInterval = .milliseconds(Int(3000 + generator.below(8000)))
    faults.fullDiskInterval = .milliseconds(Int(2000 + generator.below(8000)))
    faults.blackoutInterval = .milliseconds(Int(10_000 + generator.below(30_000)))
    faults.corruption = generator.unit() * 0.3
    faults.slowness = .milliseconds(Int(generator.below(40)))
    faults.entriesPerSnapshot = Int(10 + generator.below(80))
    faults.firstLeaderDies = 0.4
    return faults
  }
}

/// How often each fault had an effect; a run in which none had proves nothing.
public struct NodeFaultCounts: Sendable, Equatable {
  public var lost = 0
  public var duplicated = 0
  public var blocked = 0
  public var tampered = 0
  public var crashes = 0
  public var writesLost = 0
  public var writesRefused = 0
  public var blackouts = 0
  public var corruptions = 0
  public var pauses = 0
  public var clockJumps = 0
  public var partitions = 0
  public var oneWayCuts = 0
  public var joins = 0
  public var departures = 0
  public var drains = 0
  public var forgotten = 0
  public var transfers = 0
  public var writesAcknowledged = 0
  public var readsAnswered = 0
  public var elections = 0
  public var roleMoves = 0
  public var statesInstalled = 0
  public var entriesPulled = 0
  public var voterChanges = 0
  public var firstLeadersLost = 0

  public init() {}
}

extension NodeFaultCounts {
  private static let fields: [(String, any (WritableKeyPath<NodeFaultCounts, Int> & Sendable))] = [
    ("messages lost", \.lost), ("messages doubled", \.duplicated), ("messages cut off", \.blocked),
    ("rows tampered", \.tampered),
    ("crashes", \.crashes), ("writes lost in crashes", \.writesLost),
    ("writes refused by full disks", \.writesRefused), ("restarts of all at once", \.blackouts), ("rotten logs", \.corruptions),
    ("pauses", \.pauses),
    ("clock jumps", \.clockJumps), ("partitions", \.partitions), ("one-way cuts", \.oneWayCuts), ("joins", \.joins),
    ("departures", \.departures), ("drains", \.drains), ("nodes wiped and forgotten", \.forgotten),
    ("role transfers asked", \.transfers), ("writes acknowledged", \.writesAcknowledged), ("reads answered", \.readsAnswered),
    ("elections", \.elections), ("role moves", \.roleMoves), ("states installed", \.statesInstalled),
    ("entries pulled", \.entriesPulled), ("voter changes", \.voterChanges),
    ("first leaders lost", \.firstLeadersLost),
  ]

  /// Each with its name, in a fixed order.
  public var named: [(String, Int)] { Self.fields.map { ($0.0, self[keyPath: $0.1]) } }

  public mutating func add(_ other: NodeFaultCounts) {
    for (_, field) in Self.fields { self[keyPath: field] += other[keyPath: field] }
  }
}
