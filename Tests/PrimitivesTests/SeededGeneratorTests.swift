import Primitives
import Testing

/// The numbers come from a second implementation of Blackman and Vigna's xoshiro256** after SplitMix64: a seed has to
/// replay the same run for ever.
@Suite struct SeededGeneratorTests {
  @Test(
    arguments: [
      (0, [0x99EC_5F36_CB75_F2B4, 0xBF6E_1F78_4956_452A, 0x1A5F_849D_4933_E6E0, 0x6AA5_94F1_262D_2D2C]),
      (1, [0xB3F2_AF6D_0FC7_10C5, 0x853B_5596_4736_4CEA, 0x92F8_9756_082A_4514, 0x642E_1C7B_C266_A3A7]),
      (.max, [0x8F55_20D5_2A7E_AD08, 0xC476_A018_CAA1_802D, 0x81DE_31C0_D260_469E, 0xBF65_8D7E_065F_3C2F]),
    ] as [(UInt64, [UInt64])])
  func aSeedGivesTheSameNumbersForEver(seed: UInt64, numbers: [UInt64]) {
    var generator = SeededGenerator(seed: seed)
    #expect(numbers.indices.map { _ in generator.next() } == numbers)
  }

  @Test func boundedDrawsAndShufflesStayTheSameToo() {
    var generator = SeededGenerator(seed: 42)
    #expect((0..<12).map { _ in generator.below(100) } == [8, 37, 68, 92, 99, 76, 71, 85, 76, 58, 68, 29])
    var shuffler = SeededGenerator(seed: 7)
    var elements = Array(0..<10)
    shuffler.shuffle(&elements)
    #expect(elements == [1, 8, 3, 0, 4, 5, 9, 6, 2, 7])
  }

  @Test func drawsStayWithinTheirBounds() {
    var generator = SeededGenerator(seed: 3)
    #expect([0, 1].map { generator.below($0) } == [0, 0])
    let range = Duration.milliseconds(100)...Duration.milliseconds(101)
    for _ in 0..<1000 {
      let (bounded, unit, duration) = (generator.below(7), generator.unit(), generator.duration(in: range))
      #expect(bounded < 7)
      #expect(unit >= 0 && unit < 1)
      #expect(range.contains(duration))
    }
    let instant = generator.duration(in: .seconds(2) ... .seconds(2))
    #expect(instant == .seconds(2))
    #expect([0.0, 1.0].map { generator.chance($0) } == [false, true])
  }

  @Test func drawsAreEven() {
    var generator = SeededGenerator(seed: 11)
    var counts = [Int](repeating: 0, count: 10)
    for _ in 0..<100_000 { counts[generator.index(below: 10)] += 1 }
    // Five standard deviations of a binomial with p = 0.1.
    #expect(counts.allSatisfy { abs($0 - 10_000) < 475 }, "\(counts)")
  }

  @Test func aShuffleKeepsEveryElement() {
    var generator = SeededGenerator(seed: 5)
    for count in 0..<20 {
      var elements = Array(0..<count)
      generator.shuffle(&elements)
      #expect(elements.sorted() == Array(0..<count))
    }
  }
}
