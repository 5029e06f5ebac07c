import Primitives

/// What became of a message given to a link.
public enum SendResult: Hashable, Sendable {
  /// It waits in its lane or was written; delivery is not promised.
  case queued
  /// The lane holds as many messages or bytes as it may.
  case queueFull
  /// The message is longer than its kind allows.
  case tooLong
  /// No address is known for that node.
  case unknownNode
  /// The link is closed.
  case closed
}

/// Messages that wait for a link, in strict priority of their lanes.
///
/// A lane gives out one fragment at a time, so a message of a higher lane overtakes between two fragments of a lower one.
struct LaneQueues: Sendable {
  private struct Queue: Sendable {
    private var messages: [Frame] = []
    private var head = 0
    /// Bytes of the first message's body that were taken.
    private var taken = 0
    /// Frames and bytes that wait, headers included.
    private(set) var count = 0
    private(set) var bytes = 0

    mutating func append(_ message: Frame, frames: Int, bytes added: Int) {
      messages.append(message)
      count += frames
      bytes += added
    }

    /// Appends the next frame to `batch`, if there is one.
    mutating func pop(into batch: inout [UInt8]) -> Bool {
      guard head < messages.count else { return false }
      let before = batch.count
      taken = messages[head].encode(from: taken, into: &batch)
      count -= 1
      bytes -= batch.count - before
      guard taken == messages[head].body.count else { return true }
      messages[head].body = []
      head += 1
      taken = 0
      if head == messages.count {
        messages.removeAll(keepingCapacity: messages.count <= LinkLimits.laneFramesMax / 8)
        head = 0
      } else if head > 256 && head > messages.count / 2 {
        messages.removeSubrange(..<head)
        head = 0
      }
      return true
    }
  }

  private var queues = [Queue](repeating: Queue(), count: Lane.allCases.count)
  var bytes: Int { queues.reduce(0) { $0 + $1.bytes } }

  var isEmpty: Bool { queues.allSatisfy { $0.count == 0 } }
  func count(_ lane: Lane) -> Int { queues[Int(lane.rawValue)].count }

  static func bytesMax(_ lane: Lane) -> Int {
    switch lane {
    case .urgent: LinkLimits.urgentBytesMax
    case .calls: LinkLimits.callsBytesMax
    case .bulk: LinkLimits.bulkBytesMax
    }
  }

  /// Queues the whole message or nothing. New calls leave a quarter of their lane to replies.
  mutating func append(_ frame: Frame) -> SendResult {
    guard frame.body.count <= frame.kind.bodyBytesMax else { return .tooLong }
    let fragments = max(1, (frame.body.count + LinkLimits.fragmentBytesMax - 1) / LinkLimits.fragmentBytesMax)
    let added = frame.body.count + fragments * FrameHeader.byteCount
    let index = Int(frame.lane.rawValue)
    var framesMax = frame.lane == .calls ? LinkLimits.callsFramesMax : LinkLimits.laneFramesMax
    var bytesMax = Self.bytesMax(frame.lane)
    if frame.kind == .request { (framesMax, bytesMax) = (framesMax / 4 * 3, bytesMax / 4 * 3) }
    guard queues[index].count + fragments <= framesMax, queues[index].bytes + added <= bytesMax else { return .queueFull }
    queues[index].append(frame, frames: fragments, bytes: added)
    return .queued
  }

  /// The next frame to write is of this lane; of bulk only when it may go.
  private func next(mayTakeBulk: Bool) -> Lane? {
    Lane.allCases.first { count($0) > 0 && ($0 != .bulk || mayTakeBulk) }
  }

  /// Appends frames to `batch` until it holds `limit` bytes or nothing that may go waits: no frame of bulk begins beyond
  /// `bulkRoom` bytes of them. Returns the bytes of bulk taken.
  @discardableResult
  mutating func take(into batch: inout [UInt8], limit: Int, bulkRoom: Int = .max) -> Int {
    var bulk = 0
    while batch.count < limit, let lane = next(mayTakeBulk: bulk < bulkRoom) {
      let before = batch.count
      _ = queues[Int(lane.rawValue)].pop(into: &batch)
      if lane == .bulk { bulk += batch.count - before }
    }
    return bulk
  }
}
