import Primitives

/// What an untagged plain scalar means: YAML 1.2's core schema with the boolean words of YAML 1.1 that Kubernetes keeps.
///
/// Forms that parsers disagree about (`0755`, `1_000`, `.inf`, dates) stay strings, so a field that wants a number refuses them.
enum ScalarResolution {
  static func plain(_ text: String) -> YAMLNode.Value {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .bool(true)
    case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return .bool(false)
    default: break
    }
    if let integer = integer(text) { return .int(integer) }
    if let number = number(text) { return .double(number) }
    return .string(text)
  }

  /// A tagged scalar, or nil when the text does not fit the tag or the tag is unknown.
  static func tagged(_ text: String, tag: String) -> YAMLNode.Value? {
    switch tag {
    case "!", "tag:yaml.org,2002:str": return .string(text)
    case "tag:yaml.org,2002:null": if case .null = plain(text) { return .null }
    case "tag:yaml.org,2002:bool": if case .bool(let value) = plain(text) { return .bool(value) }
    case "tag:yaml.org,2002:int": return integer(text).map { .int($0) }
    case "tag:yaml.org,2002:float": return (number(text) ?? integer(text).map { Double($0) }).map { .double($0) }
    default: break
    }
    return nil
  }

  static func integer(_ text: String) -> Int64? {
    var digits = text.utf8[...]
    let negative = digits.first == 0x2D
    if negative || digits.first == 0x2B { digits = digits.dropFirst() }
    if digits.count > 1 && digits.first == 0x30 { return prefixed(digits.dropFirst(), negative: negative) }
    guard let magnitude = parseDecimal(digits, max: UInt64(Int64.max)) else { return nil }
    return negative ? -Int64(magnitude) : Int64(magnitude)
  }

  /// `0x` and `0o` forms after their zero.
  private static func prefixed(_ rest: Substring.UTF8View.SubSequence, negative: Bool) -> Int64? {
    let radix: UInt64
    switch rest.first {
    case 0x78: radix = 16
    case 0x6F: radix = 8
    default: return nil
    }
    let digits = rest.dropFirst()
    guard !digits.isEmpty, digits.count <= 22 else { return nil }
    var value: UInt64 = 0
    for byte in digits {
      guard let digit = ASCII.hexValue(byte), UInt64(digit) < radix else { return nil }
      let (product, overflow) = value.multipliedReportingOverflow(by: radix)
      if overflow { return nil }
      value = product | UInt64(digit)
    }
    guard let magnitude = Int64(exactly: value) else { return nil }
    return negative ? -magnitude : magnitude
  }

  static func number(_ text: String) -> Double? {
    var rest = text.utf8[...]
    guard rest.count <= 64 else { return nil }
    if rest.first == 0x2D || rest.first == 0x2B { rest = rest.dropFirst() }
    let whole = rest.prefix(while: ASCII.isDigit)
    rest = rest.dropFirst(whole.count)
    if whole.count > 1 && whole.first == 0x30 { return nil }
    var fractionDigits = 0
    if rest.first == 0x2E {
      let fraction = rest.dropFirst().prefix(while: ASCII.isDigit)
      fractionDigits = fraction.count
      rest = rest.dropFirst(1 + fractionDigits)
    }
    guard whole.count + fractionDigits > 0 else { return nil }
    if rest.first == 0x65 || rest.first == 0x45 {
      rest = rest.dropFirst()
      if rest.first == 0x2D || rest.first == 0x2B { rest = rest.dropFirst() }
      guard !rest.isEmpty, rest.allSatisfy(ASCII.isDigit) else { return nil }
      rest = rest.dropFirst(rest.count)
    }
    guard rest.isEmpty, let value = Double(text), value.isFinite else { return nil }
    return value
  }
}
