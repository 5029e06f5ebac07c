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

  static func append(_ text: String, to bytes: inout [UInt8]) {
    bytes.append(0x22)
    for byte in text.utf8 {
      switch byte {
      case 0x22, 0x5C: bytes += [0x5C, byte]
      case 0x0A: bytes += [0x5C, 0x6E]
      case 0x0D: bytes += [0x5C, 0x72]
      case 0x09: bytes += [0x5C, 0x74]
      case 0..<0x20, 0x7F: bytes += "\\u00\(hexString([byte]))".utf8
      default: bytes.append(byte)
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
