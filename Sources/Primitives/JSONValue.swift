/// A JSON value (RFC 8259) from a source that is not trusted: strict, bounded, and without a place for two readers to disagree.
///
/// A name that stands twice in an object, bytes that are not UTF-8, a byte-order mark, half of a surrogate pair and whatever
/// follows the value are errors.
public enum JSONValue: Hashable, Sendable {
  case null
  case bool(Bool)
  /// As it is written: what it is worth depends on what it is for.
  case number(String)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// What one text may cost.
  public struct Limits: Sendable {
    public var bytes: Int
    /// Arrays and objects within each other.
    public var depth: Int
    /// Values in all, at about 100 bytes of memory each.
    public var values: Int

    public init(bytes: Int, depth: Int, values: Int) {
      self.bytes = bytes
      self.depth = depth
      self.values = values
    }
  }

  /// Reads a whole text.
  public init(parsing bytes: [UInt8], limits: Limits) throws(JSONError) {
    guard bytes.count <= limits.bytes else { throw JSONError("more than \(limits.bytes) bytes", at: limits.bytes) }
    guard String(validating: bytes, as: UTF8.self) != nil else { throw JSONError("not UTF-8", at: 0) }
    var parser = JSONParser(bytes, limits)
    self = try parser.document()
  }

  /// The member of an object.
  public subscript(name: String) -> JSONValue? {
    if case .object(let members) = self { members[name] } else { nil }
  }
  public var string: String? { if case .string(let text) = self { text } else { nil } }
  public var array: [JSONValue]? { if case .array(let items) = self { items } else { nil } }
  /// A whole number that is not negative, written as one.
  public var unsigned: UInt64? {
    if case .number(let text) = self { parseDecimal(text.utf8, max: .max) } else { nil }
  }
}

/// Why a text is not acceptable JSON, and after how many bytes.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
  public let reason: String
  public let offset: Int

  init(_ reason: String, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  public var description: String { "not acceptable JSON: \(reason), at byte \(offset)" }
}

private struct JSONParser {
  private let bytes: [UInt8]
  private let limits: JSONValue.Limits
  private var position = 0
  private var values = 0

  init(_ bytes: [UInt8], _ limits: JSONValue.Limits) {
    self.bytes = bytes
    self.limits = limits
  }

  mutating func document() throws(JSONError) -> JSONValue {
    let value = try value(depth: 0)
    skipBlanks()
    guard position == bytes.count else { throw problem("something after the value") }
    return value
  }

  // MARK: Values

  private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    skipBlanks()
    values += 1
    guard values <= limits.values else { throw problem("more than \(limits.values) values") }
    guard let byte = next else { throw problem("the text ends early") }
    switch byte {
    case 0x7B: return try object(depth: depth + 1)
    case 0x5B: return try array(depth: depth + 1)
    case 0x22: return .string(try string())
    case 0x74: return try word("true", .bool(true))
    case 0x66: return try word("false", .bool(false))
    case 0x6E: return try word("null", .null)
    case 0x2D, 0x30...0x39: return try number()
    default: throw problem("a value is expected")
    }
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
    try open(depth)
    var members: [String: JSONValue] = [:]
    if take(0x7D) { return .object(members) }
    repeat {
      skipBlanks()
      guard next == 0x22 else { throw problem("a name in quotes is expected") }
      let start = position
      let name = try string()
      guard take(0x3A) else { throw problem("':' is expected") }
      let value = try value(depth: depth)
      guard members.updateValue(value, forKey: name) == nil else {
        throw JSONError("the name '\(name.prefix(60))' stands twice in one object", at: start)
      }
    } while take(0x2C)
    guard take(0x7D) else { throw problem("',' or '}' is expected") }
    return .object(members)
  }

  private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
    try open(depth)
    var items: [JSONValue] = []
    if take(0x5D) { return .array(items) }
    repeat { items.append(try value(depth: depth)) } while take(0x2C)
    guard take(0x5D) else { throw problem("',' or ']' is expected") }
    return .array(items)
  }

  private mutating func open(_ depth: Int) throws(JSONError) {
    guard depth <= limits.depth else { throw problem("nested more than \(limits.depth) levels deep") }
    position += 1
  }

  private mutating func word(_ text: String, _ value: JSONValue) throws(JSONError) -> JSONValue {
    guard bytes[position...].starts(with: text.utf8) else { throw problem("a value is expected") }
    position += text.utf8.count
    return value
  }

  /// RFC 8259, section 6.
  private mutating func number() throws(JSONError) -> JSONValue {
    let start = position
    if next == 0x2D { position += 1 }
    let whole = digits()
    guard whole > 0, whole == 1 || bytes[position - whole] != 0x30 else { throw problem("not a number") }
    if next == 0x2E {
      position += 1
      guard digits() > 0 else { throw problem("not a number") }
    }
    if next == 0x65 || next == 0x45 {
      position += 1
      if next == 0x2B || next == 0x2D { position += 1 }
      guard digits() > 0 else { throw problem("not a number") }
    }
    return .number(String(decoding: bytes[start..<position], as: UTF8.self))
  }

  private mutating func digits() -> Int {
    let count = bytes[position...].prefix(while: ASCII.isDigit).count
    position += count
    return count
  }

  // MARK: Strings

  private mutating func string() throws(JSONError) -> String {
    position += 1
    var text: [UInt8] = []
    while let byte = next {
      switch byte {
      case 0x22:
        position += 1
        return String(decoding: text, as: UTF8.self)
      case 0x5C:
        position += 1
        text += UTF8.encode(try escape()).map(Array.init) ?? []
      case 0..<0x20: throw problem("a control character in a string")
      default:
        let plain = bytes[position...].prefix { $0 != 0x22 && $0 != 0x5C && $0 >= 0x20 }
        text += plain
        position += plain.count
      }
    }
    throw problem("the text ends within a string")
  }

  private mutating func escape() throws(JSONError) -> Unicode.Scalar {
    guard let byte = next else { throw problem("the text ends within a string") }
    position += 1
    switch byte {
    case 0x22, 0x5C, 0x2F: return Unicode.Scalar(byte)
    case 0x62: return "\u{8}"
    case 0x66: return "\u{C}"
    case 0x6E: return "\n"
    case 0x72: return "\r"
    case 0x74: return "\t"
    case 0x75: return try escapedScalar()
    default: throw problem("an escape that JSON does not have")
    }
  }

  private mutating func escapedScalar() throws(JSONError) -> Unicode.Scalar {
    let first = try codeUnit()
    if let scalar = Unicode.Scalar(first) { return scalar }
    guard (0xD800..<0xDC00).contains(first), next == 0x5C else { throw problem("half of a surrogate pair") }
    position += 1
    guard next == 0x75 else { throw problem("half of a surrogate pair") }
    position += 1
    let second = try codeUnit()
    guard (0xDC00..<0xE000).contains(second),
      let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
    else { throw problem("half of a surrogate pair") }
    return scalar
  }

  private mutating func codeUnit() throws(JSONError) -> UInt32 {
    var unit: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = ASCII.hexValue(byte) else {
        throw problem("four hexadecimal digits are expected")
      }
      unit = unit << 4 | UInt32(digit)
      position += 1
    }
    return unit
  }

  // MARK: Bytes

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipBlanks() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  /// Whether this byte comes next, after blanks; then it is taken.
  private mutating func take(_ byte: UInt8) -> Bool {
    skipBlanks()
    guard next == byte else { return false }
    position += 1
    return true
  }

  private func problem(_ reason: String) -> JSONError { JSONError(reason, at: position) }
}
