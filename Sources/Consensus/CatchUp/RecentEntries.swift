import Primitives

/// The latest entries that were applied, with the history after each: what a node can give to others that are behind.
public struct RecentEntries: Sendable, Equatable {
  private var entries: [LogEntry] = []
  private var digests: [Digest] = []
  private var bytes = 0
  /// The history before the first entry held.
  private var base: CatchUpMessage.Head

  public init(after head: CatchUpMessage.Head) { base = head }

  public mutating func append(_ entry: LogEntry, history: Digest) {
    guard entry.index == last.index.next else {
      self = RecentEntries(after: CatchUpMessage.Head(index: entry.index, digest: history))
      return
    }
    entries.append(entry)
    digests.append(history)
    bytes += entry.cost
    // Dropped by halves, so that appending stays cheap.
    if entries.count > ConsensusLimits.recentEntriesMax || bytes > ConsensusLimits.recentBytesMax {
      drop(max(1, entries.count / 2))
    }
  }

  private mutating func drop(_ count: Int) {
    base = CatchUpMessage.Head(index: entries[count - 1].index, digest: digests[count - 1])
    bytes -= entries.prefix(count).reduce(0) { $0 + $1.cost }
    entries.removeFirst(count)
    digests.removeFirst(count)
  }

  public var last: CatchUpMessage.Head {
    guard let entry = entries.last, let digest = digests.last else { return base }
    return CatchUpMessage.Head(index: entry.index, digest: digest)
  }

  /// The history after an entry, or nil when it is not held.
  func digest(at index: LogIndex) -> Digest? {
    if index == base.index { return base.digest }
    guard index > base.index, index <= last.index else { return nil }
    return digests[index.distance(from: base.index) - 1]
  }

  /// What answers `CatchUpMessage.pull`.
  public func answer(after head: CatchUpMessage.Head, through end: LogIndex) -> CatchUpMessage {
    if head.index >= last.index, head.index != last.index { return .entries([], after: head.index) }
    guard digest(at: head.index) == head.digest else { return .unavailable(after: head.index) }
    var page: [LogEntry] = []
    var cost = 0
    for entry in entries[head.index.distance(from: base.index)...] {
      cost += entry.cost
      guard entry.index <= end, page.count < ConsensusLimits.appendEntriesMax else { break }
      if !page.isEmpty, cost > ConsensusLimits.chunkBytesMax { break }
      page.append(entry)
    }
    return .entries(page, after: head.index)
  }
}
