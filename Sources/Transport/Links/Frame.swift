import Primitives

/// A priority class on a link. A lower raw value is always served first.
public enum Lane: UInt8, CaseIterable, Sendable {
  /// Raft, membership, leases, keep-alives.
  case urgent = 0
  /// Remote calls and their replies.
  case calls = 1
  /// Snapshots and catch-up.
  case bulk = 2
}

/// What a frame carries. The numbers are the wire's (docs/wire.md) and are never used again for something else.
public enum FrameKind: UInt8, CaseIterable, Sendable {
  /// Who the sender is; the first frame of each side.
  case hello = 1
  /// The receiver of a Hello accepts its sender.
  case welcome = 2
  /// The receiver of a Hello refuses its sender, with code and text.
  case reject = 3
  case ping = 4
  case pong = 5
  /// The sender ends the link on purpose, with a reason.
  case goodbye = 6

  /// Messages of the Raft core.
  case raft = 16
  /// Probes and acknowledgements that UDP did not carry.
  case membership = 17
  /// Push-pull of the registry.
  case registry = 18
  /// Role leases.
  case lease = 19
  /// Committed revisions for nodes that do not vote, and snapshots.
  case catchUp = 20

  /// A remote call.
  case request = 32
  /// The one answer to a call.
  case reply = 33
  /// The caller no longer wants an answer.
  case cancel = 34
  /// Names a recipient and target once, for the requests that follow on this link.
  case route = 35
  /// Asks to be told when an actor is gone; its number is the asker's.
  case watch = 36
  /// The actor of that watch lives, and which life of it is watched.
  case watching = 37
  /// The actor of that watch is gone, and why.
  case terminated = 38
  /// The asker no longer wants to be told.
  case unwatch = 39

  /// Bytes of one whole message of this kind, all fragments together.
  public var bodyBytesMax: Int {
    switch self {
    case .hello: LinkLimits.helloBytesMax
    case .welcome: 64
    case .reject, .goodbye: 1_024
    case .ping, .pong: 8
    case .raft: 4 << 20
    case .membership: 65_536
    case .registry: 4 << 20
    case .lease: 65_536
    case .catchUp: 32 << 20
    case .request, .reply: CallLimits.bodyBytesMax
    case .cancel, .unwatch: 0
    case .route: 2_048
    case .watch: 256
    case .watching, .terminated: 8
    }
  }
}

/// The fixed part in front of every frame: 14 bytes, big-endian.
///
/// `length u32 · kind u8 · lane u8 · id u64`. `length` counts the bytes after the header. The low two bits of the lane byte are
/// the lane; bit 7 says that the same message continues in the next frame of that lane; other bits are zero.
public struct FrameHeader: Hashable, Sendable {
  public static let byteCount = 14
  static let continuesBit: UInt8 = 0x80

  public var length: UInt32
  /// Unknown kinds are kept so that they can be skipped.
  public var kind: UInt8
  public var lane: Lane
  public var continues: Bool
  /// A call id, or a number the kind gives a meaning to; zero when it has none.
  public var id: UInt64

  public init(length: UInt32, kind: UInt8, lane: Lane, continues: Bool = false, id: UInt64 = 0) {
    self.length = length
    self.kind = kind
    self.lane = lane
    self.continues = continues
    self.id = id
  }

  func encode(into bytes: inout [UInt8]) {
    withUnsafeBytes(of: length.bigEndian) { bytes.append(contentsOf: $0) }
    bytes.append(kind)
    bytes.append(lane.rawValue | (continues ? Self.continuesBit : 0))
    withUnsafeBytes(of: id.bigEndian) { bytes.append(contentsOf: $0) }
  }
}

/// One whole message, joined from its fragments.
public struct Frame: Hashable, Sendable {
  public var kind: FrameKind
  public var lane: Lane
  public var id: UInt64
  public var body: [UInt8]

  public init(kind: FrameKind, lane: Lane, id: UInt64 = 0, body: [UInt8] = []) {
    self.kind = kind
    self.lane = lane
    self.id = id
    self.body = body
  }

  /// Whether its receiver may have something to say to it: of who has only been answered, or told something, no word is expected.
  var mayBeAnswered: Bool {
    switch kind {
    case .pong, .reply, .goodbye: false
    case .catchUp: lane == .bulk
    default: true
    }
  }

  /// Appends the whole message as frames.
  package func encode(into bytes: inout [UInt8]) {
    var taken = 0
    repeat { taken = encode(from: taken, into: &bytes) } while taken < body.count
  }

  /// Appends the frame that begins with this byte of the body; where the next one begins.
  func encode(from start: Int, into bytes: inout [UInt8]) -> Int {
    let end = min(body.count, start + LinkLimits.fragmentBytesMax)
    FrameHeader(
      length: UInt32(end - start), kind: kind.rawValue, lane: lane, continues: end < body.count, id: id
    ).encode(into: &bytes)
    bytes.append(contentsOf: body[start..<end])
    return end
  }
}
