import Testing

@testable import MeshConfig

/// Sources that are made to cost more than they say: each is refused with a place and a reason, in time and memory that its
/// limits bound.
@Suite struct HostileYAMLTests {
  private func errors(_ bytes: [UInt8]) -> [Finding] {
    ChangeSet([ConfigSource(name: "hostile.yaml", bytes: bytes)]).findings.filter { $0.severity == .error }
  }
  private func errors(_ text: String) -> [Finding] { errors(Array(text.utf8)) }

  @Test func `aliases that expand without end are refused`() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1...12 {
      let items = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(items)]\n"
    }
    #expect(errors(text).contains { $0.reason.contains("aliases count as what they stand for") })
  }

  @Test func `merge keys that expand without end are refused`() {
    var text = "a0: &a0 {\((0..<20).map { "k\($0): 1" }.joined(separator: ", "))}\n"
    for level in 1...20 {
      let keys = (0..<8).map { "n\($0): *a\(level - 1)" }.joined(separator: ", ")
      text += "a\(level): &a\(level) {<<: *a\(level - 1), \(keys)}\n"
    }
    #expect(!errors(text).isEmpty)
  }

  @Test(arguments: ["[", "{a: ", "- "]) func `deep nesting is refused`(open: String) {
    let text = String(repeating: open, count: 200_000)
    #expect(errors(text).count == 1)
  }

  @Test func `fifty megabytes are refused before they are read`() {
    let started = ContinuousClock.now
    #expect(errors([UInt8](repeating: 0x61, count: 50 << 20)).count == 1)
    #expect(ContinuousClock.now - started < .seconds(5))
  }

  @Test(arguments: [[0xFF, 0xFE, 0x61], [0x61, 0x3A, 0x20, 0xC3], [0xED, 0xA0, 0x80], [0x61, 0x00, 0x62]] as [[UInt8]])
  func `bytes that are not UTF-8 text are refused`(bytes: [UInt8]) {
    #expect(!errors(bytes).isEmpty)
  }

  @Test func `a key that stands twice is refused, in a merged mapping too`() {
    #expect(errors("a: 1\na: 2\n").contains { $0.reason.contains("stands twice") })
    #expect(errors("x: &x {a: 1}\n<<: *x\n<<: *x\n").contains { $0.reason.contains("stands twice") })
  }

  @Test func `random bytes never do more than report`() {
    var state: UInt64 = 42
    let alphabet = Array("{}[]:-,&*!|>'\"%@`# \n\tabc<<01~?".utf8)
    for _ in 0..<2_000 {
      let bytes = (0..<60).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return alphabet[Int(state >> 33) % alphabet.count]
      }
      _ = errors(bytes)
    }
  }

  @Test func `merge keys add what a mapping does not say itself`() throws {
    let text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nsum: {<<: [*base, *more], a: 9}\n"
    let document = try #require(YAMLParser.parse(Array(text.utf8)).documents.first)
    #expect(String(decoding: JSONText.canonical(try #require(document["sum"])), as: UTF8.self) == #"{"a":9,"b":2,"c":4}"#)
    #expect(errors("a: {<<: 3}\n").contains { $0.reason.contains("merges mappings") })
  }
}
