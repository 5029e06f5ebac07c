import HTTPCodec
import Primitives

/// One gRPC-Web call of a browser, translated to gRPC and back at a gateway (gRPC-Web, "Protocol differences"): browsers see
/// no trailers, so these come as a last frame of the body, and the text variant is base64 in both directions.
final class GRPCWeb {
  let isText: Bool
  private let suffix: [UInt8]
  /// Base64 digits that do not make four yet.
  private var digits: [UInt8] = []
  /// The body was no base64.
  private(set) var isMalformed = false
  /// The body ended within four digits.
  var isCut: Bool { !digits.isEmpty }

  private static let binary = Array("application/grpc-web".utf8)
  private static let text = Array("application/grpc-web-text".utf8)

  /// Nil when the content type is not gRPC-Web's.
  init?(contentType: [UInt8]) {
    let type = contentType.prefix { $0 != 0x3B }.map(ASCII.lowercased)
    isText = type.starts(with: Self.text)
    let base = isText ? Self.text : Self.binary
    guard type.starts(with: base) else { return nil }
    suffix = Array(type.dropFirst(base.count))
    guard suffix.isEmpty || suffix.first == 0x2B else { return nil }
  }

  /// What the server is told the body is.
  var requestType: [UInt8] { Names.grpc + suffix }
  /// What the browser is told the body is.
  var responseType: [UInt8] { (isText ? Self.text : Self.binary) + (suffix.isEmpty ? Array("+proto".utf8) : suffix) }

  // MARK: Requests

  /// Body bytes as gRPC has them. Text may be several base64 texts one after another, each with its padding.
  func decode(_ bytes: UnsafeBufferPointer<UInt8>) -> [UInt8] {
    guard isText, !isMalformed else { return isMalformed ? [] : Array(bytes) }
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count / 4 * 3 + 3)
    for byte in bytes {
      digits.append(byte)
      guard digits.count == 4 else { continue }
      guard decodeGroup(into: &output) else {
        isMalformed = true
        return []
      }
      digits.removeAll(keepingCapacity: true)
    }
    return output
  }

  private func decodeGroup(into output: inout [UInt8]) -> Bool {
    let padding = digits.suffix(2).reversed().prefix { $0 == 0x3D }.count
    var bits: UInt32 = 0
    for index in 0..<(4 - padding) {
      guard let value = Self.value(digits[index]) else { return false }
      bits = bits << 6 | UInt32(value)
    }
    bits <<= 6 * UInt32(padding)
    for index in 0..<(3 - padding) { output.append(UInt8(truncatingIfNeeded: bits >> (16 - 8 * UInt32(index)))) }
    return true
  }

  private static func value(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x41...0x5A: digit - 0x41
    case 0x61...0x7A: digit - 0x61 + 26
    case 0x30...0x39: digit - 0x30 + 52
    case 0x2B, 0x2D: 62
    case 0x2F, 0x5F: 63
    default: nil
    }
  }

  // MARK: Responses

  /// Body bytes as the browser has them.
  func encode(_ bytes: UnsafeBufferPointer<UInt8>) -> [UInt8] { isText ? Base64.encode(bytes) : Array(bytes) }

  /// The trailers as the last frame of the body: a flag of 128, the length, and the fields as lines.
  func frame(_ trailers: HeaderBlock?) -> [UInt8] {
    var lines: [UInt8] = []
    if let trailers {
      for field in trailers.fields where !field.isRemoved {
        lines.append(contentsOf: trailers.copy(field.name).map(ASCII.lowercased))
        lines.append(0x3A)
        lines.append(0x20)
        lines.append(contentsOf: trailers.copy(field.value))
        lines.append(0x0D)
        lines.append(0x0A)
      }
    }
    let count = UInt32(clamping: lines.count)
    let prefix: [UInt8] = [0x80] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: count >> UInt32($0)) }
    return (prefix + lines).withUnsafeBufferPointer { encode($0) }
  }
}

/// RFC 4648 4, with padding.
enum Base64 {
  private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func encode(_ bytes: UnsafeBufferPointer<UInt8>) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let count = min(3, bytes.count - start)
      var bits: UInt32 = 0
      for index in 0..<3 { bits = bits << 8 | (index < count ? UInt32(bytes[start + index]) : 0) }
      for place in 0..<4 {
        text.append(place <= count ? digits[Int(bits >> (18 - 6 * UInt32(place)) & 63)] : 0x3D)
      }
    }
    return text
  }
}
