import Primitives
import Testing

@testable import Transport

private func bytes(_ frames: [Frame]) -> [UInt8] { frames.flatMap { $0.encoded().flatMap { $0 } } }

extension Frame {
  /// The message as frames, ready to write.
  fileprivate func encoded() -> [[UInt8]] {
    var frames: [[UInt8]] = []
    var taken = 0
    repeat {
      var frame: [UInt8] = []
      taken = encode(from: taken, into: &frame)
      frames.append(frame)
    } while taken < body.count
    return frames
  }
}

extension LaneQueues {
  /// The next frame alone.
  fileprivate mutating func next() -> [UInt8]? {
    var frame: [UInt8] = []
    take(into: &frame, limit: 1)
    return frame.isEmpty ? nil : frame
  }
}

private func decode(_ bytes: [UInt8], pieces: (Int) -> Int) throws -> [Frame] {
  var decoder = FrameDecoder()
  var frames: [Frame] = []
  var rest = bytes[...]
  while !rest.isEmpty {
    let piece = rest.prefix(max(1, pieces(rest.count)))
    rest = rest.dropFirst(piece.count)
    decoder.append(piece)
    while let frame = try decoder.next() { frames.append(frame) }
  }
  #expect(!decoder.isMidMessage)
  return frames
}

/// A header, also of kinds and lanes that do not exist.
private func rawHeader(_ length: UInt32, kind: UInt8, lane: UInt8, id: UInt64 = 0) -> [UInt8] {
  var writer = ByteWriter()
  writer.uint32(length)
  writer.uint8(kind)
  writer.uint8(lane)
  writer.uint64(id)
  return writer.bytes
}

@Suite("Frames") struct FrameTests {
  static let sample: [Frame] = [
    Frame(kind: .ping, lane: .urgent, id: .max),
    Frame(kind: .raft, lane: .urgent, body: [1, 2, 3]),
    Frame(kind: .request, lane: .calls, id: 7, body: [UInt8](repeating: 5, count: 16_370)),
    Frame(kind: .reply, lane: .calls, id: 7, body: [UInt8](repeating: 6, count: 16_371)),
    Frame(kind: .catchUp, lane: .bulk, id: 1, body: [UInt8](repeating: 7, count: 100_000)),
    Frame(kind: .cancel, lane: .calls, id: 9),
  ]

  @Test("a header has exactly the bytes of docs/wire.md") func header() {
    let frame = Frame(kind: .reply, lane: .calls, id: 0x0102_0304_0506_0708, body: [0xAA])
    #expect(frame.encoded() == [[0, 0, 0, 1, 33, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0xAA]])
  }

  @Test("one byte at a time, all at once, and in random pieces give the same messages", arguments: 0..<6)
  func pieces(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let wire = bytes(Self.sample)
    #expect(
      try decode(wire) { count in
        switch seed {
        case 0: 1
        case 1: count
        default: random.index(below: 40_000)
        }
      } == Self.sample)
  }

  @Test("messages of different lanes may be interleaved between their fragments") func interleaved() throws {
    let bulk = Self.sample[4].encoded()
    let wire = bulk[0] + bytes([Self.sample[0]]) + bulk[1] + bytes([Self.sample[1]]) + bulk[2...].flatMap { $0 }
    let frames = try decode(wire) { $0 }
    #expect(frames == [Self.sample[0], Self.sample[1], Self.sample[4]])
  }

  @Test("unknown kinds are skipped by length, also in fragments") func unknownKinds() throws {
    let unknown = [
      rawHeader(3, kind: 200, lane: 0x82) + [1, 2, 3], rawHeader(0, kind: 200, lane: 2),
    ].flatMap { $0 }
    #expect(try decode(unknown + bytes([Self.sample[1]])) { _ in 1 } == [Self.sample[1]])
  }

  static let broken: [(String, [UInt8], FrameError)] = [
    ("4 GiB", rawHeader(.max, kind: 16, lane: 0), .frameTooLong(bytes: .max)),
    ("one byte too long", rawHeader(16_371, kind: 16, lane: 0), .frameTooLong(bytes: 16_371)),
    ("a lane that does not exist", rawHeader(0, kind: 16, lane: 3), .unknownLane(3)),
    ("reserved bits", rawHeader(0, kind: 16, lane: 0x40), .unknownLane(0x40)),
    (
      "another kind within a message", rawHeader(1, kind: 16, lane: 0x80) + [1] + rawHeader(1, kind: 17, lane: 0) + [1],
      .fragmentMismatch
    ),
    (
      "another id within a message",
      rawHeader(1, kind: 16, lane: 0x80) + [1] + rawHeader(1, kind: 16, lane: 0, id: 1) + [1], .fragmentMismatch
    ),
    ("a fragment without progress", rawHeader(0, kind: 16, lane: 0x80), .fragmentMismatch),
    ("a cancel with a body", rawHeader(1, kind: 34, lane: 1) + [0], .messageTooLong(kind: .cancel)),
    (
      "a Hello in endless fragments",
      (0..<13).flatMap { _ in rawHeader(1_000, kind: 1, lane: 0x80) + [UInt8](repeating: 0, count: 1_000) },
      .messageTooLong(kind: .hello)
    ),
  ]

  @Test("a stream that breaks the rules is an error by name, at any reading", arguments: broken)
  func refusesBroken(_ what: String, wire: [UInt8], error: FrameError) {
    for size in [1, 7, wire.count] { #expect(throws: error, "\(what)") { try decode(wire) { _ in size } } }
  }

  @Test("a truncated frame is never a message") func truncated() throws {
    let wire = bytes([Self.sample[1]])
    for count in 1..<wire.count {
      var decoder = FrameDecoder()
      decoder.append(wire.prefix(count))
      #expect(try decoder.next() == nil)
      #expect(decoder.isMidMessage)
    }
  }

  @Test("random bytes decode or fail, and never trap", arguments: 0..<50)
  func fuzz(_ seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var wire = bytes(Array(Self.sample.prefix(3)))
    for _ in 0..<20 { wire[random.index(below: 64)] = UInt8(truncatingIfNeeded: random.next()) }
    _ = try? decode(wire) { _ in random.index(below: 500) }
  }
}

@Suite("Lanes") struct FrameLaneTests {
  private func frame(_ lane: Lane, _ count: Int = 1, kind: FrameKind = .catchUp) -> Frame {
    Frame(kind: kind, lane: lane, body: [UInt8](repeating: 0, count: count))
  }

  @Test("a bulk transfer never delays an urgent frame by more than one frame") func priority() {
    var queues = LaneQueues()
    #expect(queues.append(frame(.bulk, 1 << 20)) == .queued)
    var batch: [UInt8] = []
    queues.take(into: &batch, limit: LinkLimits.writeBatchBytes)
    // What was taken before the urgent frame came is one frame.
    #expect(batch.count <= FrameHeader.byteCount + LinkLimits.fragmentBytesMax)
    #expect(queues.append(frame(.urgent)) == .queued)
    #expect(queues.append(frame(.calls)) == .queued)
    #expect(queues.next()?[5] == Lane.urgent.rawValue)
    #expect(queues.next()?[5] == Lane.calls.rawValue)
    #expect(queues.next().map { $0[5] & 3 } == Lane.bulk.rawValue)
  }

  @Test("frames of one lane leave in the order in which they came, whole") func order() throws {
    var queues = LaneQueues()
    var decoder = FrameDecoder()
    var sent: [Frame] = []
    var random = SeededGenerator(seed: 4)
    for id in 0..<500 {
      let lane = Lane.allCases[random.index(below: 3)]
      let body = [UInt8](repeating: UInt8(id & 255), count: random.index(below: 40_000))
      let frame = Frame(kind: .catchUp, lane: lane, id: UInt64(id), body: body)
      if queues.append(frame) == .queued { sent.append(frame) }
      if random.chance(0.7), let bytes = queues.next() { decoder.append(bytes) }
    }
    while let bytes = queues.next() { decoder.append(bytes) }
    var received: [Frame] = []
    while let frame = try decoder.next() { received.append(frame) }
    for lane in Lane.allCases { #expect(received.filter { $0.lane == lane } == sent.filter { $0.lane == lane }) }
    #expect(queues.isEmpty && queues.bytes == 0)
  }

  @Test("a full lane refuses whole messages and leaves the other lanes alone") func full() {
    var queues = LaneQueues()
    for _ in 0..<LinkLimits.laneFramesMax { #expect(queues.append(frame(.urgent)) == .queued) }
    #expect(queues.append(frame(.urgent)) == .queueFull)
    #expect(queues.append(frame(.bulk, 32 << 20)) == .queued)
    #expect(queues.append(frame(.bulk, 32 << 20)) == .queueFull)
    #expect(queues.append(frame(.bulk, 33 << 20)) == .tooLong)
    #expect(queues.append(frame(.calls)) == .queued)
    _ = queues.next()
    #expect(queues.append(frame(.urgent)) == .queued)
  }

  @Test("new calls leave room for replies") func replies() {
    var queues = LaneQueues()
    while queues.append(frame(.calls, 10, kind: .request)) == .queued {}
    #expect(queues.append(frame(.calls, 10, kind: .reply)) == .queued)
  }
}
