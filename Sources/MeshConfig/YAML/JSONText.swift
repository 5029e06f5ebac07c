import Primitives

/// Writes a tree as JSON with keys in byte order and null members left out: equal values give equal bytes.
enum JSONText {
  static func canonical(_ node: YAMLNode) -> [UInt8] {
    var bytes: [UInt8] = []
    append(node, to: &bytes)
    return bytes
  }

  private static func append(_ node: YAMLNode, to bytes: inout [UInt8]) {
    switch node.value {
    case .null: bytes += "null".utf8
    case .bool(let flag): bytes += (flag ? "true" : "false").utf8
    case .int(let number): bytes += String(number).utf8
    case .double(let number): bytes += String(number).utf8
    case .string(let text): append(text, to: &bytes)
    case .sequence(let items):
      bytes.append(0x5B)
      for (index, item) in items.enumerated() {
        if index > 0 { bytes.append(0x2C) }
        append(item, to: &bytes)
      }
      bytes.append(0x5D)
    case .mapping(let entries):
      bytes.append(0x7B)
      let written = entries.filter { !$0.value.isNull }
      for (index, entry) in written.sorted(by: YAMLEntry.isBefore).enumerated() {
        if index > 0 { bytes.append(0x2C) }
        append(entry.key, to: &bytes)
        bytes.append(0x3A)
        append(entry.value, to: &bytes)
      }
      bytes.append(0x7D)
    }
  }

  /// A quoted string that YAML readers accept too: what they refuse raw or read as a line break is escaped.
  static func append(_ text: String, to bytes: inout [UInt8]) {
    bytes.append(0x22)
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x22: bytes += "\\\"".utf8
      case 0x5C: bytes += "\\\\".utf8
      case 0x0A: bytes += "\\n".utf8
      case 0x0D: bytes += "\\r".utf8
      case 0x09: bytes += "\\t".utf8
      case 0..<0x20, 0x7F..<0xA0, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF:
        let high = UInt8(truncatingIfNeeded: scalar.value >> 8)
        bytes += "\\u\(hexString([high, UInt8(truncatingIfNeeded: scalar.value)]))".utf8
      default: bytes += UTF8.encode(scalar).map(Array.init) ?? []
      }
    }
    bytes.append(0x22)
  }
}

extension YAMLEntry {
  static func isBefore(_ a: YAMLEntry, _ b: YAMLEntry) -> Bool { a.key.utf8.lexicographicallyPrecedes(b.key.utf8) }
}

extension YAMLNode {
  var isNull: Bool {
    if case .null = value { return true }
    return false
  }
}
