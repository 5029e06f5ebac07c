import Primitives
import Testing

@Suite struct ByteTableTests {
  /// The dumb twin: a dictionary of lower-case keys whose first writer wins.
  @Test(arguments: 1...50 as ClosedRange<UInt64>)
  func theTableAnswersAsADictionaryOfFoldedKeys(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    func key() -> [UInt8] {
      // Few letters, so that keys repeat and collide; beside them the neighbours of the letters and a non-ASCII byte.
      let alphabet = Array("aAbBzZ@[`{-".utf8) + [0xC3]
      return (0..<generator.index(below: 4)).map { _ in alphabet[generator.index(below: alphabet.count)] }
    }
    let pairs = (0..<generator.index(below: 120)).map { (key: key(), value: $0) }
    let table = ByteTable(pairs)
    let twin = Dictionary(pairs.map { ($0.key.map(ASCII.lowercased), $0.value) }, uniquingKeysWith: { first, _ in first })

    #expect(table.count == twin.count)
    #expect(table.pairs.allSatisfy { twin[$0.key] == $0.value })
    #expect(table.pairs.map(\.value) == twin.values.sorted())
    for _ in 0..<400 {
      let wanted = key()
      #expect(table[wanted] == twin[wanted.map(ASCII.lowercased)])
    }
  }

  @Test func anEmptyTableHoldsNothing() {
    let table = ByteTable<Int>([])
    #expect(table[[]] == nil)
    #expect(table[Array("host".utf8)] == nil)
  }

  @Test func onlyASCIILettersAreFolded() {
    let table = ByteTable([(key: Array("K".utf8), value: 1)])
    #expect(table[Array("k".utf8)] == 1)
    // U+212A, the Kelvin sign, folds to k in Unicode.
    #expect(table[Array("\u{212A}".utf8)] == nil)
  }
}
