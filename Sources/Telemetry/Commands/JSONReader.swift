import Primitives

/// Reads the JSON that an operator's argument can be (RFC 8259). Arguments are short and nest little.
struct JSONReader {
  enum Value: Hashable {
    case object([String: Value])
    case array([Value])
    case string(String)
    /// Whole, and not negative.
    case number(Int)
    /// `true`, `false`, `null`, and other numbers.
    case other
  }

  private var rest: ArraySlice<UInt8>

  init(_ text: String) { rest = Array(text.utf8)[...] }

  /// The one value that is there, or nil.
  mutating func document() -> Value? {
    let value = value(depth: 0)
    skipBlanks()
    return rest.isEmpty ? value : nil
  }

  private mutating func value(depth: Int) -> Value? {
    guard depth <= TelemetryLimits.argumentDepthMax else { return nil }
    skipBlanks()
    switch rest.first {
    case 0x7B: return object(depth: depth + 1)
    case 0x5B: return array(depth: depth + 1)
    case 0x22: return string().map(Value.string)
    default: return word()
    }
  }

  private mutating func object(depth: Int) -> Value? {
    rest.removeFirst()
    var members: [String: Value] = [:]
    if take(0x7D) { return .object(members) }
    repeat {
      skipBlanks()
      guard rest.first == 0x22, let key = string(), take(0x3A), let value = value(depth: depth), members[key] == nil else {
        return nil
      }
      members[key] = value
    } while take(0x2C)
    return take(0x7D) ? .object(members) : nil
  }

  private mutating func array(depth: Int) -> Value? {
    rest.removeFirst()
    var items: [Value] = []
    if take(0x5D) { return .array(items) }
    repeat {
      guard let value = value(depth: depth) else { return nil }
      items.append(value)
    } while take(0x2C)
    return take(0x5D) ? .array(items) : nil
  }

  private mutating func string() -> String? {
    rest.removeFirst()
    var bytes: [UInt8] = []
    while let byte = rest.popFirst() {
      switch byte {
      case 0x22: return String(validating: bytes, as: UTF8.self)
      case 0..<0x20: return nil
      case 0x5C:
        guard let escaped = escaped() else { return nil }
        bytes += escaped
      default: bytes.append(byte)
      }
    }
    return nil
  }

  private mutating func escaped() -> [UInt8]? {
    switch rest.popFirst() {
    case let byte? where byte == 0x22 || byte == 0x5C || byte == 0x2F: return [byte]
    case 0x62: return [0x08]
    case 0x66: return [0x0C]
    case 0x6E: return [0x0A]
    case 0x72: return [0x0D]
    case 0x74: return [0x09]
    case 0x75:
      var value: UInt32 = 0
      for _ in 0..<4 {
        guard let byte = rest.popFirst(), let digit = hexDigitValue(byte) else { return nil }
        value = value << 4 | UInt32(digit)
      }
      return Unicode.Scalar(value).map { Array(String($0).utf8) }
    default: return nil
    }
  }

  private mutating func word() -> Value? {
    let word = rest.prefix { ASCII.isLowerAlphanumeric(ASCII.lowercased($0)) || $0 == 0x2D || $0 == 0x2E || $0 == 0x2B }
    guard let first = word.first else { return nil }
    rest = rest.dropFirst(word.count)
    if let number = parseDecimal(word, max: UInt64(Int32.max)) { return .number(Int(number)) }
    let isWord = ["true", "false", "null"].contains { word.elementsEqual($0.utf8) }
    return isWord || first == 0x2D || ASCII.isDigit(first) ? .other : nil
  }

  private mutating func skipBlanks() { rest = rest.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0A || $0 == 0x0D } }

  private mutating func take(_ byte: UInt8) -> Bool {
    skipBlanks()
    guard rest.first == byte else { return false }
    rest.removeFirst()
    return true
  }
}
