/// A YAML value read leniently: what is not there, or is of another kind, is empty. For analysis, which has to say something
/// about documents that would be refused.
struct DocumentTree {
  let node: YAMLNode?

  init(_ node: YAMLNode?) { self.node = node }

  subscript(key: String) -> DocumentTree { DocumentTree(node?[key]) }

  /// Whether there is a value here that is not null.
  var exists: Bool {
    guard let node else { return false }
    if case .null = node.value { return false }
    return true
  }

  var text: String? {
    switch node?.value {
    case .string(let text)?: text
    case .int(let number)?: String(number)
    case .bool(let flag)?: String(flag)
    default: nil
    }
  }

  var number: Int? {
    switch node?.value {
    case .int(let number)?: Int(exactly: number)
    case .string(let text)?: Int(text)
    default: nil
    }
  }

  var isTrue: Bool { text == "true" }

  var items: [DocumentTree] {
    guard case .sequence(let items)? = node?.value else { return [] }
    return items.map { DocumentTree($0) }
  }

  var entries: [(key: String, value: DocumentTree)] {
    guard case .mapping(let entries)? = node?.value else { return [] }
    return entries.map { ($0.key, DocumentTree($0.value)) }
  }

  var texts: [String] { items.compactMap(\.text) }

  var textMap: [String: String] {
    Dictionary(entries.compactMap { entry in entry.value.text.map { (entry.key, $0) } }) { first, _ in first }
  }
}
