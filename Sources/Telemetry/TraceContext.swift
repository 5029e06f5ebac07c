import Primitives

/// A span's place in a trace, from W3C `traceparent` or B3 headers.
public struct TraceContext: Hashable, Sendable {
  public let traceIDHigh: UInt64
  public let traceIDLow: UInt64
  public let spanID: UInt64
  /// B3 only.
  public let parentSpanID: UInt64?
  public let isSampled: Bool

  public init(traceIDHigh: UInt64, traceIDLow: UInt64, spanID: UInt64, parentSpanID: UInt64? = nil, isSampled: Bool) {
    self.traceIDHigh = traceIDHigh
    self.traceIDLow = traceIDLow
    self.spanID = spanID
    self.parentSpanID = parentSpanID
    self.isSampled = isSampled
  }

  /// The root of a new trace.
  public init(using generator: inout SeededGenerator, isSampled: Bool) {
    self.init(
      traceIDHigh: generator.next(), traceIDLow: Self.nonZero(&generator), spanID: Self.nonZero(&generator),
      isSampled: isSampled)
  }

  /// A child span of this one.
  public func child(using generator: inout SeededGenerator) -> TraceContext {
    TraceContext(
      traceIDHigh: traceIDHigh, traceIDLow: traceIDLow, spanID: Self.nonZero(&generator), parentSpanID: spanID,
      isSampled: isSampled)
  }

  private static func nonZero(_ generator: inout SeededGenerator) -> UInt64 { max(1, generator.next()) }

  public var traceIDText: String { Self.hex(traceIDHigh) + Self.hex(traceIDLow) }
  public var spanIDText: String { Self.hex(spanID) }

  private static func hex(_ value: UInt64) -> String {
    var bytes: [UInt8] = []
    appendHex(value, to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  static func appendHex(_ value: UInt64, to out: inout [UInt8]) {
    for digit in 0..<16 { out.append(hexDigit(UInt8(truncatingIfNeeded: value >> UInt64(60 - 4 * digit)))) }
  }
}

// W3C Trace Context, level 1.
extension TraceContext {
  /// Parses `traceparent` strictly: lower-case hex, no all-zero id, version `ff` invalid; a later version may be longer
  /// after a dash. Nil starts a new trace.
  public init?(traceparent bytes: some RandomAccessCollection<UInt8>) {
    let text = Array(bytes.prefix(56))
    guard text.count >= 55, text[2] == 0x2D, text[35] == 0x2D, text[52] == 0x2D,
      let version = Self.lowerHex(text[0..<2]), version != 0xFF,
      let high = Self.lowerHex(text[3..<19]), let low = Self.lowerHex(text[19..<35]), high | low != 0,
      let span = Self.lowerHex(text[36..<52]), span != 0,
      let flags = Self.lowerHex(text[53..<55]),
      bytes.count == 55 || (version > 0 && text[55] == 0x2D)
    else { return nil }
    self.init(traceIDHigh: high, traceIDLow: low, spanID: span, isSampled: flags & 1 == 1)
  }

  /// Appends the 55 bytes of a version 00 `traceparent`.
  public func appendTraceparent(to out: inout [UInt8]) {
    out.append(contentsOf: "00-".utf8)
    Self.appendHex(traceIDHigh, to: &out)
    Self.appendHex(traceIDLow, to: &out)
    out.append(0x2D)
    Self.appendHex(spanID, to: &out)
    out.append(contentsOf: (isSampled ? "-01" : "-00").utf8)
  }

  private static func lowerHex(_ bytes: some Collection<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    for byte in bytes {
      guard byte < 0x41 || byte > 0x46, let digit = ASCII.hexValue(byte) else { return nil }
      value = value << 4 | UInt64(digit)
    }
    return value
  }
}

// B3 propagation (openzipkin/b3-propagation), one header a value.
extension TraceContext {
  /// Parses the values of `x-b3-traceid`, `-spanid`, `-parentspanid`, `-sampled` and `-flags`; nil when an id is missing or
  /// malformed. An absent decision means not sampled here: the caller decides.
  public init?(
    b3TraceID traceID: some RandomAccessCollection<UInt8>, spanID: some RandomAccessCollection<UInt8>,
    parentSpanID: (some RandomAccessCollection<UInt8>)? = [UInt8]?.none, sampled: Bool
  ) {
    guard traceID.count == 16 || traceID.count == 32, spanID.count == 16,
      let high = Self.anyHex(traceID.dropLast(16)), let low = Self.anyHex(traceID.suffix(16)), high | low != 0,
      let span = Self.anyHex(spanID), span != 0
    else { return nil }
    var parent: UInt64?
    if let parentSpanID {
      guard parentSpanID.count == 16, let value = Self.anyHex(parentSpanID) else { return nil }
      parent = value
    }
    self.init(traceIDHigh: high, traceIDLow: low, spanID: span, parentSpanID: parent, isSampled: sampled)
  }

  /// The decision in `x-b3-sampled` (`0`, `1`; `true` and `false` of older tracers) and `x-b3-flags` (`1` = debug, sampled).
  public static func b3Decision(
    sampled: some Collection<UInt8>, flags: some Collection<UInt8>
  ) -> Bool? {
    if flags.elementsEqual("1".utf8) { return true }
    if sampled.elementsEqual("1".utf8) || sampled.elementsEqual("true".utf8) { return true }
    if sampled.elementsEqual("0".utf8) || sampled.elementsEqual("false".utf8) { return false }
    return nil
  }

  /// The B3 headers that carry this context.
  public var b3Headers: [(name: String, value: String)] {
    var headers = [("x-b3-traceid", traceIDText), ("x-b3-spanid", spanIDText)]
    if let parentSpanID { headers.append(("x-b3-parentspanid", Self.hex(parentSpanID))) }
    headers.append(("x-b3-sampled", isSampled ? "1" : "0"))
    return headers
  }

  private static func anyHex(_ bytes: some Collection<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    for byte in bytes {
      guard let digit = ASCII.hexValue(byte) else { return nil }
      value = value << 4 | UInt64(digit)
    }
    return value
  }
}
