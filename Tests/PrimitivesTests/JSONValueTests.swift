import Testing

@testable import Primitives

/// RFC 8259, as strictly as a text deserves that decides whom to trust.
@Suite struct JSONValueTests {
  private static let limits = JSONValue.Limits(bytes: 1_000, depth: 4, values: 50)

  private func read(_ text: String) -> Result<JSONValue, JSONError> {
    Result { () throws(JSONError) in try JSONValue(parsing: Array(text.utf8), limits: Self.limits) }
  }

  @Test(arguments: [
    ("null", JSONValue.null), (" true\n", .bool(true)), ("false", .bool(false)), ("-0.5e+10", .number("-0.5e+10")),
    ("0", .number("0")), ("18446744073709551616", .number("18446744073709551616")), (#""""#, .string("")),
    (#""a\/\"\\\b\f\n\r\tA\u00e9""#, .string("a/\"\\\u{8}\u{C}\n\r\tAé")), (#""\ud83d\ude00 😀""#, .string("😀 😀")),
    ("[]", .array([])), ("[ 1 , [ ] ]", .array([.number("1"), .array([])])), ("{}", .object([:])),
    (#"{"a":{"b":[null]},"c":1}"#, .object(["a": .object(["b": .array([.null])]), "c": .number("1")])),
    ("\t[\r\n1]\t", .array([.number("1")])), (#"{"":1}"#, .object(["": .number("1")])),
  ])
  func `values are read`(text: String, expected: JSONValue) { #expect(read(text) == .success(expected)) }

  @Test(arguments: [
    ("", "ends early"), (" ", "ends early"), ("nul", "a value is expected"), ("True", "a value is expected"),
    ("01", "not a number"), ("-", "not a number"), ("1.", "not a number"), (".5", "a value is expected"),
    ("1e", "not a number"),
    ("+1", "a value is expected"), ("1 2", "after the value"), ("[1,]", "a value is expected"), ("[1", "',' or ']'"),
    ("[,]", "a value is expected"), ("{", "a name in quotes"), (#"{"a"}"#, "':' is expected"),
    (#"{"a":1,}"#, "a name in quotes"),
    (#"{a:1}"#, "a name in quotes"), (#"{"a":1 "b":2}"#, "',' or '}'"), (#"{"a":1,"a":1}"#, "'a' stands twice"),
    (#"{"a":1,"\u0061":2}"#, "'a' stands twice"), (#"""#, "within a string"), (#""\"#, "within a string"),
    (#""\x""#, "an escape that JSON does not have"), (#""\u12g4""#, "hexadecimal"), (#""\ud83d""#, "surrogate"),
    (#""\ud83d\n""#, "surrogate"), (#""\ud83d\u0041""#, "surrogate"), (#""\ude00""#, "surrogate"), ("\"a\nb\"", "control"),
    ("\u{FEFF}1", "a value is expected"), ("// a\n1", "a value is expected"), ("'a'", "a value is expected"),
    ("[[[[[1]]]]]", "nested more than 4"), (#"{"a":{"a":{"a":{"a":{}}}}}"#, "nested more than 4"),
    ("[" + String(repeating: "1,", count: 50) + "1]", "more than 50 values"),
    (String(repeating: " ", count: 1_001), "1000 bytes"),
  ])
  func `what is not JSON, or two readers could read in two ways, is refused`(text: String, expected: String) {
    #expect(throws: JSONError.self) { try read(text).get() }
    if case .failure(let error) = read(text) { #expect(error.description.contains(expected)) }
  }

  @Test func `bytes that are not UTF-8 are refused`() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xFF, 0x22], limits: Self.limits) }
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xED, 0xA0, 0x80, 0x22], limits: Self.limits) }
  }

  /// However deep it is said to be, no more is read than is allowed.
  @Test func `a million brackets are refused at the fifth`() {
    let limits = JSONValue.Limits(bytes: 2_000_000, depth: 4, values: 50)
    #expect(throws: JSONError("nested more than 4 levels deep", at: 4)) {
      try JSONValue(parsing: [UInt8](repeating: 0x5B, count: 1_000_000), limits: limits)
    }
  }

  @Test func `whole numbers are those that are written as such`() {
    let numbers: [(String, UInt64?)] = [
      ("0", 0), ("18446744073709551615", .max), ("18446744073709551616", nil), ("-1", nil), ("1.0", nil), ("1e3", nil),
    ]
    for (text, value) in numbers { #expect(JSONValue.number(text).unsigned == value, "\(text)") }
    #expect(JSONValue.string("1").unsigned == nil)
  }

  // MARK: Drawn values

  /// A value within so many levels, and one of the texts that it has.
  private func draw(_ depth: Int, _ generator: inout SeededGenerator) -> (JSONValue, String) {
    switch generator.below(depth > 0 ? 6 : 4) {
    case 0: return (.null, "null")
    case 1: return (.bool(true), " true")
    case 2:
      let number = "\(generator.below(1_000_000))"
      return (.number(number), number)
    case 3:
      let text = drawText(&generator)
      return (.string(text.0), text.1)
    case 4:
      let items = (0..<generator.index(below: 4)).map { _ in draw(depth - 1, &generator) }
      return (.array(items.map(\.0)), "[\(items.map(\.1).joined(separator: " ,\n"))]")
    default:
      let members = (0..<generator.index(below: 4)).map { (name: "k\($0)", value: draw(depth - 1, &generator)) }
      let text = members.map { "\"\($0.name)\" : \($0.value.1)" }.joined(separator: ",")
      return (.object(Dictionary(uniqueKeysWithValues: members.map { ($0.name, $0.value.0) })), "{\(text)\t}")
    }
  }

  private func drawText(_ generator: inout SeededGenerator) -> (String, String) {
    var (value, text) = ("", "\"")
    let units: [(Unicode.Scalar, String)] = [
      ("a", "a"), ("\"", #"\""#), ("\\", #"\\"#), ("/", #"\/"#), ("/", "/"), ("\n", #"\n"#), ("\0", #"\u0000"#), ("é", "é"),
      ("é", #"\u00E9"#), ("😀", "😀"), ("😀", #"\uD83D\uDE00"#), ("\u{FFFF}", #"\uffff"#), ("\u{7F}", "\u{7F}"),
    ]
    for _ in 0..<generator.index(below: 6) {
      let unit = units[generator.index(below: units.count)]
      value.unicodeScalars.append(unit.0)
      text += unit.1
    }
    return (value, text + "\"")
  }

  @Test func `what is written is read, and whatever is done to it is read or refused`() throws {
    var generator = SeededGenerator(seed: 8259)
    let limits = JSONValue.Limits(bytes: 100_000, depth: 5, values: 10_000)
    for round in 0..<500 {
      let (value, text) = draw(5, &generator)
      var bytes = Array(text.utf8)
      #expect(try JSONValue(parsing: bytes, limits: limits) == value, "\(round): \(text)")
      for _ in 0..<10 {
        bytes[generator.index(below: bytes.count)] = UInt8(truncatingIfNeeded: generator.next())
        _ = try? JSONValue(parsing: bytes, limits: limits)
        _ = try? JSONValue(parsing: Array(bytes.prefix(generator.index(below: bytes.count + 1))), limits: limits)
      }
    }
  }
}
