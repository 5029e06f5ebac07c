import Primitives

/// The head of a request: the bytes before its arguments (docs/wire.md).
///
/// `remaining u32 ms · route u32 · flags u8 · [trace 24 bytes] · argument count u8`
struct RequestHead: Hashable, Sendable {
  static let traceFlag: UInt8 = 1
  /// Set by a peer whose call has generic substitutions, which are refused.
  static let genericsFlag: UInt8 = 2
  static let fixedBytes = 9
  static let traceBytes = 24

  var remainingMilliseconds: UInt32
  var route: UInt32
  var trace: CallTrace?
  var hasGenerics = false
  var arguments: Int
  /// Where the arguments begin.
  var end: Int

  init(parsing body: [UInt8]) throws(ByteError) {
    var reader = ByteReader(body)
    remainingMilliseconds = try reader.uint32()
    route = try reader.uint32()
    let flags = try reader.uint8()
    guard flags & ~(Self.traceFlag | Self.genericsFlag) == 0 else { throw .malformed }
    hasGenerics = flags & Self.genericsFlag != 0
    if flags & Self.traceFlag != 0 {
      trace = CallTrace(traceHigh: try reader.uint64(), traceLow: try reader.uint64(), span: try reader.uint64())
    }
    arguments = Int(try reader.uint8())
    guard arguments <= CallLimits.argumentsMax else { throw .tooLong }
    end = body.count - reader.remaining
  }

  /// The head with zeros where `fill` writes what is known only when the call is sent.
  static func placeholder(trace: CallTrace?) -> [UInt8] {
    var writer = ByteWriter(reserving: 256)
    writer.uint32(0)
    writer.uint32(0)
    writer.uint8(trace == nil ? 0 : Self.traceFlag)
    if let trace {
      writer.uint64(trace.traceHigh)
      writer.uint64(trace.traceLow)
      writer.uint64(trace.span)
    }
    writer.uint8(0)
    return writer.bytes
  }

  static func fill(_ body: inout [UInt8], remainingMilliseconds: UInt32, route: UInt32, arguments: Int) {
    for offset in 0..<4 {
      let shift = UInt32(24 - 8 * offset)
      body[offset] = UInt8(truncatingIfNeeded: remainingMilliseconds >> shift)
      body[4 + offset] = UInt8(truncatingIfNeeded: route >> shift)
    }
    let count = body[8] & traceFlag == 0 ? fixedBytes : fixedBytes + traceBytes
    body[count] = UInt8(clamping: arguments)
  }
}

/// What a route number stands for.
struct Route: Hashable, Sendable {
  var actor: String
  var target: String

  init(actor: String, target: String) {
    self.actor = actor
    self.target = target
  }

  init(parsing body: [UInt8]) throws(ByteError) {
    var reader = ByteReader(body)
    actor = try reader.string(max: CallLimits.actorNameBytesMax)
    target = try reader.string(max: CallLimits.targetBytesMax)
    try reader.finish()
  }

  var body: [UInt8] {
    var writer = ByteWriter()
    writer.string(actor)
    writer.string(target)
    return writer.bytes
  }
}

/// A reply's first byte.
enum ReplyStatus: UInt8 {
  /// One value follows.
  case value = 0
  case void = 1
  /// Code, retryable and message follow.
  case error = 2
}

extension MeshError {
  /// The error as the body of a reply.
  var replyBody: [UInt8] {
    var writer = ByteWriter()
    writer.uint8(ReplyStatus.error.rawValue)
    writer.uint8(code.rawValue)
    writer.bool(retryable)
    let text = message.utf8.count <= CallLimits.errorBytesMax ? message : Self.shortened(message)
    writer.string(text)
    return writer.bytes
  }

  private static func shortened(_ message: String) -> String {
    var bytes = Array(message.utf8.prefix(CallLimits.errorBytesMax))
    while let last = bytes.last, last & 0xC0 == 0x80 { bytes.removeLast() }
    if let last = bytes.last, last >= 0x80 { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Reads what follows the status; a code of a newer version becomes `internal`.
  init(parsingReply reader: inout ByteReader) throws(ByteError) {
    let code = Code(rawValue: try reader.uint8()) ?? .internal
    let retryable = try reader.bool()
    let message = try reader.string(max: CallLimits.errorBytesMax)
    try reader.finish()
    self.init(code, message, retryable: retryable)
  }
}
