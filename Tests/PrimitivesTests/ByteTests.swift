import Primitives
import Testing

@Suite struct ByteTests {
  /// One written value, and how it is read back.
  private enum Field: Equatable {
    case uint8(UInt8), uint16(UInt16), uint32(UInt32), uint64(UInt64), varint(UInt64), bool(Bool), bytes([UInt8])
    case string(String)

    static func drawn(_ generator: inout SeededGenerator) -> Field {
      let number = generator.next() >> generator.below(64)
      let bytes = (0..<generator.index(below: 40)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      switch generator.below(8) {
      case 0: return .uint8(UInt8(truncatingIfNeeded: number))
      case 1: return .uint16(UInt16(truncatingIfNeeded: number))
      case 2: return .uint32(UInt32(truncatingIfNeeded: number))
      case 3: return .uint64(number)
      case 4: return .varint(number)
      case 5: return .bool(number & 1 == 0)
      case 6: return .bytes(bytes)
      default: return .string(String(decoding: bytes, as: UTF8.self))
      }
    }

    func write(to writer: inout ByteWriter) {
      switch self {
      case .uint8(let value): writer.uint8(value)
      case .uint16(let value): writer.uint16(value)
      case .uint32(let value): writer.uint32(value)
      case .uint64(let value): writer.uint64(value)
      case .varint(let value): writer.varint(value)
      case .bool(let value): writer.bool(value)
      case .bytes(let value): writer.lengthPrefixed(value)
      case .string(let value): writer.string(value)
      }
    }

    /// Reads a field of the same form as this one.
    func readBack(from reader: inout ByteReader) throws(ByteError) -> Field {
      switch self {
      case .uint8: .uint8(try reader.uint8())
      case .uint16: .uint16(try reader.uint16())
      case .uint32: .uint32(try reader.uint32())
      case .uint64: .uint64(try reader.uint64())
      case .varint: .varint(try reader.varint())
      case .bool: .bool(try reader.bool())
      case .bytes: .bytes(Array(try reader.lengthPrefixed(max: 200)))
      case .string: .string(try reader.string(max: 200))
      }
    }
  }

  @Test(arguments: 1...200 as ClosedRange<UInt64>)
  func whatIsWrittenIsReadBackAndNoPrefixOfItIs(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let fields = (0..<(1 + generator.index(below: 12))).map { _ in Field.drawn(&generator) }
    var writer = ByteWriter()
    for field in fields { field.write(to: &writer) }
    var reader = ByteReader(writer.bytes)
    for field in fields { #expect(try field.readBack(from: &reader) == field) }
    try reader.finish()

    for end in 0..<writer.bytes.count {
      #expect(throws: ByteError.truncated) {
        var reader = ByteReader(writer.bytes[..<end])
        for field in fields { _ = try field.readBack(from: &reader) }
      }
    }
  }

  @Test(arguments: 1...200 as ClosedRange<UInt64>)
  func randomBytesNeverTrapTheReader(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let bytes = (0..<generator.index(below: 64)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    var reader = ByteReader(bytes)
    while !reader.isAtEnd {
      let before = reader.remaining
      do throws(ByteError) { _ = try Field.drawn(&generator).readBack(from: &reader) } catch { break }
      #expect(reader.remaining < before)
    }
    #expect(reader.remaining >= 0)
  }

  @Test(
    arguments: [
      (0, [0x00]), (1, [0x01]), (127, [0x7F]), (128, [0x80, 0x01]), (300, [0xAC, 0x02]), (16_384, [0x80, 0x80, 0x01]),
      (UInt64.max, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
    ] as [(UInt64, [UInt8])])
  func varintsAreLittleEndianGroupsOfSevenBits(value: UInt64, bytes: [UInt8]) throws {
    var writer = ByteWriter()
    writer.varint(value)
    #expect(writer.bytes == bytes)
    var reader = ByteReader(bytes)
    #expect(try reader.varint() == value)
    #expect(reader.isAtEnd)
  }

  @Test(
    arguments: [
      ([], .truncated), ([0x80], .truncated), ([0xFF, 0xFF], .truncated),
      // Padded: zero in two bytes, one in three.
      ([0x80, 0x00], .malformed), ([0x81, 0x80, 0x00], .malformed),
      // 2^64, and eleven bytes.
      ([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02], .malformed),
      ([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x81, 0x00], .malformed),
    ] as [([UInt8], ByteError)])
  func aNumberHasOneFormOnly(bytes: [UInt8], error: ByteError) {
    #expect(throws: error) {
      var reader = ByteReader(bytes)
      _ = try reader.varint()
    }
  }

  @Test func fixedWidthIntegersAreBigEndian() {
    var writer = ByteWriter(appendingTo: [0xEE])
    writer.uint16(0x0102)
    writer.uint32(0x0304_0506)
    writer.uint64(0x0708_090A_0B0C_0D0E)
    #expect(writer.bytes == [0xEE] + Array(1...14))
  }

  @Test func aLengthIsComparedWithTheLimitBeforeAnythingIsRead() {
    #expect(throws: ByteError.tooLong) {
      var reader = ByteReader([0x05, 1, 2, 3, 4, 5])
      _ = try reader.lengthPrefixed(max: 4)
    }
    #expect(throws: ByteError.truncated) {
      var reader = ByteReader([0x05, 1, 2, 3, 4])
      _ = try reader.lengthPrefixed(max: 5)
    }
    #expect(throws: ByteError.truncated) {
      var reader = ByteReader([1, 2, 3])
      _ = try reader.bytes(count: -1)
    }
    #expect(throws: ByteError.tooLong) {
      var reader = ByteReader([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01])
      _ = try reader.count(max: .max)
    }
  }

  @Test func textMustBeUTF8AndABooleanZeroOrOne() {
    #expect(throws: ByteError.malformed) {
      var reader = ByteReader([0x02, 0xC3, 0x28])
      _ = try reader.string(max: 10)
    }
    #expect(throws: ByteError.malformed) {
      var reader = ByteReader([0x02])
      _ = try reader.bool()
    }
  }

  @Test func whatIsLeftBehindTheLastFieldIsRefused() {
    #expect(throws: ByteError.trailing) {
      var reader = ByteReader([1, 2])
      _ = try reader.uint8()
      try reader.finish()
    }
  }
}
