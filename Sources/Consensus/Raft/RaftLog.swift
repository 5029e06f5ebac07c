import Primitives

/// The log in memory: a base, the entries after it, and the snapshot that covers everything up to some entry.
///
/// Invariants: entries are contiguous from `base.index + 1`; `base.index` ≤ the snapshot's index ≤ `last.index`;
/// `configurations` is never empty and sorted by index.
struct RaftLog: Sendable, Equatable {
  /// The position just before the first entry held.
  private(set) var base: LogPosition
  private var entries: [LogEntry]
  private(set) var snapshot: Snapshot?
  /// The configuration at the base and every later change, oldest first; the last one is in effect.
  private(set) var configurations: [ConfigurationRecord]

  struct ConfigurationRecord: Sendable, Equatable {
    let index: LogIndex
    let configuration: ClusterConfiguration
  }

  init(recovered: RecoveredState, configuration: ClusterConfiguration) {
    snapshot = recovered.snapshot
    base = recovered.snapshot?.position ?? .zero
    let known = recovered.snapshot?.configuration ?? configuration
    configurations = [ConfigurationRecord(index: base.index, configuration: known)]
    entries = []
    append(recovered.entries.filter { $0.index > base.index })
  }

  var last: LogPosition { entries.last?.position ?? base }
  var configuration: ConfigurationRecord {
    configurations.last ?? ConfigurationRecord(index: .zero, configuration: ClusterConfiguration())
  }
  /// True when no entry or snapshot holds a configuration: the one given at the start is only an agreement outside.
  var lacksConfiguration: Bool { configuration.index == .zero }

  /// The term of the entry at `index`, or nil when it is not held.
  func term(at index: LogIndex) -> Term? {
    if index == base.index { return base.term }
    return entry(at: index)?.term
  }

  func entry(at index: LogIndex) -> LogEntry? {
    guard index > base.index else { return nil }
    let offset = index.distance(from: base.index) - 1
    return offset < entries.count ? entries[offset] : nil
  }

  func holds(_ position: LogPosition) -> Bool { term(at: position.index) == position.term }

  /// Entries from `start` on, at least one if there is one, up to `bytesMax` in cost and the message's limit in count.
  func entries(from start: LogIndex, bytesMax: Int) -> [LogEntry] {
    var batch: [LogEntry] = []
    var cost = 0
    var index = start
    while let entry = entry(at: index), batch.count < ConsensusLimits.appendEntriesMax {
      cost += entry.cost
      if !batch.isEmpty && cost > bytesMax { break }
      batch.append(entry)
      index = index.next
    }
    return batch
  }

  /// Entries after `start` through `end`, as far as held.
  func entries(after start: LogIndex, through end: LogIndex) -> [LogEntry] {
    let from = max(start, base.index).distance(from: base.index)
    let to = min(end, last.index).distance(from: base.index)
    return from < to ? Array(entries[from..<to]) : []
  }

  /// Whether a log ending at `other` is at least as complete as this one (Raft thesis §3.6.1).
  func isNotAhead(of other: LogPosition) -> Bool {
    other.term > last.term || (other.term == last.term && other.index >= last.index)
  }

  /// The last position at or before `index` whose term is at most `term`: where a log with that term may still agree.
  func lastPosition(atOrBefore index: LogIndex, termAtMost term: Term) -> LogPosition {
    var index = min(index, last.index)
    while let own = self.term(at: index) {
      if own <= term { return LogPosition(index: index, term: own) }
      if index == .zero { break }
      index = index.previous
    }
    return LogPosition(index: index, term: .zero)
  }

  mutating func append(_ new: [LogEntry]) {
    for entry in new where entry.index == last.index.next {
      entries.append(entry)
      if case .configuration(let configuration) = entry.payload {
        configurations.append(ConfigurationRecord(index: entry.index, configuration: configuration))
      }
    }
  }

  /// Removes entries from `index` on, and with them the configurations they brought (Raft thesis §4.1).
  mutating func truncate(from index: LogIndex) {
    let kept = index.previous.distance(from: base.index)
    if kept < entries.count { entries.removeLast(entries.count - kept) }
    while configurations.count > 1, let latest = configurations.last, latest.index >= index { configurations.removeLast() }
  }

  /// Takes a snapshot of the state after an entry that is held, keeping `trailing` entries behind it for slow followers.
  mutating func compact(to snapshot: Snapshot, trailing: Int) {
    self.snapshot = snapshot
    let held = snapshot.position.index.distance(from: base.index)
    let dropped = min(entries.count, max(0, held - trailing))
    guard dropped > 0 else { return }
    base = entries[dropped - 1].position
    entries.removeFirst(dropped)
    let old = configurations.prefix { $0.index <= base.index }
    if let current = old.last {
      configurations.removeFirst(old.count)
      configurations.insert(current, at: 0)
    }
  }

  /// The configuration in effect at an entry.
  func configuration(at index: LogIndex) -> ClusterConfiguration {
    let record = configurations.last { $0.index <= index } ?? configurations.first
    return record?.configuration ?? ClusterConfiguration()
  }

  /// Replaces everything by a snapshot from the leader.
  mutating func reset(to snapshot: Snapshot) {
    self.snapshot = snapshot
    base = snapshot.position
    entries = []
    configurations = [ConfigurationRecord(index: base.index, configuration: snapshot.configuration)]
  }
}
