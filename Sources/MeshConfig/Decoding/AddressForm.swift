import Primitives

/// IP addresses and address blocks in configuration, as bytes. Scoped literals (`fe80::1%eth0`) are refused.
enum AddressForm {
  /// 4 or 16 bytes, or nil.
  static func parse(_ text: String) -> [UInt8]? { ipv4(text[...]) ?? ipv6(text) }

  static func isAddress(_ text: String) -> Bool { parse(text) != nil }

  /// An address, or an address with `/bits`.
  static func isBlock(_ text: String) -> Bool {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = parts.first, let address = parse(String(first)) else { return false }
    guard parts.count == 2 else { return true }
    return parseDecimal(parts[1].utf8, max: UInt64(address.count * 8)) != nil
  }

  /// What is wrong with `unix://` and a path, or with `unix://@` and an abstract name; nil when nothing is.
  static func problem(ofSocket text: String) -> String? {
    let path = text.utf8.dropFirst("unix://".utf8.count)
    if path.count > ConfigLimits.socketPathBytesMax {
      return "the path is longer than \(ConfigLimits.socketPathBytesMax) bytes"
    }
    guard path.count > 1, path.first == 0x2F || path.first == 0x40, !path.contains(0) else {
      return "write unix:///path, or unix://@name for an abstract socket"
    }
    return nil
  }

  private static func ipv4(_ text: Substring) -> [UInt8]? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var bytes: [UInt8] = []
    for part in parts {
      guard part.utf8.count <= 3, part.utf8.count == 1 || part.utf8.first != 0x30 else { return nil }
      guard let value = parseDecimal(part.utf8, max: 255) else { return nil }
      bytes.append(UInt8(truncatingIfNeeded: value))
    }
    return bytes
  }

  /// RFC 4291 text forms, an embedded IPv4 tail included.
  private static func ipv6(_ text: String) -> [UInt8]? {
    guard text.utf8.count <= 45, text.utf8.contains(0x3A) else { return nil }
    let halves = splitAtDoubleColon(text)
    guard let head = groups(halves.head, allowsIPv4: halves.tail == nil) else { return nil }
    guard let tailText = halves.tail else { return head.count == 16 ? head : nil }
    guard let tail = groups(tailText, allowsIPv4: true), head.count + tail.count <= 14 else { return nil }
    return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
  }

  private static func splitAtDoubleColon(_ text: String) -> (head: Substring, tail: Substring?) {
    var previousWasColon = false
    for index in text.utf8.indices {
      let isColon = text.utf8[index] == 0x3A
      if isColon && previousWasColon {
        let end = text.utf8.index(before: index)
        return (text[..<end], text[text.utf8.index(after: index)...])
      }
      previousWasColon = isColon
    }
    return (text[...], nil)
  }

  private static func groups(_ text: Substring, allowsIPv4: Bool) -> [UInt8]? {
    if text.isEmpty { return [] }
    var bytes: [UInt8] = []
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    for (index, part) in parts.enumerated() {
      if allowsIPv4, index == parts.count - 1, part.utf8.contains(0x2E) {
        guard let tail = ipv4(part) else { return nil }
        bytes += tail
        continue
      }
      guard (1...4).contains(part.utf8.count) else { return nil }
      var value: UInt16 = 0
      for byte in part.utf8 {
        guard let digit = ASCII.hexValue(byte) else { return nil }
        value = value << 4 | UInt16(digit)
      }
      bytes += [UInt8(value >> 8), UInt8(value & 0xFF)]
    }
    return bytes.count <= 16 ? bytes : nil
  }
}
