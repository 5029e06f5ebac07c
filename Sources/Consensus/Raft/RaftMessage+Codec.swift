import Primitives

extension RaftMessage {
  /// The wire form's version; a receiver refuses others, so that mixed versions fail closed.
  private static let version: UInt8 = 1

  public func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 64)
    writer.uint8(Self.version)
    writer.uint64(cluster.number)
    writer.varint(term.number)
    writer.uint8(kind)
    encodeBody(to: &writer)
    return writer.bytes
  }

  /// Decodes untrusted bytes; throws on anything that `encoded()` would not produce.
  public init(decoding bytes: ArraySlice<UInt8>) throws(ByteError) {
    guard bytes.count <= ConsensusLimits.messageBytesMax else { throw .tooLong }
    var reader = ByteReader(bytes)
    guard try reader.uint8() == Self.version else { throw .malformed }
    cluster = ClusterTag(try reader.uint64())
    term = Term(try reader.boundedNumber())
    body = try Self.body(kind: try reader.uint8(), from: &reader)
    try reader.finish()
  }

  public init(decoding bytes: [UInt8]) throws(ByteError) { try self.init(decoding: bytes[...]) }

  private var kind: UInt8 {
    switch body {
    case .preVote: 1
    case .preVoteReply: 2
    case .vote: 3
    case .voteReply: 4
    case .append: 5
    case .appendReply(.matched): 6
    case .appendReply(.conflict): 7
    case .heartbeat: 8
    case .heartbeatReply: 9
    case .snapshotChunk: 10
    case .snapshotReply: 11
    case .timeoutNow: 12
    }
  }

  private func encodeBody(to writer: inout ByteWriter) {
    switch body {
    case .preVote(let last):
      last.encode(to: &writer)
    case .preVoteReply(let granted), .voteReply(let granted):
      writer.bool(granted)
    case .vote(let last, let forced):
      last.encode(to: &writer)
      writer.bool(forced)
    case .append(let previous, let entries, let commit):
      previous.encode(to: &writer)
      writer.varint(commit.number)
      writer.count(entries.count)
      for entry in entries {
        writer.varint(entry.term.number)
        entry.payload.encode(to: &writer)
      }
    case .appendReply(.matched(let index)):
      writer.varint(index.number)
    case .appendReply(.conflict(let index, let hint)):
      writer.varint(index.number)
      hint.encode(to: &writer)
    case .heartbeat(let commit, let round):
      writer.varint(commit.number)
      writer.uint64(round)
    case .heartbeatReply(let round):
      writer.uint64(round)
    case .snapshotChunk(let chunk):
      chunk.encode(to: &writer)
    case .snapshotReply(let position, let offset):
      position.encode(to: &writer)
      writer.count(offset)
    case .timeoutNow:
      break
    }
  }

  private static func body(kind: UInt8, from reader: inout ByteReader) throws(ByteError) -> Body {
    switch kind {
    case 1: return .preVote(last: try LogPosition(from: &reader))
    case 2: return .preVoteReply(granted: try reader.bool())
    case 3: return .vote(last: try LogPosition(from: &reader), forced: try reader.bool())
    case 4: return .voteReply(granted: try reader.bool())
    case 5: return try append(from: &reader)
    case 6: return .appendReply(.matched(LogIndex(try reader.boundedNumber())))
    case 7:
      let index = LogIndex(try reader.boundedNumber())
      return .appendReply(.conflict(at: index, hint: try LogPosition(from: &reader)))
    case 8: return .heartbeat(commit: LogIndex(try reader.boundedNumber()), round: try reader.uint64())
    case 9: return .heartbeatReply(round: try reader.uint64())
    case 10: return .snapshotChunk(try SnapshotChunk(from: &reader))
    case 11:
      let position = try LogPosition(from: &reader)
      return .snapshotReply(at: position, offset: try reader.count(max: ConsensusLimits.snapshotBytesMax))
    case 12: return .timeoutNow
    default: throw .malformed
    }
  }

  /// Indexes are not carried: entries follow on `previous`, so they cannot have gaps.
  private static func append(from reader: inout ByteReader) throws(ByteError) -> Body {
    let previous = try LogPosition(from: &reader)
    let commit = LogIndex(try reader.boundedNumber())
    let count = try reader.count(max: ConsensusLimits.appendEntriesMax)
    var entries: [LogEntry] = []
    var at = previous
    for _ in 0..<count {
      let term = Term(try reader.boundedNumber())
      guard term >= at.term else { throw .malformed }
      at = LogPosition(index: at.index.next, term: term)
      entries.append(LogEntry(index: at.index, term: term, payload: try LogEntry.Payload(from: &reader)))
    }
    return .append(previous: previous, entries: entries, commit: commit)
  }
}

extension LogPosition {
  func encode(to writer: inout ByteWriter) {
    writer.varint(index.number)
    writer.varint(term.number)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    index = LogIndex(try reader.boundedNumber())
    term = Term(try reader.boundedNumber())
  }
}

extension SnapshotChunk {
  fileprivate func encode(to writer: inout ByteWriter) {
    position.encode(to: &writer)
    configuration.encode(to: &writer)
    writer.raw(digest.bytes)
    writer.count(total)
    writer.count(offset)
    writer.lengthPrefixed(bytes)
  }

  fileprivate init(from reader: inout ByteReader) throws(ByteError) {
    position = try LogPosition(from: &reader)
    configuration = try ClusterConfiguration(from: &reader)
    digest = try Digest(from: &reader)
    total = try reader.count(max: ConsensusLimits.snapshotBytesMax)
    offset = try reader.count(max: total)
    bytes = Array(try reader.lengthPrefixed(max: min(ConsensusLimits.chunkBytesMax, total - offset)))
  }
}
