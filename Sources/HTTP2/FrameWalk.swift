/// The head of a received frame (RFC 9113 4.1).
struct FrameHead {
  var length: Int
  var type: UInt8
  var flags: UInt8
  var stream: UInt32

  static let endStream: UInt8 = 1
  static let endHeaders: UInt8 = 4

  func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
}

/// Finds the heads of frames in what a connection delivers, however it is cut: budgets have to see every frame, also those
/// that the library ignores without a word.
struct FrameWalk {
  /// Bytes to go until the next head: of the client's preface at first, of payloads later.
  private var skip: Int
  private var seen = 0
  private var start: UInt64 = 0
  private var stream: UInt32 = 0

  init(after preface: Int) { skip = preface }

  /// The next head that is complete in `bytes`, and `position` behind it.
  mutating func next(_ bytes: UnsafeBufferPointer<UInt8>, _ position: inout Int) -> FrameHead? {
    let step = min(skip, bytes.count - position)
    position += step
    skip -= step
    while position < bytes.count, seen < 9 {
      let byte = bytes[position]
      if seen < 5 { start = start << 8 | UInt64(byte) } else { stream = stream << 8 | UInt32(byte) }
      seen += 1
      position += 1
    }
    guard seen == 9 else { return nil }
    let head = FrameHead(
      length: Int(start >> 16 & 0xFF_FFFF), type: UInt8(truncatingIfNeeded: start >> 8),
      flags: UInt8(truncatingIfNeeded: start), stream: stream & 0x7FFF_FFFF)
    seen = 0
    start = 0
    skip = head.length
    return head
  }
}

/// What a client has done with its streams, by its own frames: it may not go on with one it ended or reset, nor open one
/// below the last (RFC 9113 5.1 and 5.1.1). The library forgets closed streams, so that they take no memory.
struct PeerStreams {
  enum State: UInt8 { case unused, open, ended }

  private var highest: UInt32 = 0
  /// The last streams by number; empty until the first is opened.
  private var states: [UInt8] = []
  private static let remembered = 1024

  private static func place(_ id: UInt32) -> Int { Int(id >> 1) & (remembered - 1) }

  /// Nil for streams that are idle, or so old that they were forgotten.
  private func state(_ id: UInt32) -> State? {
    guard id <= highest, highest - id < 2 * UInt32(Self.remembered) else { return nil }
    return State(rawValue: states[Self.place(id)])
  }

  private mutating func set(_ id: UInt32, _ state: State) { states[Self.place(id)] = state.rawValue }

  private mutating func open(_ id: UInt32) {
    if states.isEmpty { states = Array(repeating: State.unused.rawValue, count: Self.remembered) }
    var skipped = highest == 0 ? 1 : highest + 2
    if id > skipped, id - skipped >= 2 * UInt32(Self.remembered) { skipped = id - 2 * UInt32(Self.remembered) + 2 }
    while skipped < id {
      set(skipped, .unused)
      skipped += 2
    }
    highest = id
    set(id, .open)
  }

  /// The error that a frame of a client is, or nil.
  mutating func take(_ head: FrameHead, isHeaders: Bool, isReset: Bool) -> HTTP2Code? {
    // Even numbers are the library's to refuse.
    guard head.stream & 1 == 1 else { return nil }
    if isHeaders, head.stream > highest {
      open(head.stream)
    } else {
      switch state(head.stream) {
      case .unused? where !isReset: return isHeaders ? .protocolError : .streamClosed
      case .ended? where !isReset: return .streamClosed
      case .open?: break
      default: return nil
      }
    }
    if isReset || head.has(FrameHead.endStream) { set(head.stream, .ended) }
    return nil
  }
}
