/// Frames made by hand (RFC 9113 4.1), right or wrong as a test wants them.
enum Frame {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  static let endStream: UInt8 = 1
  static let acknowledge: UInt8 = 1
  static let endHeaders: UInt8 = 4
  static let padded: UInt8 = 8

  static func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
    let length = payload.count
    return [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags] + bytes(stream) + payload
  }

  static func bytes(_ number: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> UInt32($0)) }
  }

  static func data(_ stream: UInt32, _ payload: [UInt8], flags: UInt8 = 0) -> [UInt8] {
    frame(0, flags: flags, stream: stream, payload)
  }

  static func headers(_ stream: UInt32, _ fields: [(String, String)], flags: UInt8 = endHeaders | endStream) -> [UInt8] {
    frame(1, flags: flags, stream: stream, block(fields))
  }

  static func priority(_ stream: UInt32) -> [UInt8] { frame(2, stream: stream, bytes(0) + [15]) }
  static func reset(_ stream: UInt32, _ code: UInt32 = 8) -> [UInt8] { frame(3, stream: stream, bytes(code)) }

  static func settings(_ entries: [(UInt16, UInt32)] = [], flags: UInt8 = 0) -> [UInt8] {
    frame(4, flags: flags, entries.flatMap { [UInt8($0.0 >> 8), UInt8($0.0 & 255)] + bytes($0.1) })
  }

  static func ping(_ flags: UInt8 = 0) -> [UInt8] { frame(6, flags: flags, [1, 2, 3, 4, 5, 6, 7, 8]) }
  static func goAway(last: UInt32, _ code: UInt32 = 0) -> [UInt8] { frame(7, bytes(last) + bytes(code)) }
  static func windowUpdate(_ stream: UInt32, _ increment: UInt32) -> [UInt8] { frame(8, stream: stream, bytes(increment)) }

  static func continuation(_ stream: UInt32, _ block: [UInt8], flags: UInt8 = 0) -> [UInt8] {
    frame(9, flags: flags, stream: stream, block)
  }

  // MARK: HPACK, with nothing but literals (RFC 7541 6.2.2)

  static func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { [0x00] + string(Array($0.0.utf8)) + string(Array($0.1.utf8)) }
  }

  /// A literal that enters the table (RFC 7541 6.2.1).
  static func indexedLiteral(_ name: String, _ value: String) -> [UInt8] {
    [0x40] + string(Array(name.utf8)) + string(Array(value.utf8))
  }

  static func string(_ bytes: [UInt8]) -> [UInt8] { integer(bytes.count, prefix: 7) + bytes }

  static func integer(_ value: Int, prefix: Int) -> [UInt8] {
    let limit = (1 << prefix) - 1
    if value < limit { return [UInt8(value)] }
    var rest = value - limit
    var output = [UInt8(limit)]
    while rest >= 128 {
      output.append(UInt8(rest & 127 | 128))
      rest >>= 7
    }
    return output + [UInt8(rest)]
  }

  static let get: [(String, String)] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "reviews")]
  static let post: [(String, String)] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "reviews")]
}

/// A frame read back from what a session sent.
struct SentFrame: Equatable, CustomStringConvertible {
  var type: UInt8
  var flags: UInt8
  var stream: UInt32
  var payload: [UInt8]

  var description: String { "type \(type) flags \(flags) stream \(stream) bytes \(payload.count)" }

  static func all(_ bytes: [UInt8], afterPreface: Bool = false) -> [SentFrame] {
    var frames: [SentFrame] = []
    var at = afterPreface ? Frame.preface.count : 0
    while at + 9 <= bytes.count {
      let length = Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2])
      guard at + 9 + length <= bytes.count else { break }
      frames.append(
        SentFrame(
          type: bytes[at + 3], flags: bytes[at + 4], stream: number(bytes[(at + 5)..<(at + 9)]),
          payload: Array(bytes[(at + 9)..<(at + 9 + length)])))
      at += 9 + length
    }
    return frames
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }

  /// The error code of RST_STREAM or GOAWAY.
  var code: UInt32? {
    switch type {
    case 3: Self.number(payload[0..<4])
    case 7: Self.number(payload[4..<8])
    default: nil
    }
  }

  var lastStream: UInt32? { type == 7 ? Self.number(payload[0..<4]) : nil }
}
