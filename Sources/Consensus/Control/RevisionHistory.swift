import Primitives

/// One change of the configuration, with what it replaced, so that it can be undone.
public struct ConfigurationRevision: Hashable, Sendable {
  /// The entry that made it.
  public let number: LogIndex
  /// The revision that it changed.
  public let previous: LogIndex
  public let author: String
  /// In the order of keys.
  public let changes: [Change]

  public struct Change: Hashable, Sendable {
    public let key: ObjectKey
    /// What stood there before; nil when nothing did.
    public let before: StoredObject?
    public init(key: ObjectKey, before: StoredObject?) {
      self.key = key
      self.before = before
    }
  }

  public init(number: LogIndex, previous: LogIndex, author: String, changes: [Change]) {
    self.number = number
    self.previous = previous
    self.author = author
    self.changes = changes
  }

  /// Bytes it takes in the state, about.
  var cost: Int { changes.reduce(author.utf8.count) { $0 + 128 + ($1.before?.bytes.count ?? 0) } }
}

/// The latest revisions, bounded in count and bytes: the oldest are forgotten first.
public struct RevisionHistory: Hashable, Sendable {
  /// Oldest first.
  public private(set) var all: [ConfigurationRevision] = []
  private var bytes = 0

  public init() {}

  mutating func append(_ revision: ConfigurationRevision) {
    all.append(revision)
    bytes += revision.cost
    var kept = all[...]
    while kept.count > ConsensusLimits.revisionsMax || bytes > ConsensusLimits.revisionBytesMax, let oldest = kept.popFirst() {
      bytes -= oldest.cost
    }
    if kept.count < all.count { all = Array(kept) }
  }

  /// The revisions after one, oldest first; nil when the history does not reach back to it.
  public func later(than revision: LogIndex) -> [ConfigurationRevision]? {
    let later = all.drop { $0.number <= revision }
    guard let first = later.first, first.previous == revision else { return nil }
    return Array(later)
  }

  func encode(to writer: inout ByteWriter) {
    writer.count(all.count)
    for revision in all {
      writer.varint(revision.number.number)
      writer.varint(revision.previous.number)
      writer.string(revision.author)
      writer.count(revision.changes.count)
      for change in revision.changes {
        change.key.encode(to: &writer)
        writer.bool(change.before != nil)
        guard let before = change.before else { continue }
        writer.varint(before.created.number)
        writer.varint(before.version.number)
        writer.lengthPrefixed(before.bytes)
      }
    }
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    for _ in 0..<(try reader.count(max: ConsensusLimits.revisionsMax)) {
      let number = LogIndex(try reader.boundedNumber())
      let previous = LogIndex(try reader.boundedNumber())
      let author = try reader.string(max: ConsensusLimits.noteBytesMax)
      let changes = try reader.list(max: ConsensusLimits.changesMax) { r throws(ByteError) in
        ConfigurationRevision.Change(key: try ObjectKey(from: &r), before: try Self.before(from: &r))
      }
      append(ConfigurationRevision(number: number, previous: previous, author: author, changes: changes))
    }
  }

  private static func before(from reader: inout ByteReader) throws(ByteError) -> StoredObject? {
    guard try reader.bool() else { return nil }
    let created = LogIndex(try reader.boundedNumber())
    let version = LogIndex(try reader.boundedNumber())
    let bytes = Array(try reader.lengthPrefixed(max: ConsensusLimits.objectBytesMax))
    return StoredObject(bytes: bytes, created: created, version: version)
  }
}

extension ControlState {
  /// The objects as they were at a revision; nil when the history does not reach back to it.
  public func objects(at wanted: LogIndex) -> [ObjectKey: StoredObject]? {
    if wanted == revision { return objects }
    var state = objects
    for change in revisions.all.reversed() where change.number > wanted {
      for item in change.changes { state[item.key] = item.before }
      if change.previous == wanted { return state }
    }
    return nil
  }
}
