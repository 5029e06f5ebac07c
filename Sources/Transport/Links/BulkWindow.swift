/// How many bytes of bulk may be on their way to a peer that has not read them yet.
///
/// Whatever the kernels of both sides hold of a bulk transfer stands before every urgent frame, and with a peer that reads more slowly
/// than this side writes that is megabytes. So the sender puts a ping behind each part of a transfer; its pong says that the peer
/// has read so far. Any peer answers pings, and nothing else has to be agreed on.
struct BulkWindow: Sendable {
  /// Set in the ids of these pings; those that measure time have a time of the sender's clock there.
  private static let idBit: UInt64 = 1 << 63

  /// Bytes taken, those up to the last mark, and those that the peer has read, all since the link began.
  private var taken: UInt64 = 0
  private var marked: UInt64 = 0
  private var read: UInt64 = 0
  /// Where the marks stand that have no answer yet; at most `LinkLimits.bulkWindowBytes / LinkLimits.bulkMarkBytes + 1`.
  private var marks: [UInt64] = []
  /// The number of the first of them.
  private var firstMark: UInt64 = 0

  /// Bytes that may still be taken. What is taken may pass it by a part of one frame.
  var room: Int { max(0, LinkLimits.bulkWindowBytes - Int(clamping: taken &- read)) }

  /// Notes bytes that were taken. Returns the id of the ping to send behind them, when one is due.
  mutating func take(_ bytes: Int) -> UInt64? {
    taken &+= UInt64(bytes)
    guard taken &- marked >= UInt64(LinkLimits.bulkMarkBytes) else { return nil }
    marked = taken
    marks.append(taken)
    return Self.idBit | (firstMark &+ UInt64(marks.count - 1))
  }

  /// Takes the id of a pong; false when it answers no mark. Frames keep their order, so the first mark is answered first: any other
  /// number is the peer's mistake, and opens nothing.
  mutating func answered(_ id: UInt64) -> Bool {
    guard id & Self.idBit != 0 else { return false }
    if let first = marks.first, id == Self.idBit | firstMark {
      read = first
      marks.removeFirst()
      firstMark &+= 1
    }
    return true
  }
}
