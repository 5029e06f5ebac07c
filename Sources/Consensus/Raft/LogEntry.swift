import Primitives

/// One entry of the replicated log.
public struct LogEntry: Hashable, Sendable {
  public let index: LogIndex
  /// The term of the leader that created it.
  public let term: Term
  public let payload: Payload

  public enum Payload: Hashable, Sendable {
    /// Begins a leader's term, so that earlier entries can be committed (Raft thesis §3.6.2).
    case noop
    /// Opaque bytes for the state machine.
    case command([UInt8])
    /// The members from this entry on, in effect as soon as it is appended (Raft thesis §4.1).
    case configuration(ClusterConfiguration)
  }

  public init(index: LogIndex, term: Term, payload: Payload) {
    self.index = index
    self.term = term
    self.payload = payload
  }

  public var position: LogPosition { LogPosition(index: index, term: term) }

  /// Bytes counted against limits: the payload and a constant for what surrounds it.
  var cost: Int {
    switch payload {
    case .noop: 32
    case .command(let bytes): 32 + bytes.count
    case .configuration(let configuration): 32 + 64 * (configuration.voters.count + configuration.learners.count)
    }
  }
}

extension LogEntry.Payload {
  /// The form on disk and on the wire: a kind byte and its bytes.
  public func encode(to writer: inout ByteWriter) {
    switch self {
    case .noop:
      writer.uint8(0)
    case .command(let bytes):
      writer.uint8(1)
      writer.lengthPrefixed(bytes)
    case .configuration(let configuration):
      writer.uint8(2)
      configuration.encode(to: &writer)
    }
  }

  public init(from reader: inout ByteReader) throws(ByteError) {
    switch try reader.uint8() {
    case 0: self = .noop
    case 1: self = .command(Array(try reader.lengthPrefixed(max: ConsensusLimits.commandBytesMax)))
    case 2: self = .configuration(try ClusterConfiguration(from: &reader))
    default: throw .malformed
    }
  }
}
