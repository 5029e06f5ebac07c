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

/// Encoded frames that wait for a link, in strict priority of their lanes.
///
/// A lane gives out one fragment at a time, so a message of a higher lane overtakes between two fragments of a lower one.
struct LaneQueues: Sendable {
  private struct Queue: Sendable {
    var frames: [[UInt8]] = []
    var head = 0
    var bytes = 0

    var count: Int { frames.count - head }

    mutating func pop() -> [UInt8]? {
      guard head < frames.count else { return nil }
      let frame = frames[head]
      frames[head] = []
      head += 1
      bytes -= frame.count
      if head == frames.count {
        frames.removeAll(keepingCapacity: frames.count <= LinkLimits.laneFramesMax / 8)
        head = 0
      } else if head > 256 && head > frames.count / 2 {
        frames.removeSubrange(..<head)
        head = 0
      }
      return frame
    }
  }

  private var queues = [Queue](repeating: Queue(), count: Lane.allCases.count)
  private(set) var bytes = 0

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
    var framesMax = LinkLimits.laneFramesMax
    var bytesMax = Self.bytesMax(frame.lane)
    if frame.kind == .request { (framesMax, bytesMax) = (framesMax / 4 * 3, bytesMax / 4 * 3) }
    guard queues[index].count + fragments <= framesMax, queues[index].bytes + added <= bytesMax else { return .queueFull }
    queues[index].frames.append(contentsOf: frame.encoded())
    queues[index].bytes += added
    bytes += added
    return .queued
  }

  /// The next frame to write: of the first lane that has one.
  mutating func next() -> [UInt8]? {
    for index in queues.indices {
      if let frame = queues[index].pop() {
        bytes -= frame.count
        return frame
      }
    }
    return nil
  }

  /// Appends frames to `batch` until it holds `limit` bytes or nothing waits.
  mutating func take(into batch: inout [UInt8], limit: Int) {
    while batch.count < limit, let frame = next() { batch.append(contentsOf: frame) }
  }
}
