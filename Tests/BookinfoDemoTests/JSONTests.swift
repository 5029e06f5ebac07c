import Testing

@testable import BookinfoDemo

@Suite struct JSONTests {
  @Test(arguments: [
    (#"{"b":1,"a":[true,null,-2.50e3],"c":{}}"#, #"{"b":1,"a":[true,null,-2.50e3],"c":{}}"#),
    (" [ 1 , \"x\" ] \n", #"[1,"x"]"#), (#""\u00e9\ud83d\ude00\n\/""#, "\"é😀\\n/\""),
    (#"{"a":1,"b":2,"a":3}"#, #"{"a":3,"b":2}"#),
    (#""\ud800x""#, "\"\u{FFFD}x\""),
  ])
  func `order and spelling survive reading and writing`(text: String, written: String) throws {
    #expect(try JSON(parsing: Array(text.utf8)).text() == written)
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\"}", "01", "1.", "+1", "nul", "\"\u{1}\"", "\"\\x\"", "\"\\u12g4\"", "1 2", "'a'", "\"",
  ])
  func `what is not JSON is refused`(text: String) {
    #expect(throws: JSONError.self) { try JSON(parsing: Array(text.utf8)) }
  }

  @Test func `nesting has a limit`() throws {
    func nested(_ levels: Int) -> [UInt8] {
      Array((String(repeating: "[", count: levels) + String(repeating: "]", count: levels)).utf8)
    }
    _ = try JSON(parsing: nested(Limits.jsonDepth))
    #expect(throws: JSONError.self) { try JSON(parsing: nested(100_000)) }
  }

  @Test func `Python's style has blanks and only ASCII`() {
    let value: JSON = ["a": .array([.integer(1), "é😀"])]
    #expect(value.text(.spaced) == #"{"a": [1, "\u00e9\ud83d\ude00"]}"#)
  }

  @Test(arguments: [("5", 5), ("5.9", 5), ("-1e2", -100), ("1e400", nil), ("\"5\"", nil)])
  func `whole parts of numbers`(text: String, value: Int?) throws {
    #expect(try JSON(parsing: Array(text.utf8)).integer == value)
  }
}
