import Primitives

/// IPv6 prefixes such as `2001:db8::` at the end of an item of a flow list.
///
/// libyaml reads `[2001:db8::]` as a key without value and refuses it; the reader of Kubernetes and Istio takes it as a
/// string. So on a line that libyaml refuses, such words are quoted and the source is read again.
enum FlowAddress {
  /// Lines repaired in one source.
  static let repairsMax = 8

  /// Quotes bare words of hexadecimal digits and colons that end in `::` before `,` or `]`; false when the line has none.
  static func quote(in text: inout [UInt8], line: Int) -> Bool {
    guard let range = range(ofLine: line, in: text) else { return false }
    var repaired: [UInt8] = []
    var found = false
    var word: [UInt8] = []
    for byte in text[range] {
      if byte == 0x3A || ASCII.hexValue(byte) != nil {
        word.append(byte)
        continue
      }
      let isPrefix = word.count > 2 && word.suffix(2).elementsEqual([0x3A, 0x3A]) && (byte == 0x2C || byte == 0x5D)
      let follows = repaired.last.map { $0 == 0x5B || $0 == 0x2C || $0 == 0x20 } ?? false
      repaired += isPrefix && follows ? [0x22] + word + [0x22] : word
      found = found || (isPrefix && follows)
      word.removeAll()
      repaired.append(byte)
    }
    guard found else { return false }
    text.replaceSubrange(range, with: repaired + word)
    return true
  }

  private static func range(ofLine line: Int, in text: [UInt8]) -> Range<Int>? {
    var start = 0
    for _ in 1..<max(1, line) {
      guard let end = text[start...].firstIndex(of: 0x0A) else { return nil }
      start = end + 1
    }
    return start..<(text[start...].firstIndex(of: 0x0A) ?? text.count)
  }
}
