import Primitives

/// What nodes that take no part in the log's consensus, and those that serve them, say to each other.
public enum CatchUpMessage: Hashable, Sendable {
  /// The sender leads, and has applied everything up to here. From a voter this is the word that entries are checked against.
  case head(Head)
  /// Give me what follows on this, up to `through`.
  case pull(after: Head, through: LogIndex)
  /// Entries after the index asked for; none when the sender holds no more than the asker.
  case entries([LogEntry], after: LogIndex)
  /// The entries were compacted away, or the asker's history is not the sender's: ask a voter for the state.
  case unavailable(after: LogIndex)
  /// Give me a piece of your state.
  case pullState(at: LogIndex?, offset: Int)
  case state(StatePiece)
  /// How far are you? Answered with `reached` by whoever is asked.
  case askHead
  /// As `head`, but the sender need not lead.
  case reached(Head)

  /// A place in the history of the control state.
  public struct Head: Hashable, Sendable {
    public let index: LogIndex
    /// `ControlState.history` after that entry.
    public let digest: Digest
    public init(index: LogIndex, digest: Digest) {
      self.index = index
      self.digest = digest
    }
  }

  /// Bytes of a `ControlState.snapshot`.
  public struct StatePiece: Hashable, Sendable {
    public let index: LogIndex
    public let total: Int
    public let offset: Int
    public let bytes: [UInt8]
    public init(index: LogIndex, total: Int, offset: Int, bytes: [UInt8]) {
      self.index = index
      self.total = total
      self.offset = offset
      self.bytes = bytes
    }
  }

  /// Whether to send it on the bulk lane.
  public var isBulk: Bool {
    switch self {
    case .head, .pull, .pullState, .unavailable, .askHead, .reached: false
    case .entries, .state: true
    }
  }
}

extension CatchUpMessage {
  private static let format: UInt8 = 1

  public func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 128)
    writer.uint8(Self.format)
    switch self {
    case .head(let head):
      writer.uint8(1)
      head.encode(to: &writer)
    case .pull(let after, let through):
      writer.uint8(2)
      after.encode(to: &writer)
      writer.varint(through.number)
    case .entries(let entries, let after):
      writer.uint8(3)
      writer.varint(after.number)
      writer.count(entries.count)
      for entry in entries {
        writer.varint(entry.term.number)
        entry.payload.encode(to: &writer)
      }
    case .unavailable(let after):
      writer.uint8(4)
      writer.varint(after.number)
    case .pullState(let index, let offset):
      writer.uint8(5)
      writer.varint(index?.number ?? 0)
      writer.count(offset)
    case .state(let piece):
      writer.uint8(6)
      writer.varint(piece.index.number)
      writer.count(piece.total)
      writer.count(piece.offset)
      writer.lengthPrefixed(piece.bytes)
    case .askHead: writer.uint8(7)
    case .reached(let head):
      writer.uint8(8)
      head.encode(to: &writer)
    }
    return writer.bytes
  }

  public init(decoding bytes: [UInt8]) throws(ByteError) {
    var reader = ByteReader(bytes)
    guard try reader.uint8() == Self.format else { throw .malformed }
    switch try reader.uint8() {
    case 1: self = .head(try Head(from: &reader))
    case 2:
      let after = try Head(from: &reader)
      self = .pull(after: after, through: LogIndex(try reader.boundedNumber()))
    case 3: self = try Self.entries(from: &reader)
    case 4: self = .unavailable(after: LogIndex(try reader.boundedNumber()))
    case 5:
      let index = try reader.boundedNumber()
      self = .pullState(
        at: index == 0 ? nil : LogIndex(index), offset: try reader.count(max: ConsensusLimits.snapshotBytesMax))
    case 6:
      let index = LogIndex(try reader.boundedNumber())
      let total = try reader.count(max: ConsensusLimits.snapshotBytesMax)
      let offset = try reader.count(max: total)
      let bytes = Array(try reader.lengthPrefixed(max: min(ConsensusLimits.chunkBytesMax, total - offset)))
      self = .state(StatePiece(index: index, total: total, offset: offset, bytes: bytes))
    case 7: self = .askHead
    case 8: self = .reached(try Head(from: &reader))
    default: throw .malformed
    }
    try reader.finish()
  }

  /// Indexes are not carried: entries follow on `after`, so they cannot have gaps.
  private static func entries(from reader: inout ByteReader) throws(ByteError) -> CatchUpMessage {
    let after = LogIndex(try reader.boundedNumber())
    var index = after
    var entries: [LogEntry] = []
    for _ in 0..<(try reader.count(max: ConsensusLimits.appendEntriesMax)) {
      index = index.next
      let term = Term(try reader.boundedNumber())
      entries.append(LogEntry(index: index, term: term, payload: try LogEntry.Payload(from: &reader)))
    }
    return .entries(entries, after: after)
  }
}

extension CatchUpMessage.Head {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.varint(index.number)
    writer.raw(digest.bytes)
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    index = LogIndex(try reader.boundedNumber())
    digest = try Digest(from: &reader)
  }
}

extension ControlState {
  public var head: CatchUpMessage.Head { CatchUpMessage.Head(index: applied.index, digest: history) }
}
