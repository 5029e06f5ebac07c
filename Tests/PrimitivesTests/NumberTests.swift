import Primitives
import Testing

@Suite struct NumberTests {
  @Test(
    arguments: [
      ("0", .max, 0), ("007", .max, 7), ("65535", 65535, 65535), ("18446744073709551615", .max, .max),
      ("00000000000000000001", .max, 1),
    ] as [(String, UInt64, UInt64)])
  func decimals(text: String, max: UInt64, value: UInt64) {
    #expect(parseDecimal(text.utf8, max: max) == value)
  }

  @Test(
    arguments: [
      ("", .max), ("+5", .max), ("-0", .max), (" 5", .max), ("5 ", .max), ("0x5", .max), ("1_0", .max), ("5\u{0}", .max),
      ("\u{665}", .max), ("65536", 65535), ("18446744073709551616", .max), ("99999999999999999999", .max),
      ("000000000000000000001", .max),
    ] as [(String, UInt64)])
  func textsThatAreNoDecimals(text: String, max: UInt64) {
    #expect(parseDecimal(text.utf8, max: max) == nil)
  }

  @Test func hexadecimalTextIsLowerCaseAndKeepsZeros() {
    #expect(hexString([0x00, 0x0F, 0xA0, 0xFF]) == "000fa0ff")
    #expect(hexString([]) == "")
  }

  @Test func flagsAreListedInEnvoysOrder() {
    #expect(ResponseFlags([]).text == "-")
    #expect(ResponseFlags.noRouteFound.text == "NR")
    #expect(ResponseFlags([.upstreamRetryLimitExceeded, .upstreamConnectionFailure]).text == "UF,URX")
    #expect(ResponseFlags.shortNames.count == 28)
    #expect(ResponseFlags.dropOverload.text == "DO")
  }
}
