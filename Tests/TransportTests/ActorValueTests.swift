import Primitives
import Testing

@testable import Transport

private func roundTrip<T: Codable & Equatable>(_ value: T) throws {
  let writer = ValueWriter()
  try writer.append(value)
  let tape = try ValueTape(writer.bytes, from: 0, count: 1)
  #expect(try tape.decode(T.self, at: 0) == value)
}

private struct Nested: Codable, Equatable {
  var depth: Int
  var inner: [Nested]
}

private struct Wide: Codable, Equatable {
  var a: Int8
  var b: UInt16
  var c: Float
  var d: Double
  var e: Bool
  var f: String?
  var g: [Int?]
  var h: [Int: String]
  var i: Set<UInt8>
}

private struct Older: Codable, Equatable { var name: String }
private struct Newer: Codable, Equatable {
  var extra: [String: [Int]]
  var name: String
  var more: Int?
}
private struct Nothing: Codable, Equatable {}

@Suite("Value encoding") struct ActorValueTests {
  @Test("values of every shape survive a round trip") func roundTrips() throws {
    try roundTrip(true)
    try roundTrip("")
    try roundTrip("Zoë 🎭")
    try roundTrip([UInt8]())
    try roundTrip([[1, 2], [], [3]])
    try roundTrip(Int?.none)
    try roundTrip(Int?.some(3))
    try roundTrip(Nothing())
    try roundTrip([Nothing(), Nothing()])
    try roundTrip(["k": Nothing()])
    try roundTrip(
      Wide(
        a: -128, b: 65_535, c: .leastNonzeroMagnitude, d: .infinity, e: false, f: nil, g: [1, nil], h: [5: "five", -1: ""],
        i: [1, 255]))
    try roundTrip(Book(title: "x", format: .paper(pages: 3), isbn: nil, ratings: ["a": 1], cover: [1]))
    try roundTrip(Result<Int, MeshError>.failureCoded(MeshError(.conflict, "words")))
  }

  @Test("every whole number survives", arguments: [0, 1, 127, 128, 255, 1 << 32, Int.max, -1, -128, -129, Int.min])
  func numbers(_ number: Int) throws {
    try roundTrip(number)
    try roundTrip([number, number])
  }

  @Test("a reader of an older version skips keys it does not know, and a newer one misses only what is optional")
  func versions() throws {
    let writer = ValueWriter()
    try writer.append(Newer(extra: ["x": [1, 2]], name: "n1", more: 3))
    #expect(try ValueTape(writer.bytes, from: 0, count: 1).decode(Older.self, at: 0) == Older(name: "n1"))
    let old = ValueWriter()
    try old.append(Older(name: "n1"))
    #expect(throws: ValueError.missingKey("extra")) {
      try ValueTape(old.bytes, from: 0, count: 1).decode(Newer.self, at: 0)
    }
  }

  @Test("a key is spelled out once in a message") func keys() throws {
    let writer = ValueWriter()
    try writer.append((0..<100).map { _ in Older(name: "x") })
    #expect(writer.bytes.count < 100 * 6 + 10)
  }

  @Test("nesting beyond the limit is refused on both sides") func depth() throws {
    var value = Nested(depth: 0, inner: [])
    for depth in 1...CallLimits.depthMax { value = Nested(depth: depth, inner: [value]) }
    #expect(throws: ValueError.tooDeep) { try ValueWriter().append(value) }
    let bytes = [UInt8](repeating: ValueTag.array, count: CallLimits.depthMax + 1)
    #expect(throws: ValueError.tooDeep) { try ValueTape(bytes, from: 0, count: 1) }
  }

  @Test("a message of more values than the limit is refused") func count() throws {
    let bytes = [ValueTag.array] + [UInt8](repeating: ValueTag.null, count: CallLimits.valuesMax) + [ValueTag.end]
    #expect(throws: ValueError.tooManyValues) { try ValueTape(bytes, from: 0, count: 1) }
  }

  @Test("every truncation of a message is an error") func truncation() throws {
    let writer = ValueWriter()
    try writer.append(Book(title: "title", format: .paper(pages: 900), isbn: 1 << 40, ratings: ["a": 1], cover: [1, 2]))
    for count in 0..<writer.bytes.count {
      #expect(throws: ValueError.self) { try ValueTape(Array(writer.bytes.prefix(count)), from: 0, count: 1) }
    }
  }

  @Test("random and damaged bytes decode or fail, and never trap", arguments: 0..<20)
  func fuzz(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let writer = ValueWriter()
    try writer.append(Book(title: "title", format: .paper(pages: 900), isbn: 1, ratings: ["a": 1, "b": 2], cover: [1, 2]))
    for _ in 0..<500 {
      var bytes = writer.bytes
      for _ in 0...random.index(below: 4) {
        bytes[random.index(below: bytes.count)] = UInt8(truncatingIfNeeded: random.next())
      }
      if random.chance(0.2) { bytes = (0..<random.index(below: 40)).map { _ in UInt8(truncatingIfNeeded: random.next() % 14) } }
      guard let tape = try? ValueTape(bytes, from: 0, count: 1) else { continue }
      _ = try? tape.decode(Book.self, at: 0)
      _ = try? tape.decode([String: Int].self, at: 0)
      _ = try? tape.decode(Wide.self, at: 0)
    }
  }
}

extension Result where Success == Int, Failure == MeshError {
  /// A codable picture of a result: enums with payloads are the encoder's hardest case.
  enum Coded: Codable, Equatable { case success(Int), failure(MeshError) }
  static func failureCoded(_ error: MeshError) -> Coded { .failure(error) }
}
