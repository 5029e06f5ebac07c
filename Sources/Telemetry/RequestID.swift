import Primitives

/// Why a request is traced, as `x-request-id` carries it in the version digit of its UUID (Envoy).
public enum TraceReason: UInt8, Hashable, Sendable {
  case notTraced = 0x34  // 4
  case sampled = 0x39  // 9
  case forcedByServer = 0x61  // a
  case forcedByClient = 0x62  // b
}

/// An `x-request-id`: a random UUID (RFC 9562 version 4) whose version digit carries the trace decision.
public struct RequestID: Hashable, Sendable {
  public static let byteCount = 36
  /// Index of the version digit in the text.
  public static let reasonIndex = 14
  private let high: UInt64
  private let low: UInt64
  public let reason: TraceReason

  public init(using generator: inout SeededGenerator, reason: TraceReason = .notTraced) {
    high = generator.next()
    low = (generator.next() & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000
    self.reason = reason
  }

  /// Appends the 36 bytes of text.
  public func append(to out: inout [UInt8]) {
    out.append(addingCapacity: Self.byteCount) { text in
      Self.appendHex(high >> 32, digits: 8, to: &text)
      text.append(0x2D)
      Self.appendHex(high >> 16, digits: 4, to: &text)
      text.append(0x2D)
      text.append(reason.rawValue)
      Self.appendHex(high, digits: 3, to: &text)
      text.append(0x2D)
      Self.appendHex(low >> 48, digits: 4, to: &text)
      text.append(0x2D)
      Self.appendHex(low, digits: 12, to: &text)
    }
  }

  public var text: String {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The decision in an incoming id; nil when it is not a UUID or carries none, so that the id is kept but decides nothing.
  public static func reason(in id: some RandomAccessCollection<UInt8>) -> TraceReason? {
    guard id.count == byteCount else { return nil }
    for (index, byte) in id.enumerated() {
      let isDash = index == 8 || index == 13 || index == 18 || index == 23
      guard isDash ? byte == 0x2D : ASCII.hexValue(byte) != nil else { return nil }
    }
    return TraceReason(rawValue: ASCII.lowercased(id[id.index(id.startIndex, offsetBy: reasonIndex)]))
  }

  /// Appends the lowest `digits` hexadecimal digits of `value`.
  @inline(__always) private static func appendHex(_ value: UInt64, digits: UInt64, to text: inout OutputSpan<UInt8>) {
    var shift = digits &* 4
    while shift > 0 {
      shift &-= 4
      text.append(hexDigit(UInt8(truncatingIfNeeded: value &>> shift)))
    }
  }
}

/// The lower-case hexadecimal digit of the low four bits.
func hexDigit(_ value: UInt8) -> UInt8 {
  let nibble = value & 15
  return nibble < 10 ? 0x30 + nibble : 0x57 + nibble
}
