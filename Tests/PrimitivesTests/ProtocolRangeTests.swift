import Primitives
import Testing

@Suite("The versions of a protocol that a node speaks") struct ProtocolRangeTests {
  @Test(
    "two ranges agree on the highest version that both speak", arguments: [(2...9, 4), (1...1, 1), (4...4, 4), (5...9, nil)])
  func common(other: ClosedRange<UInt16>, highest: UInt16?) {
    let own = ProtocolRange(1...4)
    #expect(own.common(with: ProtocolRange(other)) == highest)
    #expect(ProtocolRange(other).common(with: own) == highest)
  }

  @Test("bounds in the wrong order are malformed, and no trap") func wrongOrder() throws {
    var right = ByteReader([0, 1, 0, 2])
    #expect(try right.protocolRange() == ProtocolRange(1...2))
    var wrong = ByteReader([0, 2, 0, 1])
    #expect(throws: ByteError.malformed) { try wrong.protocolRange() }
  }
}
