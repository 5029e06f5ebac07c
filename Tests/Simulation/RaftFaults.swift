import Consensus
import Primitives

/// What goes wrong in a simulated cluster, and how often.
public struct RaftFaults: Sendable {
  /// Chance that a message is lost, repeated.
  public var loss = 0.0
  public var duplication = 0.0
  /// Time on the way; a wide range reorders.
  public var delay: ClosedRange<Duration> = .microseconds(100) ... .milliseconds(2)
  /// Time a write takes to be durable.
  public var writeDelay: ClosedRange<Duration> = .microseconds(50) ... .milliseconds(4)
  /// Mean time between crashes, partitions and pauses of the whole cluster; nil for none.
  public var crashInterval: Duration?
  public var partitionInterval: Duration?
  public var pauseInterval: Duration?
  /// How long each of them lasts.
  public var outage: ClosedRange<Duration> = .milliseconds(100) ... .seconds(3)
  /// Entries after which a server takes a snapshot.
  public var entriesPerSnapshot = 40
  /// Chance that a new leader is heard by some only, and dies soon.
  public var churn = 0.0
  /// Chance that a crash leaves rotten entries; that a disk refuses a write.
  public var rotting = 0.0
  public var fullDisk = 0.0
  /// Mean time between changes of the members.
  public var membershipInterval: Duration?
  /// Bytes of entries in one message: with 1 they travel one by one.
  public var appendBytesMax = RaftSettings().appendBytesMax

  public init() {}

  /// A quiet network.
  public static let none = RaftFaults()

  /// Faults of every kind, their strength drawn from the generator.
  public static func drawn(from generator: inout SeededGenerator) -> RaftFaults {
    var faults = RaftFaults()
    faults.loss = 0.01 + generator.unit() * 0.15
    faults.duplication = 0.01 + generator.unit() * 0.1
    faults.delay = .microseconds(100) ... .milliseconds(Int(1 + generator.below(40)))
    faults.writeDelay = .microseconds(50) ... .milliseconds(Int(1 + generator.below(20)))
    faults.crashInterval = .milliseconds(Int(400 + generator.below(2000)))
    faults.partitionInterval = .milliseconds(Int(400 + generator.below(2000)))
    faults.pauseInterval = .milliseconds(Int(400 + generator.below(2500)))
    faults.entriesPerSnapshot = Int(5 + generator.below(60))
    return faults
  }

  /// Leaders come and go before they have told everybody, disks fill up and rot, and operators change the members all the time.
  public static func storm(from generator: inout SeededGenerator) -> RaftFaults {
    var faults = RaftFaults()
    faults.loss = generator.unit() * 0.1
    faults.duplication = generator.unit() * 0.1
    faults.delay = .microseconds(100) ... .milliseconds(Int(1 + generator.below(20)))
    faults.writeDelay = .microseconds(50) ... .milliseconds(Int(1 + generator.below(60)))
    faults.outage = .milliseconds(50) ... .milliseconds(Int(200 + generator.below(1500)))
    faults.crashInterval = .milliseconds(Int(500 + generator.below(3000)))
    faults.partitionInterval = .milliseconds(Int(800 + generator.below(3000)))
    faults.pauseInterval = .milliseconds(Int(800 + generator.below(3000)))
    faults.entriesPerSnapshot = Int(5 + generator.below(200))
    faults.churn = generator.unit()
    faults.rotting = generator.chance(0.5) ? generator.unit() : 0
    faults.fullDisk = generator.chance(0.5) ? generator.unit() * 0.05 : 0
    if generator.chance(0.5) { faults.membershipInterval = .milliseconds(Int(20 + generator.below(400))) }
    if generator.chance(0.5) { faults.appendBytesMax = 1 }
    return faults
  }
}

/// How often each fault had an effect; a run in which none had proves nothing.
public struct RaftFaultCounts: Sendable, Equatable {
  public var lost = 0
  public var duplicated = 0
  public var blocked = 0
  public var crashes = 0
  public var corruptions = 0
  public var writesRefused = 0
  public var writesLost = 0
  public var pauses = 0
  public var snapshotsInstalled = 0
  public var elections = 0
  public var committed = 0
  public var readsAnswered = 0
  public var roleMoves = 0
}
