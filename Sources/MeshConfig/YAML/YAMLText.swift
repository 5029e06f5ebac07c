/// Writes a tree as block-style YAML that parses back to the same tree.
enum YAMLText {
  /// `apiVersion`, `kind`, `metadata`, `spec` first at the top, as people write them; other keys keep the tree's order.
  static func document(_ node: YAMLNode) -> String {
    guard case .mapping(let entries) = node.value else {
      var text = ""
      appendValue(node, indent: 0, inSequence: false, to: &text)
      return String(text.drop { $0 == "\n" || $0 == " " }) + (text.last == "\n" ? "" : "\n")
    }
    let heads = ["apiVersion", "kind", "metadata", "spec"]
    let ordered = heads.compactMap { head in entries.first { $0.key == head } } + entries.filter { !heads.contains($0.key) }
    var text = ""
    appendMapping(ordered, indent: 0, to: &text)
    return text
  }

  private static func appendMapping(_ entries: [YAMLEntry], indent: Int, to text: inout String) {
    for (index, entry) in entries.enumerated() {
      if index > 0 || indent == 0 || text.last == "\n" { text += String(repeating: " ", count: indent) }
      text += scalar(entry.key) + ":"
      appendValue(entry.value, indent: indent, inSequence: false, to: &text)
    }
  }

  private static func appendValue(_ node: YAMLNode, indent: Int, inSequence: Bool, to text: inout String) {
    switch node.value {
    case .mapping(let entries) where !entries.isEmpty:
      text += inSequence ? " " : "\n"
      appendMapping(entries, indent: indent + 2, to: &text)
    case .sequence(let items) where !items.isEmpty:
      text += "\n"
      let dash = inSequence ? indent + 2 : indent
      for item in items {
        text += String(repeating: " ", count: dash) + "-"
        appendValue(item, indent: dash, inSequence: true, to: &text)
      }
    default:
      text += " " + inline(node) + "\n"
    }
  }

  private static func inline(_ node: YAMLNode) -> String {
    switch node.value {
    case .null: "null"
    case .bool(let flag): flag ? "true" : "false"
    case .int(let number): String(number)
    case .double(let number): String(number)
    case .string(let text): scalar(text)
    case .sequence: "[]"
    case .mapping: "{}"
    }
  }

  /// Plain where a reader takes it for the same string, else double-quoted with JSON's escapes.
  private static func scalar(_ text: String) -> String {
    if isPlain(text) { return text }
    var bytes: [UInt8] = []
    JSONText.append(text, to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func isPlain(_ text: String) -> Bool {
    guard case .string = ScalarResolution.plain(text), let first = text.utf8.first, text.utf8.last != 0x20 else { return false }
    let isLetterOrDigit = first | 0x20 >= 0x61 && first | 0x20 <= 0x7A || first >= 0x30 && first <= 0x39
    guard isLetterOrDigit || first == 0x2F || first == 0x2E || first == 0x5F else { return false }
    // Other readers take single letters for booleans, and dates and numbers with leading zeros or underscores for numbers.
    if ["y", "Y", "n", "N"].contains(text) { return false }
    if first >= 0x30 && first <= 0x39 && text.utf8.allSatisfy({ "0123456789-_:.+eExXoTZ".utf8.contains($0) }) { return false }
    var previous: UInt8 = 0
    for byte in text.utf8 {
      if byte < 0x20 || byte >= 0x7F { return false }
      if byte == 0x23 && previous == 0x20 { return false }
      if byte == 0x20 && previous == 0x3A { return false }
      previous = byte
    }
    return previous != 0x3A && !text.hasPrefix("---") && !text.hasPrefix("...")
  }
}

extension YAMLNode {
  /// The tree as block-style YAML that parses back to it.
  public var yaml: String { YAMLText.document(self) }
}
