import Primitives
import Testing

@testable import MeshConfig

@Suite struct YAMLTests {
  private func parse(_ text: String) -> (documents: [YAMLNode], error: YAMLError?) { YAMLParser.parse(Array(text.utf8)) }
  private func json(_ node: YAMLNode) -> String { String(decoding: JSONText.canonical(node), as: UTF8.self) }

  @Test(arguments: [
    ("7", "7"), ("\"7\"", "\"7\""), ("'7'", "\"7\""), ("-7", "-7"), ("0x1F", "31"), ("0o17", "15"), ("017", "\"017\""),
    ("1.5", "1.5"), ("1e3", "1000.0"), (".inf", "\".inf\""), ("true", "true"), ("yes", "true"), ("off", "false"),
    ("\"true\"", "\"true\""), ("null", "null"), ("~", "null"), ("1_000", "\"1_000\""), ("2020-01-01", "\"2020-01-01\""),
    ("+5", "5"), ("1.2.3", "\"1.2.3\""), ("9223372036854775808", "9.223372036854776e+18"), ("!!str 7", "\"7\""),
    ("v1", "\"v1\""), ("80/20", "\"80/20\""),
  ])
  func `a scalar means what Kubernetes reads`(text: String, expected: String) throws {
    let document = try #require(parse("a: \(text)").documents.first)
    #expect(json(try #require(document["a"])) == expected)
  }

  @Test func `every node knows its line and column`() throws {
    let document = try #require(parse("a: 1\nb:\n  - x\n  - y: 2\n").documents.first)
    let path = FieldPath.root.field("b")[1].field("y")
    #expect(document.position(of: path) == SourcePosition(line: 4, column: 5))
    #expect(document.position(of: .root.field("b").field("missing")) == SourcePosition(line: 2, column: 1))
  }

  @Test func `streams hold many documents and empty ones are skipped`() {
    let (documents, error) = parse("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")
    #expect(documents.count == 2)
    #expect(error == nil)
  }

  @Test func `documents before a syntax error are kept and the error has its line`() {
    let (documents, error) = parse("a: 1\n---\nb: [1, 2\nc: 3\n")
    #expect(documents.count == 1)
    #expect((error?.position.line ?? 0) >= 3)
  }

  @Test(arguments: [
    ("a: 1\na: 2\n", "stands twice"), ("? [x]\n: 1\n", "mapping key"), ("a: *x\n", "names no finished anchor"),
    ("a: &x [*x]\n", "names no finished anchor"), ("a: !!int x\n", "does not fit"), ("a: !custom x\n", "does not fit"),
  ])
  func `ambiguous documents are refused`(text: String, reason: String) {
    #expect(parse(text).error?.reason.contains(reason) == true)
  }

  @Test func `invalid UTF-8 is refused at its line`() {
    let error = YAMLParser.parse(Array("a: 1\nb: ".utf8) + [0xFF, 0xFE]).error
    #expect(error?.position.line == 2)
  }

  @Test func `nesting deeper than the limit is refused`() {
    let text = String(repeating: "[", count: 5_000)
    #expect(parse(text).error != nil)
    let block = (0..<100).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
    #expect(parse(block).error?.reason.contains("levels deep") == true)
  }

  @Test func `aliases cannot multiply beyond the node limit`() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1..<12 {
      let list = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(list)]\n"
    }
    #expect(parse(text).error?.reason.contains("aliases count") == true)
  }

  @Test func `sources and scalars above their limits are refused`() {
    #expect(YAMLParser.parse([UInt8](repeating: 0x20, count: ConfigLimits.sourceBytesMax + 1)).error != nil)
    let scalar = "a: \"" + String(repeating: "x", count: ConfigLimits.scalarBytesMax + 1) + "\""
    #expect(parse(scalar).error?.reason.contains("value of") == true)
  }

  @Test func `lists longer than the limit are refused`() {
    let hosts = Array(repeating: "a", count: ConfigLimits.itemsMax + 1).joined(separator: ", ")
    let changeSet = Fixture.changeSet(Fixture.object("VirtualService", "v", spec: "hosts: [\(hosts)]"))
    #expect(changeSet.findings.contains { $0.reason.contains("a list of") })
    let keys = (0..<50_000).map { "k\($0): 1" }.joined(separator: ", ")
    #expect(
      Fixture.changeSet(Fixture.object("VirtualService", "v", spec: "{\(keys)}")).findings.count <= ConfigLimits.findingsMax + 1
    )
  }

  @Test func `an IPv6 address in a flow list is a string`() throws {
    let document = try #require(parse("addresses: [1.2.3.4, 001:db8::]").documents.first)
    #expect(json(document) == #"{"addresses":["1.2.3.4","001:db8::"]}"#)
  }

  @Test(arguments: 0..<300)
  func `random bytes never trap`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let alphabet: [UInt8] = Array("abc:-[]{}&*!|>'\"%@#?,\n \t0129.~\u{0}".utf8) + [0xC3, 0xA9, 0xFF]
    let bytes = (0..<generator.index(below: 400)).map { _ in alphabet[generator.index(below: alphabet.count)] }
    _ = YAMLParser.parse(bytes)
    _ = ChangeSet([ConfigSource(name: "random", bytes: bytes)])
  }

  @Test(arguments: 0..<200)
  func `objects with random edits decode, plan and compile without a trap`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let spec = """
      hosts: [reviews, "*.x.com"]
      gateways: [mesh, gw]
      http:
      - match: [{uri: {prefix: /a}, headers: {x: {regex: "a+"}}, port: 9080, sourceLabels: {app: client}}]
        fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}, abort: {httpStatus: 500}}
        route: [{destination: {host: reviews, subset: v1}, weight: 80}, {destination: {host: reviews}, weight: 20}]
      - redirect: {prefixRewrite: /b}
      """
    let rule = """
      host: reviews
      trafficPolicy: {outlierDetection: {interval: 1s}, loadBalancer: {localityLbSetting: {failoverPriority: [a, b=c]}}}
      subsets: [{name: v1, labels: {version: v1}}]
      """
    var bytes = Array(
      (Fixture.object("VirtualService", "v", spec: spec) + Fixture.object("DestinationRule", "d", spec: rule)).utf8)
    let words = [
      "-1", "0", "99999999999999999999", "\"", "{", "[", "null", "*", "''", "~", ": ", "- ", "é", "1e308", "mesh", "reviews",
    ]
    for _ in 0..<(1 + generator.index(below: 4)) {
      let at = generator.index(below: bytes.count)
      let end = min(bytes.count, at + generator.index(below: 4))
      bytes.replaceSubrange(at..<end, with: Array(words[generator.index(below: words.count)].utf8))
    }
    let changeSet = ChangeSet([ConfigSource(name: "edited", bytes: bytes)])
    let stored = changeSet.objects.map { StoredObject($0, created: 1) }
    _ = Plan(applying: changeSet, to: stored, settings: ReferenceRules.Settings())
    let workloads = [try Fixture.workload("reviews"), try Fixture.workload(nil, isGateway: true)]
    _ = MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: stored, workloads: workloads, settings: try Fixture.settings())
    for object in changeSet.objects { #expect(try MeshObject.decode(canonical: object.canonical) == object) }
  }

  @Test(arguments: 0..<300)
  func `what is written as YAML or JSON reads back the same`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let tree = Self.randomTree(&generator, depth: 0)
    let root = YAMLNode(.mapping([Self.entry("k", tree)]), at: Self.start)
    for text in [YAMLText.document(root), json(root)] {
      let (documents, error) = parse(text)
      #expect(error == nil, "\(text)")
      #expect(json(try #require(documents.first)) == json(root), "\(text)")
    }
  }

  private static let start = SourcePosition(line: 1, column: 1)
  private static func entry(_ key: String, _ node: YAMLNode) -> YAMLEntry { YAMLEntry(key: key, position: start, value: node) }

  private static func randomTree(_ generator: inout SeededGenerator, depth: Int) -> YAMLNode {
    let words = [
      "", "x", "a b", "yes", "7", "1.5", "null", "- x", "a: b", "a:", "#c", " lead", "trail ", "é", "line\nbreak", "tab\t",
      "\"q\"", "'q'", "[x", "{x", "*x", "&x", "!x", "%x", "@x", "`x", "|", ">", "007", "2020-01-01", "~", "---", "10.0.0.1",
      "\u{7F}", "\u{1}", "http://x/y?z#w", "x #y", "1e3", "0x10", "-", "?", "=", "<<", "\u{2028}", "...",
    ]
    switch depth > 3 ? generator.index(below: 4) : generator.index(below: 7) {
    case 0: return YAMLNode(.string(words[generator.index(below: words.count)]), at: start)
    case 1: return YAMLNode(.int(Int64(bitPattern: generator.next()) >> 8), at: start)
    case 2: return YAMLNode(.bool(generator.chance(0.5)), at: start)
    case 3: return YAMLNode(.double(generator.unit() * 1000), at: start)
    case 4:
      return YAMLNode(
        .sequence((0..<generator.index(below: 4)).map { _ in randomTree(&generator, depth: depth + 1) }), at: start)
    default:
      var entries: [YAMLEntry] = []
      for index in 0..<generator.index(below: 4) {
        let key = words[generator.index(below: words.count)] + "\(index)"
        entries.append(entry(key, randomTree(&generator, depth: depth + 1)))
      }
      return YAMLNode(.mapping(entries), at: start)
    }
  }
}
