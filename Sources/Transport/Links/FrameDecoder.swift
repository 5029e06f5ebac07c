import Primitives

/// Why a byte stream is not one of frames; the link that carries it is closed.
public enum FrameError: Error, Hashable, Sendable, CustomStringConvertible {
  /// A frame announces more bytes than a frame may have.
  case frameTooLong(bytes: UInt32)
  /// A message of this kind is longer than the kind allows.
  case messageTooLong(kind: FrameKind)
  /// The lane byte names no lane.
  case unknownLane(UInt8)
  /// A fragment does not belong to the message its lane is carrying.
  case fragmentMismatch
  /// Before the handshake more bytes arrived than a handshake needs.
  case handshakeTooLong

  public var description: String {
    switch self {
    case .frameTooLong(let bytes): "a frame announced \(bytes) bytes; the maximum is \(LinkLimits.fragmentBytesMax)"
    case .messageTooLong(let kind): "a \(kind) message exceeded \(kind.bodyBytesMax) bytes"
    case .unknownLane(let byte): "a frame named lane byte \(byte), which does not exist"
    case .fragmentMismatch: "a fragment did not belong to the message before it"
    case .handshakeTooLong: "more than \(LinkLimits.handshakeBytesMax) bytes arrived before the handshake was finished"
    }
  }
}

/// Turns received bytes, in pieces of any size, into whole messages.
///
/// Nothing is reserved for a length before its bytes are there; kinds this version does not know are skipped.
public struct FrameDecoder: Sendable {
  private var buffer: [UInt8] = []
  private var start = 0
  private var partial: [Partial?] = [nil, nil, nil]
  /// Frames of unknown kinds that were skipped.
  public private(set) var skipped: UInt64 = 0

  private struct Partial: Sendable {
    var kind: UInt8
    var id: UInt64
    var body: [UInt8]
  }

  public init() {}

  /// True while a frame or message has begun and not ended, which a deadline must bound.
  public var isMidMessage: Bool { start < buffer.count || partial.contains { $0 != nil } }

  public mutating func append(_ bytes: some Collection<UInt8>) {
    if start == buffer.count {
      buffer.removeAll(keepingCapacity: buffer.capacity <= LinkLimits.readBatchBytes)
      start = 0
    } else if start > LinkLimits.fragmentBytesMax {
      buffer.removeSubrange(..<start)
      start = 0
    }
    buffer.append(contentsOf: bytes)
  }

  /// The next whole message, or nil until more bytes arrive.
  public mutating func next() throws(FrameError) -> Frame? {
    while let header = try header() {
      let bodyStart = start + FrameHeader.byteCount
      let bodyEnd = bodyStart + Int(header.length)
      guard bodyEnd <= buffer.count else { return nil }
      start = bodyEnd
      if let frame = try accept(header, body: buffer[bodyStart..<bodyEnd]) { return frame }
    }
    return nil
  }

  private func header() throws(FrameError) -> FrameHeader? {
    guard buffer.count - start >= FrameHeader.byteCount else { return nil }
    var length: UInt32 = 0
    for offset in 0..<4 { length = length << 8 | UInt32(buffer[start + offset]) }
    let kind = buffer[start + 4]
    let laneByte = buffer[start + 5]
    var id: UInt64 = 0
    for offset in 6..<14 { id = id << 8 | UInt64(buffer[start + offset]) }
    guard length <= UInt32(LinkLimits.fragmentBytesMax) else { throw .frameTooLong(bytes: length) }
    guard let lane = Lane(rawValue: laneByte & ~FrameHeader.continuesBit) else { throw .unknownLane(laneByte) }
    return FrameHeader(
      length: length, kind: kind, lane: lane, continues: laneByte & FrameHeader.continuesBit != 0, id: id)
  }

  private mutating func accept(_ header: FrameHeader, body: ArraySlice<UInt8>) throws(FrameError) -> Frame? {
    let index = Int(header.lane.rawValue)
    if let part = partial[index], part.kind != header.kind || part.id != header.id { throw .fragmentMismatch }
    guard let kind = FrameKind(rawValue: header.kind) else {
      partial[index] = header.continues ? Partial(kind: header.kind, id: header.id, body: []) : nil
      if !header.continues { skipped &+= 1 }
      return nil
    }
    let begun = partial[index]?.body.count ?? 0
    guard begun + body.count <= kind.bodyBytesMax else { throw .messageTooLong(kind: kind) }
    if header.continues {
      // An empty fragment that continues would let a peer keep a message open without progress.
      guard !body.isEmpty else { throw .fragmentMismatch }
      if partial[index] == nil { partial[index] = Partial(kind: header.kind, id: header.id, body: []) }
      partial[index]?.body.append(contentsOf: body)
      return nil
    }
    guard var part = partial[index] else {
      return Frame(kind: kind, lane: header.lane, id: header.id, body: Array(body))
    }
    partial[index] = nil
    part.body.append(contentsOf: body)
    return Frame(kind: kind, lane: header.lane, id: header.id, body: part.body)
  }
}
